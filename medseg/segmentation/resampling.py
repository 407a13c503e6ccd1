"""Resample probabilities from the network's grid to the input's, plane by plane, and assign labels."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
import SimpleITK as sitk
from scipy import sparse

from medseg.io.labels import Labels
from medseg.typing import ByteArray, Float32Array

BLOCK = 1 << 20  # voxels per block: the block's arrays fit into the CPU cache
SNAP_TOLERANCE = 1e-6  # voxels; positions closer than this to a voxel centre are rounded to it
BlockIndex = tuple[int, slice]  # a plane, and rows of it
MAX_DRIFT = 1e-3  # voxels that an axis may deviate over its whole length
BORDER = 1.5  # voxels; extrapolate this far beyond the outermost centres, 0 further out


@dataclass(frozen=True)
class AxisMap:
    """One axis of a grid, and the positions on it of n voxels along an axis of another grid.

    `axis` is the corresponding array axis (Z, Y, X) of the other grid; `lower` and `upper` (n,) are the neighbours of
    each position, `share` (n,) is the weight of the upper one, 0..1; `inside` (n,) is false beyond the border.
    """

    axis: int
    lower: npt.NDArray[np.intp]
    upper: npt.NDArray[np.intp]
    share: Float32Array
    inside: npt.NDArray[np.bool_]

    @classmethod
    def of(cls, axis: int, positions: npt.NDArray[np.float64], size: int) -> AxisMap:
        """Map positions (n,), in voxels from the first one, on an axis of `size` voxels."""
        nearest = np.rint(positions)
        positions = np.where(np.abs(positions - nearest) < SNAP_TOLERANCE, nearest, positions)
        clamped = np.clip(positions, 0, size - 1)
        lower = np.floor(clamped).astype(np.intp)
        inside = (positions >= -BORDER) & (positions < size - 1 + BORDER)
        return cls(axis, lower, np.minimum(lower + 1, size - 1), (clamped - lower).astype(np.float32), inside)

    def matrix(self, size: int) -> Any:
        """Linear interpolation as a sparse matrix (n, size) with at most two weights per row."""
        weights = np.stack([1 - self.share, self.share], axis=1) * self.inside[:, None]  # (n, 2)
        columns = np.stack([self.lower, self.upper], axis=1)
        bounds = np.arange(0, 2 * len(weights) + 1, 2)
        return sparse.csr_array((weights.ravel(), columns.ravel(), bounds), shape=(len(weights), size))


def axis_maps(grid: sitk.Image, reference: sitk.Image) -> tuple[AxisMap, AxisMap, AxisMap]:
    """Map the axes z, y, x of `grid` to the voxels of `reference`; a 2D image has one plane z.

    Raises `ValueError` if the axes are not parallel: preprocessing may permute, flip, crop and scale, not rotate by
    other angles.
    """
    count = grid.GetDimension()
    grid_axes, reference_axes = (
        np.reshape(image.GetDirection(), (count, count)) * np.array(image.GetSpacing()) for image in (grid, reference)
    )
    turn = np.linalg.solve(grid_axes, reference_axes)  # (grid axis, reference axis), both x, y(, z)
    first = np.linalg.solve(grid_axes, np.subtract(reference.GetOrigin(), grid.GetOrigin()))
    lines = []
    for row, start, size in zip(turn, first, grid.GetSize(), strict=True):
        axis = int(np.abs(row).argmax())
        drift = np.abs(row) * np.subtract(reference.GetSize(), 1)
        drift[axis] = 0
        if drift.sum() > MAX_DRIFT:
            raise ValueError(f"the grids are turned against each other: {turn.tolist()}")
        lines.append(AxisMap.of(2 - axis, start + row[axis] * np.arange(reference.GetSize()[axis]), size))
    if count == 2:
        lines.append(AxisMap.of(0, np.zeros(1), 1))
    return lines[2], lines[1], lines[0]


class OutputLabels(NamedTuple):
    """The labels to assign; `threshold` applies to labels that may overlap."""

    labels: Labels
    threshold: float

    @property
    def rows(self) -> list[int]:
        """Row of each label in an array of probabilities."""
        return [number - (not self.labels.exclusive) for number in self.labels.numbers.values()]

    def decide(self, probabilities: Iterable[Float32Array]) -> ByteArray:
        """Coded mask of probabilities, one array per label."""
        if self.labels.exclusive:
            return most_probable(probabilities, list(self.labels.numbers.values()))
        names = self.labels.numbers
        return self.labels.join(
            {name: probability >= self.threshold for name, probability in zip(names, probabilities, strict=True)}
        )


def resample_to_input(
    planes: Iterator[Float32Array], grid: sitk.Image, reference: sitk.Image, target: OutputLabels, keep: bool = False
) -> tuple[ByteArray, dict[str, Float32Array]]:
    """Interpolate linearly to the grid of `reference`; return the coded mask, and with `keep` each label's probability.

    `planes` are probabilities (K, Y, X) on `grid`, in order along Z. Up to 1.5 voxels beyond the outermost centres the
    nearest voxel is used; further out (a crop) every probability is 0.
    """
    shape = grid_shape(reference)
    coded = np.zeros(shape, np.uint8)
    stored = {name: np.zeros(shape, np.float32) for name in target.labels.numbers} if keep else {}
    for index, turn, resampled in resampled_blocks(planes, grid, reference, target.rows):
        label_probabilities = map(partial(_store, index=index, turn=turn), resampled, stored.values())
        coded.transpose(turn)[index] = target.decide(label_probabilities if keep else resampled)
    output_shape = reference.GetSize()[::-1]
    return coded.reshape(output_shape), {
        name: probability.reshape(output_shape) for name, probability in stored.items()
    }


def grid_shape(reference: sitk.Image) -> tuple[int, ...]:
    """(Z, Y, X) of an image; Z = 1 in 2D."""
    size = reference.GetSize()[::-1]
    return size if len(size) == 3 else (1, *size)


def row_blocks(shape: Sequence[int]) -> list[slice]:
    """Rows of the blocks, of about `BLOCK` pixels each, of a plane of `shape` (Y, X)."""
    step = max(1, BLOCK // max(1, shape[-1]))
    return [slice(first, first + step) for first in range(0, shape[-2], step)]


def resampled_blocks(
    planes: Iterator[Float32Array], grid: sitk.Image, reference: sitk.Image, rows: Sequence[int]
) -> Iterator[tuple[BlockIndex, tuple[int, int, int], Iterator[Float32Array]]]:
    """Yield blocks of the grid of `reference`: each row of `planes` (K, Y, X) interpolated, a small array at a time.

    A block belongs at `array.transpose(turn)[index]` of an array (Z, Y, X); its rows must be read before the next one.
    """
    z, y, x = axis_maps(grid, reference)
    turn = (z.axis, y.axis, x.axis)
    across, blocks = x.matrix(grid.GetSize()[0]), _blocks(y, grid.GetSize()[1], len(x.inside))
    for number, plane in _along(planes, z):
        for block, needed, weights in blocks:
            yield (number, block), turn, _interpolated(plane, rows, needed, (weights, across))


def _interpolated(
    plane: Float32Array, rows: Sequence[int], needed: slice, weights: tuple[Any, Any]
) -> Iterator[Float32Array]:
    along, across = weights
    return ((along @ (across @ plane[row, needed].T).T) for row in rows)


def _store(
    probability: Float32Array, store: Float32Array, index: BlockIndex, turn: tuple[int, int, int]
) -> Float32Array:
    store.transpose(turn)[index] = probability
    return probability


def _blocks(line: AxisMap, size: int, width: int) -> list[tuple[slice, slice, Any]]:
    """Blocks of about `BLOCK` voxels of a plane: target rows, source rows, and interpolation weights."""
    weights, step = line.matrix(size), max(1, BLOCK // width)
    blocks = []
    for first in range(0, len(line.inside), step):
        rows = slice(first, first + step)
        needed = slice(int(line.lower[rows].min()), int(line.upper[rows].max()) + 1)
        blocks.append((rows, needed, weights[rows, needed]))
    return blocks


def _along(planes: Iterator[Float32Array], line: AxisMap) -> Iterator[tuple[int, Float32Array]]:
    """Yield the plane (K, Y, X) at each position of an axis, with its index, in an order that reads `planes` once."""
    held: dict[int, Float32Array] = {}
    count = 0
    for number in np.lexsort((line.share, line.lower)):
        lower, upper, share = line.lower[number], line.upper[number], line.share[number]
        while count <= (upper if share else lower):
            held[count] = next(planes)
            count += 1
        for old in [index for index in held if index < lower]:
            del held[old]
        if not line.inside[number]:
            yield int(number), np.zeros_like(held[lower])
        else:
            yield int(number), held[lower] * (1 - share) + held[upper] * share if share else held[lower]


def most_probable(probabilities: Iterable[Float32Array], numbers: Sequence[int]) -> ByteArray:
    """Number of the most probable label per voxel; 0 if the background, 1 − their sum, is at least as probable."""
    best = result = background = None
    for number, probability in zip(numbers, probabilities, strict=True):
        if best is None or result is None or background is None:
            best, result, background = (
                probability.copy(),
                np.full(probability.shape, number, np.uint8),
                1.0 - probability,
            )
        else:
            result[probability > best] = number
            background -= probability
            np.maximum(best, probability, out=best)
    assert result is not None
    assert best is not None
    assert background is not None
    result[background >= best] = 0
    return result
