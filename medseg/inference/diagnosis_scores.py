"""How good diagnoses are whose labels are known: the same scores for a run's held-out cases and for a user's folder."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
import pandas as pd

from medseg.diagnosis.forecasting import Horizon
from medseg.diagnosis.respiratory_signal import normalise, period
from medseg.diagnosis.sequence_dataset import UNKNOWN
from medseg.evaluation.bootstrap import mean_with_ci
from medseg.evaluation.predictions import ModelPredictions, Predictions
from medseg.evaluation.probabilities import prediction_set_metrics, probability_metrics, reliability
from medseg.evaluation.states import summarise_predictions
from medseg.inference.sequence_results import forecast_errors, forecast_facts
from medseg.typing import IntArray


def evaluate_predictions(predictions: Predictions, positive: Sequence[str]) -> dict[str, Any]:
    """Scores of every model where labels are known: of its answers, of its probabilities before and after calibration,
    and of its sets; signals are compared with mean 0 and SD 1 in each case. A case that could not be measured counts
    with what was said of it all the same.

    positive: the classes that call for action. Without the probabilities' own scores where they are not calibrated.
    """
    signal = predictions.facts["signal"].astype(float)
    if signal.notna().any():
        by_case = signal.groupby(predictions.facts["case"], sort=False)
        signal = by_case.transform(lambda s: normalise(s.to_numpy(dtype=np.float64)))
    summary = summarise_predictions(replace(predictions, facts=predictions.facts.assign(signal=signal)), period)
    calibrated = {name: one for name, one in predictions.models.items() if one.sets is not None}
    if calibrated:
        _add_probability_scores(summary, calibrated, _Truth.of(predictions.facts, predictions.classes, positive))
    return summary | {"use": predictions.final_model}


class _Truth(NamedTuple):
    """numbers: (R,) of classes, UNKNOWN without a label; patients: (R,); ill: the classes that call for action."""

    numbers: IntArray
    patients: npt.NDArray[Any]
    ill: list[int]

    @classmethod
    def of(cls, facts: pd.DataFrame, classes: Sequence[str], positive: Sequence[str]) -> _Truth:
        numbers = [UNKNOWN if pd.isna(label) else classes.index(str(label)) for label in facts["label"]]
        ill = [classes.index(str(name)) for name in positive if str(name) in classes]
        return cls(np.array(numbers), facts["patient"].astype(str).to_numpy(), ill)


def _add_probability_scores(summary: dict[str, Any], models: Mapping[str, ModelPredictions], truth: _Truth) -> None:
    """Add what the probabilities of calibrated models are worth before and after calibration, and their sets."""
    known = truth.numbers != UNKNOWN
    numbers, patients = truth.numbers[known], truth.patients[known].tolist()
    summary["reliability"] = {}
    for name, model in models.items():
        assert model.sets is not None
        calibrated = model.probabilities[known]
        scores = probability_metrics(calibrated, numbers, patients, truth.ill)
        if model.uncalibrated is not None:
            before = probability_metrics(model.uncalibrated[known].astype(np.float64), numbers, patients)
            scores |= {f"{key}_before": before[key] for key in ("nll", "brier", "ece", "ece_classwise")}
        sets = prediction_set_metrics(model.sets[known], numbers, patients)
        summary["models"][name] |= scores | {f"set_{key}": value for key, value in sets.items()}
        summary["reliability"][name] = reliability(calibrated, numbers)


def evaluate_forecast(predictions: Predictions, horizon: Horizon, sees_the_future: bool) -> dict[str, Any]:
    """nRMSE of each forecast against the true signal so much later, a mean over cases; guessing the mean gives 1."""
    parts = [part for _, part in predictions.by_case()]
    errors = pd.DataFrame([forecast_errors(part, horizon) for part in parts])
    patients = [part.facts["patient"].iloc[0] for part in parts]
    why = "no sequence with times that is longer than the past that is read"
    judged = {str(name): mean_with_ci(errors[name], patients, why) for name in errors}
    return {**forecast_facts(horizon, sees_the_future), **judged}
