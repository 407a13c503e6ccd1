"""Which measures a model reads: those that vary, that do not repeat one another, and that tell the classes apart."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from medseg.errors import DataError
from medseg.typing import FloatArray, IntArray

METHODS = ("all", "mutual_information", "rfe")


def select_features(
    x: FloatArray,
    y: IntArray,
    method: str = "mutual_information",
    count: int = 30,
    max_correlation: float = 0.95,
    seed: int = 0,
) -> list[int]:
    """Columns of x (N, F) to keep, in order of their worth, learnt from rows and their class numbers y (N,) alone.

    First constant columns go, then of each pair with |r| above `max_correlation` the one that tells less of the class
    (mutual information). Then at most `count` stay: the most telling ones ("mutual_information"), or those that a
    logistic regression is left with when it drops the least useful again and again ("rfe", Guyon 2002); "all" keeps
    what is left. Call it on training rows only. Raises `DataError` (constant-features) where no column varies.
    """
    if method not in METHODS:
        raise ValueError(f"feature_selection.method={method!r}: must be one of {', '.join(METHODS)}")
    varies = np.flatnonzero(np.ptp(x, axis=0) > 1e-12)
    if not len(varies):
        raise DataError(f"none of {x.shape[1]} measures varies between the training cases", code="constant-features")
    worth = np.zeros(x.shape[1])
    worth[varies] = _mutual_information(x[:, varies], y, seed)
    ranked = sorted(varies.tolist(), key=lambda column: (-worth[column], column))
    left = _apart(x, ranked, max_correlation)
    if method == "all" or len(left) <= count:
        return left
    return left[:count] if method == "mutual_information" else _eliminated(x, y, left, count)


def _mutual_information(x: FloatArray, y: IntArray, seed: int) -> Any:
    """Of each column with the class, in nats; 0 where no class has two rows, so that nothing can be compared."""
    if np.unique(y, return_counts=True)[1].max() < 2:
        return np.zeros(x.shape[1])
    from sklearn.feature_selection import mutual_info_classif

    return mutual_info_classif(x, y, random_state=seed)


def _apart(x: FloatArray, ranked: Sequence[int], limit: float) -> list[int]:
    """The columns, in order, that correlate with none of those kept before by more than `limit`."""
    z = x[:, ranked]
    z = (z - z.mean(axis=0)) / z.std(axis=0)
    alike = np.abs(z.T @ z) / len(z) > limit  # (F, F)
    selected: list[int] = []
    for rank in range(len(ranked)):
        if not alike[rank, selected].any():
            selected.append(rank)
    return [ranked[rank] for rank in selected]


def _eliminated(x: FloatArray, y: IntArray, columns: list[int], count: int) -> list[int]:
    from sklearn.feature_selection import RFE
    from sklearn.linear_model import LogisticRegression

    z = x[:, columns]
    z = (z - z.mean(axis=0)) / z.std(axis=0)
    model = LogisticRegression(C=0.1, class_weight="balanced", max_iter=2000)
    support = RFE(model, n_features_to_select=count, step=0.1).fit(z, y).support_
    return [column for column, selected in zip(columns, support, strict=True) if selected]
