"""Ultrasound: black bars beside the echoes, as screens of another shape and saved screens have."""

from __future__ import annotations

from collections.abc import Sequence

import cv2
import numpy as np

from medseg.data.artefacts.base import Image, Mask, checked_probability, checked_range


class Letterbox:
    """Squeeze a 2D patch along one axis and fill both sides with black bars, in a fraction `p` of patches.

    Each bar is a fraction from `bar` of the patch. As the recipe resizes whole images, echoes get narrower.
    """

    def __init__(self, bar: Sequence[float] = (0.03, 0.2), p: float = 0.2) -> None:
        self.bar, self.p = checked_range(bar, "bar", 0, 0.4), checked_probability(p)

    def __call__(self, image: Image, mask: Mask, rng: np.random.Generator) -> tuple[Image, Mask]:
        """As `Artefact`; the mask is squeezed as the image."""
        if rng.random() >= self.p or mask.ndim != 2:
            return image, mask
        axis = int(rng.integers(2))
        size = mask.shape[axis]
        first, last = (round(rng.uniform(*self.bar) * size) for _ in range(2))
        inner = [*mask.shape]
        inner[axis] = size - first - last
        window = tuple(slice(first, size - last) if a == axis else slice(None) for a in (0, 1))
        varied, labels = np.zeros_like(image), np.zeros_like(mask)
        for channel, plane in zip(varied, image, strict=True):
            channel[window] = cv2.resize(np.ascontiguousarray(plane), inner[::-1], interpolation=cv2.INTER_AREA)
        labels[window] = cv2.resize(np.ascontiguousarray(mask), inner[::-1], interpolation=cv2.INTER_NEAREST)
        return varied, labels
