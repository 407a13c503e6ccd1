"""Lesions counted one by one: how many of the true ones are found, and how many are found that are none."""

from __future__ import annotations

from typing import Any

import numpy as np
from scipy import ndimage

from medseg.evaluation.bootstrap import mean_with_ci
from medseg.typing import BoolArray


class LesionDetection:
    """Connected areas of truth and prediction, an image at a time; one is met where a pixel of the other lies in it."""

    def __init__(self) -> None:
        self._counts: dict[str, list[tuple[int, int, int]]] = {}
        self._patients: dict[str, list[str]] = {}

    def add(self, label: str, patient: str, predicted: BoolArray, truth: BoolArray) -> None:
        """Count an image: masks of one shape."""
        true, met = _met(truth, predicted)
        said, right = _met(predicted, truth)
        self._counts.setdefault(label, []).append((true, met, said - right))
        self._patients.setdefault(label, []).append(patient)

    def summary(self) -> dict[str, dict[str, Any]]:
        """Per label: sensitivity (mean over images that show the label), false_positives_per_image, and how many
        there are.
        """
        found: dict[str, dict[str, Any]] = {}
        for label, counts in self._counts.items():
            true, met, false = np.array(counts, np.float64).T
            share = np.divide(met, true, out=np.full(len(true), np.nan), where=true > 0)
            patients = self._patients[label]
            found[label] = {
                "sensitivity": mean_with_ci(share, patients, "no image shows the label"),
                "false_positives_per_image": mean_with_ci(false, patients, "no image"),
                "true": int(true.sum()),
                "found": int(met.sum()),
                "false": int(false.sum()),
            }
        return found


def _met(pieces: BoolArray, other: BoolArray) -> tuple[int, int]:
    """How many pieces, connected by edges or corners, and how many of them `other` touches."""
    numbers, count = ndimage.label(pieces, np.ones((3,) * pieces.ndim))
    return int(count), len(np.unique(numbers[other & pieces]))
