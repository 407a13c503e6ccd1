"""How well candidates are ranked: free-response ROC, and whether the first one is right."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from medseg.evaluation.bootstrap import bootstrap_statistic, mean_with_ci

FALSE_PER_IMAGE = (0.125, 0.25, 0.5, 1.0, 2.0, 4.0, 8.0)


@dataclass(frozen=True)
class DetectionResult:
    """An image's candidates, in any order: `scores` and `sizes` (N,), and `hits` (N,) the structure's number each
    lies on, 0 for none. structures: how many there are in truth.
    """

    patient: str
    structures: int
    scores: Sequence[float]
    sizes: Sequence[float]
    hits: Sequence[int]


def froc(images: Sequence[DetectionResult]) -> dict[str, float]:
    """Share of all structures found at the lowest score that costs at most 1/8 … 8 false candidates an image.

    A structure that several candidates lie on is found once, by the highest score. NaN without a structure.
    """
    total = sum(image.structures for image in images)
    if total == 0:
        return {f"{limit:g}": float("nan") for limit in FALSE_PER_IMAGE}
    found: list[float] = []
    false: list[float] = []
    for image in images:
        best: dict[int, float] = {}
        for score, hit in zip(image.scores, image.hits, strict=True):
            if hit:
                best[hit] = max(best.get(hit, -np.inf), score)
            else:
                false.append(score)
        found += best.values()
    falls = np.sort(false)[::-1]  # (F,) from the highest down
    result = {}
    for limit in FALSE_PER_IMAGE:
        allowed = int(limit * len(images))
        # the first false candidate that may not come in: only scores above it count
        bar = falls[allowed] if allowed < len(falls) else -np.inf
        result[f"{limit:g}"] = float(np.sum(np.asarray(found) > bar) / total)
    return result


def ranking(images: Sequence[DetectionResult]) -> dict[str, Any]:
    """FROC with 95 % intervals by patient, and top-1 among images with a structure: by score, and by size beside it.

    An image whose structure no candidate lies on counts as wrong in both.
    """
    with_one = [image for image in images if image.structures]
    patients = [image.patient for image in with_one]
    reason = "no image with a structure"
    by = {"top1": "scores", "top1_largest": "sizes"}
    summary: dict[str, Any] = {
        name: mean_with_ci([_first_is_right(image, getattr(image, key)) for image in with_one], patients, reason)
        for name, key in by.items()
    }
    reachable = [float(any(image.hits)) for image in with_one]
    summary["among_candidates"] = mean_with_ci(reachable, patients, reason)
    summary["candidates_per_image"] = float(np.mean([len(image.scores) for image in images])) if images else 0.0
    values = froc(images)
    everyone = [image.patient for image in images]
    summary["froc"] = {}
    for limit, value in values.items():
        limits = bootstrap_statistic(lambda rows, at=limit: froc([images[n] for n in rows])[at], everyone, n=200)  # type: ignore[misc]
        known = None if np.isnan(value) else value
        summary["froc"][limit] = {"mean": known, "ci95": list(limits) if limits else None, "n": len(images)}
    return summary


def _first_is_right(image: DetectionResult, ranks: Sequence[float]) -> float:
    return float(bool(image.hits) and image.hits[int(np.argmax(ranks))] > 0)
