"""Shared code of 2D phantoms: smooth noise, cells, irregular blobs, curved lines, the written dataset."""

from __future__ import annotations

import csv
import json
from collections.abc import Iterable, Mapping, Sequence
from itertools import product
from pathlib import Path
from typing import NamedTuple

import cv2
import numpy as np
import SimpleITK as sitk
from numpy.typing import ArrayLike, NDArray
from scipy import ndimage

from medseg.datasets.phantoms.canvas import smoothstep
from medseg.errors import DataError
from medseg.io.image import write_image
from medseg.typing import Float32Array

ABSENT = "absent"
Masks = Mapping[str, NDArray[np.bool_]]  # "" for the only one
FINE = 3  # bits of a pixel's fraction in which OpenCV takes coordinates
DRAWN = 2000  # minimum width in pixels of the canvas for lines


class Stroke(NamedTuple):
    """A line through points (n, 2) of x, y in image widths from the middle, its width, and its opacity 0..1."""

    points: NDArray[np.float64]
    width: float
    value: float = 1.0


def require_known(organ: str, frames: int, size: str, sizes: Mapping[str, object]) -> None:
    """Raise `DataError` (phantom-settings) for an unknown size, and for more than one frame."""
    for name, value, known in (("size", size, tuple(sizes)), ("frames", frames, (1,))):
        if value not in known:
            choices = ", ".join(map(str, known))
            raise DataError(f"{organ} phantoms have no {name}={value}; choose {choices}", code="phantom-settings")


def pixel_centres(width: int, height: int) -> tuple[Float32Array, Float32Array]:
    """Centres of the pixels (Y, X) from the image's middle, in image widths: x to the right, y down."""
    x = (np.arange(width) + 0.5) / width - 0.5
    y = ((np.arange(height) + 0.5) - height / 2) / width
    grid = np.meshgrid(x, y)
    return np.asarray(grid[0], np.float32), np.asarray(grid[1], np.float32)


def cloud(rng: np.random.Generator, shape: tuple[int, int], scale: float, stretch: float = 1.0) -> Float32Array:
    """Smooth noise of mean 0 and standard deviation 1; `scale` in image widths, `stretch` times smaller vertically."""
    sigmas = np.array([scale * shape[1] / stretch, scale * shape[1]])
    steps = np.maximum(
        1, (sigmas / 2).astype(int)
    )  # coarse noise is computed small and enlarged: a wide filter is slow
    small = -(-np.array(shape) // steps) + 8
    noise = ndimage.gaussian_filter(rng.standard_normal(tuple(small)).astype(np.float32), sigmas / steps)
    rows, columns = (int(n) for n in small * steps)
    large = cv2.resize(noise, (columns, rows), interpolation=cv2.INTER_CUBIC)
    top, left = (int(n) for n in 3 * steps)
    crop = large[top : top + shape[0], left : left + shape[1]]
    return np.asarray((crop - crop.mean()) / max(float(crop.std()), 1e-6), np.float32)


def cells(rng: np.random.Generator, grid: tuple[Float32Array, Float32Array], size: float) -> Float32Array:
    """A net of uneven cells `size` across, in the units of `grid` (Y, X): 0 on a wall, about 0.5 inside a cell."""
    u, v = ((axis - axis.min()) / size + 1 for axis in grid)
    column, row = u.astype(int), v.astype(int)
    seeds = rng.uniform(0.0, 1.0, (2, int(row.max()) + 2, int(column.max()) + 2)).astype(np.float32)
    nearest = np.full(u.shape, np.inf, np.float32)
    second = nearest.copy()
    for down, right in product((-1, 0, 1), repeat=2):
        i, j = row + down, column + right
        away = np.hypot(u - j - seeds[0, i, j], v - i - seeds[1, i, j]).astype(np.float32)
        second = np.minimum(second, np.maximum(nearest, away))
        nearest = np.minimum(nearest, away)
    return second - nearest


def blob(
    grid: tuple[Float32Array, Float32Array],
    centre: ArrayLike,
    radii: Sequence[float],
    waves: Sequence[tuple[int, float, float]],
    soft: float,
) -> Float32Array:
    """Cover 0..1 of an ellipse with a wavy border: r(θ) = 1 + Σ a cos(kθ + φ) of (k, a, φ), `soft` widths wide.

    radii: along and across, and the turn in radians.
    """
    along, across, turn = radii
    middle = np.asarray(centre, np.float32)
    dx, dy = grid[0] - middle[0], grid[1] - middle[1]
    u, v = dx * np.cos(turn) + dy * np.sin(turn), dy * np.cos(turn) - dx * np.sin(turn)
    angle = np.arctan2(v / across, u / along)
    border = 1 + sum((a * np.cos(k * angle + phase) for k, a, phase in waves), np.float32(0))
    away = (np.hypot(u / along, v / across) - border) * min(along, across)
    return smoothstep(away, soft, -soft)


def wavy(rng: np.random.Generator, strength: float, max_frequency: int = 9) -> list[tuple[int, float, float]]:
    """Random waves of a border, the finer the weaker; `strength` is their standard deviation in radii."""
    numbers = np.arange(2, max_frequency + 1)
    heights = rng.normal(0, 1, len(numbers)) / numbers
    heights *= strength / max(float(np.sqrt((heights**2).sum() / 2)), 1e-6)
    phases = rng.uniform(0, 2 * np.pi, len(numbers))
    return [(int(k), float(a), float(p)) for k, a, p in zip(numbers, heights, phases, strict=True)]


def strokes(shape: tuple[int, int], lines: Iterable[Stroke]) -> Float32Array:
    """Cover 0..1 (Y, X) of lines with smooth edges; lines thinner than a pixel cover a fraction of it."""
    fine = -(-DRAWN // shape[1])  # OpenCV's anti-aliased lines are two pixels too wide: draw large, then average
    height, total = fine * shape[0], fine * shape[1]
    canvas = np.zeros((height, total), np.uint8)
    for line in sorted(lines, key=lambda stroke: stroke.width * stroke.value):  # a thin line must not cut a thick one
        pixels = (np.asarray(line.points) + 0.5) * total - 0.5 + [0, (height - total) / 2]
        fixed = np.round(pixels * 2**FINE).astype(np.int32).reshape(-1, 1, 2)
        thick = line.width * total
        value = round(255 * line.value * min(1.0, thick))
        even = 2 * round((thick - 1) / 2)  # OpenCV draws 2, 4, 6 as 3, 5, 7 pixels and 3, 5 as 5, 7
        cv2.polylines(canvas, [fixed], False, value, max(1, even), cv2.LINE_8, FINE)
    small = cv2.resize(canvas, (shape[1], shape[0]), interpolation=cv2.INTER_AREA)
    return np.asarray(small / 255, np.float32)


def write_cohort(folder: Path, cases: Iterable[Mapping[str, object]], values: Mapping[str, int], facts: object) -> Path:
    """Write images/, masks/, cases.csv, labels.json and phantom.json.

    A case is {"case", "label", "image": (Y, X) or (Y, X, 3) uint8, "masks": by label, "" for a label map}; a label's
    mask without a pixel is `absent`.
    """
    rows = []
    for case in cases:
        name, image, masks = str(case["case"]), case["image"], case["masks"]
        assert isinstance(image, np.ndarray)
        assert isinstance(masks, Mapping)
        row = {"case": name, "patient": name, "image": f"images/{name}.png"}
        write_image(sitk.GetImageFromArray(image, isVector=image.ndim == 3), folder / row["image"])
        for label, mask in masks.items():
            end = f"_{label}" if label else ""
            row[f"mask{end}"] = f"masks/{name}{end}.png" if mask.any() or not label else ABSENT
            if row[f"mask{end}"] != ABSENT:
                write_image(sitk.GetImageFromArray(mask.astype(np.uint8) * 255), folder / row[f"mask{end}"])
        rows.append(row | {"label": str(case["label"])})
    with (folder / "cases.csv").open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, list(rows[0]), lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows)
    for name, content in (("labels", values), ("phantom", facts)):
        (folder / f"{name}.json").write_text(json.dumps(content) + "\n", encoding="utf-8")
    return folder


def facts_of(organ: str, patients: int, seed: int, size: str) -> dict[str, object]:
    """Content of phantom.json, which marks the data as synthetic."""
    return {"synthetic": True, "organ": organ, "seed": seed, "patients": patients, "frames": 1, "size": size}


def as_bytes(image: Float32Array) -> NDArray[np.uint8]:
    """Convert values 0..1 to uint8."""
    return np.asarray(np.rint(image.clip(0, 1) * 255), np.uint8)
