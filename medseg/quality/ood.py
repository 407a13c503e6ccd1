"""How far a raw image lies from those that a model was trained on: kind, spacing, size, values, colours.

`look` measures an image; the ranges over the training cases (data/fingerprint) stay with the model; `Familiar`
compares. Limits stand in configs/quality.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import Any

import numpy as np
import numpy.typing as npt
import SimpleITK as sitk

from medseg.quality.image_checks import picture, shrunk, still

ImageStats = dict[str, float]
KINDS = {  # an image that is such, and images that are
    "axes": {2: ("a picture", "pictures"), 3: ("a volume", "volumes")},
    "components": {1: ("grey", "grey images"), 3: ("in colour", "colour images")},
}
LEVELS = {25: "lower quartile", 50: "median", 75: "upper quartile", 99: "99th percentile"}
TITLES = {**{str(level): f"{name} of its values" for level, name in LEVELS.items()}, "rim": "its rim"}
DARK = 5  # percentile that stands for the darkest: scanners fill corners with values of their own
FEW = 2.0  # shares are wider by 1 + FEW / √cases: a few training images show less than their kind's range
COLOURS = ("red", "green", "blue")
GREY = 0.02  # saturation; JPEG adds 0.01 to grey that is stored as colour


def image_stats(image: sitk.Image) -> ImageStats:
    """What an image is like before anything is done to it, in numbers.

    axes: 2 or 3; components: 1 grey, however it is stored, 3 colour; spacing_finest and _coarsest in mm; side_shortest
    and _longest in mm, of photographs in pixels; level_25 … level_99: percentiles of the values, of whole-number
    pictures as shares of their type's range; contrast: 99th less 5th percentile; place_25 … place_75: where percentiles
    lie between these two, 0..1, and place_rim: where a picture's outermost pixels do; of colour red, green, blue as
    shares of their sum, and saturation. A 4D sequence is judged by its middle frame.
    """
    image = still(image)
    spacing, size = np.array(image.GetSpacing()), np.array(image.GetSize())
    sides = spacing * size
    values = _values(image)  # (N, C)
    saturation = float(np.ptp(values, axis=1).sum() / max(float(values.max(axis=1).sum()), 1e-9))
    found = {
        "axes": float(image.GetDimension()),
        "components": 3.0 if saturation > GREY else 1.0,
        "spacing_finest": float(spacing.min()),
        "spacing_coarsest": float(spacing.max()),
        "side_shortest": float(sides.min()),
        "side_longest": float(sides.max()),
    }
    grey = values.mean(axis=1)
    dark, *levels = np.percentile(grey, [DARK, *LEVELS]).tolist()
    found |= {f"level_{q}": level for q, level in zip(LEVELS, levels, strict=True)}
    found["contrast"] = levels[-1] - dark
    if found["contrast"] > 0:
        places = [(level - dark) / found["contrast"] for level in levels[:-1]]
        found |= {f"place_{q}": place for q, place in zip(LEVELS, places, strict=False)}
        if found["axes"] == 2:
            found["place_rim"] = (_rim(grey.reshape(shrunk(image).GetSize()[::-1])) - dark) / found["contrast"]
    total = float(np.abs(values).sum())
    if found["components"] == len(COLOURS) == values.shape[1] and total > 0:
        found |= {name: float(values[:, k].sum()) / total for k, name in enumerate(COLOURS)}
        found["saturation"] = saturation
    return found


def _rim(grey: npt.NDArray[np.float64]) -> float:
    """Median of the outermost pixels of a picture (Y, X)."""
    return float(np.median(np.concatenate([grey[0], grey[-1], grey[:, 0], grey[:, -1]])))


def _values(image: sitk.Image) -> npt.NDArray[np.float64]:
    """Values (N, C) of a small copy, C 1 or 3: pictures of whole numbers in 0..1, all others as they are."""
    array = sitk.GetArrayFromImage(shrunk(image))
    if image.GetDimension() == 2 and array.dtype.kind == "u":
        array = picture(image)
    return np.asarray(array.reshape(-1, array.shape[-1] if array.ndim > image.GetDimension() else 1), np.float64)


class OutOfDistribution:
    """Doubts about an image that is unlike the training images. Limits; null compares nothing:

    spacing_factor and size_factor: times beyond the range of training that they may lie; intensity_tolerance: fraction
    of the training images' usual contrast that percentiles of the values may lie beyond theirs (null where values have
    no unit); contrast_tolerance: the same after each image was brought to its own contrast; colour_tolerance: what
    fractions of colour and saturation may differ.
    """

    def __init__(
        self,
        spacing_factor: float | None = 2.0,
        size_factor: float | None = 2.5,
        intensity_tolerance: float | None = 0.1,
        contrast_tolerance: float | None = 0.1,
        colour_tolerance: float | None = 0.05,
    ) -> None:
        for name, limit in {"spacing_factor": spacing_factor, "size_factor": size_factor}.items():
            if limit is not None and limit < 1:
                raise ValueError(f"{name} {limit}: times beyond the training range, at least 1")
        for name, limit in {
            "intensity_tolerance": intensity_tolerance,
            "contrast_tolerance": contrast_tolerance,
            "colour_tolerance": colour_tolerance,
        }.items():
            if limit is not None and limit < 0:
                raise ValueError(f"{name} {limit}: a share beyond the training range, at least 0")
        (
            self.spacing_factor,
            self.size_factor,
            self.intensity_tolerance,
            self.contrast_tolerance,
            self.colour_tolerance,
        ) = spacing_factor, size_factor, intensity_tolerance, contrast_tolerance, colour_tolerance

    def __call__(self, image: sitk.Image, known: Mapping[str, Any]) -> list[str]:
        """Doubts about a raw image, each with the number found and the range of the training images; `known`: what
        `data.fingerprint.known_looks` has of its channel."""
        found, ranges = image_stats(image), known["ranges"]
        wider = 1 + FEW / float(known["cases"]) ** 0.5
        return _kinds(found, ranges) or [
            *self._sizes(found, ranges),
            *self._levels(found, ranges, wider * known["contrast"]),
            *self._places(found, ranges, wider),
            *self._colours(found, ranges, wider),
        ]

    def _sizes(self, found: ImageStats, ranges: Mapping[str, Any]) -> Iterator[str]:
        unit = "pixels" if found["axes"] == 2 and found["spacing_coarsest"] == found["spacing_finest"] == 1 else "mm"
        for what, limit in (("spacing", self.spacing_factor), ("side", self.size_factor)):
            beyond = {}
            for name in [name for name in ranges if name.startswith(f"{what}_") and name in found and limit]:
                low, high = ranges[name]
                beyond[name] = max(found[name] / max(high, 1e-9), low / max(found[name], 1e-9))
            if beyond and max(beyond.values()) > (limit or 0):
                name = max(beyond, key=lambda name: beyond[name])
                title = f"{name.partition('_')[2]} {what}"
                unit = "mm" if what == "spacing" else unit
                yield f"{title} {_number(found[name])} {unit}, trained on {_span(ranges[name], _number)}"

    def _levels(self, found: ImageStats, ranges: Mapping[str, Any], unit: float) -> Iterator[str]:
        name, by = _farthest(found, ranges, "level_")
        if self.intensity_tolerance is not None and by > self.intensity_tolerance * unit:
            title = TITLES[name.partition("_")[2]]
            yield f"{title} {_number(found[name])}, trained on {_span(ranges[name], _number)}"

    def _places(self, found: ImageStats, ranges: Mapping[str, Any], unit: float) -> Iterator[str]:
        name, by = _farthest(found, ranges, "place_")
        if self.contrast_tolerance is not None and by > self.contrast_tolerance * unit:
            title = TITLES[name.partition("_")[2]]
            yield (
                f"{title} at {found[name]:.0%} of the way from dark to bright, trained on "
                f"{_span(ranges[name], _percent)}"
            )

    def _colours(self, found: ImageStats, ranges: Mapping[str, Any], unit: float) -> Iterator[str]:
        for name in (*COLOURS, "saturation") if self.colour_tolerance is not None else ():
            _, by = _farthest(found, ranges, name)
            if by > (self.colour_tolerance or 0) * unit:
                title = f"share of {name}" if name in COLOURS else name
                yield f"{title} {found[name]:.0%}, trained on {_span(ranges[name], _percent)}"


def _kinds(found: ImageStats, ranges: Mapping[str, Any]) -> list[str]:
    """Of another kind: nothing else can be compared then."""
    doubts = []
    for name, titles in KINDS.items():
        low, high = ranges[name]
        if not low <= found[name] <= high:
            usual = min(titles, key=lambda kind: abs(kind - low))
            doubts.append(f"is {titles[round(found[name])][0]}, trained on {titles[usual][1]}")
    return doubts


def _farthest(found: ImageStats, ranges: Mapping[str, Any], start: str) -> tuple[str, float]:
    """Of the measures whose name begins so, the one farthest beyond its range, and how far that is."""
    beyond = {"": 0.0}
    for name, (low, high) in ranges.items():
        if name.startswith(start) and name in found:
            beyond[name] = max(found[name] - high, low - found[name])
    name = max(beyond, key=lambda name: beyond[name])
    return name, beyond[name]


def _span(limits: Any, show: Callable[[float], str]) -> str:
    low, high = map(show, limits)
    if low == high:
        return low
    return f"{low} to {high}" if low.startswith("-") else f"{low}–{high}"


def _number(value: float) -> str:
    return f"{value:.0f}" if abs(value) >= 100 else f"{value:.3g}"


def _percent(value: float) -> str:
    return f"{value:.0%}"
