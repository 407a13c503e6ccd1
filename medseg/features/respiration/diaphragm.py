"""Height of the dome under each label, in mm.

The surface under a label is, in each column of voxels along the body axis, the lower face of the label's lowest
voxel. The dome is the cranial end of that surface: where a diaphragm bulges highest into a lung. Columns through the
label's rim and apex, or over the heart, are short and end high without a diaphragm under them, so only tall columns
count; and the mean over the highest quarter of these, a few mm below the very top, follows motion more smoothly than
a single column.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import SimpleITK as sitk

from medseg.features.axial import AxialVolume, axial, regions
from medseg.typing import AnyArray

UNITS: dict[str, str] = {
    "dome_mm": "mm: physical z (LPS, towards superior) of the dome of the label's inferior surface; NaN where absent",
    "apex_to_dome_mm": "mm: top of the label minus dome_mm, free of where the table stood; NaN where absent",
}

TALL = 0.8
"""Columns at least this fraction of the tallest (99th percentile) take part. On simulated breathing of five real chests
the dome followed the trace with r ≥ .98; at 0.7 it jumped to the heart in one left lung (r .94)."""
HIGHEST = 0.25
"""This fraction of the tall columns makes the dome; at 0.1 it jumped by whole slices."""


def frame_features(image: sitk.Image, mask: sitk.Image, labels: Mapping[str, int]) -> dict[str, float]:
    """Height of the dome under each label, and the distance from it to the label's top."""
    volume = axial(image, mask)
    features = {}
    for name, inside in regions(volume.mask, labels):
        dome, top = _dome_and_top(inside, volume) if inside.any() else (np.nan, np.nan)
        features[f"{name}.dome_mm"] = dome
        features[f"{name}.apex_to_dome_mm"] = top - dome
    return features


def _dome_and_top(inside: AnyArray, volume: AxialVolume) -> tuple[float, float]:
    """Heights in mm of the dome and of the top of one label, (Z, Y, X) bool."""
    columns = inside[:, inside.any(axis=0)]  # (Z, N)
    lowest = columns.argmax(axis=0)
    highest = len(columns) - 1 - columns[::-1].argmax(axis=0)
    extent = highest - lowest + 1
    floor = np.sort(lowest[extent >= TALL * np.percentile(extent, 99)])
    count = max(1, round(HIGHEST * len(floor)))
    half = volume.spacing[0] / 2
    dome = float(volume.heights[floor[-count:]].mean()) - half
    return dome, float(volume.heights[highest.max()]) + half
