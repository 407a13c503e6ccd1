"""How well an expected score ranks cases: rank correlation with the true score, and the mean score of kept cases."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
from scipy import stats

from medseg.evaluation.bootstrap import ONE_PATIENT, bootstrap_statistic
from medseg.typing import FloatArray

MIN_CASES = 3  # fewer have no rank correlation
KEPT = 0.8  # fraction of the cases that is kept


def ranking_quality(expected: FloatArray, true: FloatArray, patients: Sequence[str]) -> dict[str, Any]:
    """Spearman's correlation of expected and true scores (N,), its 95 % interval by patient, and `dice_of_kept_80`.

    dice_of_kept_80: mean true score of the 80 % of cases with the highest expected score; dice_of_all: of all of them.
    Without a correlation, because of too few cases or a constant, it is None and there is a reason.
    """
    count = len(true)
    result: dict[str, Any] = {"spearman": None, "ci95": None, "n": count}
    if not count:
        return {**result, "dice_of_kept_80": None, "dice_of_all": None, "reason": "no case with a Dice"}
    kept = np.argsort(-expected, kind="stable")[: math.ceil(KEPT * count)]
    result |= {"dice_of_kept_80": float(true[kept].mean()), "dice_of_all": float(true.mean())}

    def rho(rows: npt.NDArray[np.intp]) -> float:
        return spearman(expected[rows], true[rows])

    value = rho(np.arange(count))
    if np.isnan(value):
        return {**result, "reason": "too few cases, or all have one value"}
    limits = bootstrap_statistic(rho, patients)
    result |= {"spearman": value, "ci95": list(limits) if limits else None}
    return result if limits else {**result, "reason": ONE_PATIENT}


def spearman(a: FloatArray, b: FloatArray) -> float:
    """Spearman's rank correlation of (N,) and (N,); NaN for fewer than 3 cases or a constant."""
    if len(a) < MIN_CASES or np.ptp(a) == 0 or np.ptp(b) == 0:
        return float("nan")
    return float(stats.spearmanr(a, b).statistic)
