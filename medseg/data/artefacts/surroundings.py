"""CT: other air, padding and circular fields around the body."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from medseg.data.artefacts.base import Image, Mask, checked_probability, checked_range, grid, outside_body


class Surroundings:
    """Replace the air around the body, in a fraction `p` of patches.

    The new air has one level from `level` (0..1 of the window) and noise of a deviation from `noise`. One in two is
    padding: scanners fill what they did not reconstruct with −1024 to −3024 HU, all below the window (0), and often
    only outside a circle. Things in the air, such as a couch, are removed in a fraction `clear`. `tissue` (0..1 of the
    window) lies between air and fat; see `outside_body`.
    """

    def __init__(
        self, tissue: float = 0.35, level: Sequence[float] = (0.0, 0.1), noise: Sequence[float] = (0.0, 0.03),
        clear: float = 0.5, p: float = 0.5,
    ) -> None:  # fmt: skip
        self.tissue = float(tissue)
        self.level, self.noise = checked_range(level, "level"), checked_range(noise, "noise")
        self.clear, self.p = checked_probability(clear), checked_probability(p)

    def __call__(self, image: Image, mask: Mask, rng: np.random.Generator) -> tuple[Image, Mask]:
        """As `Artefact`; the mask is unchanged."""
        if rng.random() >= self.p:
            return image, mask
        air, things = outside_body(image, mask, self.tissue)
        if rng.random() < self.clear:
            air = air | things
        new = np.zeros(mask.shape, np.float32)
        kind = rng.integers(4)  # 0, 1: air; 2: padding; 3: air in a circle of padding
        if kind != 2:
            new += np.float32(rng.uniform(*self.level))
            new += rng.normal(0, 1, mask.shape).astype(np.float32) * np.float32(rng.uniform(*self.noise))
        if kind == 3:
            rows, columns = grid(mask.shape)
            radius = rng.uniform(0.4, 0.55) * max(mask.shape[-2:])
            centre = [size / 2 + rng.uniform(-0.08, 0.08) * size for size in mask.shape[-2:]]
            new = np.where((rows - centre[0]) ** 2 + (columns - centre[1]) ** 2 < radius**2, new, 0)
        return np.where(air, new.clip(0, 1), image).astype(np.float32), mask
