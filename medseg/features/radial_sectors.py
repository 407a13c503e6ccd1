"""Features of a label in a 2D image in eight radial sectors (steps of a sequence), and its position in the field."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import numpy.typing as npt
import pandas as pd
import SimpleITK as sitk
from scipy import ndimage

from medseg.errors import ImageError
from medseg.features import position
from medseg.features.axial import regions
from medseg.io.geometry import from_array, require_same_grid
from medseg.io.labels import Labels
from medseg.typing import BoolArray, FloatArray

SECTORS = 8
RIM = 0.25  # of the radius of the disc of the same area: width of the bands inside and outside the border
BEHIND = 1.0  # of that radius: how far below a label its shadow or enhancement is looked at

UNITS: dict[str, str] = {
    **position.FLAT,
    "behind": "1: mean of what lies below the label, as wide and one radius deep, minus that of the label's height on "
    "both sides, over the field's mean: negative is a shadow, positive enhancement",
    "radius": "1: mean distance from centroid to border in the sector over the radius of the disc of the same area",
    "roughness": "1: standard deviation of the same in the sector",
    "rim_step": "1: mean outside minus mean inside the border in the sector over the field's mean",
    "rim_sharpness": "1: mean gradient magnitude on the border in the sector, a pixel of radius, over the field's mean",
    "inside": "1: mean inside the label in the sector over the field's mean",
    "grain": "1: standard deviation inside the label in the sector over the field's mean",
}


def frame_features(image: sitk.Image, mask: sitk.Image, labels: Mapping[str, int] | Labels) -> dict[str, float]:
    """Position of each label in the field, and the brightness behind it; NaN if the label is absent."""
    grey, coded, field = _arrays(image, mask)
    masks = dict(regions(coded, labels))
    features = position.places(masks, field, np.asarray(image.GetSpacing()[::-1]))
    for name, inside in masks.items():
        features[f"{name}.behind"] = _behind(grey, inside, field) if inside.any() and field.any() else np.nan
    return features


def step_features(image: sitk.Image, mask: sitk.Image, labels: Mapping[str, int] | Labels) -> pd.DataFrame:
    """One row per sector of 45° about the centroid, clockwise from the right; position_mm: its middle in degrees."""
    grey, coded, field = _arrays(image, mask)
    level = float(grey[field].mean()) if field.any() else np.nan
    rows: list[dict[str, float]] = [{"step": k, "position_mm": 360.0 * k / SECTORS} for k in range(SECTORS)]
    for name, inside in regions(coded, labels):
        blank = dict.fromkeys(list(UNITS)[-6:], np.nan)
        sector_rows = _sectors(grey / level, inside, field) if inside.any() and level > 0 else [blank] * SECTORS
        for row, values in zip(rows, sector_rows, strict=True):
            row |= {f"{name}.{key}": value for key, value in values.items()}
    return pd.DataFrame(rows)


def step_regions(image: sitk.Image, mask: sitk.Image) -> sitk.Image:
    """Label each step: 1 … 8 in the sectors of the labelled region, 0 outside; on the image's grid, UInt16."""
    _, coded, _ = _arrays(image, mask)
    inside = coded > 0
    numbers = np.zeros(inside.shape, np.uint16)
    if inside.any():
        y, x = np.nonzero(inside)
        numbers[y, x] = _sector(np.arctan2(y - y.mean(), x - x.mean())) + 1
    return from_array(numbers, image)


def _sector(angle: FloatArray) -> npt.NDArray[np.int64]:
    """Number 0 … 7 of each angle's sector; sector 0 is centred on the x axis."""
    return np.asarray(np.floor((angle / (2 * np.pi) * SECTORS + 0.5) % SECTORS).astype(np.int64))


def _arrays(image: sitk.Image, mask: sitk.Image) -> tuple[FloatArray, npt.NDArray[np.uint8], BoolArray]:
    """Grey values (Y, X), coded mask (Y, X) and the field (Y, X): nonzero pixels, holes filled."""
    if image.GetDimension() != 2 or mask.GetDimension() != 2:
        raise ImageError("sector features need a 2D image, got a volume; choose other features", code="not-a-picture")
    require_same_grid(image, mask)
    values = sitk.GetArrayFromImage(image).astype(np.float64)
    grey = values.mean(axis=-1) if values.ndim == 3 else values
    return grey, sitk.GetArrayFromImage(mask), np.asarray(ndimage.binary_fill_holes(grey > 0))


def _sectors(grey: FloatArray, inside: BoolArray, field: BoolArray) -> list[dict[str, float]]:
    radius = float(np.sqrt(inside.sum() / np.pi))
    centre = np.argwhere(inside).mean(axis=0)
    y, x = np.mgrid[: inside.shape[0], : inside.shape[1]]
    distance = np.hypot(y - centre[0], x - centre[1]) / radius
    angle = np.arctan2(y - centre[0], x - centre[1])
    sector = _sector(angle)
    depth = ndimage.distance_transform_edt(inside) - ndimage.distance_transform_edt(~inside)
    within, without = (field & (sign * depth > 0) & (np.abs(depth) <= RIM * radius + 1) for sign in (1, -1))
    border = inside & (depth <= 1)
    slope = ndimage.gaussian_gradient_magnitude(grey, max(1.0, 0.05 * radius)) * radius
    rows = []
    for k in range(SECTORS):
        in_sector = sector == k
        rows.append(
            {
                "radius": _mean(distance, border & in_sector),
                "roughness": float(distance[border & in_sector].std()) if (border & in_sector).any() else np.nan,
                "rim_step": _mean(grey, without & in_sector) - _mean(grey, within & in_sector),
                "rim_sharpness": _mean(slope, border & in_sector),
                "inside": _mean(grey, inside & in_sector),
                "grain": float(grey[inside & in_sector].std()) if (inside & in_sector).any() else np.nan,
            }
        )
    return rows


def _behind(grey: FloatArray, inside: BoolArray, field: BoolArray) -> float:
    """Mean brightness below the label minus beside it at the same depth, over the field's mean."""
    y, x = np.nonzero(inside)
    radius, bottom = np.sqrt(inside.sum() / np.pi), y.max() + 1
    left, right, low = x.min(), x.max() + 1, min(len(grey), round(bottom + BEHIND * radius))
    band = field.copy()
    band[:bottom] = band[low:] = False
    under = band.copy()
    under[:, :left] = under[:, right:] = False
    beside = band & ~under
    level = grey[field].mean()
    return float((_mean(grey, under) - _mean(grey, beside)) / level) if level > 0 else np.nan


def _mean(values: FloatArray, where: BoolArray) -> float:
    return float(values[where].mean()) if where.any() else np.nan
