"""Ultrasound: callipers, their dotted line and text, burnt into the image."""

from __future__ import annotations

from collections.abc import Sequence

import cv2
import numpy as np

from medseg.data.artefacts.base import Image, Mask, checked_probability, checked_range


class Callipers:
    """Draw two crosses with a dotted line between them, and a line of text, into a fraction `p` of 2D patches.

    The crosses are at the ends of a labelled structure or, in a fraction `elsewhere`, anywhere: a network that takes
    callipers for a sign of a tumour fails where there are none. `value` is their brightness (0..1).
    """

    def __init__(self, value: Sequence[float] = (0.6, 1.0), elsewhere: float = 0.5, p: float = 0.2) -> None:
        self.value, self.elsewhere, self.p = checked_range(value, "value"), checked_probability(elsewhere), p
        checked_probability(p)

    def __call__(self, image: Image, mask: Mask, rng: np.random.Generator) -> tuple[Image, Mask]:
        """As `Artefact`; the mask is unchanged."""
        if rng.random() >= self.p or mask.ndim != 2:
            return image, mask
        height, width = mask.shape
        drawn = np.zeros(mask.shape, np.uint8)
        ends = self._ends(mask, rng)
        for x, y in ends:
            cv2.drawMarker(drawn, (int(x), int(y)), 1, cv2.MARKER_CROSS, max(3, height // 24), 1)
        for part in np.arange(0, 1, 3 / max(3.0, float(np.hypot(*(ends[1] - ends[0]))))):  # a dot every 3 pixels
            x, y = np.rint(ends[0] + part * (ends[1] - ends[0])).astype(int)
            drawn[y, x] = 1
        text = f"D{rng.integers(1, 4)} {rng.uniform(2, 60):.1f}mm"
        place = (int(rng.uniform(0, 0.5) * width), int(rng.choice([0.08, 0.97]) * height))
        cv2.putText(drawn, text, place, cv2.FONT_HERSHEY_SIMPLEX, height / 500, 1, 1)
        return np.where(drawn > 0, np.float32(rng.uniform(*self.value)), image).astype(np.float32), mask

    def _ends(self, mask: Mask, rng: np.random.Generator) -> np.ndarray[tuple[int, ...], np.dtype[np.float64]]:
        """Two points (2, x y): the ends of the labels along a random axis, or any."""
        points = np.argwhere(mask > 0)[:, ::-1].astype(float)  # (N, x y)
        if len(points) < 2 or rng.random() < self.elsewhere:
            return rng.uniform(0.1, 0.9, (2, 2)) * mask.shape[::-1]
        angle = rng.uniform(0, np.pi)
        along = points @ (np.cos(angle), np.sin(angle))
        return points[[along.argmin(), along.argmax()]]
