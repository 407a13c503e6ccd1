"""CT: a couch below the body."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from medseg.data.artefacts.base import Image, Mask, checked_probability, checked_range, grid, outside_body


class Couch:
    """Draw a couch into the air below the body, in a fraction `p` of patches: a flat or curved shell of one or two
    lines of brightness `shell` and `width` pixels, and foam of brightness `foam` between them (0..1 of the window).
    """

    def __init__(
        self, shell: Sequence[float] = (0.15, 0.9), foam: Sequence[float] = (0.0, 0.2),
        width: Sequence[float] = (0.6, 2.5), tissue: float = 0.35, p: float = 0.3,
    ) -> None:  # fmt: skip
        self.shell, self.foam = checked_range(shell, "shell"), checked_range(foam, "foam")
        self.width, self.tissue, self.p = checked_range(width, "width", 0, 100), float(tissue), checked_probability(p)

    def __call__(self, image: Image, mask: Mask, rng: np.random.Generator) -> tuple[Image, Mask]:
        """As `Artefact`; the mask is unchanged."""
        if rng.random() >= self.p:
            return image, mask
        air, things = outside_body(image, mask, self.tissue)
        body = np.flatnonzero((~air & ~things).reshape(-1, *mask.shape[-2:]).any((0, 2)))
        if not len(body) or body[-1] == mask.shape[-2] - 1:
            return image, mask  # the body reaches the lower edge: there is no room
        rows, columns = grid(mask.shape)
        height, width = mask.shape[-2:]
        middle = (columns - width / 2 - rng.uniform(-0.1, 0.1) * width) / width
        top = body[-1] + rng.uniform(-2, 6) - rng.uniform(0, 0.4) * height * middle**2  # (1, X), sides bend up
        thickness = rng.uniform(0.02, 0.1) * height
        line = rng.uniform(*self.width) / 2
        half = rng.uniform(0.25, 0.5)
        drawn = air & (np.abs(middle) < half)
        foam, shell = np.float32(rng.uniform(*self.foam)), np.float32(rng.uniform(*self.shell))
        varied = image.copy()
        varied[:, drawn & (rows > top) & (rows < top + thickness)] = foam
        lower = np.abs(rows - top - thickness) < line if rng.random() < 0.7 else np.zeros_like(rows, bool)
        varied[:, drawn & ((np.abs(rows - top) < line) | lower)] = shell
        return varied, mask
