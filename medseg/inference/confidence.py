"""The confidence in a case's masks: rows of uncertainty.csv, reasons for a review, and maps on the input's grid."""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from medseg.inference.segmenter import Segmentation, Segmenter
from medseg.io.labels import Labels
from medseg.segmentation.resampling import row_blocks
from medseg.segmentation.uncertainty import Confidence, entropy_plane
from medseg.typing import Float32Array

PROBABILITIES, UNCERTAINTY = "probabilities", "uncertainty"  # folders of maps

Maps = dict[tuple[str, str], Float32Array]  # (folder, label) → values 0..1 of the shape of the mask


class KeptMaps(NamedTuple):
    """Maps that are kept of each case: the probability of each label, and the entropy."""

    probabilities: bool = False
    uncertainty: bool = False

    def volumes(self, labels: Labels) -> int:
        """Number of float32 volumes on the input's grid in memory: those kept, and one that is being written."""
        return len(labels.numbers) + self.uncertainty + 1 if any(self) else 0

    def of(self, frames: Sequence[Mapping[str, Float32Array]], labels: Labels) -> Maps:
        """The maps of a case from the probability of each label in each frame; frames along a new first axis."""
        maps: Maps = {}
        if self.uncertainty:
            maps[UNCERTAINTY, ""] = _joined([_entropy(frame, labels.exclusive) for frame in frames])
        if self.probabilities:
            maps |= {(PROBABILITIES, name): _joined([frame[name] for frame in frames]) for name in labels.numbers}
        return maps


def _joined(frames: Sequence[Float32Array]) -> Float32Array:
    return frames[0] if len(frames) == 1 else np.stack(frames)


def _entropy(probabilities: Mapping[str, Float32Array], exclusive: bool) -> Float32Array:
    """Entropy of every pixel, block by block, because it is computed in 64 bits."""
    result = np.empty_like(next(iter(probabilities.values())))
    planes = range(len(result)) if result.ndim == 3 else [...]
    for index in itertools.product(planes, row_blocks(result.shape)):
        result[index] = entropy_plane([volume[index] for volume in probabilities.values()], exclusive)
    return result


def confidence_rows(name: str, models: Sequence[Segmenter], results: Sequence[Segmentation]) -> list[dict[str, Any]]:
    """Rows of a case, one per frame and label: model, frame, label, expected_dice, calibrated, entropy, disagreement.

    With several models the expected Dice of their mean is the mean of their calibrations.
    """
    rows: list[dict[str, Any]] = []
    for frame, result in enumerate(results):
        for label, confidence in result.confidence.items():
            expected, calibrated = expected_dice(models, label, confidence)
            row: dict[str, Any] = {"model": name, "frame": frame if len(results) > 1 else None, "label": label}
            row |= {"expected_dice": round(expected, 4), "calibrated": calibrated, "empty": confidence.empty}
            row["entropy"] = round(confidence.entropy, 4)
            if confidence.disagreement is not None:
                row["disagreement"] = round(confidence.disagreement, 4)
            rows.append(row)
    return rows


def expected_dice(models: Sequence[Segmenter], label: str, confidence: Confidence) -> tuple[float, bool]:
    """The expected Dice, and whether it is calibrated; the raw value without a calibration."""
    calibrations = [model.calibrations[label] for model in models if label in model.calibrations]
    fitted = [calibration for calibration in calibrations if calibration.calibrated(confidence)]
    if not fitted:
        return confidence.raw, False
    return float(np.mean([calibration.expected(confidence) for calibration in fitted])), True


def doubts(rows: Sequence[Mapping[str, Any]], limits: Mapping[str, float]) -> str:
    """The reason for a review, or "": labels whose calibrated expected Dice is below the limit of their model.

    An empty mask is judged by its own calibration: the probability that nothing was missed. If the held-out images had
    too few empty masks for one, an empty mask is no reason, because the image may be normal.
    """
    lowest: dict[tuple[str, bool], tuple[float, float]] = {}
    for row in rows:
        value, limit, key = row["expected_dice"], limits[row["model"]], (row["label"], row["empty"])
        if row["calibrated"] and value < limit and value < lowest.get(key, (2.0, 0.0))[0]:
            lowest[key] = value, limit
    if not lowest:
        return ""
    texts = [f"{label} {value:.2f}{' (empty mask)' if empty else ''}" for (label, empty), (value, _) in lowest.items()]
    return f"the expected Dice is below {max(limit for _, limit in lowest.values()):g}: {', '.join(texts)}"
