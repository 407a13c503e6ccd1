"""Canvas of a phantom: converts signed distances to Hounsfield units with partial volume."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import SimpleITK as sitk
from numpy.typing import ArrayLike, NDArray

from medseg.typing import Float32Array


class Grid(NamedTuple):
    """Open coordinate grids in mm: x (1, 1, X), y (1, Y, 1), z (Z, 1, 1), or broadcast; left, posterior, superior."""

    x: Float32Array
    y: Float32Array
    z: Float32Array


def smoothstep(value: NDArray[np.floating], start: float, stop: float) -> Float32Array:
    """0 at `start`, 1 at `stop` (which may be smaller), a cubic without kinks between; any shape."""
    t = np.clip((value - start) / (stop - start), 0, 1)
    return np.asarray(t * t * (3 - 2 * t), np.float32)


def ellipsoid(grid: Grid, centre: ArrayLike, radii: ArrayLike, power: float = 2.0) -> Float32Array:
    """Approximate signed distance (mm, negative inside) to a superellipsoid; an infinite radius makes a cylinder."""
    c, r = np.asarray(centre, np.float32), np.asarray(radii, np.float32)
    q = [np.abs((axis - c[i]) / r[i]) for i, axis in enumerate(grid)]
    norm = sum_power(q, power)
    # distance = (norm - 1) / |gradient of norm|, first order around the surface
    slope = np.sqrt(sum((qi ** (2 * power - 2) / r[i] ** 2 for i, qi in enumerate(q)), np.float32(0)))
    return np.asarray((norm - 1) * norm ** (power - 1) / np.maximum(slope, 1e-3), np.float32)


def sum_power(values: list[Float32Array], power: float) -> Float32Array:
    """The `power`-norm over a list of broadcastable arrays."""
    return np.asarray(sum((v**power for v in values), np.float32(1e-9)) ** (1 / power), np.float32)


def blend(first: Float32Array, second: Float32Array, radius: float) -> Float32Array:
    """Union of two signed distances with the crease filled over about `radius` mm (polynomial smooth minimum)."""
    gap = np.maximum(radius - np.abs(first - second), 0)
    return np.asarray(np.minimum(first, second) - gap * gap / (4 * radius), np.float32)


class Canvas:
    """An image in HU with the coordinates of the body and of the scanner.

    `body` is the grid in which the anatomy is described: the scanner's grid shifted by `offset` (mm), rotated about the
    long axis by `turn` (radians) and divided by `scale`. Edges are one voxel wide, which is the partial volume effect.
    """

    def __init__(
        self,
        size: tuple[int, int, int],
        spacing: tuple[float, float, float],
        offset: tuple[float, float, float],
        turn: float,
        scale: float,
    ) -> None:
        self.spacing = spacing
        self.origin = tuple(-(n - 1) / 2 * d for n, d in zip(size, spacing, strict=True))
        x, y, z = (
            np.asarray(o + d * np.arange(n), np.float32) for n, d, o in zip(size, spacing, self.origin, strict=True)
        )
        self.scanner = Grid(x[None, None, :], y[None, :, None], z[:, None, None])
        self.hu: Float32Array = np.full(size[::-1], -1000, np.float32)  # (Z, Y, X)
        self.blur = float(np.mean(spacing))
        self.scale = scale
        self._offset = np.asarray(offset, np.float64)
        c, s = float(np.cos(turn)), float(np.sin(turn))
        self._turn = np.array([[c, -s, 0], [s, c, 0], [0, 0, 1]])
        x, y, z = ((axis - o) / scale for axis, o in zip(self.scanner, offset, strict=True))
        self.body = Grid(c * x + s * y, c * y - s * x, z)

    def coverage(self, distance: Float32Array) -> Float32Array:
        """Share of each voxel inside a surface given by signed distances in body mm."""
        return np.asarray(np.clip(0.5 - distance * (self.scale / self.blur), 0, 1), np.float32)

    def paint(self, distance: Float32Array, hu: float | Float32Array) -> None:
        """Fill the inside of a surface (signed distance in body mm) with `hu`."""
        self.hu += self.coverage(distance) * (hu - self.hu)

    def to_scanner(self, points: ArrayLike) -> NDArray[np.float64]:
        """Body mm to scanner mm, points (..., 3)."""
        moved: NDArray[np.float64] = np.asarray(points, np.float64) * self.scale @ self._turn.T + self._offset
        return moved

    def voxel_centres(self, indices: NDArray[np.integer]) -> NDArray[np.float64]:
        """Scanner mm (..., 3) as x, y, z of voxels (..., 3) given as z, y, x."""
        return np.asarray(indices[..., ::-1] * np.array(self.spacing) + np.array(self.origin), np.float64)

    def capsule(self, start: ArrayLike, stop: ArrayLike, radius: float, hu: float) -> None:
        """Paint a rod with round ends, in scanner mm; changes only the voxels around it."""
        a, b = np.asarray(start, np.float64), np.asarray(stop, np.float64)
        reach = radius + self.blur
        window = []
        for axis, d, o, n in zip((0, 1, 2), self.spacing, self.origin, self.hu.shape[::-1], strict=True):
            low = int(np.ceil((min(a[axis], b[axis]) - reach - o) / d))
            high = int(np.floor((max(a[axis], b[axis]) + reach - o) / d)) + 1
            window.append(slice(min(max(low, 0), n), min(max(high, 0), n)))
        p = [
            self.scanner.x[:, :, window[0]] - np.float32(a[0]),
            self.scanner.y[:, window[1], :] - np.float32(a[1]),
            self.scanner.z[window[2]] - np.float32(a[2]),
        ]
        along = (b - a).astype(np.float32)
        t = sum((pi * ai for pi, ai in zip(p, along, strict=True)), np.float32(0)) / max(float(along @ along), 1e-6)
        t = np.clip(t, 0, 1)
        distance = np.sqrt(sum(((pi - t * ai) ** 2 for pi, ai in zip(p, along, strict=True)), np.float32(0)))
        # a rod thinner than a voxel fills only a fraction of it
        thin = min(1.0, 2 * radius / self.blur)
        cover = np.clip(0.5 + (radius - distance) / self.blur, 0, 1) * thin
        window_hu = self.hu[window[2], window[1], window[0]]
        window_hu += cover * (hu - window_hu)

    def image(self, array: NDArray[np.generic]) -> sitk.Image:
        """An array (Z, Y, X) as an image with this canvas's geometry (LPS, identity direction)."""
        image_ = sitk.GetImageFromArray(array)
        image_.SetSpacing(self.spacing)
        image_.SetOrigin(self.origin)
        return image_
