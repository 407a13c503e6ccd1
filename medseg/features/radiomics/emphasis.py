"""Sixteen features shared by run lengths, zones and dependences: the distribution of elements over grey level and size.

An element is a run, a zone or a voxel with like neighbours; its size j is a length, a number of voxels or a distance.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from medseg.features.radiomics.glcm import entropy
from medseg.typing import AnyArray, FloatArray

MEASURES: dict[str, str] = {
    "small_emphasis": "mean 1 / j²",
    "large_emphasis": "mean j²",
    "low_grey_emphasis": "mean 1 / i²",
    "high_grey_emphasis": "mean i²",
    "small_low_grey_emphasis": "mean 1 / (i² j²)",
    "small_high_grey_emphasis": "mean i² / j²",
    "large_low_grey_emphasis": "mean j² / i²",
    "large_high_grey_emphasis": "mean i² j²",
    "grey_non_uniformity": "sum over the levels of squared numbers of elements, over their whole number",
    "grey_non_uniformity_normalised": "0..1: the same over their squared number",
    "non_uniformity": "sum over the sizes of squared numbers of elements, over their whole number",
    "non_uniformity_normalised": "0..1: the same over their squared number",
    "percentage": "0..1: number of elements over the greatest possible",
    "grey_variance": "levels²: variance of the level",
    "variance": "variance of the size",
    "entropy": "bits: entropy of level and size",
}


class Elements(NamedTuple):
    """level: (N,) 1.. of each element; size: (N,) 1.. of each element; possible: how many there could be at most."""

    level: AnyArray
    size: AnyArray
    possible: int


def units(prefix: str, j: str, codes: str) -> dict[str, str]:
    """Definitions by name; `j` says what the size is, `codes` holds IBSI's codes in the order of `MEASURES`."""
    stated = zip(MEASURES.items(), codes.split(), strict=True)
    return {f"{prefix}_{name}": f"{text}; i level, j {j} (IBSI {code})" for (name, text), code in stated}


def emphasis(prefix: str, elements: Elements) -> dict[str, float]:
    """The features of `elements`; NaN without any."""
    if not elements.level.size:
        return {f"{prefix}_{name}": np.nan for name in MEASURES}
    i, j, n = table(elements)
    total = n.sum()
    p = n / total

    def mean(matrix: FloatArray) -> float:
        return float((matrix * p).sum())

    grey, size = (np.bincount(axis.astype(np.intp), p) for axis in (i, _ranks(j)))
    values = (
        mean(1 / j**2),
        mean(j**2),
        mean(1 / i**2),
        mean(i**2),
        mean(1 / (i * j) ** 2),
        mean((i / j) ** 2),
        mean((j / i) ** 2),
        mean((i * j) ** 2),
        float((grey**2).sum() * total),
        float((grey**2).sum()),
        float((size**2).sum() * total),
        float((size**2).sum()),
        float(total / elements.possible),
        mean((i - mean(i)) ** 2),
        mean((j - mean(j)) ** 2),
        entropy(p),
    )
    return {f"{prefix}_{name}": value for name, value in zip(MEASURES, values, strict=True)}


def table(elements: Elements) -> tuple[FloatArray, FloatArray, FloatArray]:
    """Level, size and number of elements of each combination that occurs, (K,) each."""
    base = int(elements.size.max()) + 1
    codes = elements.level.astype(np.int64) * base + elements.size
    if base * int(elements.level.max()) < 4 * codes.size + 2**16:  # counting is faster than sorting, but needs room
        counts = np.bincount(codes)
        used = np.flatnonzero(counts)
        number = counts[used]
    else:
        used, number = np.unique(codes, return_counts=True)
    level, size = np.divmod(used, base)
    return level.astype(np.float64), size.astype(np.float64), number.astype(np.float64)


def _ranks(values: FloatArray) -> AnyArray:
    """Ranks of `values` (K,), equal for equal values."""
    return np.asarray(np.unique(values, return_inverse=True)[1])
