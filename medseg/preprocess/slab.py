"""The end of a slab painted into training patches: the last slice fades where resampling met nothing."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
from scipy import ndimage

from medseg.errors import ConfigError

HALF = 0.5  # of a slice's brightness: nearest-neighbour labels end where linear interpolation is half way to nothing


class SlabEnd:
    """Let a volume end at one slice, in a share `p` of the patches.

    Where a slab of slices was moved onto another grid, or warped, its last slice lies partly outside: linear
    interpolation fades it towards nothing, and labels, which take the nearest voxel, end where it is half as bright.
    Few slices show this, so a network learns it from those that are faded here, by a smooth random field of weights:
    its mean is from `level`, its standard deviation from `spread`, its grain from `grain` pixels. Slices beyond are
    dark. `context`: slices on each side that a 2D patch is shown with.
    """

    def __init__(
        self, context: int = 0, level: Sequence[float] = (0.2, 0.8), spread: Sequence[float] = (0.05, 0.2),
        grain: Sequence[float] = (4.0, 16.0), p: float = 0.15,
    ) -> None:  # fmt: skip
        ranges = (level, spread, grain)
        if context < 0 or not 0 <= p <= 1 or any(not 0 <= low <= high for low, high in ranges):
            raise ConfigError(
                f"augment.paint: context={context}, level={list(level)}, spread={list(spread)}, grain={list(grain)}, "
                f"p={p}: p must be between 0 and 1, the others ranges from 0 on"
            )
        self.context, self.p = context, p
        self.level, self.spread, self.grain = level, spread, grain

    def __call__(
        self, image: npt.NDArray[np.float32], mask: npt.NDArray[np.uint8], rng: np.random.Generator
    ) -> tuple[npt.NDArray[np.float32], npt.NDArray[np.uint8]]:
        """A varied copy of an image (C, *S) in 0..1 and its coded mask (*S), S = (Y, X) or (Z, Y, X)."""
        if rng.random() >= self.p:
            return image, mask
        flat = mask.ndim == 2
        depth = 2 * self.context + 1 if flat else len(mask)
        slices = image.reshape(-1, depth, *mask.shape[-2:]).copy()  # (C, Z, Y, X)
        layers = (mask[None] if flat else mask).copy()
        end = self.context if flat else int(rng.integers(depth))
        beyond = slice(end + 1, None) if rng.random() < HALF else slice(0, end)
        nothing = slices.min(axis=(1, 2, 3), keepdims=True)
        weight = self._weights(mask.shape[-2:], rng)
        slices[:, beyond] = nothing
        slices[:, end] = nothing[:, 0] + (slices[:, end] - nothing[:, 0]) * weight
        layers[0 if flat else end][weight < HALF] = 0
        if not flat:
            layers[beyond] = 0
        return slices.reshape(image.shape), layers[0] if flat else layers

    def _weights(self, shape: tuple[int, ...], rng: np.random.Generator) -> npt.NDArray[np.float32]:
        """A smooth random field (Y, X) within 0..1."""
        grain, spread, level = (rng.uniform(low, high) for low, high in (self.grain, self.spread, self.level))
        field = ndimage.gaussian_filter(rng.normal(size=shape), grain)
        field = (field - field.mean()) / max(float(field.std()), 1e-9)
        return np.asarray(np.clip(level + spread * field, 0, 1), np.float32)
