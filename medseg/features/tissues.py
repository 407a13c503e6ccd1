"""Tissues of a head or a slice of it: fractions, contrast, position, and left-right asymmetry."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import numpy.typing as npt
import SimpleITK as sitk
from scipy import ndimage

from medseg.errors import ImageError
from medseg.features.axial import regions
from medseg.features.position import lit
from medseg.io.labels import Labels
from medseg.typing import BoolArray, FloatArray

BRIGHT_ZSCORE = 2.0  # standard deviations above the mean of the field
MAX_MIDLINE_SHIFT = 0.12  # of the field's width: the search range of the midline

UNITS: dict[str, str] = {
    "size": "mL in a volume, mm² in a slice: voxels of the label × voxel size",
    "share": "of the field's voxels that the label has, 0 … 1",
    "pieces": "connected pieces (corners touching) of at least 1 % of the label's voxels",
    "brightness": "mean inside the label, in standard deviations above the field's mean; NaN where absent",
    "contrast": "brightness less that of the field without the label; NaN where absent",
    "unevenness": "standard deviation inside the label over the field's; NaN where absent",
    "lateral": "−1 … 1: the label's centre from the field's middle towards the patient's left; NaN where absent",
    "anterior": "−1 … 1: likewise towards anterior; NaN where absent",
    "field_size": "mL or mm²: the lit part of the image, holes filled",
    "field_bright_share": "of the field brighter than its mean by two standard deviations, 0 … 1",
    "field_asymmetry": "mean |left − right mirrored| about the field's middle, in standard deviations of the field",
    "field_skewness": "of the values in the field: a bright lesion makes it larger",
    "midline_shift_mm": "mm towards the patient's left by which the inner half of the field is off the field's middle",
}


def frame_features(image: sitk.Image, mask: sitk.Image, labels: Mapping[str, int] | Labels) -> dict[str, float]:
    """Features of each label and of the field, for a volume or one axial slice (grey, axes along the patient's).

    Raises `ImageError` (not-grey) for colour.
    """
    if image.GetNumberOfComponentsPerPixel() > 1:
        raise ImageError(
            f"these features need a grey image, got {image.GetNumberOfComponentsPerPixel()} channels", code="not-grey"
        )
    if image.GetDimension() == 3:
        image, mask = sitk.DICOMOrient(image, "LPS"), sitk.DICOMOrient(mask, "LPS")
    values = sitk.GetArrayViewFromImage(image).astype(np.float64)  # ([Z,] Y, X): x to the left, y to posterior
    unit = float(np.prod(image.GetSpacing())) / (1000 if image.GetDimension() == 3 else 1)
    field = lit(values)
    level, spread = (float(values[field].mean()), float(values[field].std())) if field.any() else (0.0, 0.0)
    relative = (values - level) / spread if spread > 0 else np.zeros_like(values)
    features = _of_field(relative, field, unit, image.GetSpacing()[0])
    for name, inside in regions(sitk.GetArrayViewFromImage(mask), labels):
        features |= {f"{name}.{key}": value for key, value in _of_label(inside, relative, field, unit).items()}
    return features


def _of_field(relative: FloatArray, field: BoolArray, unit: float, step_mm: float) -> dict[str, float]:
    features = {"field.field_size": float(field.sum()) * unit}
    if field.sum() < 16:
        blank = ("field_bright_share", "field_asymmetry", "field_skewness", "midline_shift_mm")
        return features | {f"field.{key}": np.nan for key in blank}
    inside = relative[field]
    features["field.field_bright_share"] = float((inside > BRIGHT_ZSCORE).mean())
    features["field.field_skewness"] = float((inside**3).mean())
    columns = np.flatnonzero(field.reshape(-1, field.shape[-1]).any(axis=0))
    middle = (columns[0] + columns[-1]) / 2
    smooth = ndimage.gaussian_filter(np.where(field, relative, 0.0), [0] * (field.ndim - 2) + [1.0, 1.0])
    mirrored, mirrored_field = _mirrored(smooth, middle), _mirrored(field.astype(np.float64), middle) > 0.5
    both = field & mirrored_field
    features["field.field_asymmetry"] = float(np.abs(smooth - mirrored)[both].mean()) if both.any() else np.nan
    features["field.midline_shift_mm"] = _shift(smooth, field, columns) * step_mm
    return features


def _mirrored(values: FloatArray, middle: float) -> FloatArray:
    """Mirror values left to right about column `middle`; 0 beyond the edge."""
    columns = np.round(2 * middle - np.arange(values.shape[-1])).astype(int)
    known = (columns >= 0) & (columns < values.shape[-1])
    out = np.zeros_like(values)
    out[..., known] = values[..., columns[known]]
    return out


def _shift(smooth: FloatArray, field: BoolArray, columns: npt.NDArray[np.intp]) -> float:
    """Distance in columns of the best mirror line of the field's inner half from its middle."""
    middle, width = (columns[0] + columns[-1]) / 2, columns[-1] - columns[0] + 1
    inner = np.abs(np.arange(field.shape[-1]) - middle) <= width / 4
    inner_field = field & inner
    if inner_field.sum() < 16:
        return float("nan")
    best, shift = np.inf, 0.0
    steps = np.arange(0, MAX_MIDLINE_SHIFT * width + 0.5, 0.5)
    for offset in sorted([*steps, *-steps[1:]], key=abs):  # of equally good ones the nearest to the middle
        difference = float(np.abs(smooth - _mirrored(smooth, middle + offset))[inner_field].mean())
        if difference < best - 1e-9:
            best, shift = difference, float(offset)
    return shift


def _of_label(inside: BoolArray, relative: FloatArray, field: BoolArray, unit: float) -> dict[str, float]:
    count = int(inside.sum())
    features = {"size": count * unit, "share": count / max(int(field.sum()), 1)}
    if not count:
        blank = ("brightness", "contrast", "unevenness", "lateral", "anterior")
        return features | {"pieces": 0.0} | dict.fromkeys(blank, np.nan)
    numbers, _ = ndimage.label(inside, np.ones((3,) * inside.ndim))
    features["pieces"] = float((np.bincount(numbers.ravel())[1:] >= max(1.0, 0.01 * count)).sum())
    background = field & ~inside
    features["brightness"] = float(relative[inside].mean())
    features["contrast"] = features["brightness"] - (float(relative[background].mean()) if background.any() else 0.0)
    features["unevenness"] = float(relative[inside].std())
    whole = field | inside
    for name, axis, sign in (("lateral", -1, 1.0), ("anterior", -2, -1.0)):
        others = tuple(n for n in range(inside.ndim) if n != inside.ndim + axis)
        line = np.flatnonzero(whole.any(axis=others))
        middle, half = (line[0] + line[-1]) / 2, (line[-1] - line[0] + 1) / 2
        centre = float(np.nonzero(inside)[inside.ndim + axis].mean())
        features[name] = sign * (centre - middle) / half
    return features
