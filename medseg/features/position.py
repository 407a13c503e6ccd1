"""Position of a label in the field of view: along each axis, from the middle, the edge and other labels."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import numpy.typing as npt
import SimpleITK as sitk
from scipy import ndimage

from medseg.features.axial import regions
from medseg.io.geometry import require_same_grid
from medseg.io.labels import Labels
from medseg.typing import BoolArray, FloatArray

AIR_LEVEL = 0.1  # of the 99th percentile of a volume: darker voxels are air
MAX_DISTANCE_GRID = 160  # voxels per axis of a volume for distance transforms: larger axes are subsampled

FLAT: dict[str, str] = {
    "place_x": "0..1: centroid from one side of the field to the other: from the left of a 2D image, from the "
    "patient's right in a volume",
    "place_depth": "0..1: centroid from the top of the field to its bottom, so depth below the probe in ultrasound; "
    "from anterior to posterior in a volume",
    "place_side": "0..1: distance of the centroid from the field's middle line over half the width",
    "place_top": "0..1: distance of the label's highest (foremost) point from the top of the field over its height",
    "place_edge": "0..1: shortest distance from the label to the field's edge over its width; 0 where cut off",
    "place_share": "0..1: area or volume of the label over that of the field",
    "place_near": "0..1: shortest distance from the label to another one over the field's width, 0 where they "
    "touch; of several labels",
}
SOLID: dict[str, str] = {"place_height": "0..1: centroid from the field's inferior to its superior end, in a volume"}
UNITS: dict[str, str] = FLAT | SOLID


def frame_features(image: sitk.Image, mask: sitk.Image, labels: Mapping[str, int] | Labels) -> dict[str, float]:
    """Position of each label in a 2D image or a volume; NaN if the label is absent or no field is found.

    `place_near` exists for several labels only, `place_height` for volumes only.

    The field of a 2D image is its nonzero pixels, the field of a volume is everything but air; holes are filled.
    Raises `ImageError` (grid-mismatch) if the mask does not fit the image.
    """
    require_same_grid(image, mask)
    if image.GetDimension() == 3:
        image, mask = sitk.DICOMOrient(image, "LPS"), sitk.DICOMOrient(mask, "LPS")
    values = sitk.GetArrayViewFromImage(image)
    if image.GetNumberOfComponentsPerPixel() > 1:
        values = values.mean(axis=-1)
    field = lit(values) if values.ndim == 3 else np.asarray(ndimage.binary_fill_holes(values > 0))
    spacing = np.asarray(image.GetSpacing()[::-1])
    return places(dict(regions(sitk.GetArrayViewFromImage(mask), labels)), field, spacing)


def places(masks: Mapping[str, BoolArray], field: BoolArray, spacing: FloatArray) -> dict[str, float]:
    """Position of each mask ([Z,] Y, X) in a field of that shape; spacing ([z,] y, x) in mm. NaN for an empty mask."""
    features: dict[str, float] = {}
    keys = [key for key in UNITS if field.ndim == 3 or key in FLAT]
    keys = [key for key in keys if len(masks) > 1 or key != "place_near"]
    for name, inside in masks.items():
        label_features = dict.fromkeys(keys, np.nan)
        if inside.any() and field.any():
            others = np.any([mask for other, mask in masks.items() if other != name] or [np.zeros_like(inside)], axis=0)
            label_features |= _along(inside, field) | _distances(inside, field, others, spacing)
        features |= {f"{name}.{key}": label_features[key] for key in keys}
    return features


def lit(values: npt.NDArray[Any]) -> BoolArray:
    """Return everything but air in a volume or a slice ([Z,] Y, X), holes filled slice by slice."""
    bright, dark = float(np.percentile(values, 99)), float(values.min())
    above_threshold = values > dark + AIR_LEVEL * (bright - dark) if bright > dark else np.zeros(values.shape, bool)
    planes = above_threshold.reshape(-1, *above_threshold.shape[-2:])
    return np.stack([ndimage.binary_fill_holes(plane) for plane in planes]).reshape(above_threshold.shape)


def _along(inside: BoolArray, field: BoolArray) -> dict[str, float]:
    """Position along each axis of the field's bounding box, and the fraction of the field."""
    features = {"place_share": float(inside.sum() / field.sum())}
    centre = ndimage.center_of_mass(inside)
    for key, axis in (("place_x", -1), ("place_depth", -2), ("place_height", -3))[: inside.ndim]:
        others = tuple(k for k in range(inside.ndim) if k != inside.ndim + axis)
        field_line, label_line = np.flatnonzero(field.any(axis=others)), np.flatnonzero(inside.any(axis=others))
        length = float(np.ptp(field_line)) + 1
        features[key] = float((centre[axis] - field_line[0]) / length)
        if key == "place_depth":
            features["place_top"] = float((label_line[0] - field_line[0]) / length)
    features["place_side"] = abs(features["place_x"] - 0.5) * 2
    return features


def _distances(inside: BoolArray, field: BoolArray, others: BoolArray, spacing: FloatArray) -> dict[str, float]:
    """Shortest distance from a label to the field's edge and to another label, over the field's width."""
    if inside.ndim == 3:  # a coarser grid gives nearly the same distances in a fraction of time and memory
        steps = [max(1, round(length / MAX_DISTANCE_GRID)) for length in inside.shape]
        thin = tuple(slice(None, None, step) for step in steps)
        first = np.unravel_index(int(inside.argmax()), inside.shape)
        spot = tuple(int(index) // step for index, step in zip(first, steps, strict=True))
        inside, field, others, spacing = inside[thin].copy(), field[thin], others[thin], spacing * steps
        inside[spot] = True  # a small label may fall between the sampled voxels
    columns = np.flatnonzero(field.any(axis=tuple(range(field.ndim - 1))))
    width = (float(np.ptp(columns)) + 1) * spacing[-1] if len(columns) else np.nan
    features = {"place_edge": _gap(inside, field, spacing, beyond=False) / width, "place_near": np.nan}
    if others.any():
        features["place_near"] = _gap(inside, ~others, spacing, beyond=True) / width
    return features


def _gap(inside: BoolArray, free: BoolArray, spacing: FloatArray, beyond: bool) -> float:
    """Shortest distance in mm from a label to voxels that are not `free`, 0 if they share a face.

    beyond: whether voxels outside the arrays ([Z,] Y, X) count as free.
    """
    inner = ndimage.binary_erosion(free, border_value=int(beyond))  # what is not free, grown by a voxel, is left out
    return float(ndimage.distance_transform_edt(inner, sampling=tuple(spacing))[inside].min())
