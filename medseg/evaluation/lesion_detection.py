"""Lesion-wise detection: sensitivity and false positives per image."""

from __future__ import annotations

from typing import Any

import numpy as np
from scipy import ndimage

from medseg.evaluation.bootstrap import mean_with_ci
from medseg.typing import BoolArray


class LesionDetection:
    """Counts connected components of ground truth and prediction, image by image; any overlap is a detection."""

    def __init__(self) -> None:
        self._counts: dict[str, list[tuple[int, int, int]]] = {}
        self._patients: dict[str, list[str]] = {}

    def add(self, label: str, patient: str, predicted: BoolArray, truth: BoolArray) -> None:
        """Add an image; both masks have one shape."""
        true_lesions, detected = _count_components(truth, predicted)
        predicted_lesions, correct_lesions = _count_components(predicted, truth)
        self._counts.setdefault(label, []).append((true_lesions, detected, predicted_lesions - correct_lesions))
        self._patients.setdefault(label, []).append(patient)

    def summary(self) -> dict[str, dict[str, Any]]:
        """Per label: sensitivity (mean over images that show the label), false_positives_per_image, and the
        numbers of lesions.
        """
        per_label: dict[str, dict[str, Any]] = {}
        for label, counts in self._counts.items():
            true_lesions, detected, false_lesions = np.array(counts, np.float64).T
            sensitivity = np.divide(
                detected, true_lesions, out=np.full(len(true_lesions), np.nan), where=true_lesions > 0
            )
            patients = self._patients[label]
            per_label[label] = {
                "sensitivity": mean_with_ci(sensitivity, patients, "no image shows the label"),
                "false_positives_per_image": mean_with_ci(false_lesions, patients, "no image"),
                "true": int(true_lesions.sum()),
                "found": int(detected.sum()),
                "false": int(false_lesions.sum()),
            }
        return per_label


def _count_components(mask: BoolArray, other: BoolArray) -> tuple[int, int]:
    """Number of components of `mask`, connected by edges or corners, and number of those that overlap `other`."""
    numbers, count = ndimage.label(mask, np.ones((3,) * mask.ndim))
    return int(count), len(np.unique(numbers[other & mask]))
