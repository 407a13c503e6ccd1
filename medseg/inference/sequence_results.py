"""Results of each sequence as JSON: states, signal, forecast, explanation, features with the cohort's."""

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

CAUSAL_NOTE = "each forecast uses only earlier frames"
RETROSPECTIVE_NOTE = "features use the whole sequence: this is a retrospective error, not real-time performance"
Json = dict[str, Any]


class SequenceContext(NamedTuple):
    """Facts for the records of sequences. cohort: mean and standard deviation of each feature over the training cases;
    horizon: of the forecast, None without one; sees_the_future: whether features depend on later frames.
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
    """One JSON object without NaN per raw sequence, from its rows of `predictions` and its explanation.

    states: frames of each class; undecided: frames whose prediction set is not one class, None without sets; signal:
    period, breaths, amplitude and irregularity of the predicted signals, and of the true one if known; forecast: error
    of each kind against the true signal at the horizon; features: lowest, mean and highest value of each feature over
    the frames, with mean and standard deviation of the training cases' means.
    """
    records = []
    for sequence, (case, case_predictions), explanation in zip(
        sequences, predictions.by_case(), explanations, strict=True
    ):
        final = case_predictions.final
        record: Json = {
            "case": case,
            "frames": len(case_predictions),
            "states": {name: int((final.predicted == name).sum()) for name in predictions.classes},
            "undecided": None if final.abstains is None else int(final.abstains.sum()),
            "probability": finite_or_none(mean_known(final.probability)),
            "accuracy": _accuracies(case_predictions),
            "signal": _signals(case_predictions),
            "forecast": _forecast(case_predictions, context),
            "explanation": explanation,
            "features": _features(sequence, context.cohort),
        }
        records.append(record)
    return records


def mean_known(values: AnyArray) -> float:
    """Mean of the finite values; NaN if there are none."""
    known = values[np.isfinite(values)]
    return float(known.mean()) if len(known) else float("nan")


def forecast_errors(predictions: Predictions, horizon: Horizon) -> dict[str, float]:
    """nRMSE of each forecast of one case against its true signal at the horizon; NaN if unknown."""
    signal, times = (predictions.facts[name].to_numpy(dtype=np.float64) for name in ("signal", "time"))
    later = (
        horizon.targets(normalise(signal), times) if np.isfinite(signal).any() else np.full(len(predictions), np.nan)
    )
    errors = {}
    for kind, values in predictions.forecasts.items():
        both = np.isfinite(values) & np.isfinite(later)
        errors[kind] = nrmse(later[both], values[both]) if both.sum() > 1 else float("nan")
    return errors


def forecast_facts(horizon: Horizon, sees_the_future: bool) -> Json:
    """Facts that belong to a forecast's error: the horizon, and whether features use later frames."""
    note = RETROSPECTIVE_NOTE if sees_the_future else CAUSAL_NOTE
    return {"ahead_s": horizon.horizon_s, "sees_the_future": sees_the_future, "read": note}


def _accuracies(predictions: Predictions) -> dict[str, float | None]:
    """Fraction of correct frames by model, if labels are known."""
    known = predictions.facts["label"].notna().to_numpy()
    if not known.any():
        return {}
    labels = predictions.facts["label"][known].tolist()
    return {
        name: finite_or_none(accuracy(labels, model.predicted[known].tolist()))
        for name, model in predictions.models.items()
    }


def _signals(predictions: Predictions) -> dict[str, dict[str, float | None]]:
    """Period, breaths, amplitude and irregularity of each signal with times."""
    times = predictions.facts["time"].to_numpy(dtype=np.float64)
    signals = {"truth": predictions.facts["signal"].to_numpy(dtype=np.float64)}
    signals |= {
        name: model.signal.astype(np.float64) for name, model in predictions.models.items() if model.signal is not None
    }
    return {
        name: {key: finite_or_none(value) for key, value in describe(normalise(signal), times).items()}
        for name, signal in signals.items()
        if np.isfinite(signal).any() and np.isfinite(times).any()
    }


def _forecast(predictions: Predictions, context: SequenceContext) -> Json | None:
    if context.horizon is None or not predictions.forecasts:
        return None
    errors = forecast_errors(predictions, context.horizon)
    facts = forecast_facts(context.horizon, context.sees_the_future)
    return {**facts, "nrmse": {kind: finite_or_none(value) for kind, value in errors.items()}}


def _features(sequence: FeatureSequence, cohort: Mapping[str, Mapping[str, float | None]]) -> list[Json]:
    rows = []
    for column, name in enumerate(sequence.names):
        if not name.endswith(".slope"):
            values = sequence.x[sequence.known[:, column], column]
            low, mean, high = (values.min(), values.mean(), values.max()) if len(values) else (np.nan,) * 3
            values_by_key = {"low": low, "value": mean, "high": high}
            training = cohort.get(name, {"mean": None, "sd": None})
            row = {"name": name, **{key: finite_or_none(value) for key, value in values_by_key.items()}}
            rows.append({**row, "mean": training["mean"], "sd": training["sd"]})
    return rows


def cohort_statistics(frames: pd.DataFrame, names: Sequence[str]) -> Mapping[str, dict[str, float | None]]:
    """Mean and standard deviation over cases of each feature's mean over a case's frames."""
    means = frames.groupby("case")[list(names)].mean()
    return {
        str(name): {"mean": finite_or_none(means[name].mean()), "sd": finite_or_none(means[name].std(ddof=0))}
        for name in means.columns
    }
