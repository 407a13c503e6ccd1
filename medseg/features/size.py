"""Size and position of each label: volume, area slice by slice, centroid."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import pandas as pd
import SimpleITK as sitk

from medseg.features.axial import axial, regions, table

UNITS: dict[str, str] = {
    "volume_ml": "mL: number of voxels of the label × voxel volume; 0 where the label is absent",
    "centroid_x_mm": "mm: mean physical x (LPS, towards the patient's left) of the label's voxels",
    "centroid_y_mm": "mm: mean physical y (LPS, towards posterior)",
    "centroid_z_mm": "mm: mean physical z (LPS, towards superior)",
    "area_mm2": "mm²: area of the label in one axial slice; 0 where the label is absent",
}


def frame_features(image: sitk.Image, mask: sitk.Image, labels: Mapping[str, int]) -> dict[str, float]:
    """Volume in mL and centroid in mm of each label; an absent label has volume 0 and no centroid (NaN)."""
    volume = axial(image, mask)
    features: dict[str, float] = {}
    for name, inside in regions(volume.mask, labels):
        features[f"{name}.volume_ml"] = float(inside.sum()) * volume.voxel_ml
        centroid = (np.nan, np.nan, np.nan)
        if inside.any():
            z, y, x = (float(where.mean()) for where in np.nonzero(inside))
            centroid = volume.reference.TransformContinuousIndexToPhysicalPoint((x, y, z))
        features |= {f"{name}.centroid_{axis}_mm": float(v) for axis, v in zip("xyz", centroid, strict=True)}
    return features


def step_features(image: sitk.Image, mask: sitk.Image, labels: Mapping[str, int]) -> pd.DataFrame:
    """Area of each label in mm², one row per axial slice."""
    volume = axial(image, mask)
    return table(volume, labels, lambda inside, _: {"area_mm2": float(inside.sum()) * volume.pixel_mm2})
