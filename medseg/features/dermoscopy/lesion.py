"""Prepare a lesion for dermoscopy features: one working size, CIE Lab, without hair, rulers and dark corners."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import NamedTuple

import cv2
import numpy as np
import numpy.typing as npt
import SimpleITK as sitk
from scipy import ndimage

from medseg.errors import ImageError
from medseg.features.axial import regions
from medseg.io.geometry import require_same_grid
from medseg.io.labels import Labels
from medseg.preprocess.colour import to_lab
from medseg.preprocess.field_of_view import Dermoscope
from medseg.preprocess.hair_removal import hair_mask
from medseg.preprocess.intensity import Photo
from medseg.preprocess.ruler_detection import ANGLES, detect_rulers
from medseg.typing import BoolArray, Float32Array

SIDE = 512  # pixels of the longer side: more shows no further measure, but takes longer
LEAST = 60  # pixels on that grid: a smaller lesion has no texture, sectors or colours to speak of
NEAR, FAR = 0.15, 0.6  # of the lesion's radius: where the surrounding skin is looked at


class Lesion(NamedTuple):
    """One label on a grid of square pixels whose longer side is at most `SIDE`.

    lab: (Y, X, 3) CIE Lab, hair filled from beside it; inside: (Y, X) the label; seen: (Y, X) imaged skin or lesion,
    neither hair nor ruler nor dark corner; depth: (Y, X) pixels to the border, positive inside; around: (3,) median Lab
    of the skin around it, NaN where none is seen; centre: (y, x) pixels; radius: pixels, of the disc of the same area;
    axis: radians from x towards y, the major axis, pointing to the darker end.
    """

    lab: Float32Array
    inside: BoolArray
    seen: BoolArray
    depth: Float32Array
    around: Float32Array
    centre: tuple[float, float]
    radius: float
    axis: float

    @property
    def visible(self) -> BoolArray:
        """The lesion's pixels whose colour counts (Y, X)."""
        return np.asarray(self.inside & self.seen)


def lesions(
    image: sitk.Image, mask: sitk.Image, labels: Mapping[str, int] | Labels
) -> Iterator[tuple[str, Lesion | None]]:
    """Yield each label's name and lesion; None if absent or smaller than `LEAST` pixels of the working grid.

    image: 2D photograph, grey or colour, of any pixel type. Raises ImageError (not-a-picture, grid-mismatch).
    """
    array = check_image(image, mask)
    label_masks = [
        (name, region, _working(region.astype(np.float32), image) > 0.5) for name, region in regions(array, labels)
    ]
    prepared: tuple[Float32Array, BoolArray] | None = None
    for name, _, inside in label_masks:
        if inside.sum() < LEAST:
            yield name, None
            continue
        prepared = prepared or _picture(image)
        lab, seen = prepared
        visible = (inside & seen).sum() >= LEAST
        yield name, _lesion(lab, inside, seen) if visible else None


def check_image(image: sitk.Image, mask: sitk.Image) -> npt.NDArray[np.uint8]:
    """Return the mask (Y, X); ImageError (not-a-picture, grid-mismatch)."""
    if image.GetDimension() != 2 or mask.GetDimension() != 2:
        raise ImageError(
            f"these features need a photograph and its mask, got {image.GetDimension()}D and {mask.GetDimension()}D; "
            "choose other features for volumes",
            code="not-a-picture",
        )
    require_same_grid(image, mask)
    return np.asarray(sitk.GetArrayFromImage(mask), np.uint8)


def local_contrast(lightness: Float32Array, counted: BoolArray, fine: float, over: float) -> Float32Array:
    """Local standard deviation (Y, X), over `over` pixels, of detail finer than `fine` pixels.

    Only `counted` pixels (Y, X) are used, so that a lesion's border does not count as texture.
    """
    shown = counted.astype(np.float32)
    fine_weight, coarse_weight = (cv2.GaussianBlur(shown, (0, 0), sigma) + 1e-6 for sigma in (fine, over))
    detail = (lightness - cv2.GaussianBlur(lightness * shown, (0, 0), fine) / fine_weight) * shown
    return np.asarray(np.sqrt(cv2.GaussianBlur(detail * detail, (0, 0), over) / coarse_weight), np.float32)


def _working(array: Float32Array, image: sitk.Image) -> Float32Array:
    """An array (Y, X[, C]) on `image`'s grid, averaged onto square pixels, the longer side at most `SIDE`."""
    spacing = np.asarray(image.GetSpacing())
    sides = np.asarray(image.GetSize()) * spacing / spacing.min()
    size = [max(1, round(float(side))) for side in sides * min(1.0, SIDE / sides.max())]
    if size == list(image.GetSize()):
        return array
    return np.asarray(cv2.resize(array, size, interpolation=cv2.INTER_AREA), np.float32)


def _picture(image: sitk.Image) -> tuple[Float32Array, BoolArray]:
    """CIE Lab (y, x, 3) with hair filled in, and the visible pixels (y, x), on the working grid."""
    values = _working(sitk.GetArrayFromImage(Photo(colour=True)(image)), image)
    shown = sitk.GetImageFromArray(np.rint(values * 255).astype(np.uint8), isVector=True)
    field, hair = (sitk.GetArrayFromImage(find(shown)) > 0 for find in (Dermoscope(), hair_mask))
    free = ~(hair | _rulers(values))
    if free.any() and not free.all():
        nearest = ndimage.distance_transform_edt(~free, return_distances=False, return_indices=True)
        filled = values[tuple(nearest)]  # (y, x, 3)
        values = np.where(free[..., None], values, cv2.GaussianBlur(filled, (0, 0), max(1.0, 0.004 * max(free.shape))))
    return to_lab(values), np.asarray(free & field)


def _rulers(values: Float32Array) -> BoolArray:
    """Detect rulers in an RGB image (y, x, 3) of 0..1: thin dark lines, with directions from the structure tensor."""
    grey = np.rint(values.mean(axis=-1) * 255).astype(np.uint8)
    side = max(grey.shape)
    if min(grey.shape) < 3:
        return np.zeros(grey.shape, np.bool_)
    width = 2 * max(2, round(0.006 * side)) + 1
    disc = cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (width, width))
    lines = cv2.morphologyEx(grey, cv2.MORPH_BLACKHAT, disc) >= 8  # of 255
    dx, dy = (cv2.Sobel(np.float32(grey), cv2.CV_32F, *order) for order in ((1, 0), (0, 1)))
    xx, yy, xy = (cv2.GaussianBlur(product, (0, 0), 0.005 * side + 0.5) for product in (dx * dx, dy * dy, dx * dy))
    along = (0.5 * np.arctan2(2 * xy, xx - yy) + np.pi / 2) % np.pi
    return detect_rulers(lines, (np.rint(along / np.pi * ANGLES) % ANGLES).astype(np.uint8), grey)


def _lesion(lab: Float32Array, inside: BoolArray, seen: BoolArray) -> Lesion:
    depth = _depth(inside)
    y, x = (float(where.mean()) for where in np.nonzero(inside))
    radius = float(np.sqrt(inside.sum() / np.pi))
    skin = seen & (depth < -NEAR * radius) & (depth > -FAR * radius)
    skin = skin if skin.sum() >= LEAST else seen & (depth < -NEAR * radius)
    around = np.median(lab[skin], axis=0) if skin.sum() >= LEAST else np.full(3, np.nan)
    axis = _major_axis(lab[..., 0], inside, (y, x))
    return Lesion(lab, inside, seen, depth, np.asarray(around, np.float32), (y, x), radius, axis)


def _depth(inside: BoolArray) -> Float32Array:
    """Signed distance (Y, X) in pixels to the border, positive inside; the image's edge is not a border."""
    shape = inside.astype(np.uint8)
    if inside.all():
        return np.full(inside.shape, float(max(inside.shape)), np.float32)
    within, without = (cv2.distanceTransform(binary, cv2.DIST_L2, 5) for binary in (shape, 1 - shape))
    return np.asarray(np.where(inside, within - 0.5, 0.5 - without), np.float32)


def _major_axis(lightness: Float32Array, inside: BoolArray, centre: tuple[float, float]) -> float:
    """Angle in radians of the lesion's major axis, towards its darker end."""
    points = np.argwhere(inside) - np.asarray(centre)  # (N, 2): y, x
    _, vectors = np.linalg.eigh(points.T @ points)
    way = vectors[:, -1]
    dark = lightness[inside].mean() - lightness[inside]
    way = way if float(dark @ (points @ way)) >= 0 else -way
    return float(np.arctan2(way[0], way[1]))
