"""Stacking: a logistic regression on the classifiers' cross-validated probabilities."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from scipy.special import softmax

from medseg.diagnosis.calibration import logits
from medseg.diagnosis.linear_baseline import logistic_weights
from medseg.typing import FloatArray, IntArray


@dataclass(frozen=True)
class Stacking:
    """members: their names, in order; weights: (K, M·K + 1) on their log-probabilities side by side, and a constant."""

    members: tuple[str, ...]
    weights: FloatArray

    @classmethod
    def fit(cls, probabilities: Mapping[str, FloatArray], y: IntArray, c: float = 0.1) -> Stacking:
        """Fit on cross-validated probabilities (N, K) of each member and class numbers (N,)."""
        members = tuple(probabilities)
        classes = next(iter(probabilities.values())).shape[1]
        return cls(members, logistic_weights(_rows(probabilities, members), y, classes, c))

    @classmethod
    def from_state(cls, state: Mapping[str, Any]) -> Stacking:
        """Restore the stacking whose `state` this is."""
        return cls(tuple(state["members"]), np.asarray(state["weights"], np.float64))

    def predict(self, probabilities: Mapping[str, FloatArray]) -> FloatArray:
        """Probabilities (N, K) by member → probabilities (N, K)."""
        return np.asarray(softmax(_rows(probabilities, self.members) @ self.weights.T, axis=1))

    def state(self) -> dict[str, Any]:
        """Plain values for JSON."""
        return {"members": list(self.members), "weights": self.weights.tolist()}


def _rows(probabilities: Mapping[str, FloatArray], members: tuple[str, ...]) -> FloatArray:
    blocks = []
    for name in members:
        values = logits(probabilities[name])
        blocks.append(values - values.mean(axis=1, keepdims=True))  # (N, K), no common shift
    rows = np.concatenate(blocks, axis=1)  # (N, M·K)
    return np.concatenate([rows, np.ones((len(rows), 1))], axis=1)  # (N, M·K + 1)
