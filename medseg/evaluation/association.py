"""How measures go with a graded outcome: rank correlation, odds ratio and AUC, with intervals and for many measures."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd
from scipy import stats

from medseg.errors import DataError
from medseg.evaluation.bootstrap import SEED
from medseg.typing import FloatArray

DRAWS = 500
LEAST_CASES = 8  # below, an association is not worth a number
LEAST_PATIENTS = 3  # below, rho has no distribution
RIDGE = 1e-3  # keeps the odds ratio finite where a measure parts the cases without overlap


def associate(
    measures: pd.DataFrame, grade: npt.ArrayLike, positive: float, patients: Iterable[object] | None = None
) -> pd.DataFrame:
    """One row a measure (column of `measures`, N rows), the strongest first, for an ordered `grade` (N,).

    rho: Spearman's with the grade; p: of it, two-sided, from Student's t with as many values as there are patients, so
    that a second eye makes no finding surer; q: of p, after Benjamini and Hochberg (1995) over all measures;
    odds_ratio: of grade ≥ `positive` for one standard deviation more of the measure (logistic regression on it alone);
    auc: of grade ≥ `positive`. Each with a 95 % interval over draws of whole patients. Missing values are left out
    measure by measure; a measure that is constant or has fewer than 8 values has no numbers, but a reason; one with
    values of fewer than 3 patients has no p, and a reason, too.
    Raises `DataError` (one-class) where all cases stand on one side of `positive`.
    """
    grades = np.asarray(grade, np.float64)
    side = grades >= positive
    if side.all() or not side.any():
        raise DataError(
            f"all {len(grades)} grades are {'at least' if side.all() else 'below'} {positive:g}: "
            "nothing to compare; choose another limit",
            code="one-class",
        )
    groups = np.asarray(list(patients) if patients is not None else np.arange(len(grades)), dtype=str)
    rows = [_one(str(name), measures[name].to_numpy(np.float64), grades, positive, groups) for name in measures]
    table = pd.DataFrame(rows)
    table["q"] = benjamini_hochberg(table["p"].to_numpy(np.float64))
    order = ["feature", "n", "rho", "rho_low", "rho_high", "p", "q", "odds_ratio", "odds_low", "odds_high"]
    order += ["auc", "auc_low", "auc_high", "reason"]
    return table[order].sort_values("rho", key=lambda rho: -rho.abs(), ignore_index=True, kind="stable")


def _one(
    name: str, values: FloatArray, grades: FloatArray, positive: float, groups: npt.NDArray[Any]
) -> dict[str, Any]:
    known = np.isfinite(values) & np.isfinite(grades)
    x, g, who = values[known], grades[known], groups[known]
    row: dict[str, Any] = {"feature": name, "n": len(x), "reason": ""}
    blank = dict.fromkeys(("rho", "p", "odds_ratio", "auc"), np.nan)
    blank |= {f"{part}_{end}": np.nan for part in ("rho", "odds", "auc") for end in ("low", "high")}
    if len(x) < LEAST_CASES:
        return row | blank | {"reason": f"{len(x)} values, {LEAST_CASES} are needed"}
    if np.ptp(x) == 0 or np.ptp(g) == 0:
        return row | blank | {"reason": "the same in every case" if np.ptp(x) == 0 else "one grade only"}
    rho = float(stats.spearmanr(x, g).statistic)
    patients = len(np.unique(who))
    row |= {"rho": rho, "p": _p_value(rho, patients), **_sides(x, g >= positive)}
    if patients < LEAST_PATIENTS:
        row["reason"] = f"values of {patients} patients, p needs {LEAST_PATIENTS}"
    draws = [_statistics(x[rows], g[rows], positive) for rows in _draws(who)]
    for part, column in (("rho", 0), ("odds", 1), ("auc", 2)):
        values_ = np.array([draw[column] for draw in draws])
        values_ = values_[np.isfinite(values_)]
        low, high = np.percentile(values_, [2.5, 97.5]) if len(values_) > DRAWS // 2 else (np.nan, np.nan)
        row |= {f"{part}_low": float(low), f"{part}_high": float(high)}
    return row


def _p_value(rho: float, patients: int) -> float:
    """Two-sided p of a rank correlation between as many independent values as there are patients; NaN of too few.

    t = rho·√((n − 2) / (1 − rho²)) follows Student's t with n − 2 degrees of freedom (Kendall & Stuart, The Advanced
    Theory of Statistics 2, 1973, section 31.18). Where each patient has one value, it is scipy's.
    """
    if patients < LEAST_PATIENTS:
        return np.nan
    t = abs(rho) * np.sqrt((patients - 2) / ((1 - rho) * (1 + rho))) if abs(rho) < 1 else np.inf
    return float(2 * stats.t.sf(t, patients - 2))


def _statistics(x: FloatArray, grades: FloatArray, positive: float) -> tuple[float, float, float]:
    if np.ptp(x) == 0 or np.ptp(grades) == 0:
        return (np.nan,) * 3
    # Pearson of ranks is Spearman, and much faster
    ranks = np.corrcoef(stats.rankdata(x), stats.rankdata(grades))[0, 1]
    both = _sides(x, grades >= positive)
    return float(ranks), both["odds_ratio"], both["auc"]


def _sides(x: FloatArray, side: npt.NDArray[np.bool_]) -> dict[str, float]:
    """Odds ratio for one standard deviation, and AUC (Mann–Whitney); NaN where one side is empty."""
    if side.all() or not side.any():
        return {"odds_ratio": np.nan, "auc": np.nan}
    ranks = stats.rankdata(x)
    many = side.sum()
    auc = (ranks[side].sum() - many * (many + 1) / 2) / (many * (~side).sum())
    slope = fast_slope((x - x.mean()) / x.std(), side.astype(np.float64))
    return {"odds_ratio": float(np.exp(slope)), "auc": float(auc)}


def fast_slope(z: FloatArray, y: FloatArray) -> float:
    """The slope of a logistic regression on one standardised measure, by Newton's method with a slight ridge.

    sklearn's LogisticRegression(C=1 / (RIDGE · N)) in a sixth of its time: it is fitted to every draw of every measure.
    """
    design = np.stack([np.ones_like(z), z], axis=1)  # (N, 2)
    beta = np.zeros(2)
    penalty = np.array([0.0, RIDGE * len(z)])
    for _ in range(30):
        p = 1 / (1 + np.exp(-np.clip(design @ beta, -30, 30)))
        step = np.linalg.solve(
            (design * (p * (1 - p))[:, None]).T @ design + np.diag(penalty + 1e-9), design.T @ (y - p) - penalty * beta
        )
        beta = beta + np.clip(step, -2, 2)
        if np.abs(step).max() < 1e-8:
            break
    return float(beta[1])


def _draws(groups: npt.NDArray[Any]) -> Iterable[npt.NDArray[np.intp]]:
    names, member = np.unique(groups, return_inverse=True)
    rows = [np.flatnonzero(member == k) for k in range(len(names))]
    random = np.random.default_rng(SEED)
    for _ in range(DRAWS):
        yield np.concatenate([rows[k] for k in random.integers(len(rows), size=len(rows))])


def benjamini_hochberg(p: FloatArray) -> FloatArray:
    """q of each p (M,): the lowest false discovery rate at which it is called; NaN stays NaN and is not counted."""
    q, known = np.full(len(p), np.nan), np.isfinite(p)
    if known.any():
        q[known] = stats.false_discovery_control(p[known])
    return q
