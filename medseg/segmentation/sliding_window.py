"""Sliding-window inference: from an image of any size to probabilities, tile by tile."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace

import numpy as np
import SimpleITK as sitk
import torch
from torch import Tensor, nn

from medseg.errors import ImageError
from medseg.io.image import array_view
from medseg.segmentation.unet import UNet
from medseg.typing import Float32Array

WHOLE_IMAGE_FACTOR = 1.25  # axes up to this many times the patch size are not tiled


@dataclass(frozen=True)
class Tiling:
    """How an image is tiled: `patch` in network order (y, x) or (z, y, x), overlap of neighbours as a fraction."""

    patch: tuple[int, ...]
    overlap: float = 0.5
    batch: int = 8
    mirror: tuple[int, ...] = ()  # spatial axes (0 = first of `patch`) over whose flips predictions are averaged
    multiple: int = 1  # tile sizes must be multiples of this: 2^depth
    context: int = 0  # neighbouring slices on each side that a 2D network gets as channels
    exclusive: bool = True  # softmax over labels and background; else a sigmoid for each label

    def fitted(self, sizes: Sequence[int]) -> Tiling:
        """Enlarge the tile to the whole axis if the image is little larger than the patch: 1 tile instead of 4."""
        patch = [
            -(-size // self.multiple) * self.multiple if patch < size <= WHOLE_IMAGE_FACTOR * patch else patch
            for size, patch in zip(sizes, self.patch, strict=True)
        ]
        return replace(self, patch=tuple(patch))

    def starts(self, sizes: Sequence[int]) -> list[tuple[int, ...]]:
        """First index of every tile: evenly spaced, in steps of at most (1 − overlap) · patch."""
        axes = []
        for size, patch in zip(sizes, self.patch, strict=True):
            step = max(1, int(patch * (1 - self.overlap)))
            count = 1 if size <= patch else -(-(size - patch) // step) + 1
            axes.append([round(i * (size - patch) / max(count - 1, 1)) for i in range(count)])
        return list(itertools.product(*axes))


def stack_planes(planes: Iterable[Float32Array], depth: int) -> Float32Array:
    """Stack planes (K, Y, X) into one array (K, Z, Y, X), Z being `depth`."""
    result: Float32Array | None = None
    for z, plane in enumerate(planes):
        if result is None:
            result = np.empty((len(plane), depth, *plane.shape[1:]), np.float32)
        result[:, z] = plane
    assert result is not None
    return result


def iter_planes(
    infer: Callable[[Float32Array], Float32Array], channels: Sequence[Float32Array], tiling: Tiling
) -> Iterator[Float32Array]:
    """Yield probabilities (K, Y, X) plane by plane along Z, each as soon as no further tile covers it.

    `infer` maps tiles (B, C, *patch) to probabilities (B, K, *patch); `channels` are arrays (C, Z, Y, X). Memory holds
    only the planes of unfinished tiles: one for a 2D network, which processes slices along Z, the depth of a patch for
    a 3D network.
    """
    sizes = channels[0].shape[1:]
    flat = len(tiling.patch) == 2
    tiling = tiling.fitted(sizes[1:] if flat else sizes)
    patch = (1, *tiling.patch) if flat else tiling.patch  # (z, y, x)
    padded = [max(size, p) for size, p in zip(sizes, patch, strict=True)]
    offsets = [(full - size) // 2 for full, size in zip(padded, sizes, strict=True)]
    inner = (slice(None), *(slice(b, b + size) for b, size in zip(offsets[1:], sizes[1:], strict=True)))
    starts = [(z, *s) for z in range(sizes[0]) for s in tiling.starts(padded[1:])] if flat else tiling.starts(padded)
    weight = (_gaussian if len(starts) > (sizes[0] if flat else 1) else _uniform)(tiling.patch).reshape(patch)
    open_planes: dict[int, _Plane] = {}
    done = 0
    for first in range(0, len(starts), tiling.batch):
        tiles = starts[first : first + tiling.batch]
        corners = [tuple(s - b for s, b in zip(start, offsets, strict=True)) for start in tiles]
        values = infer(np.stack([_tile(channels, corner, tiling) for corner in corners]))  # (B, K, *patch)
        for (_, *start), (z, *_), value in zip(tiles, corners, values, strict=True):
            layers = value.reshape(len(value), *patch)  # (K, z, y, x)
            for number in range(max(z, 0), min(z + patch[0], sizes[0])):
                if number not in open_planes:
                    open_planes[number] = _Plane(len(value), padded[1:])
                open_planes[number].add(layers[:, number - z], weight[number - z], _window(tuple(start), patch[1:]))
        remaining = starts[first + tiling.batch :]
        reached = remaining[0][0] - offsets[0] if remaining else sizes[0]
        for number in range(done, reached):
            yield open_planes.pop(number).mean()[inner]
        done = max(done, reached)


class _Plane:
    """Weighted sum of probabilities (K, Y, X) of the tiles that have covered a plane so far."""

    def __init__(self, count: int, sizes: Sequence[int]) -> None:
        self.total, self.weight = np.zeros((count, *sizes), np.float32), np.zeros(sizes, np.float32)

    def add(self, values: Float32Array, weight: Float32Array, window: tuple[slice, ...]) -> None:
        self.total[(slice(None), *window)] += values * weight
        self.weight[window] += weight

    def mean(self) -> Float32Array:
        return np.asarray(np.divide(self.total, self.weight, out=self.total))


@torch.inference_mode()
def encode(network: UNet, channels: Sequence[Float32Array], tiling: Tiling, device: torch.device) -> Float32Array:
    """Compute the encoder's deepest level (W, z, y, x) of channels (C, Z, Y, X), from tiles without overlap.

    Each axis that the network downsamples has Z/2^depth cells, rounded up to whole tiles by zero padding at its end. A
    2D network processes slices along Z.
    """
    network.eval()
    sizes = channels[0].shape[1:]
    flat = len(tiling.patch) == 2
    tiling = tiling.fitted(sizes[1:] if flat else sizes)
    patch = (1, *tiling.patch) if flat else tiling.patch  # (z, y, x)
    shrink = (1 if flat else tiling.multiple, tiling.multiple, tiling.multiple)
    starts = list(itertools.product(*(range(0, size, p) for size, p in zip(sizes, patch, strict=True))))
    cells = [-(-size // p) * p // s for size, p, s in zip(sizes, patch, shrink, strict=True)]
    result: Float32Array | None = None
    for first in range(0, len(starts), tiling.batch):
        tiles = starts[first : first + tiling.batch]
        batch = torch.from_numpy(np.stack([_tile(channels, start, tiling) for start in tiles])).to(device)
        deepest = network.encode(batch)[-1].float().cpu().numpy()  # (B, W, [z,] y, x)
        if result is None:
            result = np.zeros((deepest.shape[1], *cells), np.float32)
        for start, values in zip(tiles, deepest, strict=True):
            layers = values[:, None] if flat else values  # (W, z, y, x)
            window = _window(tuple(s // f for s, f in zip(start, shrink, strict=True)), layers.shape[1:])
            result[(slice(None), *window)] = layers
    assert result is not None
    return result


def _tile(channels: Sequence[Float32Array], corner: tuple[int, ...], tiling: Tiling) -> Float32Array:
    """Cut a network's input (C, *patch) from channels (C, Z, Y, X) at `corner` (z, y, x); zeros beyond the image.

    For a 2D network the slices on both sides are channels too: (C·(2·context + 1), *patch).
    """
    if len(tiling.patch) == 3:
        return _cut(channels, corner, tiling.patch)
    around = 2 * tiling.context + 1
    block = _cut(channels, (corner[0] - tiling.context, *corner[1:]), (around, *tiling.patch))
    return block.reshape(-1, *tiling.patch)  # channel-major, slices in order


def _cut(channels: Sequence[Float32Array], corner: tuple[int, ...], size: tuple[int, ...]) -> Float32Array:
    """Cut a box (C, z, y, x) from channels, zeros beyond the image."""
    tile = np.zeros((sum(map(len, channels)), *size), np.float32)
    starts = [max(0, c) for c in corner]
    stops = [
        max(s, min(c + n, full)) for s, c, n, full in zip(starts, corner, size, channels[0].shape[1:], strict=True)
    ]
    inside = tuple(slice(s, e) for s, e in zip(starts, stops, strict=True))
    target = tuple(slice(s - c, e - c) for s, e, c in zip(starts, stops, corner, strict=True))
    np.concatenate([channel[(slice(None), *inside)] for channel in channels], out=tile[(slice(None), *target)])
    return tile


@torch.inference_mode()
def probabilities(network: nn.Module, tiling: Tiling, device: torch.device, batch: Float32Array) -> Float32Array:
    """Tiles (B, C, *patch) → probabilities (B, K, *patch)."""
    return np.asarray(_mirrored(network, torch.from_numpy(batch).to(device), tiling).float().cpu().numpy())


def _mirrored(network: nn.Module, batch: Tensor, tiling: Tiling) -> Tensor:
    """Mean probability over all combinations of flipped axes, (B, K, *S)."""
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


def _uniform(patch: tuple[int, ...]) -> Float32Array:
    """Weight of a tile without neighbours."""
    return np.ones(patch, np.float32)


def _gaussian(patch: tuple[int, ...]) -> Float32Array:
    """Weight of a tile's voxels: a Gaussian of σ = size/8 about its centre, never zero (Isensee et al. 2021)."""
    weight = np.ones(patch, np.float64)
    for axis, size in enumerate(patch):
        profile = np.exp(-0.5 * ((np.arange(size) - (size - 1) / 2) / (size / 8)) ** 2)
        weight *= profile.reshape([-1 if a == axis else 1 for a in range(len(patch))])
    floored: Float32Array = np.maximum(weight / weight.max(), 1e-3).astype(np.float32)
    return floored


def _window(start: tuple[int, ...], patch: tuple[int, ...]) -> tuple[slice, ...]:
    return tuple(slice(s, s + p) for s, p in zip(start, patch, strict=True))


class TiledNetwork:
    """A network with its tiling and device; same interface as segmenters without training."""

    def __init__(self, network: nn.Module, tiling: Tiling, device: torch.device, context: torch.autocast) -> None:
        self.network, self.tiling, self.device, self.context = network.to(device).eval(), tiling, device, context
        if isinstance(network, UNet):
            network.settle(device.type)

    def predict(self, images: dict[str, sitk.Image]) -> Float32Array:
        """Preprocessed channels on one grid → probabilities (K, Z, Y, X), background first for exclusive labels."""
        depth = array_view(next(iter(images.values()))).shape[1]
        return stack_planes(self.planes(images), depth)

    def planes(self, images: dict[str, sitk.Image], tiles: int | None = None) -> Iterator[Float32Array]:
        """As `predict`, plane by plane (K, Y, X); at most `tiles` tiles per batch."""
        tiling = replace(self.tiling, batch=min(self.tiling.batch, tiles or self.tiling.batch))
        yield from iter_planes(self._infer, _views(images), tiling)  # the generator keeps the images alive

    def encode(self, images: dict[str, sitk.Image]) -> Float32Array:
        """Preprocessed channels on one grid → the encoder's deepest level, see `encode`."""
        assert isinstance(self.network, UNet)
        with self.context:
            return encode(self.network, _views(images), self.tiling, self.device)

    def _infer(self, batch: Float32Array) -> Float32Array:
        try:
            with self.context:
                return probabilities(self.network, self.tiling, self.device, batch)
        except torch.OutOfMemoryError as error:
            if len(batch) == 1:
                raise ImageError(
                    f"one tile of {' × '.join(map(str, batch.shape[2:]))} does not fit into the GPU's free memory; "
                    "stop other programs on it, or use the CPU",
                    code="gpu-memory",
                    hint="device=cpu",
                ) from error
        torch.cuda.empty_cache()  # only now: the error's traceback held tensors
        half = len(batch) // 2
        return np.concatenate([self._infer(batch[:half]), self._infer(batch[half:])])


def _views(images: dict[str, sitk.Image]) -> list[Float32Array]:
    """Channels (C, Z, Y, X) of each image as float32, without a copy if they already are."""
    return [array_view(image).astype(np.float32, copy=False) for image in images.values()]
