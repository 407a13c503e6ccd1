"""Feature selection: drop constant and correlated features, keep those that separate the classes."""

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
    """Select columns of x (N, F), best first, from rows and their class numbers y (N,).

    Constant columns are dropped, then of each pair with |r| above `max_correlation` the one with less mutual
    information with the class. Of the rest at most `count` are kept: those with most mutual information
    ("mutual_information"), or those that recursive elimination with a logistic regression leaves ("rfe", Guyon 2002);
    "all" keeps the rest. Call it on training rows only. Raises `DataError` (constant-features) if no column varies.
    """
    if method not in METHODS:
        raise ValueError(f"feature_selection.method={method!r}: must be one of {', '.join(METHODS)}")
    varies = np.flatnonzero(np.ptp(x, axis=0) > 1e-12)
    if not len(varies):
        raise DataError(
            f"none of {x.shape[1]} features varies between the training cases; check the masks",
            code="constant-features",
        )
    information = np.zeros(x.shape[1])
    information[varies] = _mutual_information(x[:, varies], y, seed)
    ranked = sorted(varies.tolist(), key=lambda column: (-information[column], column))
    columns = _uncorrelated(x, ranked, max_correlation)
    if method == "all" or len(columns) <= count:
        return columns
    return columns[:count] if method == "mutual_information" else _eliminated(x, y, columns, count)


def _mutual_information(x: FloatArray, y: IntArray, seed: int) -> Any:
    """Mutual information of each column with the class, in nats; 0 if no class has two rows."""
    if np.unique(y, return_counts=True)[1].max() < 2:
        return np.zeros(x.shape[1])
    from sklearn.feature_selection import mutual_info_classif

    return mutual_info_classif(x, y, random_state=seed)


def _uncorrelated(x: FloatArray, ranked: Sequence[int], limit: float) -> list[int]:
    """The columns, in order, whose |r| with every column selected before is at most `limit`."""
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
