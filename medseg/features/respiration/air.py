"""Air inside each label of a CT in Hounsfield units.

A voxel of HU between −1000 (air) and 0 (water) holds the fraction −HU/1000 of air, as accepted for breathing
surrogates in 4DCT (Lu et al., Med Phys 33, 2006).
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import pandas as pd
import SimpleITK as sitk

from medseg.features.axial import axial, regions, table
from medseg.typing import AnyArray

UNITS: dict[str, str] = {
    "mean_hu": "HU: mean over the label; NaN where the label is absent",
    "air_fraction": "0..1: mean of −HU/1000 clipped to 0..1 over the label; NaN where the label is absent",
    "air_ml": "mL: air_fraction × volume of the label (of its part in the slice, in a table of slices); 0 where absent",
}


def frame_features(image: sitk.Image, mask: sitk.Image, labels: Mapping[str, int]) -> dict[str, float]:
    """Mean HU, air fraction and air volume in mL of each label."""
    volume = axial(image, mask)
    return {
        f"{name}.{key}": value
        for name, inside in regions(volume.mask, labels)
        for key, value in _measure(volume.values[inside], volume.voxel_ml).items()
    }


def step_features(image: sitk.Image, mask: sitk.Image, labels: Mapping[str, int]) -> pd.DataFrame:
    """The same features, one row per axial slice."""
    volume = axial(image, mask)
    return table(volume, labels, lambda inside, k: _measure(volume.values[k][inside], volume.voxel_ml))


def _measure(hu: AnyArray, voxel_ml: float) -> dict[str, float]:
    """Features of the voxels `hu`, (N,) HU."""
    if hu.size == 0:
        return {"mean_hu": np.nan, "air_fraction": np.nan, "air_ml": 0.0}
    air = np.clip(-hu / 1000, 0, 1)
    return {"mean_hu": float(hu.mean()), "air_fraction": float(air.mean()), "air_ml": float(air.sum()) * voxel_ml}
