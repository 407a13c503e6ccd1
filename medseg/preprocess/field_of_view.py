"""Find the field of view of an image, and crop or scale the image to it.

A finder is `image → uint8 mask` (1 inside) on the image's grid. It works on a downscaled copy, so that its time does
not depend on the camera. Without a visible field, the whole image is the field.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import SimpleITK as sitk
from scipy import ndimage
from skimage.filters import threshold_otsu

from medseg.errors import ImageError
from medseg.preprocess.body import body, levels
from medseg.preprocess.foreground import (
    blurred,
    enlarge,
    fill_slices,
    hull,
    hull_slices,
    large_components,
    largest,
    opened,
    rounded,
    thumbnail,
)
from medseg.preprocess.resize import to_size
from medseg.typing import BoolArray, Float32Array

Finder = Callable[[sitk.Image], sitk.Image]


class Fundus:
    """The illuminated disc of a fundus photograph, also if it is clipped; the surround may be black, grey or white.

    `contrast`: minimum difference of a pixel from the surround, as a fraction of the difference of the disc's middle.
    """

    SIDE = 512  # pixels of the downscaled copy: the edge is exact to a thousandth of its width

    def __init__(self, contrast: float = 0.12) -> None:
        if not 0 < contrast < 1:
            raise ValueError(f"contrast {contrast}: must be between 0 and 1")
        self.contrast = float(contrast)

    def __call__(self, image: sitk.Image) -> sitk.Image:
        """Photograph (2D, grey or colour) → mask; the whole image if its corners show no surround."""
        values, steps = _photo_thumbnail(image, self.SIDE)
        values = ndimage.median_filter(values, (3, 3, 1))
        height, width = values.shape[:2]
        corners = _corners(values, max(1, min(height, width) // 25))  # (N, C)
        surround = np.median(corners, 0)
        away = np.abs(values - surround).max(-1)  # (Y, X)
        noise = float(np.percentile(np.abs(corners - surround).max(-1), 90))
        middle = float(np.median(away[height // 4 : height - height // 4, width // 4 : width - width // 4]))
        if middle < 4 * noise or middle == 0:
            return enlarge(np.ones((height, width), bool), image, steps)
        lit = away > max(self.contrast * middle, 2 * noise)
        lit = largest(opened(ndimage.binary_fill_holes(lit), max(1, min(lit.shape) // 100)))
        return enlarge(rounded(lit) if lit.any() else ~lit, image, steps)


class Dermoscope:
    """The image without the black corners or ring of a round dermoscope; the whole image if there are none.

    `dark`: maximum brightness of black, as a fraction of the skin's. Black must reach at least two corners, and the
    field is round or convex, so a dark lesion at its edge stays inside. Coloured stickers at the border are excluded.
    """

    SIDE = 256
    MIN_FRACTION = 0.2  # of the image: smaller fields are ignored

    def __init__(self, dark: float = 0.35) -> None:
        if not 0 < dark < 1:
            raise ValueError(f"dark {dark}: must be between 0 and 1")
        self.dark = float(dark)

    def __call__(self, image: sitk.Image) -> sitk.Image:
        """Photograph (2D, grey or colour) → mask."""
        values, steps = _photo_thumbnail(image, self.SIDE)
        foreign = _stickers(values) if values.shape[-1] >= 3 else np.zeros(values.shape[:2], bool)
        return enlarge(self._round(values) & ~foreign, image, steps)

    def _round(self, values: Float32Array) -> BoolArray:
        """The round field (Y, X) of a thumbnail (Y, X, C), or all of it."""
        bright = ndimage.median_filter(values.max(-1), 3)  # the strongest channel: brown is not black
        skin = float(np.percentile(bright, 75))
        black = bright < self.dark * skin
        components, _ = ndimage.label(opened(black, 3))  # hair is thinner
        corner = max(1, min(bright.shape) // 50)
        corner_labels = [set(np.unique(block[block > 0])) for block in _corner_blocks(components, corner)]
        everything = np.ones(bright.shape, bool)
        if sum(map(bool, corner_labels)) < 2:
            return everything
        lit = largest(opened(~np.isin(components, list(set().union(*corner_labels))), 2))
        # hair over the whole image is not a ring: a ring has a field inside and black outside
        inside = rounded(lit) if lit.mean() > self.MIN_FRACTION else everything
        return inside if inside.all() or black[~inside].mean() > 0.5 else everything


class Sector:
    """The echo area of an ultrasound image without black margins, text and scales.

    `black`: maximum brightness of a margin, as a fraction of the full range; hypoechoic tissue has brighter noise.
    """

    SIDE = 256
    MIN_COMPONENT = 0.1  # of the largest area

    def __init__(self, black: float = 0.016) -> None:
        if not 0 <= black < 1:
            raise ValueError(f"black {black}: must be 0 or more and below 1")
        self.black = float(black)

    def __call__(self, image: sitk.Image) -> sitk.Image:
        """B-mode image (2D, grey or colour) → mask: convex hull of the large areas that are not black."""
        values, steps = _photo_thumbnail(image, self.SIDE)
        grey = values.max(-1)
        lit = ndimage.maximum_filter(grey, 3) > self.black * full_range(image)
        lit = ndimage.binary_fill_holes(lit)
        # text and scales are thin; a black cyst may split the echoes in two
        lit = large_components(opened(lit, max(1, min(lit.shape) // 40)), self.MIN_COMPONENT)
        return enlarge(hull(lit) if lit.any() else ~lit, image, steps)


class Head:
    """MRI: the head without the air around it, or all voxels that differ from a constant background."""

    SIDE = 128
    CONSTANT = 0.2  # minimum fraction of equal voxels for a blanked background
    MIN_COMPONENT = 0.02  # fraction of the largest component; smaller ones are noise

    def __call__(self, image: sitk.Image) -> sitk.Image:
        """Volume (or 2D slice) of any range → mask, holes filled slice by slice."""
        _need_scalar(image, "Head")
        values, steps = thumbnail(image, self.SIDE)
        blank = float(np.median(_corner_voxels(values)))
        inside = values != blank
        low, high = (float(value) for value in np.percentile(values[inside], [1, 98])) if inside.any() else (0.0, 0.0)
        faint = np.mean(values[inside] < low + 0.1 * (high - low)) if inside.any() else 0.0
        if (~inside).mean() < self.CONSTANT or faint > 0.2:
            inside = values > 0.6 * threshold_otsu(np.clip(values, None, high))
            # the hull includes fluid and bone that are as dark as air
            inside = hull_slices(large_components(inside, self.MIN_COMPONENT))
        inside = largest(fill_slices(inside))
        return enlarge(inside if inside.any() else ~inside, image, steps)


class Body:
    """CT: the body without the air, padding and couch around it. `threshold` in HU lies between lung and fat (−100).

    Lungs and bowel gas are inside, slice by slice, also lungs that a crop or a circular field opens to the edge.
    """

    SIDE = 128

    def __init__(self, threshold: float = -500.0) -> None:
        self.threshold = float(threshold)

    def __call__(self, image: sitk.Image) -> sitk.Image:
        """CT in HU, or windowed to 0..1 → mask; the whole image if no body is found."""
        _need_scalar(image, "Body")
        values, steps = thumbnail(image, self.SIDE)
        constant = values == np.median(_corner_voxels(values))
        axis = _axial(image)  # holes are filled in axial slices
        smooth = np.moveaxis(blurred(image, steps), axis, 0)
        mask = np.moveaxis(body(smooth, np.moveaxis(constant, axis, 0), levels(values, self.threshold)), 0, axis)
        return enlarge(mask if mask.any() else ~mask, image, steps)


class CropToFieldOfView:
    """Crop to the bounding box of the field, wider by `margin` (a fraction of the box) on every side."""

    def __init__(self, field: Finder, margin: float = 0.0) -> None:
        if margin < 0:
            raise ValueError(f"margin {margin}: must be 0 or more")
        self.field, self.margin = field, float(margin)

    def __call__(self, image: sitk.Image) -> sitk.Image:
        """Image → crop with the field; pixels and physical coordinates are unchanged."""
        starts, ends = field_box(self.field(image))
        wider = [round(self.margin * (end - start)) for start, end in zip(starts, ends, strict=True)]
        starts = [max(0, start - more) for start, more in zip(starts, wider, strict=True)]
        ends = [min(size, end + more) for size, end, more in zip(image.GetSize(), ends, wider, strict=True)]
        return sitk.RegionOfInterest(image, [end - start for start, end in zip(starts, ends, strict=True)], starts)


class FitFieldOfView:
    """Crop to the field's bounding box and resample it so that its longer side in plane has `diameter` pixels.

    The longer side of a clipped disc is its true diameter, so structures get one size for every camera.
    """

    def __init__(self, field: Finder, diameter: int) -> None:
        if diameter < 1:
            raise ValueError(f"diameter {diameter}: must be at least 1 pixel")
        self.crop, self.diameter = CropToFieldOfView(field), int(diameter)

    def __call__(self, image: sitk.Image) -> sitk.Image:
        """Image → 32-bit float image of square pixels; slices of a volume stay."""
        cropped = self.crop(image)
        sides = [size * step for size, step in zip(cropped.GetSize()[:2], cropped.GetSpacing()[:2], strict=True)]
        plane = [max(1, round(self.diameter * side / max(sides))) for side in sides]
        return to_size(cropped, (*plane, *cropped.GetSize()[2:]))


def field_box(mask: sitk.Image) -> tuple[list[int], list[int]]:
    """First index, and index after the last, per axis x, y(, z) of a mask; ImageError if it is empty."""
    inside = sitk.GetArrayViewFromImage(mask) > 0
    if not inside.any():
        raise ImageError(
            "the field of view of this image is empty: check the image, or remove this step",
            code="image-field",
        )
    starts, ends = [], []
    for axis in reversed(range(inside.ndim)):
        where = np.flatnonzero(inside.any(tuple(i for i in range(inside.ndim) if i != axis)))
        starts.append(int(where[0]))
        ends.append(int(where[-1]) + 1)
    return starts, ends


def full_range(image: sitk.Image) -> float:
    """Largest possible value of an image: 1 for floats up to 1, 255 for 8 bits, else the maximum of the image."""
    top = float(sitk.GetArrayViewFromImage(image).max())
    if image.GetPixelID() in (sitk.sitkFloat32, sitk.sitkVectorFloat32, sitk.sitkFloat64, sitk.sitkVectorFloat64):
        return 1.0 if top <= 1.01 else max(top, 255.0)
    return max(top, 255.0)


def _photo_thumbnail(image: sitk.Image, side: int) -> tuple[Float32Array, list[int]]:
    """Thumbnail (Y, X, C) of a 2D image; grey has C = 1."""
    if image.GetDimension() != 2:
        raise ImageError(f"needs a 2D image, this is a volume of {image.GetSize()}", code="image-dimension")
    values, steps = thumbnail(image, side)
    return values.reshape(*values.shape[:2], -1), steps


def _need_scalar(image: sitk.Image, step: str) -> None:
    if image.GetNumberOfComponentsPerPixel() > 1:
        raise ImageError(f"{step} needs one value per pixel, this image has colour", code="image-components")


def _axial(image: sitk.Image) -> int:
    """Array axis (z, y, x) closest to the patient's longitudinal axis; 0 for a 2D image."""
    if image.GetDimension() < 3:
        return 0
    cosines = np.reshape(image.GetDirection(), (3, 3))  # physical x y z by index i j k
    return 2 - int(np.abs(cosines[2]).argmax())


def _corner_blocks(values: np.ndarray[tuple[int, ...], np.dtype[np.generic]], size: int) -> list[Float32Array]:
    """The four corner squares of an array (Y, X, …)."""
    ends = (slice(None, size), slice(-size, None))
    return [values[rows, columns] for rows in ends for columns in ends]  # type: ignore[misc]


def _corners(values: Float32Array, size: int) -> Float32Array:
    return np.concatenate([block.reshape(-1, values.shape[-1]) for block in _corner_blocks(values, size)])


def _corner_voxels(values: Float32Array) -> Float32Array:
    return np.asarray(values[np.ix_(*[(0, size - 1) for size in values.shape])])


def _stickers(values: Float32Array) -> BoolArray:
    """Coloured stickers (Y, X) of a colour thumbnail: convex, touching its border, and bright, with far more or far
    less blue relative to red than the image's usual colour (colour casts and dark lesions are not stickers)."""
    smooth = ndimage.gaussian_filter(values[..., :3], (1.5, 1.5, 0))
    ratio, light = smooth[..., 2] / np.maximum(smooth[..., 0], 1e-6), smooth.max(-1)
    usual, skin = float(np.median(ratio)), float(np.percentile(light, 75))
    blue = (ratio > max(1.08, 1.25 * usual)) & (light > 0.5 * skin)
    yellow = (ratio < min(0.35, 0.6 * usual)) & (light > 0.9 * skin)  # a brown lesion is darker than skin
    components, _ = ndimage.label(ndimage.binary_opening(blue | yellow))
    stickers = np.zeros(ratio.shape, bool)
    for number in np.unique(np.concatenate([components[0], components[-1], components[:, 0], components[:, -1]])):
        component = ndimage.binary_fill_holes(components == number)
        if number and 0.01 < component.mean() < 0.5:
            around = hull(component)
            if component.sum() > 0.8 * around.sum():
                stickers |= around
    return np.asarray(ndimage.binary_dilation(stickers, iterations=3) if stickers.any() else stickers)
