"""95 % confidence intervals by patient (cluster bootstrap), with a reason where there is none."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

import numpy as np
import numpy.typing as npt

from medseg.typing import FloatArray

SEED = 20_240_601  # gives the same intervals on every machine
ONE_PATIENT = "one patient: no interval between patients can be given"


def bootstrap_ci(
    values: npt.ArrayLike, groups: Iterable[object], seed: int = SEED, n: int = 2000
) -> tuple[float, float] | None:
    """95 % interval of a mean by cluster bootstrap: whole patients are drawn with replacement, `n` times.

    `values` (N,), or (N, L) for the mean over columns of the column means (macro mean over labels); NaN is left
    out. `groups` (N,) are the patients. None where fewer than two patients have a value.
    """
    table = _columns(values)
    defined = ~np.isnan(table)
    patients, member = np.unique([str(group) for group in groups], return_inverse=True)
    sums, counts = (np.zeros((len(patients), table.shape[1])) for _ in range(2))  # (P, L)
    np.add.at(sums, member, np.where(defined, table, 0.0))
    np.add.at(counts, member, defined)
    used = counts.any(axis=1)
    total = int(used.sum())
    if total < 2:
        return None
    weights = np.random.default_rng(seed).multinomial(total, np.full(total, 1 / total), size=n)  # (n, P)
    with np.errstate(invalid="ignore"):
        means = (weights @ sums[used]) / (weights @ counts[used])  # (n, L), NaN where no drawn patient has the label
    low, high = np.percentile(np.nanmean(means, axis=1), [2.5, 97.5])  # every row has a known value
    return float(low), float(high)


def _columns(values: npt.ArrayLike) -> FloatArray:
    """(N,) or (N, L) → (N, L)."""
    table = np.asarray(values, dtype=np.float64)
    return table.reshape(len(table), -1 if table.size else 1)  # (N, L)


def mean_with_ci(values: npt.ArrayLike, groups: Iterable[object], reason: str, seed: int = SEED) -> dict[str, Any]:
    """{"mean", "ci95", "n"} of `values` (N,) or (N, L) as in `bootstrap_ci`; n counts the rows with a value.

    Nulls carry a "reason": `reason` where there is no value, else `ONE_PATIENT`.
    """
    table = _columns(values)
    defined = ~np.isnan(table)
    rows, columns = defined.any(axis=1), defined.any(axis=0)
    if not rows.any():
        return {"mean": None, "ci95": None, "n": 0, "reason": reason}
    mean = float(np.mean([table[defined[:, k], k].mean() for k in np.flatnonzero(columns)]))
    interval = bootstrap_ci(table[:, columns], groups, seed)
    result: dict[str, Any] = {"mean": mean, "ci95": list(interval) if interval else None, "n": int(rows.sum())}
    return result if interval else {**result, "reason": ONE_PATIENT}


def bootstrap_statistic(
    statistic: Callable[[npt.NDArray[np.intp]], float], groups: Iterable[object], seed: int = SEED, n: int = 500
) -> tuple[float, float] | None:
    """95 % interval of any `statistic` of row numbers, such as an AUC over all cases, drawn by patient as above.

    Draws on which the statistic is NaN are left out. None where there are fewer than two patients, or no value.
    """
    patients, member = np.unique([str(group) for group in groups], return_inverse=True)
    rows = [np.flatnonzero(member == k) for k in range(len(patients))]
    random = np.random.default_rng(seed)
    draws = [
        statistic(np.concatenate([rows[k] for k in random.integers(len(rows), size=len(rows))]))
        for _ in range(n if len(rows) > 1 else 0)
    ]
    defined = [draw for draw in draws if not np.isnan(draw)]
    if not defined:
        return None
    low, high = np.percentile(defined, [2.5, 97.5])
    return float(low), float(high)
