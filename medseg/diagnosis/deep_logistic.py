"""Logistic regression on hundreds of deep features, standardised, with a strong penalty."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from scipy.special import softmax
from sklearn.preprocessing import StandardScaler

from medseg.diagnosis.linear_baseline import logistic_weights
from medseg.typing import FloatArray, IntArray


@dataclass(frozen=True)
class DeepLogistic:
    """mean, sd: (D,) of the training rows; weights: (K, D + 1), the last column the constant.

    A missing value is taken for the mean of the training rows.
    """

    mean: FloatArray
    sd: FloatArray
    weights: FloatArray

    @classmethod
    def fit(cls, x: FloatArray, y: IntArray, classes: int, c: float) -> DeepLogistic:
        """Fit on rows (R, D), NaN if missing, and class numbers (R,); c: inverse strength of the L2 penalty.

        Class weights are inverse to class frequencies.
        """
        with np.errstate(invalid="ignore"):  # columns without a known value
            scaler = StandardScaler().fit(x)
        mean, sd = np.nan_to_num(scaler.mean_), np.nan_to_num(np.sqrt(scaler.var_))
        return cls(mean, sd, logistic_weights(_rows(x, mean, sd), y, classes, c))

    @classmethod
    def from_arrays(cls, arrays: Mapping[str, FloatArray]) -> DeepLogistic:
        """Restore the model whose `arrays` these are."""
        return cls(arrays["deep.mean"], arrays["deep.sd"], arrays["deep"])

    def predict(self, x: FloatArray) -> FloatArray:
        """Rows (R, D) → probabilities (R, K)."""
        return np.asarray(softmax(_rows(x, self.mean, self.sd) @ self.weights.T, axis=1))

    def arrays(self) -> dict[str, FloatArray]:
        """The parameters as arrays for safetensors."""
        return {"deep": self.weights, "deep.mean": self.mean, "deep.sd": self.sd}


def _rows(x: FloatArray, mean: FloatArray, sd: FloatArray) -> FloatArray:
    """Standardised rows (R, D + 1) with a constant 1; 0 for a missing value or a constant column."""
    scaled = np.divide(x - mean, sd, out=np.zeros(x.shape), where=(sd > 0) & np.isfinite(x))
    return np.concatenate([scaled, np.ones((len(x), 1))], axis=1)
