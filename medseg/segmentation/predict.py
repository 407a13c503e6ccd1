"""From an image of any size to probabilities, tile by tile."""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt
import SimpleITK as sitk
import torch
from torch import Tensor, nn

from medseg.data.image import to_array
from medseg.segmentation.unet import UNet

Array = npt.NDArray[np.float32]
LITTLE = 1.25


@dataclass(frozen=True)
class Tiling:
    """How an image is cut: `patch` in network order (y, x) or (z, y, x), overlap of neighbours as a share."""

    patch: tuple[int, ...]
    overlap: float = 0.5
    batch: int = 8
    mirror: tuple[int, ...] = ()  # spatial axes, counted from 0 = first of `patch`, that are averaged mirrored
    multiple: int = 1  # of which every size of a tile must be one: 2^depth
    context: int = 0  # slices on each side that a 2D network sees with each slice, as channels
    exclusive: bool = True  # softmax over labels and background; else a sigmoid for each label

    def fitted(self, sizes: Sequence[int]) -> Tiling:
        """With a tile that takes an axis whole where the image is little larger than the patch: 1 tile instead of 4."""
        patch = [
            -(-size // self.multiple) * self.multiple if patch < size <= LITTLE * patch else patch
            for size, patch in zip(sizes, self.patch, strict=True)
        ]
        return replace(self, patch=tuple(patch))

    def starts(self, sizes: Sequence[int]) -> list[tuple[int, ...]]:
        """First index of every tile: evenly spread, steps of at most (1 − overlap) · patch."""
        axes = []
        for size, patch in zip(sizes, self.patch, strict=True):
            step = max(1, int(patch * (1 - self.overlap)))
            count = 1 if size <= patch else -(-(size - patch) // step) + 1
            axes.append([round(i * (size - patch) / max(count - 1, 1)) for i in range(count)])
        return list(itertools.product(*axes))


@torch.inference_mode()
def predict(network: nn.Module, image: Array, tiling: Tiling, device: torch.device) -> Array:
    """Probabilities (K, Z, Y, X) of an image (C, Z, Y, X); a 2D network takes the slices along Z."""
    network.eval()
    flat = len(tiling.patch) == 2
    stack = image.transpose(1, 0, 2, 3) if flat else image[None]  # (N, C, *S)
    tiling = tiling.fitted(stack.shape[2:])
    padded, inner = _pad(stack, tiling.patch)
    sizes = padded.shape[2:]
    starts = tiling.starts(sizes)
    weight = _gaussian(tiling.patch) if len(starts) > 1 else np.ones(tiling.patch, np.float32)
    total = np.zeros(sizes, np.float32)
    for start in starts:
        total[_window(start, tiling.patch)] += weight
    result: Array | None = None
    for tiles in _batches([(n, start) for n in range(len(padded)) for start in starts], tiling.batch):
        batch = np.stack([_shown(padded, n, tiling.context * flat, _window(start, tiling.patch)) for n, start in tiles])
        probability = _mirrored(network, torch.from_numpy(batch).to(device), tiling).float().cpu().numpy()
        if result is None:
            result = np.zeros((len(padded), probability.shape[1], *sizes), np.float32)
        for (n, start), values in zip(tiles, probability, strict=True):
            window = _window(start, tiling.patch)
            result[n][(slice(None), *window)] += values * (weight / total[window])
    assert result is not None
    result = result[(slice(None), slice(None), *inner)]
    return np.ascontiguousarray(result.transpose(1, 0, 2, 3) if flat else result[0])  # (K, Z, Y, X)


@torch.inference_mode()
def encode(network: UNet, image: Array, tiling: Tiling, device: torch.device) -> Array:
    """The encoder's deepest level (W, z, y, x) of an image (C, Z, Y, X), tile beside tile without overlap.

    Each axis that the network shrinks has Z/2^depth cells, rounded up to whole tiles: zeros are added at its end. A 2D
    network takes the slices along Z.
    """
    network.eval()
    flat = len(tiling.patch) == 2
    stack = image.transpose(1, 0, 2, 3) if flat else image[None]  # (N, C, *S)
    patch = tiling.fitted(stack.shape[2:]).patch
    gaps = [-size % tile for size, tile in zip(stack.shape[2:], patch, strict=True)]
    stack = np.pad(stack, [(0, 0), (0, 0), *((0, gap) for gap in gaps)])
    starts = list(itertools.product(*(range(0, size, p) for size, p in zip(stack.shape[2:], patch, strict=True))))
    cells = [size // tiling.multiple for size in stack.shape[2:]]
    result: Array | None = None
    for tiles in _batches([(n, start) for n in range(len(stack)) for start in starts], tiling.batch):
        batch = np.stack([_shown(stack, n, tiling.context * flat, _window(start, patch)) for n, start in tiles])
        deepest = network.encode(torch.from_numpy(batch).to(device))[-1].float().cpu().numpy()
        if result is None:
            result = np.zeros((len(stack), deepest.shape[1], *cells), np.float32)
        for (n, start), values in zip(tiles, deepest, strict=True):
            place = _window(tuple(s // tiling.multiple for s in start), values.shape[1:])
            result[n][(slice(None), *place)] = values
    assert result is not None
    return np.ascontiguousarray(result.transpose(1, 0, 2, 3) if flat else result[0])


def _shown(stack: Array, number: int, context: int, window: tuple[slice, ...]) -> Array:
    """A tile of one of a stack's parts (C, *patch), with the parts on both sides (C·(2·context + 1), *patch)."""
    if context == 0:
        return np.asarray(stack[number][(slice(None), *window)])
    blank = np.zeros_like(stack[number][(slice(None), *window)])
    around = range(number - context, number + context + 1)
    parts = [stack[n][(slice(None), *window)] if 0 <= n < len(stack) else blank for n in around]
    return np.concatenate(np.stack(parts, axis=1))  # channel by channel, its slices in order


def _mirrored(network: nn.Module, batch: Tensor, tiling: Tiling) -> Tensor:
    """Mean probability over all combinations of mirrored axes, (B, K, *S)."""
    mirror = tiling.mirror
    flips = [c for count in range(len(mirror) + 1) for c in itertools.combinations(mirror, count)]
    total: Tensor | None = None
    for flip in flips:
        axes = [axis + 2 for axis in flip]
        logits = network(batch.flip(axes)).float()
        probability = (logits.softmax(1) if tiling.exclusive else logits.sigmoid()).flip(axes)
        total = probability if total is None else total + probability
    assert total is not None
    return total / len(flips)


def _pad(stack: Array, patch: tuple[int, ...]) -> tuple[Array, tuple[slice, ...]]:
    """Zero-pad each spatial axis to at least the patch; also the slices that undo it."""
    missing = [max(0, p - size) for p, size in zip(patch, stack.shape[2:], strict=True)]
    before = [gap // 2 for gap in missing]
    inner = tuple(slice(b, b + size) for b, size in zip(before, stack.shape[2:], strict=True))
    if not any(missing):
        return stack, inner
    pads = [(0, 0), (0, 0), *((b, gap - b) for b, gap in zip(before, missing, strict=True))]
    return np.pad(stack, pads), inner


def _gaussian(patch: tuple[int, ...]) -> Array:
    """Weight of a tile's voxels: a Gaussian of σ = size/8 about its centre, never zero (Isensee et al. 2021)."""
    weight = np.ones(patch, np.float64)
    for axis, size in enumerate(patch):
        profile = np.exp(-0.5 * ((np.arange(size) - (size - 1) / 2) / (size / 8)) ** 2)
        weight *= profile.reshape([-1 if a == axis else 1 for a in range(len(patch))])
    floored: Array = np.maximum(weight / weight.max(), 1e-3).astype(np.float32)
    return floored


def _window(start: tuple[int, ...], patch: tuple[int, ...]) -> tuple[slice, ...]:
    return tuple(slice(s, s + p) for s, p in zip(start, patch, strict=True))


def _batches(items: list[tuple[int, tuple[int, ...]]], size: int) -> Iterator[list[tuple[int, tuple[int, ...]]]]:
    for first in range(0, len(items), size):
        yield items[first : first + size]


class TiledNetwork:
    """A network with its tiles and device, behind the face that segmenters without training have as well."""

    def __init__(self, network: nn.Module, tiling: Tiling, device: torch.device, context: torch.autocast) -> None:
        self.network, self.tiling, self.device, self.context = network.to(device).eval(), tiling, device, context

    def predict(self, images: dict[str, sitk.Image]) -> Array:
        """Preprocessed channels on one grid → probabilities (K, Z, Y, X), background first where exclusive."""
        array = np.concatenate([to_array(image) for image in images.values()])  # (C, Z, Y, X)
        with self.context:
            return predict(self.network, array, self.tiling, self.device)

    def encode(self, images: dict[str, sitk.Image]) -> Array:
        """Preprocessed channels on one grid → the encoder's deepest level, as `encode` says."""
        array = np.concatenate([to_array(image) for image in images.values()])
        assert isinstance(self.network, UNet)
        with self.context:
            return encode(self.network, array, self.tiling, self.device)
