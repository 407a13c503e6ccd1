"""Linear baseline of the LSTM: logistic regression for the state, ridge for the signal, on lagged features."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from scipy.special import softmax
from sklearn.linear_model import LogisticRegression, Ridge

from medseg.diagnosis.lstm import Prediction
from medseg.diagnosis.sequence_dataset import UNKNOWN, Item
from medseg.errors import DataError
from medseg.typing import FloatArray


@dataclass(frozen=True)
class LinearBaseline:
    """Frame t is classified from the features of frames t − frames_before .. t + frames_after; slices are not read.

    frames_before, frames_after: frames; weights: (K, N + 1) of the classes,
    N = (frames_before + 1 + frames_after)·F, the last column the constant; signal_weights: (N + 1,), empty without a
    signal. A whole sequence with one class is classified from its mean features.
    """

    frames_before: int
    frames_after: int
    per_sequence: bool
    weights: FloatArray
    signal_weights: FloatArray

    @classmethod
    def fit(
        cls,
        items: Sequence[Item],
        classes: int,
        frames_before: int = 4,
        frames_after: int = 4,
        c: float = 0.1,
        alpha: float = 10.0,
    ) -> LinearBaseline:
        """Fit on whole sequences; class weights are inverse to class frequencies.

        c: inverse strength of the penalty on the class weights; alpha: strength of the penalty on the signal weights.
        Raises `DataError` (one-class) if fewer than two classes occur.
        """
        lagged = [_lagged(item.x, frames_before, frames_after) for item in items]
        # a single frame is a whole sequence as well
        per_sequence = all(item.state is None or len(item.state) == 1 for item in items)
        rows = [x.mean(axis=0, keepdims=True) for x in lagged] if per_sequence else lagged
        states = [np.full(len(x), UNKNOWN) if i.state is None else i.state for x, i in zip(rows, items, strict=True)]
        signals = [
            np.full(len(x), np.nan) if i.signal is None else i.signal for x, i in zip(lagged, items, strict=True)
        ]
        weights = logistic_weights(np.concatenate(rows), np.concatenate(states), classes, c)
        signal_weights = _signal_weights(np.concatenate(lagged), np.concatenate(signals), alpha)
        return cls(frames_before, frames_after, per_sequence, weights, signal_weights)

    @classmethod
    def from_arrays(cls, arrays: Mapping[str, FloatArray]) -> LinearBaseline:
        """Restore the baseline whose `arrays` these are."""
        frames_before, frames_after, per_sequence = arrays["settings"]
        return cls(
            int(frames_before), int(frames_after), bool(per_sequence), arrays["weights"], arrays["signal_weights"]
        )

    def predict(self, item: Item) -> Prediction:
        """Probabilities (T, K), or (1, K) for whole sequences, and the signal (T,) or None."""
        x = _lagged(item.x, self.frames_before, self.frames_after)  # (T, N + 1)
        rows = x.mean(axis=0, keepdims=True) if self.per_sequence else x
        signal = x @ self.signal_weights if self.signal_weights.size else None
        probabilities = softmax(rows @ self.weights.T, axis=1).astype(np.float32)
        return Prediction(probabilities, None if signal is None else signal.astype(np.float32))

    def arrays(self) -> dict[str, FloatArray]:
        """The parameters as arrays for safetensors."""
        settings = np.array([self.frames_before, self.frames_after, self.per_sequence], dtype=np.float64)
        return {"settings": settings, "weights": self.weights, "signal_weights": self.signal_weights}


def _lagged(x: FloatArray, frames_before: int, frames_after: int) -> FloatArray:
    """(T, F) → (T, (frames_before + 1 + frames_after)·F + 1): neighbours side by side, ends repeated, a constant 1."""
    frames = np.arange(len(x))[:, None] + np.arange(-frames_before, frames_after + 1)  # (T, L)
    window = np.asarray(x, dtype=np.float64)[frames.clip(0, len(x) - 1)]  # (T, L, F)
    return np.concatenate([window.reshape(len(x), -1), np.ones((len(x), 1))], axis=1)


def logistic_weights(x: FloatArray, state: np.ndarray[Any, np.dtype[Any]], classes: int, c: float) -> FloatArray:
    """Weights (K, N + 1) of a penalised logistic regression on rows (R, N + 1) that end in a constant 1.

    Class weights are inverse to class frequencies; rows with state `UNKNOWN` are left out. `DataError` (one-class).
    """
    known = state != UNKNOWN
    seen = np.unique(state[known])
    if len(seen) < 2:
        raise DataError(
            f"a baseline needs frames of at least two classes to learn from, got class indices {seen.tolist()}",
            code="one-class",
        )
    model = LogisticRegression(C=c, class_weight="balanced", max_iter=2000)
    model.fit(x[known, :-1], state[known])
    weights = np.zeros((classes, x.shape[1]))
    weights[:, -1] = -1e3  # no probability for a class without training rows
    coefficients = np.concatenate([model.coef_, model.intercept_[:, None]], axis=1)
    # two classes come as one row, the log-odds of the second
    weights[seen] = np.concatenate([np.zeros_like(coefficients), coefficients]) if len(seen) == 2 else coefficients
    return weights


def _signal_weights(x: FloatArray, signal: FloatArray, alpha: float) -> FloatArray:
    known = np.isfinite(signal)
    if not known.any():
        return np.empty(0)
    model = Ridge(alpha=alpha).fit(x[known, :-1], signal[known])
    return np.append(model.coef_, model.intercept_)
