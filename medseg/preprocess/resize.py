"""Images brought to a size in pixels. What shrinks is averaged; physical coordinates bring a mask back."""

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
    """Shrink or enlarge an image, or each slice of a volume, until its longer side has `pixels` pixels; aspect kept."""

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
    """Whether a picture's spacing is 1, as that of files that do not say it."""
    return image.GetDimension() == 2 and set(image.GetSpacing()) == {1.0}


def with_spacing(image: sitk.Image, mm: float) -> sitk.Image:
    """The same pixels, each `mm` wide and high."""
    scaled = sitk.Image(image)
    scaled.SetSpacing((mm,) * image.GetDimension())
    return scaled


def at_long_side(image: sitk.Image, mask: sitk.Image, pixels: int) -> tuple[sitk.Image, sitk.Image]:
    """A picture and its mask with `pixels` along the longer side, its pixel type kept; a volume stays as it is.

    A photograph has no scale, its spacing is 1: it has that afterwards too, so that a measure in pixels is the same
    whatever the camera.
    """
    if image.GetDimension() != 2 or max(image.GetSize()) == pixels:
        return image, mask
    grid = LongSide(pixels)(image)
    flat = match_mask(mask, grid)
    kind = sitk.GetArrayViewFromImage(image).dtype
    array = sitk.GetArrayFromImage(grid)
    array = (np.rint(array) if kind.kind in "iu" else array).astype(kind)
    values = from_array(array, grid)
    if has_no_scale(image):
        for part in (values, flat):
            part.SetSpacing((1.0, 1.0))
            part.SetOrigin(image.GetOrigin())
    return values, flat


def to_size(image: sitk.Image, size: Sequence[int]) -> sitk.Image:
    """The image at `size` pixels per axis: same extent, 32-bit float, linear; twofold or more shrinking averages."""
    colour = image.GetNumberOfComponentsPerPixel() > 1
    if tuple(size) == image.GetSize():
        return sitk.Cast(image, sitk.sitkVectorFloat32 if colour else sitk.sitkFloat32)
    spacing = [own * old / new for own, old, new in zip(image.GetSpacing(), image.GetSize(), size, strict=True)]
    grid = grid_of(image, spacing)
    shrink = [max(1, old // new) for old, new in zip(image.GetSize(), size, strict=True)]
    small = sitk.Cast(image, sitk.sitkVectorFloat32 if colour else sitk.sitkFloat32)
    if max(shrink) > 1:
        small = sitk.BinShrink(small, shrink)
    # bins cover whole multiples only: the last pixels of the grid may lie outside, and take the nearest value
    return sitk.Resample(small, grid, sitk.Transform(), sitk.sitkLinear, 0.0, small.GetPixelID(), True)
