"""Precision and recall over all pixels of all images, for lesions too small for a Dice per image to tell much."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from medseg.bootstrap import bootstrap_statistic

BINS = 1000  # of probability: finer than any threshold one would choose


class PixelCurves:
    """Counts of true and other pixels by their probability, an image at a time, so that no image is kept."""

    def __init__(self) -> None:
        self._counts: dict[str, list[npt.NDArray[np.int64]]] = {}
        self._patients: dict[str, list[str]] = {}

    def add(self, label: str, patient: str, probability: npt.NDArray[np.float32], truth: npt.NDArray[np.bool_]) -> None:
        """Count an image: probability 0..1 and truth of one shape."""
        bins = np.minimum((probability.ravel() * BINS).astype(np.int32), BINS - 1)
        inside = truth.ravel()
        counts = np.stack([np.bincount(bins[side], minlength=BINS) for side in (inside, ~inside)])  # (2, BINS)
        self._counts.setdefault(label, []).append(counts)
        self._patients.setdefault(label, []).append(patient)

    def summary(self) -> dict[str, dict[str, Any]]:
        """Per label {"mean": AUPR, "ci95", "n": images}, the interval by patient."""
        found: dict[str, dict[str, Any]] = {}
        for label, counts in self._counts.items():
            stacked = np.stack(counts)  # (N, 2, BINS)

            def area(rows: npt.NDArray[np.intp], stacked: npt.NDArray[np.int64] = stacked) -> float:
                return average_precision(stacked[rows].sum(axis=0))

            value = area(np.arange(len(stacked)))
            if np.isnan(value):
                found[label] = {"mean": None, "ci95": None, "n": len(stacked), "reason": "no pixel shows the label"}
                continue
            limits = bootstrap_statistic(area, np.array(self._patients[label]))
            found[label] = {"mean": value, "ci95": list(limits) if limits else None, "n": len(stacked)}
        return found


def average_precision(counts: npt.NDArray[np.int64]) -> float:
    """Area under the precision–recall curve by steps, Σ (Rₙ − Rₙ₋₁) Pₙ, of counts (2, BINS): true, other pixels.

    NaN where no pixel is true.
    """
    hits, others = counts[:, ::-1].cumsum(axis=1).astype(np.float64)  # (BINS,) from the most probable down
    if hits[-1] == 0:
        return float("nan")
    steps = np.diff(hits, prepend=0.0) / hits[-1]
    return float(np.sum(steps * hits / np.maximum(hits + others, 1.0)))
