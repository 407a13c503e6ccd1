"""Crop each label to its bounding box, of 2D images and volumes, grey or colour, with a ring around it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import NamedTuple

import cv2
import numpy as np
import SimpleITK as sitk

from medseg.errors import ImageError
from medseg.features.axial import regions
from medseg.io.geometry import require_same_grid
from medseg.io.labels import Labels
from medseg.preprocess.colour import LUMA
from medseg.typing import AnyArray, BoolArray, FloatArray

RING = 0.25
"""Width of the ring around a label, of the radius of the disc or ball of its size: the surroundings of a small lesion
are nearer than those of a large one, and no pixel size is needed."""
MIN_RING_VOXELS = 2  # voxels of the finest spacing: a narrower ring holds mostly the label's own blurred edge


class Region(NamedTuple):
    """A label in its bounding box, widened by the ring if there is one.

    inside: ([Z,] Y, X) the label; values: ([Z,] Y, X[, C]) of the image; spacing: ([z,] y, x) mm, or 1 for pixels;
    width: of the ring in the unit of `spacing`, 0 without a ring.
    """

    inside: BoolArray
    values: AnyArray
    spacing: tuple[float, ...]
    width: float

    @property
    def grey(self) -> FloatArray:
        """Values as one number a voxel ([Z,] Y, X): colour as luma (ITU-R BT.601), without alpha."""
        if self.values.ndim == self.inside.ndim:
            return np.asarray(self.values, np.float64)
        values = self.values[..., : 1 if self.values.shape[-1] < 3 else 3].astype(np.float64)
        weights = np.array(LUMA if values.shape[-1] == 3 else (1.0,))
        return np.asarray(values @ weights, np.float64)

    @property
    def ring(self) -> BoolArray:
        """Voxels outside the label whose centre is at most `width` from one of its voxels' ([Z,] Y, X)."""
        if not self.inside.any():
            return np.zeros_like(self.inside)
        step = min(self.spacing)
        if self.inside.ndim == 2 and max(self.spacing) == step:  # as exact, and many times faster
            distance = cv2.distanceTransform(np.uint8(~self.inside), cv2.DIST_L2, cv2.DIST_MASK_PRECISE)
            return np.asarray((distance > 0) & (distance * step <= self.width))
        binary = sitk.GetImageFromArray(self.inside.astype(np.uint8))
        binary.SetSpacing(self.spacing[::-1])
        # 0 on the label's own border voxels, positive outside
        signed = sitk.SignedMaurerDistanceMap(binary, squaredDistance=False, useImageSpacing=True)
        return np.asarray(~self.inside & (sitk.GetArrayViewFromImage(signed) <= self.width))


def crop_regions(
    image: sitk.Image, mask: sitk.Image, labels: Mapping[str, int] | Labels, ring: float = 0.0
) -> Iterator[tuple[str, Region]]:
    """Yield each label's name and region, empty for an absent label. `ring`: width as a fraction of the radius.

    Raises ImageError (image-dimension, image-channels, grid-mismatch).
    """
    if image.GetDimension() not in (2, 3):
        raise ImageError(f"an image of size {image.GetSize()}: split it into frames first", code="image-dimension")
    if image.GetNumberOfComponentsPerPixel() > 4:
        raise ImageError(
            f"has {image.GetNumberOfComponentsPerPixel()} channels, not 1 to 4 (grey or RGB, each with alpha); "
            "measure one channel at a time",
            code="image-channels",
        )
    require_same_grid(image, mask)
    values, spacing = sitk.GetArrayViewFromImage(image), image.GetSpacing()[::-1]
    for name, inside in regions(sitk.GetArrayViewFromImage(mask), labels):
        width = _width(int(np.count_nonzero(inside)), spacing, ring)
        box = _box(inside, [int(np.ceil(width / step)) for step in spacing])
        yield name, Region(inside[box], values[box], spacing, width)


def _width(count: int, spacing: tuple[float, ...], ring: float) -> float:
    """Width of the ring around a label of `count` voxels, in the unit of `spacing`."""
    if ring <= 0 or not count:
        return 0.0
    size = count * float(np.prod(spacing))
    radius = (size / np.pi) ** 0.5 if len(spacing) == 2 else (0.75 * size / np.pi) ** (1 / 3)
    return max(ring * float(radius), MIN_RING_VOXELS * min(spacing))


def _box(inside: BoolArray, margin: list[int]) -> tuple[slice, ...]:
    """The bounding box of a label, widened by `margin` voxels an axis within the image; empty where absent."""
    box: tuple[slice, ...] = ()
    for axis in range(inside.ndim):
        cropped = inside[box]
        others = tuple(n for n in range(inside.ndim) if n != axis)
        where = np.flatnonzero(cropped.any(axis=others))
        box = (*box, slice(int(where[0]), int(where[-1]) + 1) if len(where) else slice(0, 0))
    return tuple(
        slice(max(0, interval.start - m), interval.stop + m) if interval.stop else interval
        for interval, m in zip(box, margin, strict=True)
    )
