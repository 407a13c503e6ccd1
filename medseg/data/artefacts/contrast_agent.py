"""CT: vessels filled with contrast agent."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from scipy import ndimage

from medseg.data.artefacts.base import Image, Mask, checked_probability, checked_range


class ContrastAgent:
    """Brighten round areas of soft tissue, in a fraction `p` of patches, as contrast agent brightens vessels.

    `tissue` is the brightness of blood and muscle (0..1 of the window), `gain` what the agent adds. Labelled voxels
    change too: vessels of a labelled organ fill as well.
    """

    def __init__(
        self, tissue: Sequence[float] = (0.7, 0.82), gain: Sequence[float] = (0.05, 0.3),
        share: Sequence[float] = (0.02, 0.3), p: float = 0.3,
    ) -> None:  # fmt: skip
        self.tissue, self.gain = checked_range(tissue, "tissue"), checked_range(gain, "gain")
        self.share, self.p = checked_range(share, "share"), checked_probability(p)

    def __call__(self, image: Image, mask: Mask, rng: np.random.Generator) -> tuple[Image, Mask]:
        """As `Artefact`; the mask is unchanged."""
        if rng.random() >= self.p:
            return image, mask
        field = ndimage.gaussian_filter(rng.normal(size=mask.shape), rng.uniform(2.0, 6.0))
        filled = field > np.quantile(field, 1 - rng.uniform(*self.share))
        soft = (image > self.tissue[0]) & (image < self.tissue[1]) & filled
        return np.where(soft, image + np.float32(rng.uniform(*self.gain)), image).clip(0, 1).astype(np.float32), mask
