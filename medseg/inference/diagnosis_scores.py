"""How good diagnoses are whose labels are known: the same scores for a run's held-out cases and for a user's folder."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
import pandas as pd

from medseg.diagnosis.calibration import Calibration
from medseg.diagnosis.forecasting import Horizon
from medseg.diagnosis.respiratory_signal import normalise, period
from medseg.diagnosis.sequence_dataset import UNKNOWN
from medseg.evaluation.bootstrap import mean_with_ci
from medseg.evaluation.probabilities import prediction_set_metrics, probability_metrics, reliability
from medseg.evaluation.states import summarise_predictions
from medseg.features.tables import Tables
from medseg.inference.feature_inputs import UNDEFINED
from medseg.inference.sequence_classifier import SINGLE_FRAME, SequenceClassifier
from medseg.inference.sequence_results import forecast_errors, forecast_facts
from medseg.inference.stacked_classifier import MEMBERS, RULE, STACK, StackedClassifier
from medseg.typing import BoolArray, FloatArray, IntArray


def score(found: pd.DataFrame, classes: Sequence[str], models: Sequence[str]) -> dict[str, Any]:
    """Scores of diagnoses whose labels are known; signals are compared with mean 0 and SD 1 in each case.

    The first of `models` has the columns without a name behind them.
    """
    truth = found["signal"].astype(float)
    if truth.notna().any():
        truth = truth.groupby(found["case"], sort=False).transform(lambda s: normalise(s.to_numpy(dtype=np.float64)))
    return summarise_predictions(found.assign(signal=truth), classes, models, period)


def evaluate_frames(
    classifier: StackedClassifier, tables: Tables, found: pd.DataFrame, positive: Sequence[str]
) -> dict[str, Any]:
    """Scores of every model of a classifier on tables with labels: those of `score`, of its probabilities before and
    after calibration, and of its sets; a case that could not be measured counts with what was said of it all the same.

    found: what it said of them, with the baseline; positive: the classes that call for action.
    """
    rows, classes = classifier.rows(tables), classifier.inputs.classes
    others = [name for name in (*MEMBERS, STACK, *([RULE] if classifier.rule else [])) if name != classifier.use]
    summary = score(found, classes, [classifier.use, *others])
    truth = _Truth.of(rows.facts, classes, positive)
    _judge_calibrated(summary, classifier.said(rows), classifier.calibrations, classifier.undefined(rows), truth)
    return summary | {"use": classifier.use}


def evaluate_sequences(
    diagnoser: SequenceClassifier, tables: Tables, found: pd.DataFrame, models: Sequence[str], positive: Sequence[str]
) -> dict[str, Any]:
    """As `judge`, of those of a diagnoser's `models` whose columns `found` has; without the probabilities' own scores
    where they are not calibrated.
    """
    summary = score(found, diagnoser.inputs.classes, models)
    if diagnoser.calibrations:
        truth = _Truth.of(found, diagnoser.inputs.classes, positive)
        silent = found["review"].str.contains(f"{UNDEFINED}|{SINGLE_FRAME}").to_numpy()
        said = {name: chances for name, chances in diagnoser.said(tables).items() if name in models}
        _judge_calibrated(summary, said, diagnoser.calibrations, silent, truth)
    return summary


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


def _judge_calibrated(
    summary: dict[str, Any],
    said: Mapping[str, FloatArray],
    calibrations: Mapping[str, Calibration],
    silent: BoolArray,
    truth: _Truth,
) -> None:
    """Add what probabilities (R, K) by model are worth before and after calibration, and their sets: all classes, in
    the rows (R,) that are `silent`.
    """
    known = truth.numbers != UNKNOWN
    numbers, patients = truth.numbers[known], truth.patients[known].tolist()
    summary["reliability"] = {}
    for name, raw in said.items():
        calibrated = calibrations[name].probabilities(raw)
        scores = probability_metrics(calibrated[known], numbers, patients, truth.ill)
        before = probability_metrics(raw[known], numbers, patients)
        scores |= {f"{key}_before": before[key] for key in ("nll", "brier", "ece", "ece_classwise")}
        sets = prediction_set_metrics(calibrations[name].sets(calibrated, silent)[known], numbers, patients)
        summary["models"][name] |= scores | {f"set_{key}": value for key, value in sets.items()}
        summary["reliability"][name] = reliability(calibrated[known], numbers)


def evaluate_forecast(found: pd.DataFrame, diagnoser: SequenceClassifier, horizon: Horizon) -> dict[str, Any]:
    """nRMSE of each forecast against the true signal so much later, a mean over cases; guessing the mean gives 1."""
    parts = [part for _, part in found.groupby("case", sort=False)]
    errors = pd.DataFrame([forecast_errors(part, horizon) for part in parts])
    patients = [part["patient"].iloc[0] for part in parts]
    why = "no sequence with times that is longer than the past that is read"
    judged = {str(name): mean_with_ci(errors[name], patients, why) for name in errors}
    return {**forecast_facts(diagnoser, horizon), **judged}
