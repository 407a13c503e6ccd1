"""Synthetic head MRI with known tissues or a known tumour; nothing here comes from a patient."""

from __future__ import annotations

import csv
import json
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import SimpleITK as sitk
from numpy.typing import NDArray

from medseg.datasets.phantoms.brain_anatomy import TISSUES, Anatomy, fill_head, sample_anatomy, waves
from medseg.datasets.phantoms.canvas import Grid
from medseg.errors import DataError
from medseg.io.geometry import from_array
from medseg.io.image import write_image
from medseg.typing import Float32Array

TARGETS: dict[str, tuple[tuple[str, ...], dict[str, tuple[str, ...]]]] = {  # channels; tissues of each label, 1 first
    "tissue": (("t1",), {"csf": ("csf",), "gm": ("gm", "deep"), "wm": ("wm", "spot")}),
    "tumour": (("flair", "t1c"), {"oedema": ("oedema",), "core": ("necrosis", "core"), "enhancing": ("enhancing",)}),
}
NESTED = {"whole_tumour": [1, 2, 3], "tumour_core": [2, 3]}  # as BraTS nests them
# brightness of each of TISSUES, white matter about 0.8
SIGNAL = {
    "t1": (0.01, 0.85, 0.06, 0.5, 0.24, 0.56, 0.71, 0.8, 0.2, 0.66, 0.6, 0.35, 0.5, 0.55),
    "flair": (0.01, 0.55, 0.05, 0.35, 0.14, 0.62, 0.6, 0.5, 0.12, 0.85, 0.95, 0.72, 0.88, 0.84),
    "t1c": (0.01, 0.85, 0.06, 0.5, 0.2, 0.54, 0.64, 0.72, 1.15, 0.62, 0.54, 0.26, 0.48, 1.2),
}
# voxels of the image in x and y, slices (low, high), field of view in x, y, z in mm
SIZES: dict[str, tuple[tuple[int, int], tuple[int, int], tuple[float, float, float]]] = {
    "tiny": ((40, 40), (16, 16), (186, 220, 118)),
    "small": ((96, 112), (24, 64), (186, 220, 118)),
    "medium": ((176, 208), (60, 100), (186, 220, 118)),
}
FINE_MM = 3.0  # thicker voxels are painted as subvoxels and averaged (partial volume)


def make_cohort(
    folder: Path, patients: int, seed: int, frames: int = 1, size: str = "small", target: str = "tissue"
) -> Path:
    """Write a synthetic dataset (cases.csv, labels.json, images/, masks/, phantom.json) and return its folder.

    target "tissue": T1 of healthy heads, mask 1 csf, 2 gm, 3 wm. target "tumour": FLAIR and contrast-enhanced T1, mask
    1 oedema, 2 core (dead or not enhancing), 3 enhancing; two of three patients have a tumour, the others at most
    small old lesions. `label` is healthy or tumour. Patient i depends on `seed` and i alone. DataError
    (phantom-settings) for other targets and sizes, and for more than one frame.
    """
    for name, value, known in (("target", target, TARGETS), ("size", size, SIZES), ("frames", frames, (1,))):
        if value not in known:
            choices = ", ".join(map(str, known))
            raise DataError(f"head phantoms have no {name}={value}; choose {choices}", code="phantom-settings")
    channels, labels = TARGETS[target]
    columns = {c: "image" if len(channels) == 1 else f"image_{c}" for c in channels}
    rows = []
    for number in range(patients):
        rng = np.random.default_rng([seed, number])
        case = f"brain{number:03d}"
        tumour = target == "tumour" and (number + seed) % 3 != 0
        images, mask = brain_phantom(rng, target, tumour, size)
        row = {"case": case, "patient": case}
        for channel, image in images.items():
            end = "" if len(channels) == 1 else f"_{channel}"
            row[columns[channel]] = f"images/{case}{end}.nii.gz"
            write_image(image, folder / row[columns[channel]])
        row |= {"mask": f"masks/{case}.nii.gz", "label": "tumour" if tumour else "healthy"}
        write_image(mask, folder / row["mask"])
        rows.append(row)
    with (folder / "cases.csv").open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, ["case", "patient", *columns.values(), "mask", "label"], lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows)
    numbers = {name: [number] for number, name in enumerate(labels, start=1)}
    _write_json(folder / "labels.json", numbers | (NESTED if target == "tumour" else {}))
    facts = {"synthetic": True, "organ": "brain", "seed": seed, "patients": patients, "frames": frames, "size": size}
    _write_json(folder / "phantom.json", {**facts, "target": target})
    return folder


def _write_json(path: Path, content: Mapping[str, object]) -> None:
    path.write_text(json.dumps(content) + "\n", encoding="utf-8")


def brain_phantom(
    rng: np.random.Generator,
    target: str = "tissue",
    tumour: bool = False,
    size: str = "small",
    anatomy: Anatomy | None = None,
) -> tuple[dict[str, sitk.Image], sitk.Image]:
    """Channels (int16, as a scanner stores them) and mask (uint8, numbers as in `make_cohort`) of one head."""
    channels, labels = TARGETS[target]
    tissues, grid, empty = static_head(anatomy or sample_anatomy(rng, tumour), rng, size)
    groups = [sum((tissues[name] for name in names), np.float32(0)) for names in labels.values()]
    background = 1 - sum(groups, np.float32(0))
    mask = from_array(np.argmax([background, *groups], axis=0).astype(np.uint8), empty)
    return {channel: from_array(_scan(tissues, grid, channel, rng), empty) for channel in channels}, mask


def static_head(
    anatomy: Anatomy, rng: np.random.Generator, size: str
) -> tuple[dict[str, Float32Array], Grid, sitk.Image]:
    """A head in a random pose: share of each tissue in each voxel (Z, Y, X), voxel positions in mm, the blank image.

    The scan covers the head above the base of the brain, in slices of 2 to 5 mm.
    """
    plane, slices, extent = SIZES[size]
    counts = (*plane, int(rng.integers(slices[0], slices[1] + 1)))
    spacing = np.array(extent) / counts * rng.uniform(0.99, 1.04, 3)
    subvoxels = np.ceil(spacing / FINE_MM).astype(int)
    empty = sitk.Image([int(n) for n in counts], sitk.sitkUInt8)
    empty.SetSpacing([float(d) for d in spacing])
    empty.SetOrigin([float(-(n - 1) / 2 * d) for n, d in zip(counts, spacing, strict=True)])
    fine = [
        ((np.arange(n * p) + 0.5) / (n * p) - 0.5) * n * d for n, p, d in zip(counts, subvoxels, spacing, strict=True)
    ]
    scanner = np.stack(np.meshgrid(*fine, indexing="ij"), axis=-1).T  # (3, Z, Y, X)
    rotated = np.tensordot(_pose(rng), scanner + _offset(rng), axes=1).astype(np.float32)
    grid = Grid(*rotated)
    painted = fill_head(grid, tuple(spacing / subvoxels), anatomy, rng)
    shrink = (counts[2], subvoxels[2], counts[1], subvoxels[1], counts[0], subvoxels[0])
    means = {name: share.reshape(shrink).mean(axis=(1, 3, 5)) for name, share in painted.shares.items()}  # (Z, Y, X)
    positions = Grid(*(axis.reshape(shrink).mean(axis=(1, 3, 5)) for axis in scanner.astype(np.float32)))
    return means, positions, empty


def _pose(rng: np.random.Generator) -> Float32Array:
    """A rotation (3, 3) by a few degrees about each axis."""
    turn = np.eye(3)
    for axis, angle in enumerate(np.radians(np.clip(rng.normal(0, (5, 3, 5)), -12, 12))):
        c, s = np.cos(angle), np.sin(angle)
        about = np.roll(np.array([[1, 0, 0], [0, c, -s], [0, s, c]]), (axis, axis), axis=(0, 1))
        turn = about @ turn
    return np.asarray(turn, np.float32)


def _offset(rng: np.random.Generator) -> Float32Array:
    """Position of the scan's middle in the head, (3, 1, 1, 1) in mm."""
    return np.asarray(rng.uniform((-4, -5, 22), (4, 5, 30)).reshape(3, 1, 1, 1), np.float32)


def _scan(
    tissues: dict[str, Float32Array], positions: Grid, channel: str, rng: np.random.Generator
) -> NDArray[np.int16]:
    """Simulate the scan of tissues: contrast, gain, coil field (20 to 40 % up and down) and noise."""
    levels = np.array(SIGNAL[channel]) ** rng.uniform(0.85, 1.2) * rng.normal(1, 0.03, len(TISSUES))
    signal = sum(
        (tissues[name] * np.float32(level) for name, level in zip(TISSUES, levels, strict=True)), np.float32(0)
    )
    signal *= 1 + 0.02 * waves(positions, rng, 14.0, 8)  # tissue is not homogeneous
    field = waves(positions, rng, rng.uniform(240, 340), 8)
    head = tissues["air"] < 0.5
    field -= field[head].mean()
    field *= rng.uniform(0.2, 0.4) / np.abs(field[head]).max()
    signal *= np.exp(field)
    real, imaginary = rng.normal(0, rng.uniform(0.015, 0.04), (2, *signal.shape)).astype(np.float32)
    gain = rng.uniform(250, 1500)
    return np.asarray(np.rint(gain * np.hypot(signal + real, imaginary)), np.int16)  # Rician noise
