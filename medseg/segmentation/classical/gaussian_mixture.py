"""Expectation maximisation of a Gaussian mixture (Dempster et al. 1977) on colour or intensity."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
from scipy import ndimage
from sklearn.mixture import GaussianMixture
from threadpoolctl import threadpool_limits

from medseg.segmentation.classical.base import Scene
from medseg.segmentation.classical.otsu import Otsu
from medseg.typing import BoolArray, Float32Array

SAMPLE = 6000  # pixels that a mixture of a few Gaussians is fitted to


class EM(Otsu):
    """Each pixel belongs to its most probable Gaussian; probabilities are smoothed over neighbours (`smooth` pixels).

    The mixture starts from Otsu's classes. 2D images are segmented by colour, volumes by intensity.
    """

    smooth = 1.5

    def region(self, scene: Scene) -> BoolArray:
        """Pixels of the darker of two Gaussians (Z, Y, X)."""
        first = super().region(scene)
        values = np.stack([ndimage.gaussian_filter(plane, (1, 1, 0)) for plane in scene.colours])  # (Z, Y, X, C)
        inside = first & scene.field
        if not inside.any() or not (scene.field & ~first).any():
            return first
        start = [values[scene.field & ~first].mean(axis=0), values[inside].mean(axis=0)]
        probabilities = self._probabilities(values, scene.field, start)
        return self.tidy((probabilities[1] > probabilities[0]) & scene.field, scene)

    def tissues(self, scene: Scene, count: int) -> npt.NDArray[np.int64]:
        """Gaussians in order of their means; Otsu's classes where one of them is empty, which has no mean."""
        first = super().tissues(scene, count)
        if not np.isin(range(1, count + 1), first).all():
            return first
        start = [scene.value[first == rank].mean(keepdims=True) for rank in range(1, count + 1)]
        probabilities = self._probabilities(scene.value[..., None], scene.field, start, blur=0.6)
        return np.asarray(np.where(scene.field, probabilities.argmax(axis=0) + 1, 0))

    def _probabilities(
        self, values: Float32Array, field: BoolArray, start: list[npt.NDArray[np.float32]], blur: float | None = None
    ) -> Float32Array:
        """(K, Z, Y, X) of the Gaussians in the order of `start`, smoothed within slices."""
        pixels = values[field]
        rng = np.random.default_rng(0)
        chosen = pixels[rng.choice(len(pixels), min(SAMPLE, len(pixels)), replace=False)]
        with threadpool_limits(1):  # its pools would fight with ours
            mixture = GaussianMixture(
                len(start), means_init=np.stack(start), reg_covar=1e-4, max_iter=100, random_state=0
            )
            mixture.fit(chosen)
            probabilities = mixture.predict_proba(pixels)
        result = np.zeros((len(start), *field.shape), np.float32)
        result[:, field] = probabilities.T
        sigma = (0, 0, self.smooth if blur is None else blur, self.smooth if blur is None else blur)
        return np.asarray(ndimage.gaussian_filter(result, sigma), np.float32)
