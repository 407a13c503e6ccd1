"""Augmentation of training patches: mirroring that swaps lateral labels, and albumentations' transforms."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

os.environ.setdefault("NO_ALBUMENTATIONS_UPDATE", "1")  # else it looks up its version online
import albumentations as A
import cv2

from medseg.data.artefacts.base import Artefact
from medseg.errors import ConfigError

cv2.setNumThreads(0)  # its threads would compete with torch's

LesionPainter = Callable[[npt.NDArray[np.float32], npt.NDArray[np.uint8], np.random.Generator], npt.NDArray[np.float32]]
AXES = {"x": -1, "y": -2, "z": -3}


class Augment:
    """Apply to an image (C, *S) in 0..1 and its mask (*S), S = (Y, X) or (Z, Y, X); the same seed, the same result.

    `mirror` gives each patient axis its probability of a flip. A flip across x, the lateral axis, swaps the labels of
    each of `lateral_pairs`, so that right stays the patient's right. `paint` are steps (image, mask, rng) → image that
    run first, then `artefacts`, both before the flips: a couch is below the patient also in a mirrored image.
    """

    def __init__(
        self,
        mirror: dict[str, float],
        transforms: dict[str, dict[str, Any]],
        lateral_pairs: list[tuple[int, int]],
        paint: Sequence[LesionPainter] = (),
        artefacts: Sequence[Artefact] = (),
    ) -> None:
        self.mirror, self.pairs, self.paint, self.artefacts = mirror, lateral_pairs, paint, artefacts
        self.compose = A.Compose([_transform(name, parameters) for name, parameters in transforms.items()])
        self.empty = not transforms

    def __call__(
        self, image: npt.NDArray[np.float32], mask: npt.NDArray[np.uint8], rng: np.random.Generator
    ) -> tuple[npt.NDArray[np.float32], npt.NDArray[np.uint8]]:
        """A varied copy of image and mask."""
        for step in self.paint:
            image = step(image, mask, rng)
        for artefact in self.artefacts:
            image, mask = artefact(image, mask, rng)
        for axis, probability in self.mirror.items():
            if rng.random() < probability and mask.ndim >= -AXES[axis]:
                image, mask = np.flip(image, AXES[axis]), np.flip(mask, AXES[axis])
                if axis == "x":
                    mask = swap(mask, self.pairs)
        if self.empty:
            return np.ascontiguousarray(image), np.ascontiguousarray(mask)
        self.compose.set_random_seed(int(rng.integers(2**31)))
        volume = mask.ndim == 3
        # slices under one set of parameters; not every transform of albumentations knows "volume"
        names = ("images", "masks") if volume else ("image", "mask")
        last = np.ascontiguousarray(np.moveaxis(image, 0, -1))  # (*S, C)
        result = self.compose(**{names[0]: last, names[1]: np.ascontiguousarray(mask)})
        varied = result[names[0]].reshape((*mask.shape, -1))  # albumentations may drop a single channel
        return np.ascontiguousarray(np.moveaxis(varied, -1, 0)).clip(0, 1), result[names[1]]


def swap(mask: npt.NDArray[np.uint8], pairs: list[tuple[int, int]]) -> npt.NDArray[np.uint8]:
    """The mask with both labels of each pair exchanged."""
    table = np.arange(256, dtype=np.uint8)
    for first, second in pairs:
        table[first], table[second] = second, first
    return table[mask]


def _transform(name: str, parameters: dict[str, Any]) -> Any:
    transform_class = getattr(A, name, None)
    if not (isinstance(transform_class, type) and issubclass(transform_class, A.BasicTransform)):
        raise ConfigError(f"augment.transforms: albumentations has no transform {name!r}")
    try:
        return transform_class(**{key: tuple(v) if isinstance(v, list) else v for key, v in parameters.items()})
    except (TypeError, ValueError) as error:
        raise ConfigError(f"augment.transforms.{name}: {str(error).splitlines()[0]}") from error
