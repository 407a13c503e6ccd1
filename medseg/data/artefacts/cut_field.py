"""Images that end inside the body: crops, and circular fields smaller than the body."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from medseg.data.artefacts.base import Image, Mask, checked_probability, checked_range, grid


class CutField:
    """End the image inside the patch, in a fraction `p` of patches: at a box, or at a circle in a fraction `circles`.

    Each side of the box loses a fraction from `cut` of the patch's size, a circle has a radius of a half less `cut`.
    What is cut off becomes `fill` and background.
    """

    def __init__(
        self, cut: Sequence[float] = (0.0, 0.3), circles: float = 0.3, fill: float = 0.0, p: float = 0.2
    ) -> None:
        self.cut = checked_range(cut, "cut", 0, 0.4)
        self.circles, self.fill, self.p = checked_probability(circles), float(fill), checked_probability(p)

    def __call__(self, image: Image, mask: Mask, rng: np.random.Generator) -> tuple[Image, Mask]:
        """As `Artefact`; the mask is cut as the image."""
        if rng.random() >= self.p:
            return image, mask
        rows, columns = grid(mask.shape)
        height, width = mask.shape[-2:]
        if rng.random() < self.circles:
            radius = (0.55 - rng.uniform(*self.cut) / 2) * min(height, width)
            seen = (rows - height / 2) ** 2 + (columns - width / 2) ** 2 < radius**2
        else:
            # one or two sides, as in a crop around a structure
            top, bottom, left, right = rng.uniform(*self.cut, 4) * (rng.random(4) < 0.4)
            seen = (rows >= top * height) & (rows < (1 - bottom) * height)
            seen = seen & (columns >= left * width) & (columns < (1 - right) * width)
        return np.where(seen, image, np.float32(self.fill)).astype(np.float32), np.where(seen, mask, 0).astype(np.uint8)
