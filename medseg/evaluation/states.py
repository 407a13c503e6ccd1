"""Scores of predicted classes and signals, case by case and pooled."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd
from scipy.stats import rankdata

from medseg.evaluation.bootstrap import ONE_PATIENT, bootstrap_statistic, mean_with_ci
from medseg.evaluation.predictions import ModelPredictions, Predictions
from medseg.typing import FloatArray

Period = Callable[[FloatArray, FloatArray], float]

STATE_SCORES = {  # each with the reason where no case has it
    "accuracy": "no frame has a label",
    "balanced_accuracy": "no frame has a label",
    "auc": "no probabilities, or no case with two classes",
    "signal_correlation": "no case with a true and a predicted signal that moves",
    "signal_nrmse": "no case with a true and a predicted signal that moves",
    "period_error_s": "no case whose true signal has times and a period",
}


def accuracy(truth: Sequence[object], predicted: Sequence[object]) -> float:
    """Fraction of frames whose state is correct."""
    from sklearn.metrics import accuracy_score

    return float(accuracy_score(_names(truth), _names(predicted)))


def balanced_accuracy(truth: Sequence[object], predicted: Sequence[object]) -> float:
    """Mean over the classes present in `truth` of the fraction of their frames that is correct."""
    from sklearn.metrics import recall_score  # as balanced_accuracy_score, which warns of classes absent from the truth

    names = _names(truth)
    return float(recall_score(names, _names(predicted), labels=sorted(set(names)), average="macro"))


def _names(values: Iterable[object]) -> list[str]:
    return [str(value) for value in values]


def fast_auc(truth: Sequence[object], probabilities: npt.ArrayLike, classes: Sequence[str]) -> float:
    """Area under the ROC curve, one class against the others, mean over classes with both sides; NaN if none.

    `probabilities` (N, K) in the order of `classes`. By ranks (Mann–Whitney), ties count one half: sklearn's
    roc_auc_score in an eighth of its time, for the draws of a bootstrap.
    """
    table = np.asarray(probabilities, dtype=np.float64)  # (N, K)
    areas = []
    for k, name in enumerate(classes):
        positive = np.array([value == name for value in truth])
        n, m = int(positive.sum()), int((~positive).sum())
        if n and m:
            areas.append((rankdata(table[:, k])[positive].sum() - n * (n + 1) / 2) / (n * m))
    return float(np.mean(areas)) if areas else float("nan")


def correlation(truth: npt.ArrayLike, predicted: npt.ArrayLike) -> float:
    """Pearson's r. NaN where the truth is constant; 0 where only the prediction is constant."""
    a, b = (np.asarray(values, dtype=np.float64) for values in (truth, predicted))
    if np.ptp(a) == 0:
        return float("nan")
    return float(np.corrcoef(a, b)[0, 1]) if np.ptp(b) > 0 else 0.0


def nrmse(truth: npt.ArrayLike, predicted: npt.ArrayLike) -> float:
    """Root mean square error over the standard deviation of the truth: predicting the mean gives 1. NaN if constant."""
    a, b = (np.asarray(values, dtype=np.float64) for values in (truth, predicted))
    return float(np.sqrt(np.mean((a - b) ** 2)) / a.std()) if np.ptp(a) > 0 else float("nan")


def never_predicted(classes: Sequence[str], predicted: Iterable[object]) -> list[str]:
    """The classes that are never predicted: reported, since a mean may hide them."""
    predicted_names = {str(value) for value in predicted}
    return [name for name in classes if name not in predicted_names]


def confusion(truth: Sequence[object], predicted: Sequence[object], classes: Sequence[str]) -> dict[str, Any]:
    """Per true class: n, the count of each predicted class and its fraction of n, sensitivity; precision of the class
    as predicted. None where the denominator is 0.
    """
    from sklearn.metrics import confusion_matrix

    names = _names(truth)
    table = np.zeros((len(classes), len(classes)), np.int64)
    if set(names) & set(classes):  # sklearn refuses truth without any of the classes
        table = confusion_matrix(names, _names(predicted), labels=list(classes))
    counts, n_predicted = table.sum(axis=1).tolist(), table.sum(axis=0).tolist()
    return {
        name: {
            "n": n,
            "predicted": {
                other: {"n": count, "share": count / n if n else None}
                for other, count in zip(classes, row, strict=True)
            },
            "sensitivity": row[k] / n if n else None,
            "precision": row[k] / n_predicted[k] if n_predicted[k] else None,
        }
        for k, (name, n, row) in enumerate(zip(classes, counts, table.tolist(), strict=True))
    }


def confusions(predictions: Predictions) -> dict[str, Any]:
    """`confusion` of each model over all rows with a label."""
    labelled = predictions.facts["label"].notna().to_numpy()
    truth = predictions.facts["label"][labelled].tolist()
    return {
        model: confusion(truth, predictions.models[model].predicted[labelled].tolist(), predictions.classes)
        for model in predictions.model_order
    }


def summarise_predictions(predictions: Predictions, period: Period | None = None) -> dict[str, Any]:
    """The metrics.json of a diagnosis.

    Scores are computed per case and averaged over cases, with intervals by patient. Where no case has two frames, a
    case is one answer: balanced accuracy and AUC are then computed over all cases at once. `period(signal, time in s)`
    gives the period in s, NaN where there is none; a prediction without a period has the whole period as its error. The
    caller adds which split was evaluated.
    """
    classes, facts = predictions.classes, predictions.facts
    patients = facts.groupby("case")["patient"].first()
    results: dict[str, Any] = {}
    for model in predictions.model_order:
        table = _model_table(facts, predictions.models[model])
        scores = {case: _score_case(rows, classes, period) for case, rows in table.groupby("case")}
        per_case = pd.DataFrame.from_dict(scores, orient="index", columns=list(STATE_SCORES)).reindex(patients.index)
        results[model] = {key: mean_with_ci(per_case[key], patients, reason) for key, reason in STATE_SCORES.items()}
        if len(patients) == len(facts):
            results[model] |= _score_pooled(table.dropna(subset=["label"]), classes)
    return {
        "task": "diagnosis",
        "n_cases": len(patients),
        "n_patients": int(patients.nunique()),
        "n_frames": len(facts),
        "classes": list(classes),
        "models": results,
        "confusion": confusions(predictions),
        "never_predicted": {
            model: never_predicted(classes, predictions.models[model].predicted) for model in predictions.model_order
        },
    }


def _model_table(facts: pd.DataFrame, model: ModelPredictions) -> pd.DataFrame:
    """Facts, what a model predicted (`predicted`, `guess` of the signal) and its probabilities by number of the class,
    frames in order.
    """
    guess = np.full(len(facts), np.nan) if model.signal is None else model.signal
    table = facts.reset_index(drop=True).assign(predicted=model.predicted, guess=guess)
    table = table.join(pd.DataFrame(model.probabilities))
    return table.sort_values(["case", "frame"])


def _score_case(table: pd.DataFrame, classes: Sequence[str], period: Period | None) -> dict[str, float]:
    """The scores of one sequence of frames; those that cannot be computed are left out."""
    scores: dict[str, float] = {}
    labelled = table.dropna(subset=["label"])
    if len(labelled):
        truth, predicted = labelled["label"].astype(str).tolist(), labelled["predicted"].astype(str).tolist()
        scores = {"accuracy": accuracy(truth, predicted), "balanced_accuracy": balanced_accuracy(truth, predicted)}
        scores["auc"] = fast_auc(truth, labelled[list(range(len(classes)))], classes)
    with_signal = table.dropna(subset=["signal", "guess"])
    if len(with_signal) > 1:
        scores["signal_correlation"] = correlation(with_signal["signal"], with_signal["guess"])
        scores["signal_nrmse"] = nrmse(with_signal["signal"], with_signal["guess"])
    timed = with_signal.dropna(subset=["time"])
    if period and len(timed) > 1:
        time, signal, guess = (timed[name].to_numpy(dtype=np.float64) for name in ("time", "signal", "guess"))
        predicted_period = period(guess, time)
        scores["period_error_s"] = abs(period(signal, time) - (0.0 if np.isnan(predicted_period) else predicted_period))
    return scores


def _score_pooled(labelled: pd.DataFrame, classes: Sequence[str]) -> dict[str, Any]:
    """Balanced accuracy and AUC over all frames at once, drawn by patient for the intervals."""
    truth, patients = labelled["label"].astype(str).to_numpy(), labelled["patient"].to_numpy()
    correct = (labelled["predicted"].astype(str) == truth).to_numpy(dtype=np.float64)
    hits = np.where(truth[:, None] == np.array(classes), correct[:, None], np.nan)  # (N, K): recalls are column means
    table = labelled[list(range(len(classes)))].to_numpy(dtype=np.float64)  # (N, K)

    def area(rows: npt.NDArray[np.intp]) -> float:
        return fast_auc(truth[rows].tolist(), table[rows], classes)

    result = {"balanced_accuracy": mean_with_ci(hits, patients, STATE_SCORES["balanced_accuracy"])}
    mean = area(np.arange(len(truth)))
    if np.isnan(mean):
        return result | {"auc": {"mean": None, "ci95": None, "n": 0, "reason": STATE_SCORES["auc"]}}
    interval = bootstrap_statistic(area, patients)
    auc = {"mean": mean, "ci95": list(interval) if interval else None, "n": len(truth)}
    return result | {"auc": auc if interval else {**auc, "reason": ONE_PATIENT}}
