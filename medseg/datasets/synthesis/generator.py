"""A random image and its tissues from a label map, after SynthSeg.

Billot B. et al., "SynthSeg: Segmentation of brain MRI scans of any contrast and resolution without retraining", Medical
Image Analysis 86:102789, 2023. Its steps are: deform the map, draw an intensity for each structure, coil field,
blur to a random resolution. New here: slabs, partial volume from the undeformed map, and brains without skull.
"""

from __future__ import annotations

import itertools
from dataclasses import dataclass

import numpy as np
import SimpleITK as sitk

from medseg.datasets.synthesis.contrast import Contrast, sample_contrast
from medseg.datasets.synthesis.deformation import Slab, sample_positions, sample_slab, smooth_noise
from medseg.datasets.synthesis.label_maps import LabelMap, LabelTable, mirrored, tissue_shares
from medseg.datasets.synthesis.scanner import scan
from medseg.io.geometry import from_array
from medseg.typing import BoolArray, ByteArray, Float32Array

# How often an image shows the head, the head with blank air, the brain with the CSF in its sulci, the brain with
# the CSF around it, and a brain that was cut out carelessly.
VIEWS = {"head": 0.3, "head_blank_air": 0.2, "brain": 0.25, "brain_csf": 0.15, "brain_loose": 0.1}
PLANE_MM = {"head": ((165, 205), (200, 240)), "brain": ((150, 170), (180, 205))}  # width and depth (low, high)
CLOSING_MM = (2.0, 7.0)  # sulci up to twice as wide belong to the brain
LOOSE_MM = (2.0, 6.0)
MARGIN = 3  # voxels around what is sampled
TEXTURE = 12.0  # voxels: fat and muscle share a label, and no tissue is homogeneous


@dataclass(frozen=True)
class SyntheticCase:
    """An image, its tissues (1 csf, 2 gm, 3 wm) on the same grid, and what was drawn."""

    image: sitk.Image
    mask: sitk.Image
    contrast: str
    view: str


def synthesize(source: LabelMap, labels: LabelTable, rng: np.random.Generator) -> SyntheticCase:
    """A random slab of a map; the same generator state gives the same case."""
    structures = mirrored(source.structures, labels) if rng.random() < 0.5 else source.structures
    view = str(rng.choice(list(VIEWS), p=list(VIEWS.values())))
    slab = sample_slab(PLANE_MM["head" if view.startswith("head") else "brain"], rng)
    spacing = np.array(source.spacing)
    mm = sample_positions(slab, _centre(structures, labels, spacing, rng), rng)
    positions = mm / spacing.astype(np.float32)[:, None, None, None]
    structures, positions = _cropped(structures, positions)
    contrast = sample_contrast(labels, rng)
    visible = _visible(view, structures, labels, spacing, rng)
    painted = paint(structures, contrast, rng) * (1 if visible is None else visible)
    shares = [share if visible is None else share * visible for share in tissue_shares(structures, labels)]
    everything = np.ones_like(painted) if visible is None else visible.astype(np.float32)
    stack = np.stack([painted, *shares, everything], axis=-1)  # (Z, Y, X, 5)
    signal, *tissues, seen = (_slices(values, slab) for values in _sampled(stack, positions))
    mask = np.argmax([1 - sum(tissues, np.float32(0)), *tissues], axis=0).astype(np.uint8)  # (Z, Y, X)
    image = scan(signal, slab, rng)
    if visible is not None:
        shown = seen > 0.5
        image[~shown], mask[~shown] = 0, 0
        image[shown] = np.maximum(image[shown], 1)
    return SyntheticCase(from_array(image, slab.empty), from_array(mask, slab.empty), contrast.name, view)


def paint(structures: ByteArray, contrast: Contrast, rng: np.random.Generator) -> Float32Array:
    """Intensities (Z, Y, X) of a map: each structure's mean, its texture, and slow changes within it."""
    noise = rng.standard_normal(structures.shape).astype(np.float32)
    slow = smooth_noise(structures.shape, (TEXTURE, TEXTURE, TEXTURE), rng)
    painted = contrast.means[structures] + contrast.sds[structures] * (noise + slow)
    return np.asarray(np.maximum(painted, 0), np.float32)


def _centre(
    structures: ByteArray, labels: LabelTable, spacing: np.ndarray[tuple[int, ...], np.dtype[np.float64]],
    rng: np.random.Generator,
) -> np.ndarray[tuple[int, ...], np.dtype[np.float64]]:  # fmt: skip
    """Middle of a random slab in mm z y x: anywhere in the height of the brain, the middle of the brain in plane."""
    tissue = labels.tissues[structures] > 1  # maps may have specks of CSF elsewhere
    boxes = [np.flatnonzero(tissue.any(tuple(i for i in range(3) if i != axis))) for axis in range(3)]
    low, high = (float(boxes[0][index]) for index in (0, -1))
    z = rng.uniform(low + 0.04 * (high - low), high - 0.06 * (high - low))
    y, x = ((box[0] + box[-1]) / 2 for box in boxes[1:])
    return np.array([z, y, x]) * spacing + rng.uniform(-6, 6, 3) * (0, 1, 1)


def _cropped(structures: ByteArray, positions: Float32Array) -> tuple[ByteArray, Float32Array]:
    """The box of the map around the positions (3, Z, Y, X), and the positions in it."""
    lows, highs = positions.min(axis=(1, 2, 3)), positions.max(axis=(1, 2, 3))
    starts = [max(0, min(int(low) - MARGIN, n - 1)) for low, n in zip(lows, structures.shape, strict=True)]
    ends = [
        max(s + 1, min(n, int(high) + MARGIN + 1)) for s, high, n in zip(starts, highs, structures.shape, strict=True)
    ]
    box = tuple(slice(s, e) for s, e in zip(starts, ends, strict=True))
    return structures[box], positions - np.array(starts, np.float32)[:, None, None, None]


def _visible(
    view: str, structures: ByteArray, labels: LabelTable, spacing: np.ndarray[tuple[int, ...], np.dtype[np.float64]],
    rng: np.random.Generator,
) -> BoolArray | None:  # fmt: skip
    """What a view shows of a map (Z, Y, X); None for all of it, air included."""
    if view == "head":
        return None
    if view == "head_blank_air":
        return _closed(structures != _background(labels), 5.0, spacing)
    tissues = labels.tissues[structures]
    ventricle = np.array(["ventricle" in structure.name for structure in labels.structures])[structures]
    brain = _closed((tissues >= 2) | ventricle, float(rng.uniform(*CLOSING_MM)), spacing)
    if view == "brain":
        return brain
    if view == "brain_csf":
        return np.asarray(brain | ((tissues == 1) & _dilated(brain, 12.0, spacing)))
    return _dilated(brain, float(rng.uniform(*LOOSE_MM)), spacing)


def _background(labels: LabelTable) -> int:
    """Index of the structure called background, or of the value 0."""
    named = [i for i, s in enumerate(labels.structures) if s.name.startswith("background") or s.value == 0]
    return named[0] if named else -1


def _dilated(inside: BoolArray, mm: float, spacing: np.ndarray[tuple[int, ...], np.dtype[np.float64]]) -> BoolArray:
    """Dilation (Z, Y, X) by `mm`."""
    return np.asarray(_distance(inside, spacing) <= mm)


def _closed(inside: BoolArray, mm: float, spacing: np.ndarray[tuple[int, ...], np.dtype[np.float64]]) -> BoolArray:
    """Closing (Z, Y, X) with a ball of `mm`."""
    wide = _distance(inside, spacing) <= mm
    return np.asarray((_distance(~wide, spacing) > mm) | inside)


def _distance(inside: BoolArray, spacing: np.ndarray[tuple[int, ...], np.dtype[np.float64]]) -> Float32Array:
    """Distance (Z, Y, X) in mm to the nearest voxel inside, from every second voxel, which is an eighth of the time."""
    coarse = inside[::2, ::2, ::2]
    if not coarse.any():
        return np.full(inside.shape, np.inf, np.float32)
    image = sitk.GetImageFromArray(coarse.astype(np.uint8))
    image.SetSpacing((2 * spacing[::-1]).tolist())
    distance = sitk.SignedMaurerDistanceMap(image, squaredDistance=False, useImageSpacing=True)  # negative inside
    full = sitk.Image(list(inside.shape[::-1]), sitk.sitkUInt8)
    full.SetSpacing(spacing[::-1].tolist())
    # beyond the last coarse voxel its own value holds
    fine = sitk.Resample(distance, full, sitk.Transform(), sitk.sitkLinear, 0.0, sitk.sitkFloat32, True)
    return np.asarray(np.maximum(sitk.GetArrayFromImage(fine), 0), np.float32)


def _sampled(values: Float32Array, positions: Float32Array) -> Float32Array:
    """Linear interpolation of (Z, Y, X, C) at positions (3, *S) in voxels, slice by slice; 0 outside. → (C, *S)."""
    padded = np.pad(values, ((1, 2), (1, 2), (1, 2), (0, 0)))
    flat = padded.reshape(-1, values.shape[-1])  # (N, C)
    highest = np.array(values.shape[:3], np.float32)[:, None, None]
    steps = np.array([padded.shape[1] * padded.shape[2], padded.shape[2], 1])
    result = np.empty((values.shape[-1], *positions.shape[1:]), np.float32)
    for index in range(positions.shape[1]):
        at = np.clip(positions[:, index] + 1, 0, highest + 1)  # (3, Y, X)
        low = np.floor(at).astype(np.int64)
        share = at - low.astype(np.float32)
        first = np.tensordot(steps, low, axes=1)  # (Y, X)
        total = np.zeros((*first.shape, values.shape[-1]), np.float32)
        for corner in itertools.product((0, 1), repeat=3):
            weight = np.prod([s if c else 1 - s for s, c in zip(share, corner, strict=True)], axis=0)
            total += weight[..., None] * flat.take(first + int(np.dot(steps, corner)), axis=0)
        result[:, index] = np.moveaxis(total, -1, 0)
    return result


def _slices(values: Float32Array, slab: Slab) -> Float32Array:
    """Mean of each slice's thin ones, (Z·samples, Y, X) → (Z, Y, X)."""
    return np.asarray(values.reshape(slab.size[0], slab.samples, *values.shape[1:]).mean(axis=1), np.float32)
