"""What phantoms of pictures share: smooth noise, irregular blobs, curved lines, and the dataset they are written as."""

from __future__ import annotations

import csv
import json
from collections.abc import Mapping, Sequence
from pathlib import Path

import cv2
import numpy as np
import SimpleITK as sitk
from numpy.typing import ArrayLike, NDArray
from scipy import ndimage

from medseg.data.image import write_image
from medseg.data.phantoms.canvas import Array, smoothstep
from medseg.errors import DataError

ABSENT = "absent"
Masks = Mapping[str, NDArray[np.bool_]]  # "" for the only one
FINE = 3  # bits of a pixel's fraction in which OpenCV takes coordinates


def require_known(organ: str, frames: int, size: str, sizes: Mapping[str, object]) -> None:
    """`DataError` (phantom-settings) for a size there is not, and for more than one frame."""
    for name, value, known in (("size", size, tuple(sizes)), ("frames", frames, (1,))):
        if value not in known:
            wanted = ", ".join(map(str, known))
            raise DataError(f"{organ} phantoms have no {name}={value}; choose {wanted}", code="phantom-settings")


def places(width: int, height: int) -> tuple[Array, Array]:
    """Centres of the pixels (Y, X) from the picture's middle, in widths: x to the right, y down."""
    x = (np.arange(width) + 0.5) / width - 0.5
    y = ((np.arange(height) + 0.5) - height / 2) / width
    grid = np.meshgrid(x, y)
    return np.asarray(grid[0], np.float32), np.asarray(grid[1], np.float32)


def cloud(rng: np.random.Generator, shape: tuple[int, int], scale: float) -> Array:
    """Smooth noise of mean 0 and standard deviation 1; `scale` in widths of the picture."""
    sigma = scale * shape[1]
    step = max(1, int(sigma / 2))  # coarse noise is made small and enlarged: a wide filter is slow
    small = (-(-shape[0] // step) + 8, -(-shape[1] // step) + 8)
    made = ndimage.gaussian_filter(rng.standard_normal(small).astype(np.float32), sigma / step)
    large = cv2.resize(made, (small[1] * step, small[0] * step), interpolation=cv2.INTER_CUBIC)
    off = 3 * step
    part = large[off : off + shape[0], off : off + shape[1]]
    return np.asarray((part - part.mean()) / max(float(part.std()), 1e-6), np.float32)


def blob(
    grid: tuple[Array, Array],
    centre: ArrayLike,
    radii: Sequence[float],
    waves: Sequence[tuple[int, float, float]],
    soft: float,
) -> Array:
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


def wavy(rng: np.random.Generator, strength: float, most: int = 9) -> list[tuple[int, float, float]]:
    """Random waves of a border, the finer the weaker; `strength` is their standard deviation in radii."""
    numbers = np.arange(2, most + 1)
    heights = rng.normal(0, 1, len(numbers)) / numbers
    heights *= strength / max(float(np.sqrt((heights**2).sum() / 2)), 1e-6)
    phases = rng.uniform(0, 2 * np.pi, len(numbers))
    return [(int(k), float(a), float(p)) for k, a, p in zip(numbers, heights, phases, strict=True)]


def line(canvas: Array, points: ArrayLike, width: float, value: float = 1.0) -> None:
    """Draw a line through points (x, y) in widths from the middle onto `canvas` (Y, X) in place, at least a pixel."""
    height, total = canvas.shape
    pixels = [((x + 0.5) * total - 0.5, y * total + height / 2 - 0.5) for x, y in np.asarray(points)]
    fixed = np.round(np.array(pixels) * 2**FINE).astype(np.int32).reshape(-1, 1, 2)
    thick = max(1, round(width * total))
    cv2.polylines(canvas, [fixed], False, value, thick, cv2.LINE_AA, FINE)


def write_cohort(folder: Path, cases: Sequence[Mapping[str, object]], values: Mapping[str, int], facts: object) -> Path:
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
    """phantom.json: what marks the data as synthetic."""
    return {"synthetic": True, "organ": organ, "seed": seed, "patients": patients, "frames": 1, "size": size}


def as_bytes(picture: Array) -> NDArray[np.uint8]:
    """Values 0..1 as pixels."""
    return np.asarray(np.rint(picture.clip(0, 1) * 255), np.uint8)
