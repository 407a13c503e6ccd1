"""Pixel-wise precision and recall over all images, for lesions too small for an informative Dice per image."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from medseg.evaluation.bootstrap import bootstrap_statistic

# of the logit: with equal steps of the probability, a confident network's .9999 and .99999 fall into one bin
BINS, LIMIT = 4096, 18.0  # a 32-bit float next to 1 has a logit of 17
CHUNK = 1 << 22  # pixels counted at once


class PixelwisePrecisionRecall:
    """Counts of true and other pixels by their probability, an image at a time, so that no image is kept."""

    def __init__(self) -> None:
        self._counts: dict[str, list[npt.NDArray[np.int64]]] = {}
        self._patients: dict[str, list[str]] = {}

    def add(self, label: str, patient: str, probability: npt.NDArray[np.float32], truth: npt.NDArray[np.bool_]) -> None:
        """Add an image: probability 0..1 and ground truth of one shape."""
        flat, inside = probability.ravel(), truth.ravel()
        counts = np.zeros((2, BINS), np.int64)
        for first in range(0, len(flat), CHUNK):
            bins, side = _bins(flat[first : first + CHUNK]), inside[first : first + CHUNK]
            counts += [np.bincount(bins[selected], minlength=BINS) for selected in (side, ~side)]
        self._counts.setdefault(label, []).append(counts)
        self._patients.setdefault(label, []).append(patient)

    def summary(self) -> dict[str, dict[str, Any]]:
        """Per label {"mean": AUPR, "ci95", "n": images}, the interval by patient."""
        per_label: dict[str, dict[str, Any]] = {}
        for label, counts in self._counts.items():
            stacked = np.stack(counts)  # (N, 2, BINS)

            def area(rows: npt.NDArray[np.intp], stacked: npt.NDArray[np.int64] = stacked) -> float:
                return average_precision(stacked[rows].sum(axis=0))

            value = area(np.arange(len(stacked)))
            if np.isnan(value):
                per_label[label] = {"mean": None, "ci95": None, "n": len(stacked), "reason": "no pixel shows the label"}
                continue
            limits = bootstrap_statistic(area, np.array(self._patients[label]))
            per_label[label] = {"mean": value, "ci95": list(limits) if limits else None, "n": len(stacked)}
        return per_label


def _bins(probability: npt.NDArray[np.float32]) -> npt.NDArray[np.int32]:
    """The bin of each probability, in equal steps of the logit."""
    tiny = np.float32(np.exp(-LIMIT))
    logit = np.log(np.maximum(probability, tiny)) - np.log(np.maximum(1 - probability, tiny))
    return np.clip((logit + LIMIT) * (BINS / (2 * LIMIT)), 0, BINS - 1).astype(np.int32)


def average_precision(counts: npt.NDArray[np.int64]) -> float:
    """Area under the precision–recall curve by steps, Σ (Rₙ − Rₙ₋₁) Pₙ, of counts (2, BINS): true, other pixels.

    NaN where no pixel is true.
    """
    true_positives, false_positives = (
        counts[:, ::-1].cumsum(axis=1).astype(np.float64)
    )  # (BINS,) from the most probable down
    if true_positives[-1] == 0:
        return float("nan")
    steps = np.diff(true_positives, prepend=0.0) / true_positives[-1]
    return float(np.sum(steps * true_positives / np.maximum(true_positives + false_positives, 1.0)))
