"""Photographs and ultrasound: the ticks of a ruler or a depth scale along an edge."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from medseg.data.artefacts.base import Image, Mask, checked_probability, checked_range
from medseg.typing import BoolArray


class Ruler:
    """Draw evenly spaced ticks along one edge of a 2D patch, every fifth longer, in a fraction `p` of patches.

    The distance of ticks is a fraction from `step` of the edge, their brightness from `value` (0..1).
    """

    def __init__(
        self, step: Sequence[float] = (0.02, 0.08), value: Sequence[float] = (0.0, 0.3), p: float = 0.1
    ) -> None:
        self.step, self.value = checked_range(step, "step", 0.005, 0.5), checked_range(value, "value")
        self.p = checked_probability(p)

    def __call__(self, image: Image, mask: Mask, rng: np.random.Generator) -> tuple[Image, Mask]:
        """As `Artefact`; the mask is unchanged, labelled pixels stay on top."""
        if rng.random() >= self.p or mask.ndim != 2:
            return image, mask
        ticks = np.zeros(mask.shape, bool)
        turned: BoolArray = np.asarray(np.rot90(ticks, int(rng.integers(4))))  # a view: drawn along its last row
        height, width = turned.shape
        step = max(2, round(rng.uniform(*self.step) * width))
        length = max(2, round(rng.uniform(0.03, 0.08) * height))
        for number, x in enumerate(range(int(rng.integers(step)), width, step)):
            turned[height - (2 * length if number % 5 == 0 else length) :, x] = True
        drawn = ticks & (mask == 0)
        return np.where(drawn, np.float32(rng.uniform(*self.value)), image).astype(np.float32), mask
