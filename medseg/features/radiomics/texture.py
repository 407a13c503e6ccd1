"""Texture inside each label after IBSI (Zwanenburg et al., Radiology 295, 2020; reference manual, arXiv 1612.07003).

Grey levels are `bins` of equal width between the label's extremes, or, for calibrated units such as HU, bins of
`bin_width`. Of a volume the voxels' neighbours in all three axes count (IBSI "3D, merged", IAZD); of one with thick
slices those within a slice, each feature being the mean over the slices ("2D, slice-merged", SUJT). Colour is measured
as its luma (ITU-R BT.601). What is not defined, such as a correlation within one grey level, is NaN.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import SimpleITK as sitk

from medseg.features.radiomics import glcm as cooccurrence
from medseg.features.radiomics import glrlm as runlength
from medseg.features.radiomics import glszm as zones
from medseg.features.radiomics import ngtdm as neighbours
from medseg.features.radiomics.discretization import BINS, GrayLevels, discretize, planes
from medseg.features.regions import Region, crop_regions
from medseg.io.labels import Labels

UNITS: dict[str, str] = cooccurrence.UNITS | runlength.UNITS | zones.UNITS | neighbours.UNITS

THICK = 2.0
"""Slices this many times as thick as a pixel is wide are measured one by one: neighbours across them lie twice as far
off as those beside them, and show another scale of texture."""


def frame_features(
    image: sitk.Image,
    mask: sitk.Image,
    labels: Mapping[str, int] | Labels,
    bins: int = BINS,
    bin_width: float | None = None,
    thick: float = THICK,
) -> dict[str, float]:
    """Features of each label; NaN for fewer than two voxels.

    `bin_width`: of a grey level in the image's unit, instead of `bins`; `thick`: how many times thicker slices are
    measured one by one (0: always, infinity: never).
    """
    return {
        f"{name}.{key}": value
        for name, region in crop_regions(image, mask, labels)
        for key, value in _of_region(region, bins, bin_width, thick).items()
    }


def textures(levels: GrayLevels) -> dict[str, float]:
    """All texture features of one 2D image or volume of levels."""
    return (
        cooccurrence.glcm_features(levels)
        | runlength.glrlm_features(levels)
        | zones.glszm_features(levels)
        | neighbours.ngtdm_features(levels)
    )


def _of_region(region: Region, bins: int, bin_width: float | None, thick: float) -> dict[str, float]:
    if np.count_nonzero(region.inside) < 2:
        return dict.fromkeys(UNITS, np.nan)
    levels = discretize(region.grey, region.inside, bins, bin_width)
    across = int(np.argmax(region.spacing))
    if region.inside.ndim == 2 or region.spacing[across] < thick * min(region.spacing):
        return textures(levels)
    by_slice = [textures(plane) for plane in planes(levels, across)]
    return {key: _mean([each[key] for each in by_slice]) for key in UNITS}


def _mean(values: list[float]) -> float:
    """Mean over the slices where the feature is defined."""
    known = [value for value in values if not np.isnan(value)]
    return float(np.mean(known)) if known else np.nan
