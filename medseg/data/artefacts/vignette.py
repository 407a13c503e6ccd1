"""Photographs: darkening towards the corners, and black round frames."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from medseg.data.artefacts.base import Image, Mask, checked_probability, checked_range, grid


class Vignette:
    """Darken a photograph away from a point near its middle, in a fraction `p` of patches.

    A corner loses a fraction from `strength`. In a fraction `frames` there is a black frame outside a circle instead,
    whose radius in half widths is from `radius`; black pixels that are labelled stay: a lesion under the frame is not
    outlined in real images.
    """

    def __init__(
        self, strength: Sequence[float] = (0.2, 0.7), frames: float = 0.4, radius: Sequence[float] = (0.95, 1.3),
        p: float = 0.3,
    ) -> None:  # fmt: skip
        self.strength, self.radius = checked_range(strength, "strength"), checked_range(radius, "radius", 0.5, 1.5)
        self.frames, self.p = checked_probability(frames), checked_probability(p)

    def __call__(self, image: Image, mask: Mask, rng: np.random.Generator) -> tuple[Image, Mask]:
        """As `Artefact`; the mask is unchanged."""
        if rng.random() >= self.p:
            return image, mask
        rows, columns = grid(mask.shape)
        height, width = mask.shape[-2:]
        y, x = (0.5 + rng.uniform(-0.08, 0.08, 2)) * (height, width)
        far = np.hypot((rows - y) / (height / 2), (columns - x) / (width / 2)).astype(np.float32)
        if rng.random() < self.frames:
            black = (far > rng.uniform(*self.radius)) & (mask == 0)
            return np.where(black, np.float32(rng.uniform(0, 0.05)), image).astype(np.float32), mask
        darker = 1 - np.float32(rng.uniform(*self.strength)) * (far / np.sqrt(2)).clip(0, 1) ** 2
        return (image * darker).astype(np.float32), mask
