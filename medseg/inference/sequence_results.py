"""What a diagnosis says of each sequence: states, signal, forecast, what moved it, measures beside the cohort."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
import pandas as pd

from medseg.diagnosis.forecasting import Horizon
from medseg.diagnosis.respiratory_signal import describe, normalise
from medseg.evaluation.predictions import Predictions
from medseg.evaluation.states import accuracy, nrmse
from medseg.features.sequences import FeatureSequence
from medseg.typing import AnyArray
from medseg.utils.json import finite_or_none

CAUSAL_NOTE = "each forecast is made of the frames until then alone"
RETROSPECTIVE_NOTE = (
    "the measures hang on the whole sequence: this is the error of a look back, not of use while breathing goes on"
)
Json = dict[str, Any]


class SequenceContext(NamedTuple):
    """What a sequence is shown beside. cohort: mean and standard deviation of each feature over the training cases;
    horizon: of the forecast, None where there is none; sees_the_future: whether features hang on later frames.
    """

    cohort: Mapping[str, Mapping[str, float | None]]
    horizon: Horizon | None = None
    sees_the_future: bool = False


def sequence_records(
    sequences: Sequence[FeatureSequence],
    predictions: Predictions,
    explanations: Sequence[str],
    context: SequenceContext,
) -> list[Json]:
    """One object a sequence, as it was measured, with its rows of `predictions` and its explanation; no NaN, so that it
    is JSON.

    states: frames of each class; undecided: those of them whose set is not one class, None without sets; signal:
    period, breaths, amplitude and irregularity of what was predicted, and of the truth where it is known; forecast:
    error of each kind against the true signal so much later; measures: lowest, mean and highest value over the frames
    beside mean and standard deviation of the training cases' means.
    """
    records = []
    for sequence, (case, part), explanation in zip(sequences, predictions.by_case(), explanations, strict=True):
        final = part.final
        record: Json = {
            "case": case,
            "frames": len(part),
            "states": {name: int((final.predicted == name).sum()) for name in predictions.classes},
            "undecided": None if final.abstains is None else int(final.abstains.sum()),
            "probability": finite_or_none(mean_known(final.probability)),
            "accuracy": _accuracies(part),
            "signal": _signals(part),
            "forecast": _forecast(part, context),
            "explanation": explanation,
            "measures": _measures(sequence, context.cohort),
        }
        records.append(record)
    return records


def mean_known(values: AnyArray) -> float:
    """Mean of what is known; NaN where nothing is."""
    known = values[np.isfinite(values)]
    return float(known.mean()) if len(known) else float("nan")


def forecast_errors(part: Predictions, horizon: Horizon) -> dict[str, float]:
    """nRMSE of each forecast of one case against its true signal so much later; NaN where unknown."""
    signal, times = (part.facts[name].to_numpy(dtype=np.float64) for name in ("signal", "time"))
    later = horizon.targets(normalise(signal), times) if np.isfinite(signal).any() else np.full(len(part), np.nan)
    errors = {}
    for kind, values in part.forecasts.items():
        both = np.isfinite(values) & np.isfinite(later)
        errors[kind] = nrmse(later[both], values[both]) if both.sum() > 1 else float("nan")
    return errors


def forecast_facts(horizon: Horizon, sees_the_future: bool) -> Json:
    """What must stand beside a forecast's error: how far ahead, and whether anything of the future was seen."""
    note = RETROSPECTIVE_NOTE if sees_the_future else CAUSAL_NOTE
    return {"ahead_s": horizon.horizon_s, "sees_the_future": sees_the_future, "read": note}


def _accuracies(part: Predictions) -> dict[str, float | None]:
    """Share of right frames by model, where labels are known."""
    known = part.facts["label"].notna().to_numpy()
    if not known.any():
        return {}
    truth = part.facts["label"][known].tolist()
    return {
        name: finite_or_none(accuracy(truth, model.predicted[known].tolist())) for name, model in part.models.items()
    }


def _signals(part: Predictions) -> dict[str, dict[str, float | None]]:
    """Period and more, of what is a signal with times."""
    times = part.facts["time"].to_numpy(dtype=np.float64)
    signals = {"truth": part.facts["signal"].to_numpy(dtype=np.float64)}
    signals |= {name: one.signal.astype(np.float64) for name, one in part.models.items() if one.signal is not None}
    return {
        name: {key: finite_or_none(value) for key, value in describe(normalise(signal), times).items()}
        for name, signal in signals.items()
        if np.isfinite(signal).any() and np.isfinite(times).any()
    }


def _forecast(part: Predictions, context: SequenceContext) -> Json | None:
    if context.horizon is None or not part.forecasts:
        return None
    errors = forecast_errors(part, context.horizon)
    facts = forecast_facts(context.horizon, context.sees_the_future)
    return {**facts, "nrmse": {kind: finite_or_none(value) for kind, value in errors.items()}}


def _measures(sequence: FeatureSequence, cohort: Mapping[str, Mapping[str, float | None]]) -> list[Json]:
    rows = []
    for column, name in enumerate(sequence.names):
        if not name.endswith(".slope"):
            values = sequence.x[sequence.known[:, column], column]
            low, mean, high = (values.min(), values.mean(), values.max()) if len(values) else (np.nan,) * 3
            known = {"low": low, "value": mean, "high": high}
            beside = cohort.get(name, {"mean": None, "sd": None})
            row = {"name": name, **{key: finite_or_none(value) for key, value in known.items()}}
            rows.append({**row, "mean": beside["mean"], "sd": beside["sd"]})
    return rows


def cohort_statistics(frames: pd.DataFrame, names: Sequence[str]) -> Mapping[str, dict[str, float | None]]:
    """Mean and standard deviation over cases of each measure's mean over a case's frames."""
    means = frames.groupby("case")[list(names)].mean()
    return {
        str(name): {"mean": finite_or_none(means[name].mean()), "sd": finite_or_none(means[name].std(ddof=0))}
        for name in means.columns
    }
