"""Optic disc and fovea of a fundus photograph: the reference points for quadrants and distances."""

from __future__ import annotations

from typing import Any, NamedTuple

import cv2
import numpy as np
import numpy.typing as npt
import SimpleITK as sitk
from scipy import ndimage

from medseg.preprocess.field_of_view import Fundus
from medseg.typing import BoolArray, FloatArray

SIDE = 400  # pixels of the downsampled image along its longer side
DISC = (
    0.15  # of the field's width: 1.8 mm of the 12 … 13 mm that a camera of 45 … 50° shows (ETDRS: 1 DD = 1.5 … 1.8 mm)
)
TO_FOVEA = 2.5  # disc diameters from the disc's centre to the fovea (ETDRS: 2.5)
BELOW = 0.25  # disc diameters that the fovea lies below the disc's centre


class Landmarks(NamedTuple):
    """In pixels of the image: centres (x, y) of disc and fovea, and the disc's diameter."""

    disc: tuple[float, float]
    fovea: tuple[float, float]
    diameter: float

    def polar(self, points: FloatArray) -> tuple[FloatArray, FloatArray]:
        """Distance from the fovea in disc diameters (N,), and the angle (N,) in degrees, of points x y (N, 2).

        0° is nasal (towards the disc), 90° superior, 180° temporal, for either eye.
        """
        axis = np.subtract(self.disc, self.fovea)
        axis = axis / max(float(np.hypot(*axis)), 1e-9)
        offset = points - np.asarray(self.fovea)
        along = offset @ axis
        up = np.array([0.0, -1.0]) - axis * (np.array([0.0, -1.0]) @ axis)  # superior, at right angles to the axis
        across = offset @ (up / max(float(np.hypot(*up)), 1e-9))
        return np.hypot(along, across) / self.diameter, np.degrees(np.arctan2(across, along)) % 360


def find_landmarks(image: sitk.Image) -> Landmarks | None:
    """Find disc and fovea of an upright fundus photograph of one eye; None if there is no colour or no visible field.

    The disc is the brightest area with many vessels. The fovea is the darkest spot about 2.5 disc diameters from it
    towards the field's middle, a little below (ETDRS). If the fovea is not in the image, its expected position is
    returned.
    """
    array = sitk.GetArrayViewFromImage(image)
    if array.ndim != 3:
        return None
    factor = SIDE / max(array.shape[:2])
    size = (max(1, round(array.shape[1] * factor)), max(1, round(array.shape[0] * factor)))
    small = cv2.resize(np.asarray(array[..., :3], np.float32), size, interpolation=cv2.INTER_AREA)
    field = _field(image, size)
    width = float(np.ptp(np.flatnonzero(field.any(axis=0)))) + 1 if field.any() else 0.0
    if width < SIDE / 4:
        return None
    diameter = DISC * width
    flat = _flat(small, field, width)  # (Y, X, 3)
    disc = _disc(flat, field, diameter)
    fovea = _fovea(flat[..., 1], field, disc, diameter)
    scale = array.shape[1] / size[0]
    return Landmarks(_scaled(disc, scale), _scaled(fovea, scale), diameter * scale)


def _field(image: sitk.Image, size: tuple[int, int]) -> BoolArray:
    mask = sitk.GetArrayFromImage(Fundus()(image))
    return np.asarray(cv2.resize(mask, size, interpolation=cv2.INTER_NEAREST) > 0)


def _flat(picture: npt.NDArray[np.float32], field: BoolArray, width: float) -> FloatArray:
    """Divide the image (Y, X, 3) by its smoothed background within the field."""
    sigma = 0.12 * width
    weight = ndimage.gaussian_filter(field.astype(np.float64), sigma)
    channels = []
    for channel in np.moveaxis(picture.astype(np.float64), -1, 0):
        mean = ndimage.gaussian_filter(np.where(field, channel, 0), sigma) / np.maximum(weight, 1e-3)
        channels.append(np.where(field, channel / np.maximum(mean, 1e-3), 1.0))
    return np.stack(channels, axis=-1)


def _disc(flat: FloatArray, field: BoolArray, diameter: float) -> tuple[float, float]:
    """(x, y) of the position with the brightest red and green over a disc's area, weighted by vessel density."""
    light = flat[..., :2].mean(axis=-1)
    bright = _over_ring(np.minimum(light, 2.0), diameter)
    green = flat[..., 1].astype(np.float32)
    kernel = cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (2 * round(diameter / 8) + 1,) * 2)
    dark_lines = cv2.morphologyEx(green, cv2.MORPH_BLACKHAT, kernel)
    upright = np.abs(ndimage.sobel(green, axis=1)) * dark_lines  # vessels leave the disc upwards and downwards
    vessels = ndimage.gaussian_filter(
        np.minimum(upright, np.percentile(upright[field], 99)).astype(np.float64), diameter / 3
    )
    inner = ndimage.binary_erosion(field, iterations=max(1, round(diameter / 3)))
    score = np.clip(bright, 0, None) * vessels
    score = np.where(inner if inner.any() else field, score, -np.inf)
    y, x = np.unravel_index(int(np.argmax(score)), score.shape)
    return float(x), float(y)


def _over_ring(light: FloatArray, diameter: float) -> FloatArray:
    """Mean in a disc's area minus the mean in the ring around it, at every pixel."""
    radius = max(2, round(diameter / 2))
    y, x = np.mgrid[-2 * radius : 2 * radius + 1, -2 * radius : 2 * radius + 1]
    distance = np.hypot(y, x)
    disc, ring = (
        (distance <= radius).astype(np.float64),
        ((distance > 1.2 * radius) & (distance <= 2 * radius)).astype(np.float64),
    )
    kernel = disc / disc.sum() - ring / ring.sum()
    return np.asarray(cv2.filter2D(light, cv2.CV_64F, kernel, borderType=cv2.BORDER_REPLICATE))


def _fovea(green: FloatArray, field: BoolArray, disc: tuple[float, float], diameter: float) -> tuple[float, float]:
    """(x, y) of the darkest area a third of a disc wide, among plausible positions of the fovea."""
    columns = np.flatnonzero(field.any(axis=0))
    middle = (columns[0] + columns[-1]) / 2
    side = 1.0 if disc[0] < middle else -1.0
    expected = np.array([disc[0] + side * TO_FOVEA * diameter, disc[1] + BELOW * diameter])
    y, x = np.mgrid[: green.shape[0], : green.shape[1]]
    away = np.hypot(x - expected[0], y - expected[1]) / diameter
    near = (away <= 0.8) & ndimage.binary_erosion(field, iterations=max(1, round(diameter / 3)))
    if not near.any():
        return float(expected[0]), float(expected[1])
    dark = -ndimage.gaussian_filter(np.minimum(green, 1.1), diameter / 5) - 0.05 * away**2
    row, column = np.unravel_index(int(np.argmax(np.where(near, dark, -np.inf))), dark.shape)
    return float(column), float(row)


def _scaled(point: tuple[float, float], factor: float) -> Any:
    return (point[0] + 0.5) * factor - 0.5, (point[1] + 0.5) * factor - 0.5
