"""Otsu's threshold (1979): the baseline for all other segmenters."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
from scipy import ndimage
from skimage.filters import threshold_multiotsu, threshold_otsu

from medseg.errors import ImageError
from medseg.segmentation.classical.base import Appearance, Classical, Field, Scene, central_component, grown
from medseg.typing import BoolArray


class Otsu(Classical):
    """Pixels of the field below the threshold; in a 2D image opened, the central component, dilated.

    `opening` is a fraction of the image's width; for `centre` and `grow` see `central_component` and `grown`.
    """

    def __init__(
        self, intensity_rank: Appearance | None, field: Field | None = None, classical_unsupported_reason: str = "",
        opening: float = 0.01, centre: float = 0.5, grow: float = 0.03,
    ) -> None:  # fmt: skip
        super().__init__(intensity_rank, field, classical_unsupported_reason)
        self.opening, self.centre, self.grow = opening, centre, grow

    def region(self, scene: Scene) -> BoolArray:
        """Dark pixels of the field (Z, Y, X)."""
        dark = (scene.value < threshold(scene)) & scene.field
        return self.tidy(dark, scene)

    def tidy(self, dark: BoolArray, scene: Scene) -> BoolArray:
        """One solid component of a 2D image, slightly dilated; all components of a volume."""
        if len(dark) > 1 or len(self.intensity_rank) > 1:
            return np.asarray(ndimage.binary_opening(dark))
        steps = max(1, round(self.opening * dark.shape[2]))
        opened = ndimage.binary_opening(dark[0], iterations=steps)
        component = central_component(opened if opened.any() else dark[0], self.centre)
        return np.asarray((grown(component, self.grow) & scene.field[0])[None])

    def tissues(self, scene: Scene, count: int) -> npt.NDArray[np.int64]:
        """Several thresholds at once (Liao et al. 2001) inside the field."""
        limits = thresholds(scene.value[scene.field], count)
        return np.asarray(np.where(scene.field, np.digitize(scene.value, limits) + 1, 0))


def thresholds(values: npt.NDArray[np.floating], count: int) -> npt.NDArray[np.float64]:
    """The `count` − 1 limits between classes of `values` (N,); ImageError (image-levels) where fewer values differ."""
    try:
        return np.asarray(threshold_multiotsu(values, classes=count, nbins=128), np.float64)
    except ValueError as error:  # too few values, or too close to each other to be counted apart
        raise ImageError(
            f"shows too few levels of brightness to tell {count} tissues apart: {len(np.unique(values))} from "
            f"{values.min():.3g} to {values.max():.3g} in its field; is it blank, or a mask? look at it",
            code="image-levels",
        ) from error


def threshold(scene: Scene) -> float:
    """Otsu's threshold inside the field; a constant scene gives its value, below which nothing lies."""
    inside = scene.value[scene.field]
    return float(threshold_otsu(inside)) if np.ptp(inside) > 1e-6 else float(inside.min())
