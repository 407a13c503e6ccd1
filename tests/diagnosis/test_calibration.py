"""Probabilities made too sure by a known factor, and sets whose coverage is promised."""

import numpy as np
import pytest
from scipy.special import softmax

from medseg.diagnosis.calibration import (
    EXCLUDE_ALL,
    Calibration,
    calibrate,
    conformal_limits,
    fit_bias,
    fit_temperature,
    from_json,
)


def drawn(count: int, sharpness: float, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Claimed probabilities (N, 3), `sharpness` times too sure, of classes drawn from the honest ones."""
    rng = np.random.default_rng(seed)
    values = rng.normal(0, 1.5, (count, 3))
    honest = softmax(values, axis=1)
    truth = (honest.cumsum(axis=1) < rng.random((count, 1))).sum(axis=1)
    return softmax(values * sharpness, axis=1), truth


@pytest.mark.parametrize("sharpness", [0.5, 1.0, 3.0])
def test_the_temperature_is_the_factor_by_which_it_was_too_sure(sharpness: float) -> None:
    assert fit_temperature(*drawn(20_000, sharpness, 0)) == pytest.approx(sharpness, rel=0.05)


def test_calibrating_changes_no_decision_and_rows_sum_to_one() -> None:
    claimed, truth = drawn(500, 3.0, 1)
    scaled = calibrate(claimed, truth, 0.1).probabilities(claimed)
    assert (scaled.argmax(axis=1) == claimed.argmax(axis=1)).all()
    assert scaled.sum(axis=1) == pytest.approx(np.ones(500))
    assert scaled.max() < claimed.max()


@pytest.mark.parametrize("alpha", [0.05, 0.2])
def test_sets_hold_the_true_class_as_often_as_promised_for_every_class(alpha: float) -> None:
    calibration = calibrate(*drawn(3000, 3.0, 2), alpha)
    claimed, truth = drawn(6000, 3.0, 3)
    sets = calibration.sets(calibration.probabilities(claimed))
    for k in range(3):
        assert sets[truth == k, k].mean() == pytest.approx(1 - alpha, abs=0.03)


def test_a_class_of_too_few_cases_is_in_every_set() -> None:
    claimed, truth = drawn(100, 1.0, 4)
    truth[:] = np.arange(100) % 2
    truth[:3] = 2
    assert conformal_limits(claimed, truth, 0.1)[2] == 1.0
    assert Calibration(1.0, (0.0, 0.0, 1.0)).sets(np.array([[0.9, 0.1, 0.0]])).tolist() == [[True, False, True]]


def test_a_probability_of_zero_is_no_infinity() -> None:
    claimed = np.array([[1.0, 0.0], [0.0, 1.0], [1.0, 0.0], [1.0, 0.0]])
    assert np.isfinite(fit_temperature(claimed, np.array([0, 1, 1, 0])))


def test_a_class_without_cases_is_in_no_set() -> None:
    calibrated = np.array([[0.0, 0.9, 0.1], [0.0, 0.2, 0.8]])
    prediction_sets = Calibration(
        1.0, conformal_limits(calibrated.repeat(30, axis=0), np.array([1, 2]).repeat(30), 0.1)
    )
    assert prediction_sets.sets(calibrated).tolist() == [[False, True, False], [False, False, True]]


def test_a_case_that_no_class_fits_is_for_a_person() -> None:
    sure = Calibration(1.0, (0.08, 0.07, EXCLUDE_ALL))  # of a model that is right in 98 of 100
    prediction_sets = sure.sets(np.array([[0.97, 0.03, 0.0], [0.5002, 0.4998, 0.0]]))
    assert prediction_sets.tolist() == [[True, False, False], [True, True, False]]


def test_a_bias_takes_back_what_equal_weights_of_classes_put_in() -> None:
    """Cases of 8 : 1 : 1, judged as if the classes were equally common."""
    rng = np.random.default_rng(5)
    prior = np.array([0.8, 0.1, 0.1])
    truth = rng.choice(3, 4000, p=prior)
    seen = rng.normal(2.0 * np.eye(3)[truth], 1.0)  # log-odds of equally common classes: 2 × each
    claimed, honest = softmax(2.0 * seen, axis=1), softmax(2.0 * seen + np.log(prior), axis=1)
    temperature, bias = fit_bias(claimed, truth)
    assert temperature == pytest.approx(1.0, abs=0.1)
    assert np.array(bias) == pytest.approx(np.log(prior) - np.log(prior).mean(), abs=0.2)
    made = calibrate(claimed, truth, 0.1, biased=True)
    assert made.probabilities(claimed) == pytest.approx(honest, abs=0.08)
    assert from_json({"stack": made._asdict()}) == {"stack": made}
    assert from_json({"stack": {"temperature": 2.0, "limits": [0.1, 0.2]}})["stack"].bias == ()  # of a model of before


def test_a_class_that_no_case_shows_gets_no_bias() -> None:
    claimed, truth = drawn(300, 1.0, 6)
    assert fit_bias(claimed, np.minimum(truth, 1))[1][2] == 0.0


def test_cases_that_are_all_right_do_not_make_a_model_sure_beyond_measure() -> None:
    """Sixteen sequences of four patients whose frames are all told: a fifth patient's may not be."""
    rng = np.random.default_rng(7)
    truth = np.arange(128) % 2
    right = rng.uniform(0.85, 0.99, 128)
    claimed = np.where(np.eye(2)[truth] == 1, right[:, None], 1 - right[:, None])
    temperature = fit_temperature(claimed, truth)
    assert 0.3 < temperature <= 1.0
    assert calibrate(claimed, truth, 0.1).probabilities(claimed).max() < 0.9999
    assert fit_bias(claimed, truth)[0] > 0.3


def test_conformal_limit_is_the_rank_of_split_conformal_prediction() -> None:
    """Nine cases a class with 1 − p = .01, .02 … .09: ⌈10·.8⌉ = 8th smallest at α = .2, ⌈10·.9⌉ = 9th at α = .1."""
    scores = np.arange(1, 10) / 100
    p = np.concatenate([np.stack([1 - scores, scores], 1), np.stack([scores, 1 - scores], 1)])
    truth = np.repeat([0, 1], 9)
    assert conformal_limits(p, truth, 0.2) == pytest.approx((0.08, 0.08))
    assert conformal_limits(p, truth, 0.1) == pytest.approx((0.09, 0.09))
    assert conformal_limits(p, truth, 0.05) == (1.0, 1.0)  # ⌈10·.95⌉ = 10 of nine: the class is in every set
