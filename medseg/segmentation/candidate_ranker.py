"""Rank candidate regions by a logistic regression on their features; each feature's contribution is reported."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from scipy.special import expit

from medseg.data.splits import stratified_group_folds
from medseg.errors import DataError
from medseg.segmentation.candidates import Candidate
from medseg.typing import FloatArray, IntArray

# features whose best value may be in the middle of their range, so their squares are terms too
CURVED = ("area", "depth", "lateral", "surface", "border", "wider", "irregularity", "contrast")
EXCLUDED_PREFIXES = ("centre_",)  # coordinates in pixels, not relative to the size of the image
MAX_ZSCORE = 4.0  # standard deviations: standardised features are clipped to ± this


@dataclass(frozen=True)
class Ranker:
    """Features by name, standardised by `centre` and `scale` (F,), weighted by `weights` (F,), and a constant.

    A name `x²` is the square of the standardised feature x.
    """

    names: tuple[str, ...]
    centre: FloatArray
    scale: FloatArray
    weights: FloatArray
    constant: float

    @classmethod
    def fit(
        cls,
        candidates: Sequence[Candidate],
        hits: Sequence[int],
        patients: Sequence[str],
        leave_out: Sequence[str] = (),
    ) -> Ranker:
        """Fit on candidates that are (`hits` 1) or are not (0) the structure; folds of `patients` choose the penalty.

        leave_out: features that are not used, e.g. depth and lateral to see what position is worth. Raises
        `DataError` (one-class) if all candidates are hits or none is.
        """
        from sklearn.linear_model import LogisticRegressionCV

        y = np.asarray(hits, np.int64)
        if len(set(y.tolist())) < 2:
            raise DataError(
                f"a ranker needs candidates that are the structure and others; of {len(y)}, {y.sum()} are",
                code="one-class",
            )
        plain = [
            name for name in candidates[0].features if not name.startswith(EXCLUDED_PREFIXES) and name not in leave_out
        ]
        names = (*plain, *(f"{name}²" for name in CURVED if name in plain))
        raw = _raw(candidates, names)  # (N, F)
        centre, scale = raw.mean(axis=0), np.maximum(raw.std(axis=0), 1e-6)
        terms = _standard(raw, names, centre, scale)
        splits, strengths = _penalty_search(y, patients)
        model = LogisticRegressionCV(
            Cs=strengths, cv=splits, scoring="neg_log_loss", max_iter=2000, use_legacy_attributes=False, l1_ratios=(0,)
        )
        model.fit(terms, y)
        return cls(names, centre, scale, model.coef_[0].astype(np.float64), float(model.intercept_[0]))

    @classmethod
    def from_state(cls, state: Mapping[str, Any]) -> Ranker:
        """The ranker that `Ranker.state` was taken from."""
        centre, scale, weights = (np.asarray(state[name], np.float64) for name in ("centre", "scale", "weights"))
        return cls(tuple(state["names"]), centre, scale, weights, float(state["constant"]))

    def score(self, candidates: Sequence[Candidate]) -> list[Candidate]:
        """Candidates with their probability and each feature's contribution to the log-odds."""
        if not candidates:
            return []
        terms = self._terms(candidates) * self.weights  # (N, F)
        odds = terms.sum(axis=1) + self.constant
        return [
            replace(candidate, score=float(expit(odd)), reasons=_joined(self.names, row))
            for candidate, odd, row in zip(candidates, odds, terms, strict=True)
        ]

    def _terms(self, candidates: Sequence[Candidate]) -> FloatArray:
        return _standard(_raw(candidates, self.names), self.names, self.centre, self.scale)

    def state(self) -> dict[str, Any]:
        """All there is to keep, as plain values for JSON."""
        return {
            "names": list(self.names),
            "centre": self.centre.tolist(),
            "scale": self.scale.tolist(),
            "weights": self.weights.tolist(),
            "constant": self.constant,
        }


def _penalty_search(y: IntArray, patients: Sequence[str]) -> tuple[list[tuple[IntArray, IntArray]], list[float]]:
    """Splits (training rows, held-out rows) by patient, and the values of C that they compare."""
    all_rows = [(np.arange(len(y)),) * 2]
    n_folds = min(5, len(set(patients)), int(y.sum()), int((1 - y).sum()))
    if n_folds < 2:
        return all_rows, [0.03]
    folds = stratified_group_folds(y, list(patients), n_folds)
    # both sides of a split must hold both classes, else its score is undefined
    splits = [(train, held) for train, held in folds if len(set(y[train])) == len(set(y[held])) == 2]
    return splits or all_rows, [0.003, 0.01, 0.03, 0.1, 0.3]


def _raw(candidates: Sequence[Candidate], names: Sequence[str]) -> FloatArray:
    return np.array([[c.features[name.removesuffix("²")] for name in names] for c in candidates], np.float64)  # (N, F)


def _standard(raw: FloatArray, names: Sequence[str], centre: FloatArray, scale: FloatArray) -> FloatArray:
    terms = ((raw - centre) / scale).clip(-MAX_ZSCORE, MAX_ZSCORE)
    squared = np.array([name.endswith("²") for name in names])
    return np.where(squared, terms**2 - 1, terms)  # less 1: the mean of the squares is 0


def _joined(names: Sequence[str], row: FloatArray) -> dict[str, float]:
    """Contributions by feature: a feature and its square are added up."""
    reasons: dict[str, float] = {}
    for name, value in zip(names, row, strict=True):
        plain = name.removesuffix("²")
        reasons[plain] = reasons.get(plain, 0.0) + float(value)
    return reasons
