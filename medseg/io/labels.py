"""The labels of an organ, and masks coded by them: numbers, or a bit for each label where labels may overlap."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt
import SimpleITK as sitk

from medseg.io.geometry import from_array


@dataclass(frozen=True)
class Labels:
    """The labels of an organ, in the order of their numbers 1..K; they may overlap unless `exclusive`.

    `codes`: SNOMED CT codes of a label's category and of the label, if known.
    """

    numbers: Mapping[str, int]
    exclusive: bool = True
    codes: Mapping[str, tuple[str, str]] = field(default_factory=dict, compare=False)  # "number meaning" in SNOMED CT

    def code(self, name: str) -> int:
        """The label's value in a coded mask: its number, or its bit."""
        return self.numbers[name] if self.exclusive else 1 << (self.numbers[name] - 1)

    def layer(self, coded: npt.NDArray[np.uint8], name: str) -> npt.NDArray[np.bool_]:
        """Binary mask of the label in a coded mask."""
        code = self.code(name)
        layer: npt.NDArray[np.bool_] = coded == code if self.exclusive else (coded & code) > 0
        return layer

    def join(self, layers: Mapping[str, npt.NDArray[np.bool_]]) -> npt.NDArray[np.uint8]:
        """Combine layers of one shape into a coded mask; exclusive labels overwrite earlier ones."""
        coded = np.zeros(next(iter(layers.values())).shape, np.uint8)
        for name in self.numbers:
            if name in layers and self.exclusive:
                coded[layers[name]] = self.code(name)
            elif name in layers:
                coded |= layers[name].astype(np.uint8) * np.uint8(self.code(name))
        return coded

    def join_images(self, layers: Mapping[str, sitk.Image], like: sitk.Image) -> sitk.Image:
        """`join` of binary images, on the grid of `like`."""
        return from_array(
            self.join({name: sitk.GetArrayViewFromImage(layer) > 0 for name, layer in layers.items()}), like
        )

    def split(self, coded: sitk.Image) -> dict[str, sitk.Image]:
        """Split a coded mask into one binary image per label."""
        array = sitk.GetArrayViewFromImage(coded)
        return {name: from_array(self.layer(array, name).astype(np.uint8), coded) for name in self.numbers}

    def flatten(self, coded: sitk.Image) -> sitk.Image:
        """Convert a coded mask to a label map; later labels overwrite earlier ones."""
        if self.exclusive:
            return coded
        array = sitk.GetArrayViewFromImage(coded)
        flat = np.zeros(array.shape, np.uint8)
        for name, number in self.numbers.items():
            flat[self.layer(array, name)] = number
        return from_array(flat, coded)


def normalize_name(name: str) -> str:
    """Normalise the spelling of a label's name: ``Left Lung`` and ``left-lung`` become left_lung."""
    return re.sub(r"[\s\-]+", "_", name.strip().lower())
