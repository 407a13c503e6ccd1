"""Metrics of ranked candidates: free-response ROC, and how often the top candidate is correct."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from medseg.evaluation.bootstrap import bootstrap_statistic, mean_with_ci

FALSE_PER_IMAGE = (0.125, 0.25, 0.5, 1.0, 2.0, 4.0, 8.0)


@dataclass(frozen=True)
class DetectionResult:
    """An image's candidates in any order: `scores` and `sizes` (N,), and `hits` (N,), the number of the structure that
    each lies on, 0 for none. structures: their number in the ground truth.
    """

    patient: str
    structures: int
    scores: Sequence[float]
    sizes: Sequence[float]
    hits: Sequence[int]


def froc(images: Sequence[DetectionResult]) -> dict[str, float]:
    """Fraction of all structures detected at the lowest threshold with at most 1/8 … 8 false candidates an image.

    A structure that several candidates lie on is detected once, by the highest score. NaN without a structure.
    """
    total = sum(image.structures for image in images)
    if total == 0:
        return {f"{limit:g}": float("nan") for limit in FALSE_PER_IMAGE}
    structure_scores: list[float] = []
    false_scores: list[float] = []
    for image in images:
        best: dict[int, float] = {}
        for score, structure in zip(image.scores, image.hits, strict=True):
            if structure:
                best[structure] = max(best.get(structure, -np.inf), score)
            else:
                false_scores.append(score)
        structure_scores += best.values()
    false_scores_sorted = np.sort(false_scores)[::-1]  # (F,) from the highest down
    result = {}
    for limit in FALSE_PER_IMAGE:
        allowed = int(limit * len(images))
        # the first false candidate beyond the limit: only scores above it count
        threshold = false_scores_sorted[allowed] if allowed < len(false_scores_sorted) else -np.inf
        result[f"{limit:g}"] = float(np.sum(np.asarray(structure_scores) > threshold) / total)
    return result


def ranking(images: Sequence[DetectionResult]) -> dict[str, Any]:
    """FROC with 95 % intervals by patient, and top-1 among images with a structure: by score, and by size to compare.

    An image whose structure no candidate lies on counts as wrong in both.
    """
    with_structure = [image for image in images if image.structures]
    patients = [image.patient for image in with_structure]
    reason = "no image with a structure"
    rank_by = {"top1": "scores", "top1_largest": "sizes"}
    summary: dict[str, Any] = {
        name: mean_with_ci([_top1_correct(image, getattr(image, key)) for image in with_structure], patients, reason)
        for name, key in rank_by.items()
    }
    reachable = [float(any(image.hits)) for image in with_structure]
    summary["among_candidates"] = mean_with_ci(reachable, patients, reason)
    summary["candidates_per_image"] = float(np.mean([len(image.scores) for image in images])) if images else 0.0
    values = froc(images)
    patient_of_image = [image.patient for image in images]
    summary["froc"] = {}
    for limit, value in values.items():

        def at_limit(rows: npt.NDArray[np.intp], limit: str = limit) -> float:
            return froc([images[n] for n in rows])[limit]

        limits = bootstrap_statistic(at_limit, patient_of_image, n=200)
        mean = None if np.isnan(value) else value
        summary["froc"][limit] = {"mean": mean, "ci95": list(limits) if limits else None, "n": len(images)}
    return summary


def _top1_correct(image: DetectionResult, ranks: Sequence[float]) -> float:
    return float(bool(image.hits) and image.hits[int(np.argmax(ranks))] > 0)
