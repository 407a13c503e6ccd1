"""Lesions drawn by hand, whose measures are known: colours on a disc, an ellipse, any region."""

from __future__ import annotations

import numpy as np
import SimpleITK as sitk

from medseg.features.dermoscopy.colours import REFERENCES
from medseg.features.dermoscopy.lesion import Lesion, lesions
from medseg.typing import BoolArray, FloatArray

Colour = tuple[int, int, int]
SKIN = (224, 186, 164)
BROWN = REFERENCES["light_brown"]
SIZE = 240
RADIUS = 70
Y, X = np.mgrid[:SIZE, :SIZE] - (SIZE - 1) / 2
R, ANGLE = np.hypot(Y, X), np.arctan2(Y, X)
DISC: BoolArray = R < RADIUS


def colours(inside: BoolArray, *patches: tuple[BoolArray, Colour]) -> FloatArray:
    """Brown inside, skin around, then the patches in order where they lie inside, (Y, X, 3) of 0..255."""
    values = np.where(inside[..., None], np.array(BROWN), np.array(SKIN)).astype(float)
    for where, colour in patches:
        values[where & inside] = colour
    return values


def picture(values: FloatArray, noise: float = 0.0) -> sitk.Image:
    """RGB image of colours (Y, X, 3) of 0..255, with grain of this standard deviation."""
    noisy = values + np.random.default_rng(0).normal(0, 1, values.shape) * noise
    return sitk.GetImageFromArray(np.clip(np.rint(noisy), 0, 255).astype(np.uint8), isVector=True)


def mask_of(inside: BoolArray) -> sitk.Image:
    """Mask with label 1."""
    return sitk.GetImageFromArray(inside.astype(np.uint8))


def view(values: FloatArray, inside: BoolArray = DISC) -> Lesion:
    """The lesion that is drawn, as the measures see it."""
    ((_, lesion),) = lesions(picture(values), mask_of(inside), {"m": 1})
    assert lesion is not None
    return lesion


def spots(count: int, across: float, far: float = 0.5) -> BoolArray:
    """Round spots on a circle about the middle; sizes and distance as shares of the radius."""
    mask = np.zeros_like(DISC)
    for turn in np.arange(count) * 2 * np.pi / count + 0.3:
        mask |= np.hypot(Y - far * RADIUS * np.sin(turn), X - far * RADIUS * np.cos(turn)) <= across * RADIUS / 2
    return mask


def spokes(count: int, wide: float, start: float = 0.7, end: float = 1.0) -> BoolArray:
    """Lines that run outwards, `wide` pixels, between two distances from the middle as shares of the radius."""
    mask = np.zeros_like(DISC)
    for turn in np.arange(count) * 2 * np.pi / count + 0.2:
        along, across = X * np.cos(turn) + Y * np.sin(turn), Y * np.cos(turn) - X * np.sin(turn)
        mask |= (along > start * RADIUS) & (along < end * RADIUS) & (np.abs(across) < wide / 2)
    return mask


def meshes(apart: float = 0.2, hole: float = 0.065) -> BoolArray:
    """A network: all but round holes in rows set off by half, as shares of the radius."""
    holes = np.zeros_like(DISC)
    for row in range(-8, 9):
        for column in range(-8, 9):
            y, x = row * apart * np.sqrt(0.75), (column + 0.5 * (row % 2)) * apart
            holes |= np.hypot(Y - y * RADIUS, X - x * RADIUS) < hole * RADIUS
    return ~holes
