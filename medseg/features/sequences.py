"""Convert feature tables to arrays: one sequence per case (frames × features), slices resampled to fixed levels."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
import pandas as pd

from medseg.errors import DataError
from medseg.typing import FloatArray

NOT_FEATURES = ("case", "patient", "frame", "time", "label", "signal", "split", "step", "position_mm")
"""Columns that identify or label a row; every other numeric column is a feature."""
MAX_LISTED = 20  # missing features named in a message


@dataclass(frozen=True)
class FeatureSequence:
    """The features of one case over its T frames, in temporal order.

    x: (T, F), columns as `names`, missing values interpolated; known: (T, F), which values were measured; steps: (T, S,
    G), columns as `step_names`, from the lowest level to the highest, or None; frames: (T,) numbers as in the table;
    times: (T,) s, NaN if unknown; labels: one state per frame, None if unknown; signal: (T,), NaN if unknown.
    """

    case: str
    patient: str
    frames: FloatArray
    times: FloatArray
    x: FloatArray
    known: npt.NDArray[np.bool_]
    names: tuple[str, ...]
    labels: tuple[str | None, ...]
    signal: FloatArray
    steps: FloatArray | None = None
    step_names: tuple[str, ...] = ()

    @property
    def measured(self) -> FloatArray:
        """The features (T, F) as measured: NaN in place of interpolated values."""
        return np.where(self.known, self.x, np.nan)


@dataclass(frozen=True)
class Normalisation:
    """Mean and standard deviation of each feature over a cohort: (F,) and (G,); stored with a model as plain lists."""

    mean: tuple[float, ...]
    sd: tuple[float, ...]
    step_mean: tuple[float, ...] = ()
    step_sd: tuple[float, ...] = ()


def sequences(
    frames: pd.DataFrame,
    steps: pd.DataFrame | None = None,
    levels: int = 32,
    resample: bool = True,
    without: Collection[str] = (),
) -> list[FeatureSequence]:
    """Return one `FeatureSequence` per `case` of the frames table, in the table's order of cases.

    Slices differ in number between cases and are resampled to `levels`. Sectors and quadrants have a fixed number and
    are not resampled (`resample` false): step k stays the k-th of `levels`. Missing values inside a sequence are
    interpolated over time; a feature that a case lacks altogether stays NaN until normalisation. `without`: columns of
    frames that are not read. Raises `DataError` (table-invalid) for a missing column, a repeated frame or a table
    without features.
    """
    _check(frames, steps)
    names = feature_columns(frames)
    if not names:
        raise DataError(
            f"the table of frames has no numeric feature column, only {list(frames.columns)}", code="table-invalid"
        )
    whole = _Frames(frames, tuple(name for name in names if name not in without))
    profiles = None if steps is None else _Profiles(steps, feature_columns(steps), levels, resample)
    rows = frames.groupby("case", sort=False).indices
    return [whole.sequence(case, np.asarray(rows[case]), profiles) for case in frames["case"].dropna().unique()]


def feature_columns(table: pd.DataFrame) -> tuple[str, ...]:
    """The numeric columns of a table that are features, in its order."""
    numeric = table.select_dtypes(include=["number", "bool"]).columns
    return tuple(str(column) for column in numeric if column not in NOT_FEATURES)


def select(sequence: FeatureSequence, names: Sequence[str], step_names: Sequence[str] = ()) -> FeatureSequence:
    """Select the features that a trained model expects, in its order; the `DataError` lists missing ones."""
    missing = [name for name in names if name not in sequence.names]
    _require_none([*missing, *(name for name in step_names if name not in sequence.step_names)], sequence.case)
    chosen = [sequence.names.index(name) for name in names]
    steps = None
    if step_names and sequence.steps is not None:
        steps = sequence.steps[:, :, [sequence.step_names.index(name) for name in step_names]]
    x, known = sequence.x[:, chosen], sequence.known[:, chosen]
    return replace(sequence, x=x, known=known, names=tuple(names), steps=steps, step_names=tuple(step_names))


def _require_none(missing: Sequence[str], where: str) -> None:
    if missing:
        listed = ", ".join(missing[:MAX_LISTED]) + (" …" if len(missing) > MAX_LISTED else "")
        raise DataError(
            f"{where}: the model was trained on features that this table does not have: {listed}; "
            "extract the features with the same settings as the model's",
            code="features-missing",
        )


def frame_values(frames: pd.DataFrame, names: Sequence[str]) -> list[FloatArray]:
    """Columns `names` of the frames table as measured, (T, F) by case, in the order of `sequences`."""
    _require_none([name for name in names if name not in frames], "the table of frames")
    values, order = frames[list(names)].to_numpy(np.float64), frames["frame"].to_numpy(np.float64)
    rows = {case: np.asarray(index) for case, index in frames.groupby("case", sort=False).indices.items()}
    cases = frames["case"].dropna().unique()
    return [values[rows[case][np.argsort(order[rows[case]], kind="stable")]] for case in cases]


def add_slopes(sequence: FeatureSequence, how: Literal["central", "backward"] = "central") -> FeatureSequence:
    """Append the slope of every feature as ``<name>.slope``: per second, or per frame if times are unknown.

    Central differences read one frame ahead; use "backward" for a causal model.
    """
    clock = sequence.times if np.isfinite(sequence.times).all() else sequence.frames
    if len(clock) < 2:
        slopes = np.zeros_like(sequence.x)
    elif how == "central":
        slopes = np.gradient(sequence.x, clock, axis=0)
    else:
        slopes = np.diff(sequence.x, axis=0) / np.diff(clock)[:, None]
        slopes = np.concatenate([np.zeros_like(slopes[:1]), slopes])  # (T, F)
    names = (*sequence.names, *(f"{name}.slope" for name in sequence.names))
    x, known = np.concatenate([sequence.x, slopes], axis=1), np.tile(sequence.known, 2)
    return replace(sequence, x=x, known=known, names=names)


def normalise_case(sequence: FeatureSequence) -> FeatureSequence:
    """Scale features to z-scores over the sequence itself: differences in size, spacing and scanner cancel.

    Slices lose the case's mean profile and are divided by the standard deviation of the residual, which keeps the
    change over time. Constant and missing values become 0.
    """
    x = _scaled(sequence.x, *_moments(sequence.x, axis=0))
    steps = sequence.steps
    if steps is not None:
        centred = steps - _moments(steps, axis=0)[0]
        steps = _scaled(centred, np.zeros(steps.shape[2]), _moments(centred, axis=(0, 1))[1])
    return replace(sequence, x=x, steps=steps)


def cohort(items: Iterable[FeatureSequence]) -> Normalisation:
    """Return the moments over all frames of all (training) sequences."""
    items = list(items)
    mean, sd = _moments(np.concatenate([item.x for item in items]), axis=0)
    steps = [item.steps for item in items if item.steps is not None]
    if not steps:
        return Normalisation(tuple(mean.tolist()), tuple(sd.tolist()))
    step_mean, step_sd = _moments(np.concatenate(steps), axis=(0, 1))
    return Normalisation(*(tuple(v.tolist()) for v in (mean, sd, step_mean, step_sd)))


def normalise_cohort(sequence: FeatureSequence, moments: Normalisation) -> FeatureSequence:
    """Scale features to z-scores by a cohort's moments, which keeps absolute size. Missing values become 0."""
    x = _scaled(sequence.x, np.asarray(moments.mean), np.asarray(moments.sd))
    steps = sequence.steps
    if steps is not None:
        steps = _scaled(steps, np.asarray(moments.step_mean), np.asarray(moments.step_sd))
    return replace(sequence, x=x, steps=steps)


def _check(frames: pd.DataFrame, steps: pd.DataFrame | None) -> None:
    for name, table, needed in (
        ("frames", frames, ("case", "frame")),
        ("steps", steps, ("case", "frame", "step", "position_mm")),
    ):
        if table is None:
            continue
        missing = [column for column in needed if column not in table.columns]
        if missing:
            raise DataError(f"the table of {name} has no column {', '.join(missing)}", code="table-invalid")
        twice = table[table.duplicated(list(needed[:3]))]
        if len(twice):
            key = ", ".join(f"{column} {twice.iloc[0][column]}" for column in needed[:3])
            raise DataError(f"the table of {name} has {key} more than once", code="table-invalid")


class _Frames:
    """The columns of a frames table as arrays, for fast look-up of a case; pandas takes milliseconds for each."""

    def __init__(self, table: pd.DataFrame, names: tuple[str, ...]) -> None:
        unknown = pd.Series(np.nan, index=table.index)
        self.names = names
        self.values = table[list(names)].astype(float).to_numpy()
        self.frames = table["frame"].to_numpy(float)
        self.times = np.asarray(table.get("time", unknown), dtype=np.float64)
        self.signal = np.asarray(table.get("signal", unknown), dtype=np.float64)
        self.labels = [None if pd.isna(v) else str(v) for v in table.get("label", unknown)]
        self.patients = list(table["patient" if "patient" in table else "case"])

    def sequence(self, case: Any, rows: np.ndarray[Any, Any], profiles: _Profiles | None) -> FeatureSequence:
        """Return one case's rows in temporal order."""
        patient = str(self.patients[rows[0]])
        rows = rows[np.argsort(self.frames[rows], kind="stable")]
        frames = self.frames[rows]
        return FeatureSequence(
            case=str(case),
            patient=patient,
            frames=frames,
            times=self.times[rows],
            x=_filled(self.values[rows]),
            known=np.isfinite(self.values[rows]),
            names=self.names,
            labels=tuple(self.labels[row] for row in rows),
            signal=self.signal[rows],
            steps=None if profiles is None or not profiles.names else profiles.of(case, frames),
            step_names=() if profiles is None else profiles.names,
        )


class _Profiles:
    """The columns of a table of slices, or of sectors (which are not resampled), as arrays."""

    def __init__(self, table: pd.DataFrame, names: tuple[str, ...], levels: int, resample: bool) -> None:
        self.names, self.levels, self.resample = names, levels, resample
        self.values = table[list(names)].astype(float).to_numpy()
        self.frames = table["frame"].to_numpy(float)
        self.positions = table["position_mm" if resample else "step"].to_numpy(float)
        self.rows = table.groupby("case", sort=False).indices

    def of(self, case: Any, frames: FloatArray) -> FloatArray:
        """Return the steps of one case (T, S, G): slices at levels between the lowest and the highest nonzero slice of
        the sequence, sectors unchanged. A frame or level without features is NaN.
        """
        profile = np.full((len(frames), self.levels, len(self.names)), np.nan)
        rows = np.asarray(self.rows.get(case, []), dtype=np.intp)
        rows = rows[np.argsort(self.positions[rows], kind="stable")]
        values, positions, of_frame = self.values[rows], self.positions[rows], self.frames[rows]
        if not self.resample:
            for t, frame in enumerate(frames):
                in_frame = np.flatnonzero((of_frame == frame) & (positions >= 0) & (positions < self.levels))
                profile[t, positions[in_frame].astype(int)] = values[in_frame]
            return profile
        holds = positions[(np.nan_to_num(values) != 0).any(axis=1)]
        if not len(holds):
            return profile
        level_positions = np.linspace(holds.min(), holds.max(), self.levels)
        for t, frame in enumerate(frames):
            in_frame = of_frame == frame
            for g, value in enumerate(values[in_frame].T):
                known = np.isfinite(value)
                if known.any():
                    known_positions = positions[in_frame][known]
                    profile[t, :, g] = np.interp(
                        level_positions, known_positions, value[known], left=np.nan, right=np.nan
                    )
        return profile


def _filled(values: FloatArray) -> FloatArray:
    """Interpolate missing values of (T, F) over frame index; at both ends repeat the nearest value."""
    if np.isfinite(values).all():
        return values
    gaps = pd.DataFrame(np.where(np.isfinite(values), values, np.nan))
    return gaps.interpolate(limit_direction="both").to_numpy()


def _moments(values: FloatArray, axis: Literal[0] | tuple[Literal[0], Literal[1]]) -> tuple[FloatArray, FloatArray]:
    """Mean and standard deviation of the known values; 0 and 0 if no value is known."""
    from sklearn.preprocessing import StandardScaler

    feature_shape = values.shape[1 if axis == 0 else 2 :]
    if not values.size:
        return np.zeros(feature_shape), np.zeros(feature_shape)
    flat = np.where(np.isfinite(values), values, np.nan).reshape(-1, int(np.prod(feature_shape)))
    with np.errstate(invalid="ignore"):  # columns without a known value
        scaler = StandardScaler().fit(flat)
    return np.nan_to_num(scaler.mean_).reshape(feature_shape), np.sqrt(np.nan_to_num(scaler.var_)).reshape(
        feature_shape
    )


def _scaled(values: FloatArray, mean: FloatArray, sd: FloatArray) -> FloatArray:
    """(values − mean) / sd; 0 for unknown values and for features that vary by no more than rounding error."""
    varies = sd > 1e-9 * np.maximum(1, np.abs(mean))
    scaled = np.where(varies, (values - mean) / np.where(varies, sd, 1), 0)
    return np.where(np.isfinite(scaled), scaled, 0)
