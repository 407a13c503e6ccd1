"""Uncertainty of a segmentation from its probabilities: entropy, disagreement of models, and expected Dice.

The expected Dice of a mask m under probabilities p is approximated by the soft Dice 2·Σ p·m / (Σ p + Σ m), the ratio
of the expectations of intersection and sizes (Dice loss of Milletari et al., 3DV 2016, with p in place of the truth).
On held-out cases it is calibrated to the true Dice by isotonic regression (Zadrozny and Elkan, KDD 2002).
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, NamedTuple

import numpy as np

from medseg.segmentation.resampling import OutputLabels, row_blocks
from medseg.typing import BoolArray, ByteArray, Float32Array, FloatArray

MIN_CASES = 10  # fewer held-out cases give no calibration
N_FOLDS = 5  # of the cross-validated calibration
TINY = 1e-7  # probabilities are clipped to it before taking the logarithm


@dataclass(frozen=True)
class Confidence:
    """Confidence in one label's mask of one image.

    raw: the soft Dice, 0..1, or for an empty mask 1 − the largest probability; entropy: mean entropy inside the mask in
    bits, 0..1, or for an empty mask at its most probable pixel; disagreement: of several models, 0..1, else None.
    """

    raw: float
    entropy: float
    empty: bool
    disagreement: float | None = None


class ConfidenceMeter:
    """Sums of a label's probabilities and mask, plane by plane, from which a `Confidence` follows; keeps no plane."""

    def __init__(self, target: OutputLabels) -> None:
        self.target = target
        count = len(target.rows)
        # per label: Σ p, Σ m, Σ p·m, Σ entropy·m, and the largest p
        self._probability, self._mask, self._both, self._entropy, self._highest = np.zeros((5, count))

    def watch(self, planes: Iterable[Float32Array]) -> Iterator[Float32Array]:
        """Yield planes (K, Y, X), as networks give them, and add each."""
        for plane in planes:
            for block in row_blocks(plane.shape):
                probabilities = [plane[row, block] for row in self.target.rows]
                self.add(probabilities, self.target.decide(probabilities))
            yield plane

    def add(self, probabilities: Sequence[Float32Array], coded: ByteArray) -> None:
        """Add the probability of each label and the coded mask that they decide; arrays of one shape."""
        labels = self.target.labels
        for k, (name, probability) in enumerate(zip(labels.numbers, probabilities, strict=True)):
            mask = labels.layer(coded, name)
            inside = probability[mask].astype(np.float64)  # (n,)
            self._probability[k] += probability.sum(dtype=np.float64)
            self._mask[k] += len(inside)
            self._both[k] += inside.sum()
            self._entropy[k] += binary_entropy(inside).sum()
            self._highest[k] = max(self._highest[k], float(probability.max(initial=0.0)))

    def result(self) -> dict[str, Confidence]:
        """The confidence in each label's mask."""
        return {name: self._confidence(k) for k, name in enumerate(self.target.labels.numbers)}

    def _confidence(self, k: int) -> Confidence:
        if not self._mask[k]:
            highest = min(float(self._highest[k]), 1.0)
            return Confidence(1 - highest, float(binary_entropy(np.array(highest))), empty=True)
        raw = 2 * self._both[k] / (self._probability[k] + self._mask[k])
        return Confidence(min(float(raw), 1.0), float(self._entropy[k] / self._mask[k]), empty=False)


def binary_entropy(probability: Any) -> FloatArray:
    """Entropy −p·log₂ p − (1−p)·log₂(1−p) of a probability, element by element, in bits: 0..1."""
    p = np.clip(np.asarray(probability, np.float64), TINY, 1 - TINY)
    return np.asarray(-(p * np.log2(p) + (1 - p) * np.log2(1 - p)))


def entropy_plane(probabilities: Sequence[Float32Array], exclusive: bool) -> Float32Array:
    """Entropy at each pixel from the probability of each label, arrays of one shape; 0..1.

    Exclusive labels: the entropy over labels and background, as a fraction of the largest possible, log₂ of their
    number (with one label: in bits). Overlapping labels: the largest of the labels' entropies in bits.
    """
    classes = np.stack(probabilities).astype(np.float64)  # (K, ...)
    if not exclusive:
        return np.asarray(binary_entropy(classes).max(axis=0), np.float32)
    background = 1 - classes.sum(axis=0, keepdims=True)
    classes = np.clip(np.concatenate([background, classes]), 0, 1)  # (1 + K, ...)
    bits = -(classes * np.log2(np.maximum(classes, TINY))).sum(axis=0)
    return np.asarray(np.clip(bits / np.log2(len(classes)), 0, 1), np.float32)


def pairwise_disagreement(mean_squares: float, squares: float, models: int) -> float:
    """1 − the soft Dice 2·Σ pᵢpⱼ / (Σ pᵢ² + Σ pⱼ²) of pairs of models, pooled over all pairs; 0..1, 0 for one model.

    mean_squares: Σ over pixels of the squared mean probability; squares: Σ over pixels and models of the squared
    probability. Σ over pairs i≠j of pᵢpⱼ is (Σᵢ pᵢ)² − Σᵢ pᵢ², so that no model's volume has to be kept.
    """
    if models < 2 or squares <= 0:
        return 0.0
    return float(np.clip(1 - (models**2 * mean_squares - squares) / ((models - 1) * squares), 0, 1))


class Curve(NamedTuple):
    """A rising piecewise linear curve from raw values to calibrated ones, both 0..1, fitted to n cases; identity if
    there are no points.
    """

    raw: tuple[float, ...]
    dice: tuple[float, ...]
    n: int

    @property
    def fitted(self) -> bool:
        """Whether there were enough cases."""
        return self.n >= MIN_CASES

    def __call__(self, raw: Any) -> FloatArray:
        """Calibrated values, of the shape of `raw`."""
        values = np.asarray(raw, np.float64)
        return np.interp(values, self.raw, self.dice) if self.raw else values

    @classmethod
    def fit(cls, raw: FloatArray, dice: FloatArray) -> Curve:
        """Isotonic regression of the true Dice (N,) on the raw value (N,); the identity for fewer than 10 cases."""
        if len(raw) < MIN_CASES:
            return cls((), (), len(raw))
        from sklearn.isotonic import IsotonicRegression

        fitted = IsotonicRegression(y_min=0, y_max=1, out_of_bounds="clip").fit(raw, dice)
        xs, ys = (tuple(float(v) for v in values) for values in (fitted.X_thresholds_, fitted.y_thresholds_))
        return cls(xs, ys, len(raw))


class DiceCalibration(NamedTuple):
    """Calibration of one label: `mask` for masks that are not empty, `empty` for empty ones.

    An empty mask is right where the image does not show the label: its true value is then 1, else 0. Its curve is
    fitted to empty masks alone, because "nothing was missed" is another event than "the outline is good".
    """

    mask: Curve
    empty: Curve

    def expected(self, confidence: Confidence) -> float:
        """The expected Dice."""
        curve = self.empty if confidence.empty else self.mask
        return float(curve(confidence.raw))

    def calibrated(self, confidence: Confidence) -> bool:
        """Whether the curve for this mask was fitted to enough cases."""
        return (self.empty if confidence.empty else self.mask).fitted

    @classmethod
    def fit(cls, raw: FloatArray, dice: FloatArray, empty: BoolArray) -> DiceCalibration:
        """Fit to held-out cases: raw values, true Dice (of empty masks 0 or 1), and whether the mask is empty, (N,)."""
        return cls(*(Curve.fit(raw[chosen], dice[chosen]) for chosen in (~empty, empty)))

    def state(self) -> dict[str, Any]:
        """Plain values for JSON."""
        return {name: {"raw": list(c.raw), "dice": list(c.dice), "n": c.n} for name, c in self._asdict().items()}

    @classmethod
    def from_state(cls, state: Mapping[str, Any]) -> DiceCalibration:
        """The inverse of `state`; `ValueError` if the points are not a curve."""
        curves = []
        for name in cls._fields:
            raw, dice = (tuple(float(v) for v in state[name][key]) for key in ("raw", "dice"))
            if len(raw) != len(dice) or list(raw) != sorted(raw) or not all(0 <= v <= 1 for v in (*raw, *dice)):
                raise ValueError(f"expected Dice: {name} is not a curve of values from 0 to 1")
            curves.append(Curve(raw, dice, int(state[name]["n"])))
        return cls(*curves)


def cross_validated(raw: FloatArray, dice: FloatArray, empty: BoolArray, patients: Sequence[str]) -> FloatArray:
    """Expected Dice (N,) of each case, calibrated on the cases of other patients (five folds by patient)."""
    result = raw.astype(np.float64)
    names, member = np.unique(np.asarray(patients, str), return_inverse=True)
    fold = np.random.default_rng(0).permutation(len(names))[member] % min(N_FOLDS, len(names))
    for number in range(int(fold.max(initial=0)) + 1):
        inside = fold == number
        calibration = DiceCalibration.fit(raw[~inside], dice[~inside], empty[~inside])
        for row in np.flatnonzero(inside):
            result[row] = calibration.expected(Confidence(raw[row], 0.0, bool(empty[row])))
    return result


def with_disagreement(confidences: Mapping[str, Confidence], values: Mapping[str, float]) -> dict[str, Confidence]:
    """Confidences with the disagreement of several models by label."""
    return {name: replace(confidence, disagreement=values[name]) for name, confidence in confidences.items()}
