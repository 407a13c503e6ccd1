"""Feature maps averaged over regions of an image: the structure, a rim around it, slices or sectors."""

from __future__ import annotations

from typing import NamedTuple

import cv2
import numpy as np
import numpy.typing as npt
import SimpleITK as sitk
from scipy import ndimage

from medseg.io.geometry import from_array
from medseg.typing import AnyArray, BoolArray, Float32Array, FloatArray

RIM_FRACTION = 1 / 8  # width of the rim, of a slice's longer side


class Encoding(NamedTuple):
    """Feature maps of a frame. values: (C, z, y, x); grid: the image that they were computed from, (Z, Y, X) or (Y, X);
    cell: pixels of the grid in a cell (z, y, x); the last cell of an axis may reach beyond the grid.
    """

    values: Float32Array
    grid: sitk.Image
    cell: tuple[int, int, int]

    def means(self, regions: sitk.Image, count: int) -> FloatArray:
        """Mean of each channel over regions 1 … `count` of an image on any grid: (count, C), NaN outside the grid."""
        resampled = sitk.Resample(regions, self.grid, sitk.Transform(), sitk.sitkNearestNeighbor, 0)
        array = _as_volume(sitk.GetArrayViewFromImage(resampled))
        means = np.full((count, len(self.values)), np.nan)
        boxes = ndimage.find_objects(array, count)
        for number, box in enumerate(boxes):
            if box is not None:
                means[number] = self._mean(array, number + 1, box)
        return means

    def mean(self) -> FloatArray:
        """Mean of each channel over the whole grid: (1, C)."""
        size = self.grid.GetSize()[::-1]
        whole = _as_volume(np.ones(size, np.uint8))
        return self._mean(whole, 1, tuple(slice(0, size) for size in whole.shape))[None]  # (1, C)

    def _mean(self, array: AnyArray, number: int, box: tuple[slice, ...]) -> FloatArray:
        """Mean (C,) of the cells that the region `number` covers, weighted by the fraction that it covers."""
        cells = [slice(s.start // f, -(-s.stop // f)) for s, f in zip(box, self.cell, strict=True)]
        pixels = [slice(c.start * f, c.stop * f) for c, f in zip(cells, self.cell, strict=True)]
        weight = coverage(array[tuple(pixels)] == number, [c.stop - c.start for c in cells], self.cell)
        return np.asarray(np.tensordot(self.values[(slice(None), *cells)], weight, 3) / weight.sum(), np.float64)


def coverage(inside: BoolArray, coarse: list[int], cell: tuple[int, int, int]) -> Float32Array:
    """Fraction of each coarse cell that is inside, (Z, Y, X) → `coarse`; what is beyond the ends is outside."""
    padded = np.zeros([cells * size for cells, size in zip(coarse, cell, strict=True)], np.float32)
    padded[tuple(slice(size) for size in inside.shape)] = inside
    (z, y, x), (a, b, c) = coarse, cell
    return np.asarray(padded.reshape(z, a, y, b, x, c).mean(axis=(1, 3, 5)))


def structure_and_rim(mask: sitk.Image, per_slice: bool) -> sitk.Image:
    """Number the labelled pixels and the rim around them, slice by slice: 1 and 2; `per_slice` 3 and 4 in the next.

    The rim is what lies within an eighth of the slice's longer side of a labelled pixel. Volumes are oriented to LPS.
    """
    oriented = sitk.DICOMOrient(mask, "LPS") if mask.GetDimension() == 3 else mask
    labelled = _as_volume(sitk.GetArrayViewFromImage(oriented)) > 0  # (Z, Y, X)
    regions = np.zeros(labelled.shape, np.uint16)
    for number, inside in enumerate(labelled):
        if inside.any():
            outside = (~inside).astype(np.uint8)
            distance = cv2.distanceTransform(outside, cv2.DIST_L2, cv2.DIST_MASK_PRECISE)  # pixels
            first = 2 * number + 1 if per_slice else 1
            regions[number][distance <= RIM_FRACTION * max(inside.shape)] = first + 1
            regions[number][inside] = first
    return from_array(regions if oriented.GetDimension() == 3 else regions[0], oriented)


def projection(channels: int, count: int | None) -> npt.NDArray[np.float64]:
    """A fixed random matrix (channels, count) with orthonormal columns; None or too many: the identity.

    It nearly preserves distances (Johnson and Lindenstrauss 1984) and needs no training.
    """
    if count is None or count >= channels:
        return np.eye(channels)
    columns, _ = np.linalg.qr(np.random.default_rng(0).normal(size=(channels, count)))
    return np.asarray(columns)


def _as_volume(array: AnyArray) -> AnyArray:
    return array if array.ndim == 3 else array[None]  # (Z, Y, X)
