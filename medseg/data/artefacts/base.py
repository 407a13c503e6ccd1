"""The interface of artefacts: a patch in, a changed copy out."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

import numpy as np
import numpy.typing as npt
from scipy import ndimage

from medseg.errors import ConfigError
from medseg.typing import BoolArray

Image = npt.NDArray[np.float32]
Mask = npt.NDArray[np.uint8]


class Artefact(Protocol):
    """A random change of a training patch."""

    def __call__(self, image: Image, mask: Mask, rng: np.random.Generator) -> tuple[Image, Mask]:
        """Image (C, *S) in 0..1 and coded mask (*S), S = (Y, X) or (Z, Y, X) → copies, or the inputs themselves."""


def checked_range(values: Sequence[float], name: str, low: float = 0.0, high: float = 1.0) -> tuple[float, float]:
    """`values` as (lowest, highest) within `low` … `high`; `ConfigError` otherwise."""
    if len(values) != 2 or not low <= values[0] <= values[1] <= high:
        raise ConfigError(f"augment.artefacts: {name}={list(values)}: must be two numbers from {low:g} to {high:g}")
    return float(values[0]), float(values[1])


def checked_probability(p: float) -> float:
    """`p` as a probability; `ConfigError` if it is none."""
    if not 0 <= p <= 1:
        raise ConfigError(f"augment.artefacts: p={p}: must be between 0 and 1")
    return float(p)


def outside_body(image: Image, mask: Mask, tissue: float) -> tuple[BoolArray, BoolArray]:
    """Air around the body (*S), and small things in it (*S), such as a couch, of an image (C, *S) in 0..1.

    Air is a connected component darker than `tissue` that reaches the patch's edge in plane and has no labelled voxel:
    a lung open to the edge is not air. Things are everything else but the largest connected component.
    """
    dark, _ = ndimage.label((image[0] < tissue) & (mask == 0))
    sides = [dark[..., 0, :], dark[..., -1, :], dark[..., :, 0], dark[..., :, -1]]
    open_ones = np.unique(np.concatenate([side.ravel() for side in sides]))
    # unlabelled rims of a lung touch it: a component next to a label is part of the body
    beside = np.unique(dark[ndimage.binary_dilation(mask > 0)]) if mask.any() else np.zeros(0, int)
    air = np.isin(dark, np.setdiff1d(open_ones[open_ones > 0], beside))
    parts, count = ndimage.label(~air)
    if count <= 1:
        return air, np.zeros_like(air)
    body = 1 + int(np.bincount(parts.ravel())[1:].argmax())
    return air, np.asarray((parts > 0) & (parts != body) & (mask == 0))


def grid(shape: tuple[int, ...]) -> tuple[npt.NDArray[np.float32], npt.NDArray[np.float32]]:
    """Row and column (Y, 1), (1, X) of the pixels of the last two axes of `shape`."""
    rows = np.arange(shape[-2], dtype=np.float32)[:, None]
    columns = np.arange(shape[-1], dtype=np.float32)[None]
    return rows, columns
