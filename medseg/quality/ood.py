"""Out-of-distribution detection: compares a raw image with the training images in kind, spacing, size, values, colours.

`image_stats` describes an image; its ranges over the training cases (data/fingerprint) are stored with the model;
`OutOfDistribution` compares. Limits are in configs/quality.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import Any

import numpy as np
import numpy.typing as npt
import SimpleITK as sitk

from medseg.quality.image_checks import photo_array, shrunk, still

ImageStats = dict[str, float]
KINDS = {  # singular and plural
    "axes": {2: ("a 2D image", "2D images"), 3: ("a volume", "volumes")},
    "components": {1: ("grey", "grey images"), 3: ("in colour", "colour images")},
}
LEVELS = {25: "lower quartile", 50: "median", 75: "upper quartile", 99: "99th percentile"}
TITLES = {**{str(level): f"{name} of its values" for level, name in LEVELS.items()}, "rim": "its rim"}
DARK = 5  # percentile of the darkest values: scanners fill corners with special values
FEW = 2.0  # tolerances grow by 1 + FEW / √cases: a few training images cover less than the full range
COLOURS = ("red", "green", "blue")
GREY = 0.02  # saturation; JPEG adds 0.01 to grey stored as colour


def image_stats(image: sitk.Image) -> ImageStats:
    """Statistics of a raw image.

    axes: 2 or 3; components: 1 grey (in any format), 3 colour; spacing_finest and _coarsest in mm; side_shortest and
    _longest in mm, of photographs in pixels; level_25 … level_99: percentiles of the values, of 2D images of integers
    as fractions of their type's range; contrast: 99th minus 5th percentile; place_25 … place_75: relative positions of
    percentiles between these two, 0..1; place_rim: the same of the outermost pixels of a 2D image; red, green, blue as
    fractions of their sum, and saturation, of colour images. Of a 4D sequence the middle frame is used.
    """
    image = still(image)
    spacing, size = np.array(image.GetSpacing()), np.array(image.GetSize())
    sides = spacing * size
    values = _values(image)  # (N, C)
    saturation = float(np.ptp(values, axis=1).sum() / max(float(values.max(axis=1).sum()), 1e-9))
    stats = {
        "axes": float(image.GetDimension()),
        "components": 3.0 if saturation > GREY else 1.0,
        "spacing_finest": float(spacing.min()),
        "spacing_coarsest": float(spacing.max()),
        "side_shortest": float(sides.min()),
        "side_longest": float(sides.max()),
    }
    grey = values.mean(axis=1)
    dark, *levels = np.percentile(grey, [DARK, *LEVELS]).tolist()
    stats |= {f"level_{q}": level for q, level in zip(LEVELS, levels, strict=True)}
    stats["contrast"] = levels[-1] - dark
    if stats["contrast"] > 0:
        positions = [(level - dark) / stats["contrast"] for level in levels[:-1]]
        stats |= {f"place_{q}": position for q, position in zip(LEVELS, positions, strict=False)}
        if stats["axes"] == 2:
            stats["place_rim"] = (_rim(grey.reshape(shrunk(image).GetSize()[::-1])) - dark) / stats["contrast"]
    total = float(np.abs(values).sum())
    if stats["components"] == len(COLOURS) == values.shape[1] and total > 0:
        stats |= {name: float(values[:, k].sum()) / total for k, name in enumerate(COLOURS)}
        stats["saturation"] = saturation
    return stats


def _rim(grey: npt.NDArray[np.float64]) -> float:
    """Median of the outermost pixels of a 2D image (Y, X)."""
    return float(np.median(np.concatenate([grey[0], grey[-1], grey[:, 0], grey[:, -1]])))


def _values(image: sitk.Image) -> npt.NDArray[np.float64]:
    """Values (N, C) of a small copy, C 1 or 3: 2D images of integers in 0..1, all others unchanged."""
    array = sitk.GetArrayFromImage(shrunk(image))
    if image.GetDimension() == 2 and array.dtype.kind == "u":
        array = photo_array(image)
    return np.asarray(array.reshape(-1, array.shape[-1] if array.ndim > image.GetDimension() else 1), np.float64)


class OutOfDistribution:
    """Review reasons of an image that is unlike the training images. Limits; null disables a comparison:

    spacing_factor and size_factor: allowed factor beyond the training range; intensity_tolerance: allowed distance of
    percentiles beyond their training range, as a fraction of the training images' usual contrast (null if values have
    no unit); contrast_tolerance: the same after normalising each image by its contrast; colour_tolerance: allowed
    difference of colour fractions and saturation.
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
                raise ValueError(f"{name} {limit}: a fraction beyond the training range, at least 0")
        (
            self.spacing_factor,
            self.size_factor,
            self.intensity_tolerance,
            self.contrast_tolerance,
            self.colour_tolerance,
        ) = spacing_factor, size_factor, intensity_tolerance, contrast_tolerance, colour_tolerance

    def __call__(self, image: sitk.Image, known: Mapping[str, Any]) -> list[str]:
        """Review reasons of a raw image, each with its value and the training range; `known`: statistics of its channel
        by `data.fingerprint.image_ranges`."""
        stats, ranges = image_stats(image), known["ranges"]
        wider = 1 + FEW / float(known["cases"]) ** 0.5
        return _kinds(stats, ranges) or [
            *self._sizes(stats, ranges),
            *self._levels(stats, ranges, wider * known["contrast"]),
            *self._positions(stats, ranges, wider),
            *self._colours(stats, ranges, wider),
        ]

    def _sizes(self, stats: ImageStats, ranges: Mapping[str, Any]) -> Iterator[str]:
        unit = "pixels" if stats["axes"] == 2 and stats["spacing_coarsest"] == stats["spacing_finest"] == 1 else "mm"
        for quantity, limit in (("spacing", self.spacing_factor), ("side", self.size_factor)):
            beyond = {}
            for name in [name for name in ranges if name.startswith(f"{quantity}_") and name in stats and limit]:
                low, high = ranges[name]
                beyond[name] = max(stats[name] / max(high, 1e-9), low / max(stats[name], 1e-9))
            if beyond and max(beyond.values()) > (limit or 0):
                name = max(beyond, key=lambda name: beyond[name])
                title = f"{name.partition('_')[2]} {quantity}"
                unit = "mm" if quantity == "spacing" else unit
                yield f"{title} {_number(stats[name])} {unit}, trained on {_span(ranges[name], _number)}"

    def _levels(self, stats: ImageStats, ranges: Mapping[str, Any], unit: float) -> Iterator[str]:
        name, by = _farthest(stats, ranges, "level_")
        if self.intensity_tolerance is not None and by > self.intensity_tolerance * unit:
            title = TITLES[name.partition("_")[2]]
            yield f"{title} {_number(stats[name])}, trained on {_span(ranges[name], _number)}"

    def _positions(self, stats: ImageStats, ranges: Mapping[str, Any], unit: float) -> Iterator[str]:
        name, by = _farthest(stats, ranges, "place_")
        if self.contrast_tolerance is not None and by > self.contrast_tolerance * unit:
            title = TITLES[name.partition("_")[2]]
            yield (
                f"{title} at {stats[name]:.0%} of the way from dark to bright, trained on "
                f"{_span(ranges[name], _percent)}"
            )

    def _colours(self, stats: ImageStats, ranges: Mapping[str, Any], unit: float) -> Iterator[str]:
        for name in (*COLOURS, "saturation") if self.colour_tolerance is not None else ():
            _, by = _farthest(stats, ranges, name)
            if by > (self.colour_tolerance or 0) * unit:
                title = f"share of {name}" if name in COLOURS else name
                yield f"{title} {stats[name]:.0%}, trained on {_span(ranges[name], _percent)}"


def _kinds(stats: ImageStats, ranges: Mapping[str, Any]) -> list[str]:
    """Reasons for another kind of image, which excludes other comparisons."""
    reasons = []
    for name, titles in KINDS.items():
        low, high = ranges[name]
        if not low <= stats[name] <= high:
            usual = min(titles, key=lambda kind: abs(kind - low))
            reasons.append(f"is {titles[round(stats[name])][0]}, trained on {titles[usual][1]}")
    return reasons


def _farthest(stats: ImageStats, ranges: Mapping[str, Any], start: str) -> tuple[str, float]:
    """Of the statistics with the prefix `start`, the one farthest beyond its range, and its distance."""
    beyond = {"": 0.0}
    for name, (low, high) in ranges.items():
        if name.startswith(start) and name in stats:
            beyond[name] = max(stats[name] - high, low - stats[name])
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
