from __future__ import annotations

import numpy as np
import pytest

from medseg.evaluation.bootstrap import ONE_PATIENT, bootstrap_ci, bootstrap_statistic, mean_with_ci

NAN = float("nan")


def test_interval_agrees_with_the_normal_one_where_each_patient_has_one_value() -> None:
    values = np.random.default_rng(0).normal(0.8, 0.05, size=200)
    low, high = bootstrap_ci(values, range(200), seed=1)
    half = 1.96 * values.std() / np.sqrt(200)
    assert low == pytest.approx(values.mean() - half, abs=0.001)
    assert high == pytest.approx(values.mean() + half, abs=0.001)


def test_intervals_cover_the_truth_about_as_often_as_they_say() -> None:
    random = np.random.default_rng(2)
    covered = 0
    for trial in range(200):
        patients = np.repeat(np.arange(30), 3)
        values = random.normal(0, 1, size=30)[patients] + random.normal(0, 0.5, size=90)
        low, high = bootstrap_ci(values, patients, seed=trial, n=500)
        covered += low <= 0 <= high
    assert 0.88 <= covered / 200 <= 0.99


def test_copies_of_a_patients_values_do_not_narrow_the_interval() -> None:
    values = np.random.default_rng(3).normal(size=12)
    once = bootstrap_ci(values, range(12), seed=5)
    five_times = bootstrap_ci(np.repeat(values, 5), np.repeat(np.arange(12), 5), seed=5)
    assert once == pytest.approx(five_times)


def test_equal_values_have_an_interval_of_no_width() -> None:
    assert bootstrap_ci([0.5, 0.5, 0.5], ["a", "b", "c"]) == (0.5, 0.5)


def test_one_patient_has_no_interval_and_the_reason_is_said() -> None:
    assert bootstrap_ci([0.1, 0.9], ["a", "a"]) is None
    found = mean_with_ci([0.1, 0.9], ["a", "a"], "nothing")
    assert found == {"mean": pytest.approx(0.5), "ci95": None, "n": 2, "reason": ONE_PATIENT}


def test_unknown_values_are_left_out_and_n_counts_the_known() -> None:
    found = mean_with_ci([0.4, NAN, 0.6], ["a", "b", "c"], "nothing")
    assert (found["mean"], found["n"]) == (pytest.approx(0.5), 2)
    assert mean_with_ci([NAN, NAN], ["a", "b"], "no label") == {
        "mean": None,
        "ci95": None,
        "n": 0,
        "reason": "no label",
    }


def test_macro_mean_weighs_labels_alike_however_often_they_occur() -> None:
    table = [[1.0, 0.0], [1.0, NAN], [1.0, NAN], [1.0, NAN]]
    found = mean_with_ci(table, "abcd", "nothing")
    assert found["mean"] == pytest.approx(0.5)
    assert found["n"] == 4
    low, high = found["ci95"]
    assert 0.5 <= low <= high <= 1.0


def test_bootstrap_of_a_statistic_agrees_with_that_of_the_mean() -> None:
    values = np.random.default_rng(4).normal(size=40)
    patients = np.repeat(np.arange(20), 2)
    direct = bootstrap_ci(values, patients, seed=0)
    general = bootstrap_statistic(lambda rows: float(values[rows].mean()), patients, seed=0, n=2000)
    assert general == pytest.approx(direct, abs=0.04)
    assert bootstrap_statistic(lambda _: NAN, patients) is None
    assert bootstrap_statistic(lambda _: 1.0, ["a"] * 40) is None
