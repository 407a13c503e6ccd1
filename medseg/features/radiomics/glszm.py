"""How large zones of one grey level are, and how near to the label's border: size zone and distance zone matrices.

A zone is what hangs together by faces, edges or corners at one grey level (Thibault et al. 2009, 2014; IBSI 9SAK,
VMDZ). Its distance is the least of its voxels', counted in steps through faces from outside the label, 1 at the border.
"""

from __future__ import annotations

import numpy as np
from scipy import ndimage
from skimage import measure

from medseg.features.radiomics.discretization import GrayLevels
from medseg.features.radiomics.emphasis import Elements, emphasis, units
from medseg.typing import AnyArray

UNITS: dict[str, str] = units(
    "glszm",
    "voxels of the zone; the greatest number is voxels",
    "P001 48P8 XMSY 5GN9 5RAI HW1V YH51 J17V JNSA Y1RO 4JP3 VB3A P30P BYLV 3NSA GU8N",
) | units(
    "gldzm",
    "steps from the zone to outside the label; the greatest number is voxels",
    "0GBI MB4I S1RA K26C RUVG DKNJ A7WM KLTH VFT7 7HP3 V294 IATH VIWW QK93 7WT1 GBDU",
)


def glszm_features(levels: GrayLevels) -> dict[str, float]:
    """Features of the zones by size and by distance."""
    numbers: AnyArray = measure.label(levels.array, background=0, connectivity=levels.array.ndim)
    inside = levels.array > 0
    number, level = numbers[inside] - 1, levels.array[inside]  # (V,)
    size = np.bincount(number)
    of_zone = np.zeros(size.size, np.int64)
    of_zone[number] = level
    steps = ndimage.distance_transform_cdt(np.pad(inside, 1), "taxicab")
    distance = np.full(size.size, np.iinfo(np.int32).max, np.int32)
    np.minimum.at(distance, number, steps[(slice(1, -1),) * inside.ndim][inside].astype(np.int32))
    by_size, by_distance = (Elements(of_zone, sizes, level.size) for sizes in (size, distance))
    return emphasis("glszm", by_size) | emphasis("gldzm", by_distance)
