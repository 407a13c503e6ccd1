"""Plausibility of a segmentation: sizes and pairs of structures that no patient has. Limits are in the organ's YAML.

A check is (mask, labels) → sentences, each with the label, its value and the usual range.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import SimpleITK as sitk

from medseg.errors import ConfigError
from medseg.io.labels import Labels
from medseg.typing import BoolArray


class VolumeRange:
    """The volume of each of `labels` in a 3D image lies within `ml` (lowest, highest), in mL.

    The lowest applies only to a structure that is whole: none of its voxels is in an outer plane of the image.
    """

    def __init__(self, labels: Sequence[str], ml: Sequence[float]) -> None:
        self.labels, (self.low, self.high) = list(labels), _range(ml, "ml")

    def __call__(self, mask: sitk.Image, labels: Labels) -> list[str]:
        """Coded 3D mask; a 2D mask gives nothing."""
        texts = []
        for name, layer, volume in _volumes(mask, labels, self.labels):
            if volume > self.high or (0 < volume < self.low and _whole(layer)):
                texts.append(f"{name} has {volume:.0f} mL; usual: {self.low:g} to {self.high:g} mL")
        return texts


class AreaFraction:
    """Each of `labels` covers at most the fraction `maximum` of a 2D image."""

    def __init__(self, labels: Sequence[str], maximum: float) -> None:
        if not 0 < maximum <= 1:
            raise ConfigError(f"organ.plausibility: maximum={maximum}: must be above 0 and at most 1")
        self.labels, self.maximum = list(labels), float(maximum)

    def __call__(self, mask: sitk.Image, labels: Labels) -> list[str]:
        """Coded 2D mask, or volume of one slice; a volume of more gives nothing."""
        if _slices(mask) > 1:
            return []
        array = sitk.GetArrayViewFromImage(mask)
        shares = {name: float(labels.layer(array, name).mean()) for name in self.labels}
        return [
            f"{name} covers {share:.0%} of the image; usual: at most {self.maximum:.0%}"
            for name, share in shares.items()
            if share > self.maximum
        ]


class Paired:
    """Both of a pair of `labels` are present, and their volumes have a ratio (first / second) within `ratio`.

    One may be absent if the other is small, as at the ends of a pair of lungs: below `ml` in a volume, or below the
    fraction `area` of a 2D image. The ratio is for volumes in which both are whole (in no outer plane of the image).
    """

    def __init__(self, labels: Sequence[str], ratio: Sequence[float], ml: float, area: float) -> None:
        if len(labels) != 2:
            raise ConfigError(f"organ.plausibility: labels={list(labels)}: must be two labels")
        self.labels, (self.low, self.high) = list(labels), _range(ratio, "ratio")
        self.ml, self.area = float(ml), float(area)

    def __call__(self, mask: sitk.Image, labels: Labels) -> list[str]:
        """Coded mask, 2D or 3D."""
        if _slices(mask) == 1:
            array = sitk.GetArrayViewFromImage(mask)
            first, second = (float(labels.layer(array, name).mean()) for name in self.labels)
            return self._missing(
                first, second, self.area, [f"{100 * size:.3g} % of the image" for size in (first, second)]
            )
        (_, layer_1, first), (_, layer_2, second) = _volumes(mask, labels, self.labels)
        if texts := self._missing(first, second, self.ml, [f"{size:.0f} mL" for size in (first, second)]):
            return texts
        if not (first and second and _whole(layer_1) and _whole(layer_2)) or self.low <= first / second <= self.high:
            return []
        pair = " to ".join(self.labels)
        return [f"{pair} is {first / second:.3g} in volume; usual: {self.low:g} to {self.high:g}"]

    def _missing(self, first: float, second: float, least: float, sizes: list[str]) -> list[str]:
        one, other = self.labels
        if first == 0 and second >= least:
            return [f"{one} is absent, while {other} has {sizes[1]}; usual: both"]
        if second == 0 and first >= least:
            return [f"{other} is absent, while {one} has {sizes[0]}; usual: both"]
        return []


def _range(values: Sequence[float], name: str) -> tuple[float, float]:
    if len(values) != 2 or not 0 <= values[0] < values[1]:
        raise ConfigError(f"organ.plausibility: {name}={list(values)}: must be two numbers, the lower first")
    return float(values[0]), float(values[1])


def _slices(mask: sitk.Image) -> int:
    return 1 if mask.GetDimension() == 2 else int(mask.GetSize()[2])


def _volumes(mask: sitk.Image, labels: Labels, names: Sequence[str]) -> list[tuple[str, BoolArray, float]]:
    """Name, layer (Z, Y, X) and volume in mL of labels; nothing for a single slice."""
    if _slices(mask) == 1:
        return []
    array, voxel_ml = sitk.GetArrayViewFromImage(mask), float(np.prod(mask.GetSpacing())) / 1000
    layers = [(name, labels.layer(array, name)) for name in names]
    return [(name, layer, float(layer.sum()) * voxel_ml) for name, layer in layers]


def _whole(layer: BoolArray) -> bool:
    """Whether no voxel is in an outer plane (Z, Y, X)."""
    return not any(layer.take(end, axis).any() for axis in range(layer.ndim) for end in (0, -1))
