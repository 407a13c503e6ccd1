"""Which of several candidates is the structure: a logistic regression on their measures, whose reasons can be read."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from scipy.special import expit

from medseg.data.splits import stratified_group_folds
from medseg.errors import DataError
from medseg.segmentation.candidates import Candidate
from medseg.typing import FloatArray

# measures whose best value may lie between their ends, so their squares count too
CURVED = ("area", "depth", "lateral", "surface", "border", "wider", "irregularity", "contrast")
LEFT_OUT = ("centre_",)  # of a measure's name: pixels of this picture, no share of it
LIMIT = 4.0  # standard deviations: a measure further off counts as if it were there


@dataclass(frozen=True)
class Ranker:
    """Measures by name, standardised by `centre` and `scale` (F,), weighted by `weights` (F,), and a constant.

    A name `x²` is the square of the standardised measure x.
    """

    names: tuple[str, ...]
    centre: FloatArray
    scale: FloatArray
    weights: FloatArray
    constant: float

    def score(self, candidates: Sequence[Candidate]) -> list[Candidate]:
        """Candidates with their probability and what each measure added to its log-odds."""
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


def from_state(state: Mapping[str, Any]) -> Ranker:
    """The ranker that `Ranker.state` was taken from."""
    centre, scale, weights = (np.asarray(state[name], np.float64) for name in ("centre", "scale", "weights"))
    return Ranker(tuple(state["names"]), centre, scale, weights, float(state["constant"]))


def fit(
    candidates: Sequence[Candidate], hits: Sequence[int], patients: Sequence[str], leave_out: Sequence[str] = ()
) -> Ranker:
    """Learn from candidates that are (`hits` 1) or are not (0) the structure; folds of `patients` choose the penalty.

    leave_out: measures not to be used, e.g. depth and lateral to see what position is worth. `DataError` (one-class)
    where all candidates are hits or none is.
    """
    from sklearn.linear_model import LogisticRegressionCV

    truth = np.asarray(hits, np.int64)
    if len(set(truth.tolist())) < 2:
        raise DataError(
            f"a ranker needs candidates that are the structure and others; of {len(truth)}, {truth.sum()} are",
            code="one-class",
        )
    measured = [name for name in candidates[0].measures if not name.startswith(LEFT_OUT) and name not in leave_out]
    names = (*measured, *(f"{name}²" for name in CURVED if name in measured))
    plain = _raw(candidates, names)  # (N, F)
    centre, scale = plain.mean(axis=0), np.maximum(plain.std(axis=0), 1e-6)
    terms = _standard(plain, names, centre, scale)
    folds = min(5, len(set(patients)), int(truth.sum()), int((1 - truth).sum()))
    strengths = [0.003, 0.01, 0.03, 0.1, 0.3]
    if folds < 2:
        splits: Any = [(np.arange(len(truth)),) * 2]
        strengths = [0.03]
    else:
        splits = stratified_group_folds(truth, list(patients), folds)
    # every split must hold both classes on both sides, else its score is undefined
    splits = [(a, b) for a, b in splits if len(set(truth[a])) == len(set(truth[b])) == 2] or [
        (np.arange(len(truth)),) * 2
    ]
    model = LogisticRegressionCV(
        Cs=strengths, cv=splits, scoring="neg_log_loss", max_iter=2000, use_legacy_attributes=False, l1_ratios=(0,)
    )
    model.fit(terms, truth)
    return Ranker(names, centre, scale, model.coef_[0].astype(np.float64), float(model.intercept_[0]))


def _raw(candidates: Sequence[Candidate], names: Sequence[str]) -> FloatArray:
    return np.array([[c.measures[name.removesuffix("²")] for name in names] for c in candidates], np.float64)  # (N, F)


def _standard(raw: FloatArray, names: Sequence[str], centre: FloatArray, scale: FloatArray) -> FloatArray:
    terms = ((raw - centre) / scale).clip(-LIMIT, LIMIT)
    squared = np.array([name.endswith("²") for name in names])
    return np.where(squared, terms**2 - 1, terms)  # less 1: a mean candidate gets nothing for it


def _joined(names: Sequence[str], row: FloatArray) -> dict[str, float]:
    """A measure and its square are one reason."""
    reasons: dict[str, float] = {}
    for name, value in zip(names, row, strict=True):
        plain = name.removesuffix("²")
        reasons[plain] = reasons.get(plain, 0.0) + float(value)
    return reasons
