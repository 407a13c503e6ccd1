"""Watershed from markers (Meyer 1994): flooding of the gradient from what is surely inside and surely outside."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
from scipy import ndimage
from skimage.segmentation import watershed

from medseg.segmentation.classical.base import Scene
from medseg.segmentation.classical.otsu import Otsu, threshold
from medseg.typing import BoolArray


class Watershed(Otsu):
    """Inside: the core of what Otsu finds, darker than its median. Outside: what is brighter than most of the surround,
    and the field's rim. Gradients of width `blur` (pixels of the shrunken copy) are flooded in between."""

    blur = 2.0

    def region(self, scene: Scene) -> BoolArray:
        """The basin of the inner marker (Z, Y, X)."""
        first = super().region(scene)
        if not first.any():
            return first
        limit = threshold(scene)
        outside = ~ndimage.binary_dilation(first, iterations=2) & scene.field
        if not outside.any():
            return first
        markers = np.zeros(scene.value.shape, np.int32)
        markers[~scene.field | (outside & (scene.value > np.median(scene.value[outside])))] = 1
        core = first & (scene.value <= min(limit, float(np.median(scene.value[first]))))
        markers[ndimage.binary_erosion(core) if ndimage.binary_erosion(core).any() else core] = 2
        slope = np.stack([ndimage.gaussian_gradient_magnitude(plane, self.blur) for plane in scene.value])
        return self.tidy(np.asarray(watershed(slope, markers) == 2) & scene.field, scene)

    def tissues(self, scene: Scene, count: int) -> npt.NDArray[np.int64]:
        """From the surest half of each tissue that Otsu finds, by its distance from the tissue's median."""
        first = super().tissues(scene, count)
        markers = np.zeros(first.shape, np.int32)
        for rank in range(1, count + 1):
            values = scene.value[first == rank]
            if values.size:
                deviation = np.abs(scene.value - np.median(values))
                markers[(first == rank) & (deviation <= np.median(np.abs(values - np.median(values))))] = rank
        slope = np.stack([ndimage.gaussian_gradient_magnitude(plane, 0.7) for plane in scene.value])
        return np.asarray(watershed(slope, markers, mask=scene.field), np.int64)
