"""Evaluate diagnoses with known labels: the same scores for a run's held-out cases and for a user's folder."""

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
    """Scores of every model on rows with labels: of its predictions, and if calibrated of its probabilities before and
    after calibration and of its prediction sets. Signals are compared with mean 0 and SD 1 in each case. Cases with
    undefined features count with their withheld prediction.

    positive: the positive classes.
    """
    signal = predictions.facts["signal"].astype(float)
    if signal.notna().any():
        by_case = signal.groupby(predictions.facts["case"], sort=False)
        signal = by_case.transform(lambda s: normalise(s.to_numpy(dtype=np.float64)))
    summary = summarise_predictions(replace(predictions, facts=predictions.facts.assign(signal=signal)), period)
    calibrated = {name: model for name, model in predictions.models.items() if model.sets is not None}
    if calibrated:
        _add_probability_scores(summary, calibrated, _Reference.of(predictions.facts, predictions.classes, positive))
    return summary | {"final_model": predictions.final_model}


class _Reference(NamedTuple):
    """y: class numbers (R,), UNKNOWN without a label; patients: (R,); positive: the positive classes."""

    y: IntArray
    patients: npt.NDArray[Any]
    positive: list[int]

    @classmethod
    def of(cls, facts: pd.DataFrame, classes: Sequence[str], positive: Sequence[str]) -> _Reference:
        y = [UNKNOWN if pd.isna(label) else classes.index(str(label)) for label in facts["label"]]
        positive_numbers = [classes.index(str(name)) for name in positive if str(name) in classes]
        return cls(np.array(y), facts["patient"].astype(str).to_numpy(), positive_numbers)


def _add_probability_scores(
    summary: dict[str, Any], models: Mapping[str, ModelPredictions], reference: _Reference
) -> None:
    """Add scores of calibrated models' probabilities, before and after calibration, and of their prediction sets."""
    known = reference.y != UNKNOWN
    y, patients = reference.y[known], reference.patients[known].tolist()
    summary["reliability"] = {}
    for name, model in models.items():
        assert model.sets is not None
        calibrated = model.probabilities[known]
        scores = probability_metrics(calibrated, y, patients, reference.positive)
        if model.uncalibrated is not None:
            before = probability_metrics(model.uncalibrated[known].astype(np.float64), y, patients)
            scores |= {f"{key}_before": before[key] for key in ("nll", "brier", "ece", "ece_classwise")}
        sets = prediction_set_metrics(model.sets[known], y, patients)
        summary["models"][name] |= scores | {f"set_{key}": value for key, value in sets.items()}
        summary["reliability"][name] = reliability(calibrated, y)


def evaluate_forecast(predictions: Predictions, horizon: Horizon, sees_the_future: bool) -> dict[str, Any]:
    """nRMSE of each forecast against the true signal at the horizon, mean over cases; predicting the mean scores 1."""
    cases = [case_predictions for _, case_predictions in predictions.by_case()]
    errors = pd.DataFrame([forecast_errors(case, horizon) for case in cases])
    patients = [case.facts["patient"].iloc[0] for case in cases]
    reason = "no sequence with times is longer than the past that a forecast reads"
    scores = {str(name): mean_with_ci(errors[name], patients, reason) for name in errors}
    return {**forecast_facts(horizon, sees_the_future), **scores}
