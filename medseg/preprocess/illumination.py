"""Illumination correction inside the field of view: background, homomorphic filter, adaptive histogram equalisation.

Images are in 0..1, grey or colour; slices of a volume are processed one by one. Outside the field they become 0, like
padding, so that the field can still be detected afterwards.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import cv2
import numpy as np
import numpy.typing as npt
import SimpleITK as sitk
from scipy import ndimage

from medseg.errors import ImageError
from medseg.preprocess.colour import from_lab, to_lab
from medseg.preprocess.intensity import like_image
from medseg.typing import BoolArray, Float32Array

cv2.setNumThreads(0)  # its pool conflicts with torch's

Field = Callable[[sitk.Image], sitk.Image]
Change = Callable[
    [Float32Array, BoolArray], Float32Array
]  # one plane (Y, X, C) and its field (Y, X) → the plane changed
SMALL = {"gaussian": 128, "median": 96}  # pixels of the longer side of the copy for the background
WINDOW = 8  # minimum pixels of a window on that copy
BINS = 256  # of a tile's histogram: the levels of an 8-bit photograph


class Background:
    """Divide by, or subtract, the low-frequency background; the mean inside the field is unchanged.

    The background is a median or a Gaussian-weighted straight fit over `size` times the field's width, of `each`
    channel or of the CIE `lightness` alone. Division had the lowest variation of a comparison on fundus photographs
    (PMC4335144); it removes a gain, subtraction an additive glow.
    """

    def __init__(
        self,
        mode: str = "divide",
        kind: str = "gaussian",
        size: float = 0.15,
        field: Field | None = None,
        channels: str = "each",
    ) -> None:
        if mode not in ("divide", "subtract") or kind not in SMALL:
            raise ValueError(f"mode {mode!r}, kind {kind!r}: must be divide or subtract, gaussian or median")
        if not 0 < size <= 2:
            raise ValueError(f"size {size}: a share of the field's width, must be above 0 and at most 2")
        self.mode, self.kind, self.size, self.field, self.channels = mode, kind, size, field, _known(channels)

    def __call__(self, image: sitk.Image) -> sitk.Image:
        """Image in 0..1 → image in 0..1."""
        return _by_plane(image, self.field, self.channels, self._even)

    def _even(self, values: Float32Array, inside: BoolArray) -> Float32Array:
        slow = background(values, inside, self.size, self.kind)
        level = _mean(values, inside)
        if self.mode == "subtract":
            detail = values - slow
            return np.asarray(detail + (level - _mean(detail, inside)), np.float32)
        flat = values / np.maximum(slow, np.maximum(0.05 * level, 1e-4))  # at most 20 times brighter: beyond is noise
        return np.asarray(flat * (level / np.maximum(_mean(flat, inside), 1e-4)), np.float32)


class Graham:
    """4·I − 4·G(I, r/30) + ½ inside the field, r its radius: equalises light and colours of cameras, and amplifies
    small structures four times (Graham 2015; there the surround is ½, here 0)."""

    def __init__(self, field: Field | None = None, gain: float = 4.0, share: float = 1 / 30) -> None:
        if gain <= 0 or not 0 < share <= 1:
            raise ValueError(f"gain {gain}, share {share}: the gain must be above 0, the share of the radius in 0..1")
        self.field, self.gain, self.share = field, gain, share

    def __call__(self, image: sitk.Image) -> sitk.Image:
        """Image in 0..1 → image in 0..1."""
        # σ is half of size · width there, so share · radius
        return _by_plane(
            image,
            self.field,
            "each",
            lambda values, inside: self.gain * (values - background(values, inside, self.share, "gaussian")) + 0.5,
        )


class Homomorphic:
    """Homomorphic filter (Oppenheim): low frequencies of the logarithm times `light`, high ones times `detail`."""

    def __init__(
        self,
        light: float = 0.5,
        detail: float = 1.0,
        size: float = 0.15,
        field: Field | None = None,
        channels: str = "each",
    ) -> None:
        if light < 0 or detail <= 0 or not 0 < size <= 2:
            raise ValueError(f"light {light}, detail {detail}, size {size}: must not be negative; size is at most 2")
        self.light, self.detail, self.size, self.field, self.channels = light, detail, size, field, _known(channels)

    def __call__(self, image: sitk.Image) -> sitk.Image:
        """Image in 0..1 → image in 0..1, the mean of the logarithm inside the field is unchanged."""
        return _by_plane(image, self.field, self.channels, self._filter)

    def _filter(self, values: Float32Array, inside: BoolArray) -> Float32Array:
        logs = np.log(values + np.float32(0.01))
        slow = background(logs, inside, self.size, "gaussian")
        level = _mean(slow, inside)
        mapped = np.exp(self.light * (slow - level) + level + self.detail * (logs - slow))
        return np.asarray(mapped - np.float32(0.01), np.float32)


class Clahe:
    """Contrast limited adaptive histogram equalisation (Zuiderveld 1994), of colour on CIE lightness alone.

    Only pixels of the field count in a tile's histogram. Contrast rises by `clip` + 1 at most, whatever the size of the
    image; there are `tiles` tiles along each side.
    """

    def __init__(self, clip: float = 2.0, tiles: int = 8, field: Field | None = None) -> None:
        if clip < 1 or tiles < 1:
            raise ValueError(f"clip {clip}, tiles {tiles}: both must be at least 1")
        self.clip, self.tiles, self.field = float(clip), int(tiles), field

    def __call__(self, image: sitk.Image) -> sitk.Image:
        """Image in 0..1 → image in 0..1."""
        return _by_plane(image, self.field, "lightness", self._equalise)

    def _equalise(self, values: Float32Array, inside: BoolArray) -> Float32Array:
        plane = np.clip(values[..., 0], 0, 1)
        tiles = min(self.tiles, *plane.shape)
        rows, columns = (np.linspace(0, size, tiles + 1).round().astype(int) for size in plane.shape)
        curves = _curves(plane, inside, rows, columns, self.clip)
        return _blend(plane, curves, rows, columns)[..., None]


def background(values: Float32Array, inside: BoolArray, size: float, kind: str) -> Float32Array:
    """Low-frequency part of values (Y, X, C) inside a field (Y, X), from a downscaled copy without the surround.

    `size` is a share of the longer side of the field: twice the Gaussian's σ, or the side of the median's window.
    """
    spans = [np.flatnonzero(inside.max(axis)) for axis in (0, 1)]
    width = max(int(span[-1] - span[0]) + 1 if len(span) else max(inside.shape) for span in spans)
    factor = max(1.0, min(max(inside.shape) / SMALL[kind], size * width / WINDOW))
    shape = [max(1, round(length / factor)) for length in inside.shape[::-1]]  # x y
    weight = inside.astype(np.float32)
    coverage = np.asarray(cv2.resize(weight, shape, interpolation=cv2.INTER_AREA), np.float32)
    small = cv2.resize(values if inside.all() else values * weight[..., None], shape, interpolation=cv2.INTER_AREA)
    sums = np.asarray(small, np.float32).reshape(*coverage.shape, -1)  # (y, x, C), cv2 drops a last axis of 1
    window = max(1.0, size * width / factor)
    slow = np.stack([_slow(sums[..., channel], coverage, window, kind) for channel in range(sums.shape[-1])], axis=-1)
    full = cv2.resize(slow, inside.shape[::-1], interpolation=cv2.INTER_LINEAR)
    return np.asarray(full, np.float32).reshape(values.shape)


def _slow(sums: Float32Array, coverage: Float32Array, window: float, kind: str) -> Float32Array:
    fitted = _local_linear_fit(sums, coverage, window / 2)
    if kind == "gaussian":
        return fitted
    # outside the field the linear fit continues, so that windows there are neither black nor one-sided
    margin = round(window) // 2 + 1
    beyond = _local_linear_fit(np.pad(sums, margin), np.pad(coverage, margin), window / 4)
    known = np.pad(coverage, margin) > 0.5
    filled = np.where(known, np.pad(sums, margin) / np.maximum(np.pad(coverage, margin), 0.5), beyond)
    middle = (slice(margin, -margin),) * 2
    return np.asarray(ndimage.median_filter(filled, max(3, round(window)))[middle], np.float32)


def _local_linear_fit(sums: Float32Array, coverage: Float32Array, sigma: float) -> Float32Array:
    """Linear fit around every pixel with Gaussian weights (Knutsson and Westin 1993), from weighted values (Y, X).

    Well inside it is the Gaussian mean; at the rim, where that mean is biased inwards, a ramp is still reproduced.
    """
    y, x = (axis / sigma for axis in np.indices(coverage.shape))

    def mean(values: npt.NDArray[np.floating[Any]]) -> npt.NDArray[np.float64]:
        return np.asarray(ndimage.gaussian_filter(values.astype(np.float64), sigma, mode="constant"))

    total = np.maximum(mean(coverage), 1e-9)
    mx, my, mv = (mean(weighted) / total for weighted in (coverage * x, coverage * y, sums))
    # moments about the local mean; with little coverage the small ridge term turns the fit into a mean
    xx, yy = (mean(coverage * axis * axis) / total - m * m + 0.01 for axis, m in ((x, mx), (y, my)))
    xy = mean(coverage * x * y) / total - mx * my
    vx, vy = (mean(sums * axis) / total - mv * m for axis, m in ((x, mx), (y, my)))
    spread = xx * yy - xy * xy
    slope_x, slope_y = (vx * yy - vy * xy) / spread, (vy * xx - vx * xy) / spread
    # far outside the field the values are not used
    return np.asarray(mv + slope_x * np.clip(x - mx, -2, 2) + slope_y * np.clip(y - my, -2, 2), np.float32)


def _curves(
    plane: Float32Array, inside: BoolArray, rows: npt.NDArray[np.int_], columns: npt.NDArray[np.int_], clip: float
) -> npt.NDArray[np.float64]:
    """Mapping of levels per tile: the cumulative clipped histogram at the edges of the bins (T, T, BINS + 1)."""
    tiles = len(rows) - 1
    levels = np.minimum(plane * BINS, BINS - 1).astype(np.uint8)
    curves = np.zeros((tiles, tiles, BINS + 1))
    empty = np.ones((tiles, tiles), np.bool_)
    for row, column in np.ndindex(tiles, tiles):
        tile = slice(rows[row], rows[row + 1]), slice(columns[column], columns[column + 1])
        counts = np.bincount(levels[tile][inside[tile]], minlength=BINS).astype(np.float64)
        total = counts.sum()
        if total < 0.02 * inside[tile].size or total == 0:
            continue
        limit = clip * total / BINS
        counts = np.minimum(counts, limit) + np.maximum(counts - limit, 0).sum() / BINS
        curves[row, column, 1:] = counts.cumsum() / total
        empty[row, column] = False
    # a tile outside the field uses the nearest tile's curve
    nearest = ndimage.distance_transform_edt(empty, return_distances=False, return_indices=True)
    return np.asarray(curves[tuple(nearest)])


def _blend(
    plane: Float32Array, curves: npt.NDArray[np.float64], rows: npt.NDArray[np.int_], columns: npt.NDArray[np.int_]
) -> Float32Array:
    """Map every pixel by the four tiles around it, interpolated bilinearly."""
    fine = 4096  # steps of a look-up table: between the bins' edges curves are straight
    steps = np.linspace(0, BINS, fine)
    tables = np.apply_along_axis(lambda curve: np.interp(steps, np.arange(BINS + 1), curve), -1, curves)
    tables = tables.astype(np.float32)  # (T, T, fine)
    index = (plane * (fine - 1) + 0.5).astype(np.uint16)
    result = np.empty_like(plane)
    tiles = len(rows) - 1
    (y_cuts, y_share), (x_cuts, x_share) = (_between(edges) for edges in (rows, columns))
    for row, column in np.ndindex(tiles + 1, tiles + 1):
        block = slice(y_cuts[row], y_cuts[row + 1]), slice(x_cuts[column], x_cuts[column + 1])
        up, down = max(row - 1, 0), min(row, tiles - 1)
        left, right = max(column - 1, 0), min(column, tiles - 1)
        wy, wx = y_share[block[0], None], x_share[None, block[1]]
        levels = index[block]
        above = tables[up, left][levels] * (1 - wx) + tables[up, right][levels] * wx
        below = tables[down, left][levels] * (1 - wx) + tables[down, right][levels] * wx
        result[block] = above * (1 - wy) + below * wy
    return result


def _between(edges: npt.NDArray[np.int_]) -> tuple[list[int], Float32Array]:
    """Cuts at the centres of tiles, and per pixel its relative position between two centres, 0..1."""
    centres = (edges[1:] + edges[:-1] - 1) / 2
    cuts = [0, *(int(np.ceil(centre)) for centre in centres), int(edges[-1])]
    positions = np.arange(edges[-1])
    share = np.interp(positions, centres, np.arange(len(centres)))
    before = np.searchsorted(np.ceil(centres), positions, side="right") - 1
    return cuts, np.clip(share - before, 0, 1).astype(np.float32)


def _known(channels: str) -> str:
    if channels not in ("each", "lightness"):
        raise ValueError(f"channels {channels!r}: must be each or lightness")
    return channels


def _mean(values: Float32Array, inside: BoolArray) -> Float32Array:
    """Mean (C,) of values (Y, X, C) inside the field."""
    return np.asarray(cv2.mean(values, inside.astype(np.uint8))[: values.shape[-1]], np.float32)


def _by_plane(image: sitk.Image, field: Field | None, channels: str, change: Change) -> sitk.Image:
    """Change each plane of an image in 0..1, colour by its channels or by its lightness; 0 outside the field."""
    colour = image.GetNumberOfComponentsPerPixel()
    values = sitk.GetArrayFromImage(image).astype(np.float32, copy=False)
    if not -0.01 <= float(values.min()) <= float(values.max()) <= 1.01:
        raise ImageError(
            f"illumination correction needs values in 0..1, this image has {values.min():g}..{values.max():g}: "
            "put Photo, Window or Percentiles before this step",
            code="image-range",
        )
    if colour not in (1, 3):
        raise ImageError(
            f"has {colour} channels, not 1 or 3: select them with Channel or ToGrey", code="image-channels"
        )
    planes = values.reshape(-1, *values.shape[values.ndim - (3 if colour > 1 else 2) :][:2], colour)  # (Z, Y, X, C)
    inside = np.ones(planes.shape[:-1], np.bool_)
    if field is not None:
        mask = sitk.GetArrayFromImage(field(image)).reshape(inside.shape) > 0
        inside = mask if mask.any() else inside
    for plane, plane_inside in zip(planes, inside, strict=True):
        if plane_inside.any() and colour > 1 and channels == "lightness":
            lab = to_lab(plane)
            lab[..., :1] = np.clip(change(lab[..., :1] / np.float32(100), plane_inside), 0, 1) * 100
            plane[:] = from_lab(lab)
        elif plane_inside.any():
            plane[:] = change(plane, plane_inside)
    planes = np.clip(planes, 0, 1, out=planes) * inside[..., None]
    return like_image(planes.reshape(values.shape), image)
