"""Photographs: coloured stickers at the edge, as dermatologists lay beside a lesion."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from medseg.data.artefacts.base import Image, Mask, checked_probability, checked_range, grid


class Sticker:
    """Draw a disc of one bright colour over the edge, in a fraction `p` of patches of three channels.

    Its radius is a fraction from `radius` of the patch's shorter side. Labelled pixels stay on top.
    """

    def __init__(self, radius: Sequence[float] = (0.1, 0.3), p: float = 0.1) -> None:
        self.radius, self.p = checked_range(radius, "radius"), checked_probability(p)

    def __call__(self, image: Image, mask: Mask, rng: np.random.Generator) -> tuple[Image, Mask]:
        """As `Artefact`; the mask is unchanged. An image without three channels is returned as it is."""
        if rng.random() >= self.p or len(image) != 3:
            return image, mask
        rows, columns = grid(mask.shape)
        height, width = mask.shape[-2:]
        along, side = rng.random(), rng.integers(4)
        y, x = [(0.0, along), (1.0, along), (along, 0.0), (along, 1.0)][side]
        radius = rng.uniform(*self.radius) * min(height, width)
        disc = ((rows - y * height) ** 2 + (columns - x * width) ** 2 < radius**2) & (mask == 0)
        colour = rng.uniform(0.0, 1.0, 3)
        colour[rng.integers(3)] = rng.uniform(0.6, 1.0)  # one strong channel: blue, yellow, green, red
        varied = np.where(disc, colour.astype(np.float32)[:, None, None], image)
        return varied.astype(np.float32), mask
