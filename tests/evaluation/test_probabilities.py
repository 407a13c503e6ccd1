"""Scores of probabilities on values that can be worked out by hand or by an independent library."""

import numpy as np
import pytest
import torch
from sklearn.metrics import average_precision_score, cohen_kappa_score, log_loss, roc_auc_score

from medseg.evaluation.probabilities import (
    calibration_error,
    classwise_error,
    fast_average_precision,
    prediction_set_metrics,
    probability_metrics,
    reliability,
    roc_pr_curves,
    weighted_kappa,
)
from medseg.evaluation.states import fast_auc


def cohort(count: int = 200) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(0)
    probabilities = rng.dirichlet([1, 1, 1], count)
    return probabilities, np.array([rng.choice(3, p=p) for p in probabilities])


def test_scores_agree_with_an_independent_library() -> None:
    probabilities, truth = cohort()
    found = probability_metrics(probabilities, truth, range(200), positive=[1, 2])
    assert found["nll"]["mean"] == pytest.approx(log_loss(truth, probabilities))
    assert found["qwk"]["mean"] == pytest.approx(
        cohen_kappa_score(truth, probabilities.argmax(axis=1), weights="quadratic")
    )
    ill = truth > 0
    assert found["auc_positive"]["mean"] == pytest.approx(roc_auc_score(ill, 1 - probabilities[:, 0]))
    precision = average_precision_score(ill, 1 - probabilities[:, 0])
    assert found["average_precision_positive"]["mean"] == pytest.approx(precision)
    called = probabilities[:, 0] <= 0.5
    assert found["sensitivity"]["mean"] == pytest.approx(called[ill].mean())
    assert found["specificity"]["mean"] == pytest.approx((~called)[~ill].mean())
    assert found["nll"]["ci95"][0] < found["nll"]["mean"] < found["nll"]["ci95"][1]


def test_average_precision_takes_equal_scores_together() -> None:
    score, ill = np.round(np.random.default_rng(1).random(80), 1), np.arange(80) % 3 == 0
    assert fast_average_precision(score, ill) == pytest.approx(average_precision_score(ill, score))


def draw(seed: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Scores with ties, sides, and how often a bootstrap drew each."""
    random = np.random.default_rng(seed)
    score, ill = random.random(60).round(1), random.random(60) < 0.3
    return score, ill, np.bincount(random.integers(60, size=60), minlength=60)


@pytest.mark.parametrize("seed", range(5))
def test_fast_kernels_of_a_draw_agree_with_weights_of_scikit_learn(seed: int) -> None:
    score, ill, weight = draw(seed)
    drawn = np.repeat(np.arange(60), weight)
    expected = average_precision_score(ill, score, sample_weight=weight)
    assert fast_average_precision(score[drawn], ill[drawn]) == pytest.approx(expected)
    area = fast_auc(ill[drawn].tolist(), score[drawn, None], [True])  # type: ignore[list-item]
    assert area == pytest.approx(roc_auc_score(ill, score, sample_weight=weight))


@pytest.mark.parametrize("side", [True, False])
def test_fast_kernels_of_one_class_are_nan(side: bool) -> None:
    score, ill = np.array([0.1, 0.7, 0.7]), np.full(3, side)
    assert np.isnan(fast_average_precision(score, ill))
    assert np.isnan(fast_auc(ill.tolist(), score[:, None], [True]))  # type: ignore[list-item]
    assert [len(curve) for curve in roc_pr_curves(score, ill)] == [0, 0, 0]


def test_roc_pr_curves_of_ties_by_hand() -> None:
    false, true, precision = roc_pr_curves(np.array([0.9, 0.5, 0.5, 0.1]), np.array([True, True, False, False]))
    assert false.tolist() == [0, 0, 0.5, 1]
    assert true.tolist() == [0, 0.5, 1, 1]
    assert precision.tolist() == pytest.approx([1, 1, 2 / 3, 1 / 2])


def test_calibration_error_agrees_with_torchmetrics() -> None:
    functional = pytest.importorskip("torchmetrics.functional.classification")
    probabilities, truth = cohort()
    given = torch.from_numpy(probabilities), torch.from_numpy(truth)
    expected = functional.multiclass_calibration_error(*given, num_classes=3, n_bins=15)
    assert calibration_error(probabilities, truth) == pytest.approx(float(expected), abs=1e-7)


def test_calibration_error_by_hand() -> None:
    probabilities = np.array([[0.9, 0.1]] * 10 + [[0.4, 0.6]] * 10)
    truth = np.array([0] * 7 + [1] * 3 + [1] * 6 + [0] * 4)
    assert calibration_error(probabilities, truth) == pytest.approx(0.5 * 0.2)
    assert [row["right"] for row in reliability(probabilities, truth)] == pytest.approx([0.6, 0.7])


def test_certain_and_wrong_is_finite_and_brier_is_two() -> None:
    found = probability_metrics(np.array([[1.0, 0.0]] * 4), np.array([1, 1, 1, 1]), ["a", "b", "c", "d"])
    assert np.isfinite(found["nll"]["mean"])
    assert found["brier"]["mean"] == 2


def test_one_class_has_no_kappa_and_no_area_but_a_reason() -> None:
    probabilities = np.tile([0.8, 0.1, 0.1], (5, 1))
    found = probability_metrics(probabilities, np.zeros(5, int), list("abcde"), positive=[1])
    assert found["qwk"]["mean"] is None
    assert found["auc_positive"]["reason"] == "only one class among the cases"
    assert found["average_precision_positive"]["mean"] is None
    assert found["sensitivity"]["mean"] is None
    assert np.isnan(weighted_kappa(np.zeros(3, int), np.zeros(3, int), 3))


def test_sets() -> None:
    sets = np.array([[True, False], [True, True], [False, True], [True, False]])
    found = prediction_set_metrics(sets, np.array([0, 1, 1, 1]), list("abcd"))
    assert found["coverage"]["mean"] == 0.75
    assert found["size"]["mean"] == 1.25
    assert found["abstains"]["mean"] == 0.25
    assert found["accuracy_of_the_rest"]["mean"] == pytest.approx(2 / 3)


def test_a_rare_class_that_is_said_too_often_stands_in_the_error_by_class() -> None:
    """One in ten is ill, and all are said to be so with .4: right as often as it is sure, and far off for the class."""
    truth = np.array([1] * 4 + [0] * 6 + [0] * 30)
    chances = np.array([[0.4, 0.6]] * 10 + [[0.7, 0.3]] * 30)
    low, high = np.array([0.6, 0.3]), np.array([4 / 10, 0.0])
    by_class = (10 * abs(low[0] - high[0]) + 30 * abs(low[1] - high[1])) / 40
    assert classwise_error(chances, truth) == pytest.approx(by_class)
    assert probability_metrics(chances, truth, list(range(40)))["ece_classwise"]["mean"] == pytest.approx(by_class)
