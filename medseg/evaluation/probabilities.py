"""How good class probabilities are: who is found, how ordered the grades are, and whether .7 means seven of ten."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from medseg.evaluation.bootstrap import ONE_PATIENT, bootstrap_statistic, mean_with_ci
from medseg.evaluation.states import auc
from medseg.typing import BoolArray, FloatArray, IntArray

BINS = 15  # of the reliability plot and the calibration error (Guo et al., ICML 2017)
LEAST = 1e-6


def probability_metrics(
    probabilities: FloatArray, truth: IntArray, patients: Sequence[object], positive: Sequence[int] = ()
) -> dict[str, Any]:
    """Scores of probabilities (N, K) against class numbers (N,), each {"mean", "ci95", "n"}, intervals by patient.

    nll: mean negative log-likelihood; brier: mean squared error summed over classes; ece: expected calibration error
    in 15 equal bins of the highest probability; ece_classwise: the mean over classes of that of each one's own
    probability, in which a rare class said too often cannot hide (Kull et al., NeurIPS 2019); qwk: quadratically
    weighted kappa of the classes in their order. Where the classes `positive` call for action: auc_positive,
    average_precision_positive, sensitivity and specificity of their summed probability (at one half).
    """
    right = probabilities[np.arange(len(truth)), truth]
    brier = ((probabilities - np.eye(probabilities.shape[1])[truth]) ** 2).sum(axis=1)
    found: dict[str, Any] = {
        "nll": mean_with_ci(-np.log(np.maximum(right, LEAST)), patients, "no case with a label"),
        "brier": mean_with_ci(brier, patients, "no case with a label"),
        "ece": _over(lambda rows: calibration_error(probabilities[rows], truth[rows]), patients),
        "ece_classwise": _over(lambda rows: classwise_error(probabilities[rows], truth[rows]), patients),
    }
    if probabilities.shape[1] > 2:
        guess = probabilities.argmax(axis=1)
        classes = probabilities.shape[1]
        found["qwk"] = _over(lambda rows: weighted_kappa(truth[rows], guess[rows], classes), patients)
    if len(positive):
        score, ill = probabilities[:, list(positive)].sum(axis=1), np.isin(truth, list(positive))
        table = np.stack([1 - score, score], axis=1)  # (N, 2)
        found["auc_positive"] = _over(lambda rows: auc(ill[rows].tolist(), table[rows][:, 1:], [True]), patients)  # type: ignore[list-item]
        found["average_precision_positive"] = _over(lambda rows: average_precision(score[rows], ill[rows]), patients)
        called = score >= 0.5
        found["sensitivity"] = mean_with_ci(np.where(ill, called, np.nan), patients, "no positive case")
        found["specificity"] = mean_with_ci(np.where(~ill, ~called, np.nan), patients, "no negative case")
    return found


def roc_pr_curves(score: FloatArray, ill: BoolArray) -> tuple[FloatArray, FloatArray, FloatArray]:
    """1 − specificity, sensitivity and precision at every threshold, from none called to all; equal scores together."""
    order = np.argsort(-score, kind="stable")
    hits, called = np.cumsum(ill[order]), np.arange(1, len(score) + 1)
    last = np.append(np.diff(score[order]) != 0, True)  # of equal scores
    hits, called = np.insert(hits[last], 0, 0), np.insert(called[last], 0, 0)
    precision = hits / np.maximum(called, 1)
    return (called - hits) / max(int((~ill).sum()), 1), hits / max(int(ill.sum()), 1), precision


def average_precision(score: FloatArray, ill: BoolArray) -> float:
    """Area under the precision–recall curve by steps, Σ (Rₙ − Rₙ₋₁) Pₙ; NaN where not both sides are there."""
    _, recall, precision = roc_pr_curves(score, ill)
    return float(np.sum(np.diff(recall) * precision[1:])) if 0 < ill.sum() < len(ill) else float("nan")


def prediction_set_metrics(sets: BoolArray, truth: IntArray, patients: Sequence[object]) -> dict[str, Any]:
    """Of sets of classes (N, K): how often the true one is inside, their mean size, and the share that abstains."""
    size = sets.sum(axis=1)
    held = sets[np.arange(len(truth)), truth].astype(np.float64)
    alone = size == 1
    reason = "no case with a label"
    return {
        "coverage": mean_with_ci(held, patients, reason),
        "size": mean_with_ci(size.astype(np.float64), patients, reason),
        "abstains": mean_with_ci((~alone).astype(np.float64), patients, reason),
        "accuracy_of_the_rest": mean_with_ci(np.where(alone, held, np.nan), patients, "it abstains from every case"),
    }


def reliability(probabilities: FloatArray, truth: IntArray) -> list[dict[str, float]]:
    """Per bin of the highest probability that holds a case: mean probability, share that is right, number of cases."""
    sure, right = probabilities.max(axis=1), probabilities.argmax(axis=1) == truth
    bins = np.minimum((sure * BINS).astype(int), BINS - 1)
    return [
        {"probability": float(sure[inside].mean()), "right": float(right[inside].mean()), "n": int(inside.sum())}
        for k in range(BINS)
        if (inside := bins == k).any()
    ]


def calibration_error(probabilities: FloatArray, truth: IntArray) -> float:
    """Expected calibration error: Σ n_b/N · |right − probability| over the bins of `reliability`."""
    bins = reliability(probabilities, truth)
    return float(sum(b["n"] * abs(b["right"] - b["probability"]) for b in bins) / len(truth))


def classwise_error(probabilities: FloatArray, truth: IntArray) -> float:
    """Mean over classes of Σ n_b/N · |share of the class − its mean probability| over 15 equal bins of that."""
    errors = []
    for k, own in enumerate(probabilities.T):
        bins = np.minimum((own * BINS).astype(int), BINS - 1)
        shift = np.bincount(bins, own - (truth == k), minlength=BINS)  # n_b · (mean probability − share)
        errors.append(float(np.abs(shift).sum()) / len(truth))
    return float(np.mean(errors))


def weighted_kappa(truth: IntArray, guess: IntArray, classes: int) -> float:
    """Cohen's kappa with quadratic weights (Cohen 1968); NaN where truth and guess both hold one and the same class."""
    table = np.zeros((classes, classes))
    np.add.at(table, (truth, guess), 1)
    k = np.arange(classes)
    weight = (k[:, None] - k) ** 2
    chance = np.outer(table.sum(axis=1), table.sum(axis=0)) / max(table.sum(), 1)
    expected = float((weight * chance).sum())
    return 1 - float((weight * table).sum()) / expected if expected > 0 else float("nan")


def _over(statistic: Callable[[npt.NDArray[np.intp]], float], patients: Sequence[object]) -> dict[str, Any]:
    """A statistic of all cases together, with its interval by patient."""
    value = statistic(np.arange(len(patients)))
    if np.isnan(value):
        return {"mean": None, "ci95": None, "n": 0, "reason": "only one class among the cases"}
    limits = bootstrap_statistic(statistic, patients)
    result = {"mean": value, "ci95": list(limits) if limits else None, "n": len(patients)}
    return result if limits else {**result, "reason": ONE_PATIENT}
