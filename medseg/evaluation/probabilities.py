"""Metrics of class probabilities: discrimination, ordinal agreement and calibration."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from medseg.evaluation.bootstrap import ONE_PATIENT, bootstrap_statistic, mean_with_ci
from medseg.evaluation.states import fast_auc
from medseg.typing import BoolArray, FloatArray, IntArray

BINS = 15  # of the reliability plot and the calibration error (Guo et al., ICML 2017)
MIN_PROBABILITY = 1e-6  # before its logarithm is taken


def probability_metrics(
    probabilities: FloatArray, truth: IntArray, patients: Sequence[object], positive: Sequence[int] = ()
) -> dict[str, Any]:
    """Scores of probabilities (N, K) against class numbers (N,), each {"mean", "ci95", "n"}, intervals by patient.

    nll: mean negative log-likelihood; brier: mean squared error summed over classes; ece: expected calibration error
    in 15 equal bins of the highest probability; ece_classwise: the mean over classes of that of each one's own
    probability, which shows a rare class that is predicted too often (Kull et al., NeurIPS 2019); qwk: quadratically
    weighted kappa of the classes in their order. Where the classes `positive` call for action: auc_positive,
    average_precision_positive, sensitivity and specificity of their summed probability (at one half).
    """
    # nll and brier: sklearn's log_loss and brier_score_loss(scale_by_half=False), but a value a case, for the intervals
    true_probability = probabilities[np.arange(len(truth)), truth]
    brier = ((probabilities - np.eye(probabilities.shape[1])[truth]) ** 2).sum(axis=1)
    metrics: dict[str, Any] = {
        "nll": mean_with_ci(-np.log(np.maximum(true_probability, MIN_PROBABILITY)), patients, "no case with a label"),
        "brier": mean_with_ci(brier, patients, "no case with a label"),
        "ece": _over(lambda rows: calibration_error(probabilities[rows], truth[rows]), patients),
        "ece_classwise": _over(lambda rows: classwise_error(probabilities[rows], truth[rows]), patients),
    }
    if probabilities.shape[1] > 2:
        predicted = probabilities.argmax(axis=1)
        classes = probabilities.shape[1]
        metrics["qwk"] = _over(lambda rows: weighted_kappa(truth[rows], predicted[rows], classes), patients)
    if len(positive):
        score, is_positive = probabilities[:, list(positive)].sum(axis=1), np.isin(truth, list(positive))
        metrics["auc_positive"] = _over(
            lambda rows: fast_auc(is_positive[rows].tolist(), score[rows, None], [True]),  # type: ignore[list-item]
            patients,
        )
        precision = _over(lambda rows: fast_average_precision(score[rows], is_positive[rows]), patients)
        metrics["average_precision_positive"] = precision
        predicted_positive = score >= 0.5
        metrics["sensitivity"] = mean_with_ci(
            np.where(is_positive, predicted_positive, np.nan), patients, "no positive case"
        )
        metrics["specificity"] = mean_with_ci(
            np.where(~is_positive, ~predicted_positive, np.nan), patients, "no negative case"
        )
    return metrics


def roc_pr_curves(score: FloatArray, is_positive: BoolArray) -> tuple[FloatArray, FloatArray, FloatArray]:
    """1 − specificity, sensitivity and precision at every threshold, from no positive prediction to all; ties are one.

    Where no case is predicted positive, precision is 1, as in sklearn. Arrays are empty where one class is absent.
    """
    from sklearn.metrics import precision_recall_curve, roc_curve

    if not 0 < is_positive.sum() < len(is_positive):
        return (np.empty(0),) * 3
    false, true, _ = roc_curve(is_positive, score, drop_intermediate=False)
    precision, _, _ = precision_recall_curve(is_positive, score)
    return false, true, precision[::-1]


def fast_average_precision(score: FloatArray, is_positive: BoolArray) -> float:
    """Area under the precision–recall curve by steps, Σ (Rₙ − Rₙ₋₁) Pₙ; NaN where one class is absent.

    sklearn's average_precision_score in a tenth of its time, for the draws of a bootstrap.
    """
    if not 0 < is_positive.sum() < len(is_positive):
        return float("nan")
    order = np.argsort(-score, kind="stable")
    last = np.append(np.diff(score[order]) != 0, True)  # of equal scores
    true_positives, n_predicted_positive = np.cumsum(is_positive[order])[last], np.arange(1, len(score) + 1)[last]
    return float(np.sum(np.diff(true_positives, prepend=0) * true_positives / n_predicted_positive) / is_positive.sum())


def prediction_set_metrics(sets: BoolArray, truth: IntArray, patients: Sequence[object]) -> dict[str, Any]:
    """Metrics of prediction sets (N, K): how often the true class is inside, mean size, and fraction of abstentions."""
    size = sets.sum(axis=1)
    covered = sets[np.arange(len(truth)), truth].astype(np.float64)
    single_class = size == 1
    reason = "no case with a label"
    return {
        "coverage": mean_with_ci(covered, patients, reason),
        "size": mean_with_ci(size.astype(np.float64), patients, reason),
        "abstains": mean_with_ci((~single_class).astype(np.float64), patients, reason),
        "accuracy_of_the_rest": mean_with_ci(
            np.where(single_class, covered, np.nan), patients, "it abstains from every case"
        ),
    }


def reliability(probabilities: FloatArray, truth: IntArray) -> list[dict[str, float]]:
    """Per bin of the highest probability that holds a case: mean probability, fraction correct, number of cases."""
    confidence, correct = probabilities.max(axis=1), probabilities.argmax(axis=1) == truth
    bins = np.minimum((confidence * BINS).astype(int), BINS - 1)
    return [
        {
            "probability": float(confidence[inside].mean()),
            "right": float(correct[inside].mean()),
            "n": int(inside.sum()),
        }
        for k in range(BINS)
        if (inside := bins == k).any()
    ]


def calibration_error(probabilities: FloatArray, truth: IntArray) -> float:
    """Expected calibration error: Σ n_b/N · |correct − probability| over the bins of `reliability`.

    The multiclass_calibration_error of torchmetrics, whose import alone takes seconds.
    """
    bins = reliability(probabilities, truth)
    return float(sum(b["n"] * abs(b["right"] - b["probability"]) for b in bins) / len(truth))


def classwise_error(probabilities: FloatArray, truth: IntArray) -> float:
    """Mean over classes of Σ n_b/N · |fraction of the class − its mean probability| over 15 equal bins of that."""
    errors = []
    for k, class_probability in enumerate(probabilities.T):
        bins = np.minimum((class_probability * BINS).astype(int), BINS - 1)
        shift = np.bincount(
            bins, class_probability - (truth == k), minlength=BINS
        )  # n_b · (mean probability − fraction)
        errors.append(float(np.abs(shift).sum()) / len(truth))
    return float(np.mean(errors))


def weighted_kappa(truth: IntArray, guess: IntArray, classes: int) -> float:
    """Cohen's kappa with quadratic weights (Cohen 1968); NaN where `truth` and `guess` hold one and the same class."""
    from sklearn.metrics import cohen_kappa_score

    if len(np.union1d(truth, guess)) < 2:
        return float("nan")
    return float(cohen_kappa_score(truth, guess, weights="quadratic", labels=np.arange(classes)))


def _over(statistic: Callable[[npt.NDArray[np.intp]], float], patients: Sequence[object]) -> dict[str, Any]:
    """A statistic of all cases together, with its interval by patient."""
    value = statistic(np.arange(len(patients)))
    if np.isnan(value):
        return {"mean": None, "ci95": None, "n": 0, "reason": "only one class among the cases"}
    limits = bootstrap_statistic(statistic, patients)
    result = {"mean": value, "ci95": list(limits) if limits else None, "n": len(patients)}
    return result if limits else {**result, "reason": ONE_PATIENT}
