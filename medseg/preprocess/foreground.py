"""Foreground masks on a downscaled copy of an image: tools of all field finders."""

from __future__ import annotations

import cv2
import numpy as np
import numpy.typing as npt
import SimpleITK as sitk
from scipy import ndimage

from medseg.typing import BoolArray, Float32Array


def thumbnail(image: sitk.Image, side: int) -> tuple[Float32Array, list[int]]:
    """Every n-th pixel of an image, so that no axis is much longer than `side` pixels, and n per axis x, y(, z).

    Array (Y, X), (Y, X, C), (Z, Y, X) or (Z, Y, X, C). In plane both axes have the same step, so that shapes stay.
    """
    size = image.GetSize()
    plane = max(1, max(size[:2]) // side)
    steps = [plane, plane, max(1, size[2] // side)] if len(size) == 3 else [plane, plane]
    view = sitk.GetArrayViewFromImage(image)
    return np.asarray(view[tuple(slice(None, None, step) for step in reversed(steps))], np.float32), steps


def blurred(image: sitk.Image, steps: list[int]) -> Float32Array:
    """The thumbnail with `steps` of a scalar image, each pixel the mean of its neighbourhood: less noise.

    Values are limited to −1200 … 1000, so that padding does not darken the tissue beside it.
    """
    view = sitk.GetArrayViewFromImage(image)
    planes = view.reshape(-1, *view.shape[-2:])[:: steps[2] if len(steps) == 3 else 1]  # (Z, Y, X)
    kernel, step = (2 * (steps[0] // 2) + 1,) * 2, steps[0]
    means = [cv2.blur(plane.clip(-1200, 1000).astype(np.float32), kernel)[::step, ::step] for plane in planes]
    return np.stack(means) if view.ndim == 3 else np.asarray(means[0])


def enlarge(mask: BoolArray, image: sitk.Image, steps: list[int]) -> sitk.Image:
    """Resample a mask of the thumbnail to a uint8 mask (1 inside) on the image's grid, with a smoothed edge.

    Linear, plane by plane; pixel i of the thumbnail is pixel n·i of the image.
    """
    if max(steps) == 1:
        full = sitk.GetImageFromArray(mask.astype(np.uint8))
    elif mask.all():
        full = sitk.Image(image.GetSize(), 1) + 1
    else:
        sigma = [0.7 if step > 1 else 0.0 for step in reversed(steps)]
        small = ndimage.gaussian_filter(mask.astype(np.float32), sigma, mode="nearest")
        size = image.GetSize()
        array = np.empty(tuple(reversed(size)), np.uint8)
        scale = np.array([[1 / steps[0], 0, 0], [0, 1 / steps[1], 0]])
        planes = small.reshape(-1, *small.shape[-2:])  # (Z, Y, X)
        for z, plane in enumerate(array.reshape(-1, *array.shape[-2:])):
            low, rest = divmod(z, steps[2] if len(steps) == 3 else 1)
            low, high = min(low, len(planes) - 1), min(low + 1, len(planes) - 1)
            mixed = planes[low] if rest == 0 else planes[low] + (planes[high] - planes[low]) * (rest / steps[2])
            flags = cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP
            large = cv2.warpAffine(mixed, scale, size[:2], flags=flags, borderMode=cv2.BORDER_REPLICATE)
            plane[:] = large > 0.5
        full = sitk.GetImageFromArray(array)
    full.CopyInformation(image)
    return full


def largest(mask: BoolArray) -> BoolArray:
    """The largest connected component (face connectivity); an empty mask stays empty."""
    components, count = ndimage.label(mask)
    if count <= 1:
        return mask
    sizes = np.bincount(components.ravel())
    sizes[0] = 0
    return np.asarray(components == sizes.argmax())


def large_components(mask: BoolArray, share: float) -> BoolArray:
    """The connected components of at least `share` of the largest one's size."""
    components, count = ndimage.label(mask)
    sizes = np.bincount(components.ravel(), minlength=count + 1)
    sizes[0] = 0
    return np.asarray((sizes >= share * sizes.max())[components] & mask)


def opened(mask: BoolArray, radius: int) -> BoolArray:
    """Opening of a mask (Y, X) with edge padding, so that its corners stay."""
    wider = np.pad(mask, radius, mode="edge")
    return np.asarray(ndimage.binary_opening(wider, iterations=radius)[radius:-radius, radius:-radius])


def fill_slices(mask: BoolArray) -> BoolArray:
    """Fill holes in plane, of (Y, X) or each slice of (Z, Y, X): background that does not reach the edge."""
    planes = mask.reshape(-1, *mask.shape[-2:])  # (Z, Y, X)
    return np.stack([_filled(plane) for plane in planes]).reshape(mask.shape)


def _filled(mask: BoolArray) -> BoolArray:
    background = np.pad((~mask).astype(np.uint8), 1, constant_values=1)
    _, areas = cv2.connectedComponents(background, connectivity=4)
    return np.asarray(areas[1:-1, 1:-1] != areas[0, 0])


def hull_slices(mask: BoolArray) -> BoolArray:
    """The convex hull in plane, (Y, X) or of each slice of (Z, Y, X)."""
    planes = mask.reshape(-1, *mask.shape[-2:])  # (Z, Y, X)
    return np.stack([hull(plane) if plane.any() else plane for plane in planes]).reshape(mask.shape)


def hull(mask: BoolArray) -> BoolArray:
    """Convex hull (Y, X) of a mask (Y, X) that is not empty."""
    points = np.argwhere(mask)[:, ::-1].astype(np.int32)  # (N, 2) as x, y
    filled = np.zeros(mask.shape, np.uint8)
    cv2.fillConvexPoly(filled, cv2.convexHull(points), 1)
    return filled.astype(bool)


def rounded(lit: BoolArray) -> BoolArray:
    """The round field (Y, X) of a lit area: a circle or upright ellipse if its edge fits one, else the hull.

    The edge of the image and straight cuts (a disc clipped above or below) are excluded from the fit; they cut the
    result. A dark area at the edge, such as a lesion, is then inside.
    """
    around = hull(lit)
    rows, columns = np.flatnonzero(around.any(1)), np.flatnonzero(around.any(0))
    box = (rows[0], rows[-1], columns[0], columns[-1])
    edge = around & lit & ~ndimage.binary_erosion(around, border_value=1) & ~_flat_sides(around, box)
    y, x = np.nonzero(edge)
    for circle in (True, False):
        disc = _ellipse(x, y, around.shape, circle)
        if disc is None:
            continue
        disc[: box[0]], disc[box[1] + 1 :], disc[:, : box[2]], disc[:, box[3] + 1 :] = False, False, False, False
        if abs(int(disc.sum()) - int(around.sum())) < 0.15 * around.sum():
            return disc
    return around


def _flat_sides(around: BoolArray, box: tuple[int, int, int, int]) -> BoolArray:
    """The two outermost pixels of each side of the box that has a straight cut over a third of its length."""
    flat = np.zeros_like(around)
    top, bottom, left, right = box
    for lines, length in (
        ((slice(top, top + 2), slice(None)), right - left),
        ((slice(bottom - 1, bottom + 1), slice(None)), right - left),
        ((slice(None), slice(left, left + 2)), bottom - top),
        ((slice(None), slice(right - 1, right + 1)), bottom - top),
    ):
        # a full circle of radius r is within two pixels of its box over 4 √r pixels only
        if around[lines].any(int(np.argmin(around[lines].shape))).sum() > max(length / 3, 3 * np.sqrt(length)):
            flat[lines] = True
    return flat


def _ellipse(
    x: npt.NDArray[np.int64], y: npt.NDArray[np.int64], shape: tuple[int, ...], circle: bool
) -> BoolArray | None:
    """Circle or upright ellipse through most of the edge points, by trimmed least squares; None if none fits."""
    if len(x) < 12:
        return None
    middle = np.array([shape[1], shape[0]]) / 2
    scale = max(shape) / 2
    u, v = (x - middle[0]) / scale, (y - middle[1]) / scale
    inliers = np.ones(len(u), bool)
    columns = [u * u + v * v, u, v] if circle else [u * u, v * v, u, v]
    design = np.stack(columns, 1)  # (N, 3 or 4)
    for _ in range(8):
        factors = np.linalg.lstsq(design[inliers], np.ones(int(inliers.sum())), rcond=None)[0]
        a, b, c, d = (factors[0], *factors) if circle else factors
        if min(a, b) <= 0:
            return None
        centre = (-c / (2 * a), -d / (2 * b))
        reach = 1 + a * centre[0] ** 2 + b * centre[1] ** 2
        radii = np.sqrt(reach / a), np.sqrt(reach / b)
        away = np.hypot((u - centre[0]) / radii[0], (v - centre[1]) / radii[1])
        misses = np.abs(away - 1) * min(radii) * scale  # pixels
        inliers = misses <= max(1.5, 2 * float(np.median(misses)))
    if np.mean(misses <= 2.5) < 0.7 or not 0.5 < radii[0] / radii[1] < 2 or max(map(abs, centre)) > 0.35:
        return None
    rows, cols = np.ogrid[: shape[0], : shape[1]]
    far = ((cols - middle[0]) / scale - centre[0]) ** 2 / radii[0] ** 2
    far = far + ((rows - middle[1]) / scale - centre[1]) ** 2 / radii[1] ** 2
    return np.asarray(far <= (1 + 0.5 / (min(radii) * scale)) ** 2)  # edge points are the last pixels inside
