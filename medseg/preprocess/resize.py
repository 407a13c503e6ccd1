"""Resize images to a size in pixels: shrinking averages, physical coordinates are kept."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import SimpleITK as sitk

from medseg.io.geometry import from_array
from medseg.preprocess.geometry import grid_of, match_mask


class Resize:
    """Bring an image, or each slice of a volume in plane, to `size` pixels (x, y) whatever its aspect."""

    def __init__(self, size: Sequence[int]) -> None:
        if len(size) != 2 or min(size) < 1:
            raise ValueError(f"size {list(size)}: needs two numbers of pixels (x, y), each at least 1")
        self.size = (int(size[0]), int(size[1]))

    def __call__(self, image: sitk.Image) -> sitk.Image:
        """Image of any size → 32-bit float image of this size and the same extent."""
        return to_size(image, (*self.size, *image.GetSize()[2:]))


class LongSide:
    """Shrink or enlarge an image, or each slice of a volume, until its longer side has `pixels` pixels."""

    def __init__(self, pixels: int) -> None:
        if pixels < 1:
            raise ValueError(f"{pixels} pixels: must be at least 1")
        self.pixels = int(pixels)

    def __call__(self, image: sitk.Image) -> sitk.Image:
        """Image of any size → 32-bit float image of the same extent, square pixels (mm along x and y alike)."""
        width, height = (size * step for size, step in zip(image.GetSize()[:2], image.GetSpacing()[:2], strict=True))
        step = max(width, height) / self.pixels
        return to_size(image, (max(1, round(width / step)), max(1, round(height / step)), *image.GetSize()[2:]))


def has_no_scale(image: sitk.Image) -> bool:
    """Return whether a 2D image has no physical scale (spacing 1)."""
    return image.GetDimension() == 2 and set(image.GetSpacing()) == {1.0}


def with_spacing(image: sitk.Image, mm: float) -> sitk.Image:
    """The same pixels, each `mm` wide and high."""
    scaled = sitk.Image(image)
    scaled.SetSpacing((mm,) * image.GetDimension())
    return scaled


def at_long_side(image: sitk.Image, mask: sitk.Image, pixels: int) -> tuple[sitk.Image, sitk.Image]:
    """Resize a 2D image and its mask to `pixels` along the longer side, same pixel type; volumes are unchanged.

    A photograph without a scale keeps spacing 1, so that features in pixels do not depend on the camera.
    """
    if image.GetDimension() != 2 or max(image.GetSize()) == pixels:
        return image, mask
    grid = LongSide(pixels)(image)
    flat = match_mask(mask, grid)
    dtype = sitk.GetArrayViewFromImage(image).dtype
    array = sitk.GetArrayFromImage(grid)
    array = (np.rint(array) if dtype.kind in "iu" else array).astype(dtype)
    values = from_array(array, grid)
    if has_no_scale(image):
        for resized in (values, flat):
            resized.SetSpacing((1.0, 1.0))
            resized.SetOrigin(image.GetOrigin())
    return values, flat


def to_size(image: sitk.Image, size: Sequence[int]) -> sitk.Image:
    """The image at `size` pixels per axis: same extent, 32-bit float, linear; shrinking twofold or more averages."""
    colour = image.GetNumberOfComponentsPerPixel() > 1
    if tuple(size) == image.GetSize():
        return sitk.Cast(image, sitk.sitkVectorFloat32 if colour else sitk.sitkFloat32)
    spacing = [step * old / new for step, old, new in zip(image.GetSpacing(), image.GetSize(), size, strict=True)]
    grid = grid_of(image, spacing)
    shrink = [max(1, old // new) for old, new in zip(image.GetSize(), size, strict=True)]
    small = sitk.Cast(image, sitk.sitkVectorFloat32 if colour else sitk.sitkFloat32)
    if max(shrink) > 1:
        small = sitk.BinShrink(small, shrink)
    # bins cover whole multiples only: the last pixels of the grid may be outside, and take the nearest value
    return sitk.Resample(small, grid, sitk.Transform(), sitk.sitkLinear, 0.0, small.GetPixelID(), True)
