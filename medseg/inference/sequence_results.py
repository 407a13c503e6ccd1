"""What a diagnosis says of each sequence: states, signal, forecast, what moved it, measures beside the cohort."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd

from medseg.diagnosis.forecasting import Horizon
from medseg.diagnosis.respiratory_signal import describe, normalise
from medseg.diagnosis.sequence_dataset import Item
from medseg.evaluation.states import accuracy, nrmse
from medseg.features.sequences import FeatureSequence
from medseg.features.tables import Tables
from medseg.inference.case_results import diagnosis_records, shown_units
from medseg.inference.sequence_classifier import SequenceClassifier
from medseg.inference.stacked_classifier import StackedClassifier, format_signed
from medseg.utils.json import finite_or_none

N_TOP_FEATURES = 5  # said of each sequence, the weightiest
MIN_PROBABILITY = 1e-9  # of a probability, so that its log-odds are finite
CAUSAL_NOTE = "each forecast is made of the frames until then alone"
RETROSPECTIVE_NOTE = (
    "the measures hang on the whole sequence: this is the error of a look back, not of use while breathing goes on"
)
FORECASTS = {"lstm": "signal_ahead", "linear": "signal_ahead_linear", "hold": "signal_ahead_hold"}
Json = dict[str, Any]


def sequence_records(diagnoser: SequenceClassifier, tables: Tables, found: pd.DataFrame) -> list[Json]:
    """One object a case of `found`, which `diagnoser` said of `tables`; no NaN, so that it is JSON.

    states: frames of each class; undecided: those of them whose set is not one class, None without sets; signal:
    period, breaths, amplitude and irregularity of what was predicted, and of the truth where it is known; forecast:
    error of each kind against the true signal so much later; measures: lowest, mean and highest value over the frames
    beside mean and standard deviation of the training cases' means.
    """
    raw, prepared = diagnoser.inputs.raw(tables), diagnoser.inputs.prepare(tables)
    sheets = []
    for before, sequence in zip(raw, prepared, strict=True):
        part = found[found["case"].astype(str) == sequence.case]
        counts = part["predicted"].value_counts()
        sheet: Json = {
            "case": sequence.case,
            "frames": len(part),
            "states": {name: int(counts.get(name, 0)) for name in diagnoser.inputs.classes},
            "undecided": int(part["abstain"].sum()) if "abstain" in part else None,
            "probability": finite_or_none(part["probability"].mean()),
            "accuracy": _accuracies(part),
            "signal": _signals(part),
            "forecast": _forecast(part, diagnoser),
            "why": attribution(diagnoser, sequence),
            "measures": _measures(diagnoser, before),
        }
        sheets.append(sheet)
    return sheets


def forecast_errors(part: pd.DataFrame, horizon: Horizon) -> dict[str, float]:
    """nRMSE of each forecast among one case's columns against its true signal so much later; NaN where unknown."""
    signal, times = (part[name].to_numpy(dtype=np.float64) for name in ("signal", "time"))
    later = horizon.targets(normalise(signal), times) if np.isfinite(signal).any() else np.full(len(part), np.nan)
    found = {}
    for kind, column in FORECASTS.items():
        if column in part:
            said = part[column].to_numpy(dtype=np.float64)
            both = np.isfinite(said) & np.isfinite(later)
            found[kind] = nrmse(later[both], said[both]) if both.sum() > 1 else float("nan")
    return found


def forecast_facts(diagnoser: SequenceClassifier, horizon: Horizon) -> Json:
    """What must stand beside a forecast's error: how far ahead, and whether anything of the future was seen."""
    sees = diagnoser.sees_the_future
    return {"ahead_s": horizon.horizon_s, "sees_the_future": sees, "read": RETROSPECTIVE_NOTE if sees else CAUSAL_NOTE}


def attribution(diagnoser: SequenceClassifier, sequence: FeatureSequence) -> str:
    """What moved a sequence's answers most: mean log-odds of the predicted classes that are lost when a measure (with
    its slope), a step of each frame, or a frame of a sequence with one answer is replaced by the mean it is compared
    with: ``left_lung.volume_ml +2.10, step 3 of 16 +0.40``.
    """
    names = [name for name in sequence.names if not name.endswith(".slope")]
    changed: dict[str, Item] = {}
    for name in names:
        x = sequence.x.copy()
        x[:, [k for k, own in enumerate(sequence.names) if own in (name, f"{name}.slope")]] = 0
        changed[name] = Item(x, sequence.steps)
    for step in range(0 if sequence.steps is None else sequence.steps.shape[1]):
        assert sequence.steps is not None
        steps = sequence.steps.copy()
        steps[:, step] = 0
        changed[f"step {step + 1} of {steps.shape[1]}"] = Item(sequence.x, steps)
    if diagnoser.inputs.per == "sequence" and len(sequence.x) > 1:
        for frame in range(len(sequence.x)):
            x = sequence.x.copy()
            x[frame] = 0
            changed[f"frame {int(sequence.frames[frame])}"] = Item(x, sequence.steps)
    said = diagnoser.network.predict(Item(sequence.x, sequence.steps)).probabilities  # (T or 1, K)
    best = said.argmax(axis=1)
    effects = {
        name: float((_odds(said, best) - _odds(diagnoser.network.predict(item).probabilities, best)).mean())
        for name, item in changed.items()
    }
    heavy = [name for name in sorted(effects, key=lambda n: -abs(effects[n])) if abs(effects[name]) >= 0.01]
    return ", ".join(f"{name} {format_signed(effects[name])}" for name in heavy[:N_TOP_FEATURES])


def _odds(probabilities: npt.NDArray[np.float32], best: npt.NDArray[np.intp]) -> npt.NDArray[np.float64]:
    """Log-odds (R,) of class best (R,) in probabilities (R, K)."""
    p = np.clip(probabilities[np.arange(len(best)), best].astype(np.float64), MIN_PROBABILITY, 1 - MIN_PROBABILITY)
    return np.asarray(np.log(p / (1 - p)))


def _accuracies(part: pd.DataFrame) -> dict[str, float | None]:
    """Share of right frames by model, where labels are known."""
    known = part.dropna(subset=["label"])
    columns = {"lstm": "predicted", "linear": "predicted_linear", "rule": "predicted_rule"}
    return {
        name: finite_or_none(accuracy(known["label"].tolist(), known[column].tolist()))
        for name, column in columns.items()
        if column in part and len(known)
    }


def _signals(part: pd.DataFrame) -> dict[str, dict[str, float | None]]:
    """Period and more, of columns of one case that hold a signal with times."""
    found = {}
    columns = {"truth": "signal", "lstm": "signal_predicted", "linear": "signal_linear"}
    for name, column in columns.items():
        if column in part and part[column].notna().any() and part["time"].notna().any():
            signal, times = (part[key].to_numpy(dtype=np.float64) for key in (column, "time"))
            found[name] = {key: finite_or_none(value) for key, value in describe(normalise(signal), times).items()}
    return found


def _forecast(part: pd.DataFrame, diagnoser: SequenceClassifier) -> Json | None:
    if diagnoser.forecast is None or "signal_ahead" not in part:
        return None
    errors = forecast_errors(part, diagnoser.forecast.horizon)
    facts = forecast_facts(diagnoser, diagnoser.forecast.horizon)
    return {**facts, "nrmse": {kind: finite_or_none(value) for kind, value in errors.items()}}


def _measures(diagnoser: SequenceClassifier, sequence: FeatureSequence) -> list[Json]:
    rows = []
    for column, name in enumerate(sequence.names):
        if name in diagnoser.inputs.names:  # not a slope
            values = sequence.x[sequence.known[:, column], column]
            low, mean, high = (values.min(), values.mean(), values.max()) if len(values) else (np.nan,) * 3
            cohort = diagnoser.cohort.get(name, {"mean": None, "sd": None})
            row = {
                "name": name,
                "low": finite_or_none(low),
                "value": finite_or_none(mean),
                "high": finite_or_none(high),
            }
            rows.append({**row, "mean": cohort["mean"], "sd": cohort["sd"]})
    return rows


def cohort_statistics(frames: pd.DataFrame, names: Sequence[str]) -> Mapping[str, dict[str, float | None]]:
    """Mean and standard deviation over cases of each measure's mean over a case's frames."""
    means = frames.groupby("case")[list(names)].mean()
    return {
        str(name): {"mean": finite_or_none(means[name].mean()), "sd": finite_or_none(means[name].std(ddof=0))}
        for name in means.columns
    }


def result_json(
    diagnoser: SequenceClassifier | StackedClassifier, tables: Tables, found: pd.DataFrame
) -> dict[str, Any]:
    """The content of OUT.json."""
    if isinstance(diagnoser, StackedClassifier):
        return diagnosis_records(diagnoser, tables, found)
    rows = json.loads(found.to_json(orient="records", double_precision=15))
    sequences = sequence_records(diagnoser, tables, found)
    units = shown_units(tables, [sheet["measures"] for sheet in sequences])
    classes = list(diagnoser.inputs.classes)
    return {"classes": classes, "use": "lstm", "units": units, "cases": rows, "sequences": sequences}
