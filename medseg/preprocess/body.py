"""The body in CT slices: what air and padding do not reach, also where lungs are open to the image's edge."""

from __future__ import annotations

from typing import NamedTuple

import cv2
import numpy as np
from skimage.filters import threshold_otsu

from medseg.preprocess.foreground import fill_slices, largest
from medseg.typing import BoolArray, Float32Array

RADIUS = 2  # pixels of the thumbnail, about 5 mm: couches and tubes are thinner
LUNG = 0.07  # of the way from air to tissue: air is below, lung (−930 to −500 HU) above
CROSS = cv2.getStructuringElement(cv2.MORPH_CROSS, (3, 3))
MIN_LUNG = 30  # pixels: smaller dark areas at the edge count as air


class Levels(NamedTuple):
    """Values of an image: tissue is above `tissue`, lung above `lung`, padding below `padding`."""

    tissue: float
    lung: float
    padding: float


def levels(values: Float32Array, tissue_hu: float) -> Levels:
    """Levels of a CT in HU, which has values below −200, or in another unit (windowed, 8 bits), by Otsu's method."""
    if values.min() < -200:
        return Levels(tissue_hu, -1000.0 + LUNG * 1000.0, -1150.0)  # air of noisy scans reaches −1150 in single pixels
    cut = float(threshold_otsu(values)) if values.min() < values.max() else float(values.min())
    low, high = float(values.min()), float(np.median(values[values >= cut]))
    return Levels(cut, low + LUNG * (high - low), -np.inf)


def body(values: Float32Array, constant: BoolArray, level: Levels) -> BoolArray:
    """The body of CT slices (Y, X) or (Z, Y, X): connected, without couch, filled; empty if there is none.

    `constant`: voxels equal to the value that fills the image's corners.
    """
    planes = values.reshape(-1, *values.shape[-2:])  # (Z, Y, X)
    marked = constant.reshape(planes.shape)
    inside = np.stack([_opened(_inside(one, fill, level)) for one, fill in zip(planes, marked, strict=True)])
    return fill_slices(largest(inside)).reshape(values.shape)


def _opened(mask: BoolArray) -> BoolArray:
    """Opening of a mask (Y, X) by a diamond; a body at the edge stays whole."""
    wide = np.pad(mask.astype(np.uint8), RADIUS, mode="edge")
    opened = cv2.morphologyEx(wide, cv2.MORPH_OPEN, CROSS, iterations=RADIUS)
    return np.asarray(opened[RADIUS:-RADIUS, RADIUS:-RADIUS] > 0)


def _inside(values: Float32Array, constant: BoolArray, level: Levels) -> BoolArray:
    """A slice (Y, X) without the air and padding that reach its edge.

    A dark area that reaches the edge, or the padding, is air if its median is below that of lungs: a lung in a crop
    is open to the edge, and one at the border of a circular field to its padding.
    """
    # a gap of one or two pixels in a thin chest wall is closed
    tissue = cv2.morphologyEx((values > level.tissue).astype(np.uint8), cv2.MORPH_CLOSE, CROSS) > 0
    padding = _at_edge(~tissue & (constant | (values < level.padding)))
    count, areas, stats, _ = cv2.connectedComponentsWithStats((~tissue & ~padding).astype(np.uint8), connectivity=4)
    if count == 1:
        return ~padding
    beside = cv2.dilate(padding.astype(np.uint8), CROSS) > 0
    beside[0], beside[-1], beside[:, 0], beside[:, -1] = True, True, True, True
    outside = np.zeros(count, bool)
    for number in np.setdiff1d(np.unique(areas[beside]), [0]):
        small = stats[number, cv2.CC_STAT_AREA] < MIN_LUNG
        outside[number] = small or np.median(values[areas == number]) < level.lung
    return ~(padding | outside[areas])


def _at_edge(mask: BoolArray) -> BoolArray:
    """The connected components of a mask (Y, X) at the edge of the image."""
    count, areas = cv2.connectedComponents(mask.astype(np.uint8), connectivity=4)
    touching = np.zeros(count, bool)
    touching[np.concatenate([areas[0], areas[-1], areas[:, 0], areas[:, -1]])] = True
    touching[0] = False
    return np.asarray(touching[areas])
