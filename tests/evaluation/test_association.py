"""Measures whose association is known by construction, and textbook values."""

import numpy as np
import pandas as pd
import pytest
from scipy import stats
from sklearn.linear_model import LogisticRegression

from medseg.errors import DataError
from medseg.evaluation.association import RIDGE, associate, benjamini_hochberg, fast_slope


def cohort(count: int = 300, seed: int = 0) -> tuple[pd.DataFrame, np.ndarray]:
    rng = np.random.default_rng(seed)
    grade = rng.integers(0, 5, count).astype(float)
    columns = {"strong": grade + rng.normal(0, 0.7, count), "weak": 0.2 * grade + rng.normal(0, 1, count)}
    columns |= {f"noise{n}": rng.normal(size=count) for n in range(10)}
    columns |= {"constant": np.ones(count), "rare": np.where(np.arange(count) < 5, 1.0, np.nan)}
    columns["less"] = -columns["strong"]
    return pd.DataFrame(columns), grade


def test_strong_comes_first_with_numbers_that_agree_with_an_independent_library() -> None:
    measures, grade = cohort()
    table = associate(measures, grade, positive=2).set_index("feature")
    assert list(table.index[:2]) in (["strong", "less"], ["less", "strong"])
    wanted = stats.spearmanr(measures["weak"], grade)
    assert table.loc["weak", "rho"] == pytest.approx(wanted.statistic)
    assert table.loc["weak", "p"] == pytest.approx(wanted.pvalue)
    side = grade >= 2
    u = stats.mannwhitneyu(measures["weak"][side], measures["weak"][~side]).statistic
    assert table.loc["weak", "auc"] == pytest.approx(u / (side.sum() * (~side).sum()))
    from sklearn.linear_model import LogisticRegression

    z = stats.zscore(measures[["weak"]])
    slope = LogisticRegression(C=1e6).fit(np.asarray(z), side).coef_[0, 0]
    assert table.loc["weak", "odds_ratio"] == pytest.approx(np.exp(slope), rel=0.02)
    assert table.loc["less", "rho"] == pytest.approx(-table.loc["strong", "rho"])
    assert table.loc["less", "odds_ratio"] == pytest.approx(1 / table.loc["strong", "odds_ratio"], rel=1e-6)


def test_intervals_hold_the_value_and_noise_is_not_called() -> None:
    measures, grade = cohort()
    table = associate(measures, grade, positive=2).set_index("feature")
    for part in ("rho", "auc"):
        assert (table[f"{part}_low"].dropna() <= table[part].dropna()).all()
        assert (table[part].dropna() <= table[f"{part}_high"].dropna()).all()
    assert table.loc["strong", "q"] < 1e-6
    assert (table.loc[[f"noise{n}" for n in range(10)], "q"] > 0.05).sum() >= 9


def test_what_cannot_be_told_has_a_reason_and_no_number() -> None:
    table = associate(*cohort(), positive=2).set_index("feature")
    assert table.loc["constant", "reason"] == "the same in every case"
    assert table.loc["rare", "reason"] == "5 values, 8 are needed"
    assert table.loc[["constant", "rare"], ["rho", "odds_ratio", "auc", "q"]].isna().all(axis=None)


def test_cases_of_one_patient_widen_the_interval() -> None:
    measures, grade = cohort(60)
    many = pd.concat([measures[["weak"]]] * 10, ignore_index=True)
    grades, patients = np.tile(grade, 10), np.tile(np.arange(60), 10)
    by_patient = associate(many, grades, 2, patients).iloc[0]
    by_case = associate(many, grades, 2).iloc[0]
    assert by_patient["rho_high"] - by_patient["rho_low"] > 2 * (by_case["rho_high"] - by_case["rho_low"])


def test_p_counts_patients_not_rows() -> None:
    measures, grade = cohort(40)
    once = associate(measures, grade, 2).set_index("feature")
    twice = pd.concat([measures, measures], ignore_index=True)
    grades, patients = np.tile(grade, 2), np.tile(np.arange(40), 2)
    eyes = associate(twice, grades, 2, patients).set_index("feature").loc[once.index]
    known = once["p"].notna()
    assert known.sum() > 10
    for name in ("rho", "p", "q"):
        assert eyes.loc[known, name].to_numpy() == pytest.approx(once.loc[known, name].to_numpy(), rel=1e-9)
    wanted = [stats.spearmanr(measures[name], grade).pvalue for name in once.index[known]]
    assert once.loc[known, "p"].to_numpy() == pytest.approx(np.array(wanted), rel=1e-9)


def test_two_patients_have_no_p_but_a_reason() -> None:
    measures, grade = cohort(40)
    row = associate(measures[["weak"]], grade, 2, np.arange(40) % 2).iloc[0]
    assert np.isnan(row["p"])
    assert np.isnan(row["q"])
    assert np.isfinite(row["rho"])
    assert row["reason"] == "values of 2 patients, p needs 3"


def test_a_measure_that_follows_the_grade_throughout_has_a_p_of_nought() -> None:
    grade = np.arange(20.0)
    assert associate(pd.DataFrame({"x": grade**2}), grade, 9).iloc[0]["p"] < 1e-100


def test_a_measure_that_parts_the_cases_has_a_finite_odds_ratio() -> None:
    grade = np.repeat([0.0, 4.0], 20)
    row = associate(pd.DataFrame({"x": grade + np.arange(40) * 1e-3}), grade, 2).iloc[0]
    assert np.isfinite(row["odds_ratio"])
    assert row["odds_ratio"] > 20
    assert row["auc"] == 1


def test_grades_on_one_side_are_an_error() -> None:
    with pytest.raises(DataError, match="at least 0"):
        associate(pd.DataFrame({"x": [1.0, 2.0]}), [1, 2], 0)


def test_benjamini_and_hochberg_by_hand() -> None:
    q = benjamini_hochberg(np.array([0.04, 0.01, np.nan, 0.03, 0.5]))
    assert q[[1, 3, 0, 4]] == pytest.approx([0.04, 0.16 / 3, 0.16 / 3, 0.5])
    assert np.isnan(q[2])


@pytest.mark.parametrize("seed", range(6))
def test_fast_slope_agrees_with_scikit_learn(seed: int) -> None:
    random = np.random.default_rng(seed)
    z = random.normal(size=40)
    z = (z - z.mean()) / z.std()
    y = z > 0 if seed == 0 else z * seed / 2 + random.logistic(size=40) > 0  # the first parts without overlap
    model = LogisticRegression(C=1 / (RIDGE * len(z)), solver="newton-cholesky", tol=1e-10).fit(z[:, None], y)
    assert fast_slope(z, y.astype(float)) == pytest.approx(model.coef_[0, 0], abs=1e-6)
