"""Grey levels inside a label, and the neighbours of a voxel: the input of every texture matrix.

Discretisation after IBSI (Zwanenburg et al., Radiology 295, 2020; reference manual, section 2.7).
"""

from __future__ import annotations

from collections.abc import Iterator
from itertools import product
from typing import NamedTuple

import numpy as np

from medseg.errors import ImageError
from medseg.typing import AnyArray, BoolArray, FloatArray

BINS = 32
"""Grey levels between the label's least and greatest value (IBSI K15C): many enough to tell tissues apart, few enough
for the pairs of levels to be filled; what IBSI's own reference configurations D and E use."""
MAX_LEVELS = 1024  # a matrix of more grey levels is nearly empty


class GrayLevels(NamedTuple):
    """Grey levels of a label: `array` ([Z,] Y, X) whole numbers 1..number, 0 outside the label."""

    array: AnyArray
    number: int


def discretize(values: FloatArray, inside: BoolArray, bins: int = BINS, width: float | None = None) -> GrayLevels:
    """Values ([Z,] Y, X) → levels: `bins` of equal width between the label's extremes (fixed bin number, IBSI K15C).

    With `width`, in the image's unit, bins as wide as that from the label's least value on (fixed bin size, IBSI Q3RU).
    Raises ImageError (gray-levels) if that makes more than `MAX_LEVELS`.
    """
    inner = values[inside]
    if not inner.size:
        return GrayLevels(np.zeros(values.shape, np.uint8), bins if width is None else 0)
    low, high = float(inner.min()), float(inner.max())
    count = bins if width is None else int((high - low) / width) + 1
    if not 1 <= count <= MAX_LEVELS:
        raise ImageError(
            f"values from {low:.6g} to {high:.6g} make {count} grey levels, 1 to {MAX_LEVELS} are possible: "
            "state a wider bin_width, or bins",
            code="gray-levels",
        )
    levels = np.zeros(values.shape, np.uint8 if count < 256 else np.uint16)
    above = inner - low
    position = above / width if width is not None else above * bins / ((high - low) or 1.0)
    levels[inside] = np.minimum(position, count - 1).astype(levels.dtype) + 1
    return GrayLevels(levels, count)


def directions(ndim: int) -> list[tuple[int, ...]]:
    """Offsets to half of a voxel's direct neighbours: 4 in a plane, 13 in space (Chebyshev distance 1)."""
    return [step for step in product((-1, 0, 1), repeat=ndim) if step > (0,) * ndim]


def pairs(array: AnyArray, step: tuple[int, ...]) -> tuple[AnyArray, AnyArray]:
    """Views of `array` of one shape: the voxels that have a neighbour in direction `step`, and these neighbours."""
    voxel = tuple(slice(max(0, -d), n - max(0, d)) for d, n in zip(step, array.shape, strict=True))
    neighbour = tuple(slice(max(0, d), n - max(0, -d)) for d, n in zip(step, array.shape, strict=True))
    return array[voxel], array[neighbour]


def planes(levels: GrayLevels, axis: int) -> Iterator[GrayLevels]:
    """Yield the slices across `axis` that contain the label, (Y, X) each."""
    for plane in np.moveaxis(levels.array, axis, 0):
        if plane.any():
            yield GrayLevels(plane, levels.number)
