"""The ABCD rule of dermoscopy: its four scores, the features behind them, and eight sectors as a sequence.

Stolz et al., Eur J Dermatol 4, 1994; Nachbar et al., J Am Acad Dermatol 30, 1994. Colour features
exclude hair, rulers and dark corners. All features of an absent or very small lesion are NaN.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal

import numpy as np
import pandas as pd
import SimpleITK as sitk

from medseg.features.dermoscopy import asymmetry, border, structures
from medseg.features.dermoscopy import colours as six_colours
from medseg.features.dermoscopy.asymmetry import asymmetry as fold
from medseg.features.dermoscopy.border import SECTORS, border_profile, sector_cutoffs, sectors
from medseg.features.dermoscopy.border import border as edge
from medseg.features.dermoscopy.colours import REFERENCES, nearest_colour
from medseg.features.dermoscopy.lesion import SIDE, Lesion, check_image, lesions
from medseg.features.dermoscopy.structures import structures as inner
from medseg.io.geometry import from_array
from medseg.io.labels import Labels

WEIGHTS = {"a": 1.3, "b": 0.1, "c": 0.5, "d": 0.5}
SECTOR_UNITS: dict[str, str] = {
    "cutoff": "units of CIE L: median rise of lightness across the border in the sector",
    "radius": "1: mean distance from centroid to border in the sector over the radius of the disc of the same area",
    **{f"d{axis}": f"units of CIE {axis}: mean in the sector minus that of the skin around" for axis in "Lab"},
    "spread": "ΔE (CIE76): root mean square distance from the sector's mean colour",
    **{f"sector_{name}": "0..1: share of the sector's visible part with this colour nearest" for name in REFERENCES},
}
UNITS: dict[str, str] = {
    "tds": "1.0..8.9: total dermoscopy score, 1.3·A + 0.1·B + 0.5·C + 0.5·D; NaN where one of them is",
    **asymmetry.UNITS, **border.UNITS, **six_colours.UNITS, **structures.UNITS, **SECTOR_UNITS,
}  # fmt: skip
OF_CASE = [name for name in UNITS if name not in SECTOR_UNITS]


def frame_features(
    image: sitk.Image,
    mask: sitk.Image,
    labels: Mapping[str, int] | Labels,
    d_mode: Literal["structures", "diameter"] = "structures",
) -> dict[str, float]:
    """Scores and features of each label: ``<label>.a``, ``<label>.tds`` …

    `d_mode`: D is the number of structures, or the diameter in mm; without a scale the diameter is unknown (NaN) and D
    is the number of structures.
    """
    features: dict[str, float] = {}
    for name, lesion in lesions(image, mask, labels):
        values = dict.fromkeys(OF_CASE, np.nan)
        if lesion is not None:
            values |= fold(lesion) | edge(lesion) | six_colours.six_colours(lesion) | inner(lesion, scale_of(image))
            scaled = d_mode == "diameter" and np.isfinite(values["d_diameter"])
            values["d"] = values["d_diameter" if scaled else "d"]
            values["tds"] = float(sum(weight * values[key] for key, weight in WEIGHTS.items()))
        features |= {f"{name}.{key}": float(value) for key, value in values.items()}
    return features


def step_features(image: sitk.Image, mask: sitk.Image, labels: Mapping[str, int] | Labels) -> pd.DataFrame:
    """One row per sector of 45° about the centroid, from the major axis on; position_mm: the sector's middle in
    degrees.
    """
    rows: list[dict[str, float]] = [{"step": k, "position_mm": 360.0 * k / SECTORS} for k in range(SECTORS)]
    for name, lesion in lesions(image, mask, labels):
        sector_rows = of_sectors(lesion) if lesion is not None else [dict.fromkeys(SECTOR_UNITS, np.nan)] * SECTORS
        for row, values in zip(rows, sector_rows, strict=True):
            row |= {f"{name}.{key}": value for key, value in values.items()}
    return pd.DataFrame(rows)


def step_regions(image: sitk.Image, mask: sitk.Image) -> sitk.Image:
    """Label each step: 1 … 8 in the sectors of the labelled region, 0 outside; on the image's grid, UInt16."""
    inside = check_image(image, mask) > 0
    numbers = np.zeros(inside.shape, np.uint16)
    shown = next((lesion for _, lesion in lesions(image, sitk.Cast(mask > 0, sitk.sitkUInt8), {"lesion": 1})), None)
    if shown is not None:
        y, x = np.nonzero(inside)
        sx, sy = image.GetSpacing()[:2]
        angle = np.arctan2((y - y.mean()) * sy, (x - x.mean()) * sx)
        numbers[y, x] = sectors((angle - shown.axis) % (2 * np.pi)) + 1
    return from_array(numbers, image)


def of_sectors(lesion: Lesion) -> list[dict[str, float]]:
    """Features of each sector, NaN if none of it is visible."""
    profile, nearest = border_profile(lesion), nearest_colour(lesion)
    cutoffs = sector_cutoffs(profile)
    y, x = np.nonzero(lesion.visible)
    angle = (np.arctan2(y - lesion.centre[0], x - lesion.centre[1]) - lesion.axis) % (2 * np.pi)
    sector, colours, nearest = sectors(angle), lesion.lab[y, x], nearest[y, x]
    rows = []
    for k in range(SECTORS):
        row = dict.fromkeys(SECTOR_UNITS, np.nan) | {"cutoff": float(cutoffs[k])}
        distance, sector_colours = profile.distance[profile.sector == k], colours[sector == k]
        row["radius"] = float(distance.mean()) if len(distance) else np.nan
        if len(sector_colours):
            mean = sector_colours.mean(axis=0)
            row |= {f"d{a}": float(value) for a, value in zip("Lab", mean - lesion.around, strict=True)}
            row["spread"] = float(np.sqrt(((sector_colours - mean) ** 2).sum(axis=1).mean()))
            row |= {f"sector_{c}": float((nearest[sector == k] == n).mean()) for n, c in enumerate(REFERENCES)}
        rows.append(row)
    return rows


def scale_of(image: sitk.Image) -> float | None:
    """Pixel size of the working grid in mm; None if the spacing is 1, as in files without a scale."""
    spacing = np.asarray(image.GetSpacing())
    if np.allclose(spacing, 1.0):
        return None
    longest = float((np.asarray(image.GetSize()) * spacing).max())
    return float(max(spacing.min(), longest / SIDE))
