"""Superpixels (SLIC, Achanta et al. 2012), sorted by the brightness of each."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
from skimage.filters import threshold_otsu
from skimage.segmentation import slic

from medseg.segmentation.classical.base import Scene
from medseg.segmentation.classical.otsu import Otsu, thresholds
from medseg.typing import BoolArray


class Superpixels(Otsu):
    """About `count` regions a slice; each takes the class that Otsu gives to its mean, so that specks cannot."""

    count = 400

    def region(self, scene: Scene) -> BoolArray:
        """Superpixels darker than Otsu's threshold between them (Z, Y, X)."""
        numbers, means, sizes = self._superpixels(scene)
        drawn = _drawn(means, sizes, 20)
        if not len(drawn) or np.ptp(drawn) < 1e-6:
            return np.zeros_like(scene.field)
        return self.tidy((means < threshold_otsu(drawn))[numbers] & scene.field, scene)

    def tissues(self, scene: Scene, count: int) -> npt.NDArray[np.int64]:
        """Superpixels between several thresholds."""
        numbers, means, sizes = self._superpixels(scene, finer=8)
        limits = thresholds(_drawn(means, sizes, 4), count)
        return np.asarray(np.where(scene.field, np.digitize(means[numbers], limits) + 1, 0))

    def _superpixels(
        self, scene: Scene, finer: int = 1
    ) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.float64], npt.NDArray[np.int64]]:
        """Number of each pixel's superpixel (Z, Y, X) from 0, mean value and size of each in the field."""
        numbers = np.zeros(scene.field.shape, np.int64)
        offset = 0
        for z, colours in enumerate(scene.colours):
            segments = slic(
                colours, n_segments=self.count * finer, compactness=0.05 if finer > 1 else 0.3, sigma=1.0 / finer,
                channel_axis=-1, start_label=0, enforce_connectivity=True, convert2lab=False,
            )  # fmt: skip
            numbers[z] = segments + offset
            offset += int(segments.max()) + 1
        inside = scene.field.ravel()
        sizes = np.bincount(numbers.ravel()[inside], minlength=offset)
        sums = np.bincount(numbers.ravel()[inside], scene.value.ravel()[inside], minlength=offset)
        known = sizes > 0
        means = np.where(known, sums / np.maximum(sizes, 1), scene.value.max())
        return numbers, means, sizes


def _drawn(means: npt.NDArray[np.float64], sizes: npt.NDArray[np.int64], share: int) -> npt.NDArray[np.float64]:
    """The means, large superpixels more often, those outside the field never."""
    return np.repeat(means, np.where(sizes > 0, np.maximum(1, sizes // share), 0))
