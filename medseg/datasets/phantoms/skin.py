"""Synthetic dermoscopy: a benign or malignant lesion on skin, with hair, vignette, ruler and bubbles."""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from medseg.datasets.phantoms.canvas import smoothstep
from medseg.datasets.phantoms.photo_canvas import (
    Stroke,
    as_bytes,
    blob,
    cells,
    cloud,
    facts_of,
    pixel_centres,
    require_known,
    strokes,
    write_cohort,
)
from medseg.datasets.phantoms.skin_lesion import paint_lesion, sample_lesion
from medseg.typing import Float32Array

SIZES = {"tiny": (96, 72), "small": (256, 192), "medium": (1024, 768)}  # pixels, width and height
PALE, DEEP = np.array([0.93, 0.76, 0.68]), np.array([0.62, 0.43, 0.33])  # the range of skin tones
DARK_HAIR = np.array([[0.08, 0.06, 0.05], [0.22, 0.14, 0.09]])
LIGHT_HAIR = np.array([[0.8, 0.72, 0.55], [0.95, 0.92, 0.85]])


class Scene(NamedTuple):
    """Image (Y, X, 3) uint8, the same without hair, mask of the lesion (Y, X), and hair cover of each pixel 0..1."""

    image: NDArray[np.uint8]
    hairless: NDArray[np.uint8]
    lesion: NDArray[np.bool_]
    hair: Float32Array


def make_cohort(folder: Path, patients: int, seed: int, frames: int = 1, size: str = "small") -> Path:
    """Write a synthetic dataset and return its folder: mask of the lesion (255), label benign or malignant.

    Malignant lesions have, on average, rougher borders, more colours, less symmetry and a larger diameter; single ones
    overlap. One of three is malignant. Patient i depends on `seed` and i alone. DataError (phantom-settings) for other
    sizes, and for more than one frame.
    """
    require_known("skin", frames, size, SIZES)

    def case(number: int) -> dict[str, object]:
        rng = np.random.default_rng([seed, number])
        malignant = bool((number + seed) % 3 == 0)
        scene = skin_phantom(rng, malignant, size)
        label = "malignant" if malignant else "benign"
        return {"case": f"skin{number:03d}", "label": label, "image": scene.image, "masks": {"": scene.lesion}}

    facts = facts_of("skin", patients, seed, size)
    return write_cohort(folder, map(case, range(patients)), {"lesion": 255}, facts)


def skin_phantom(rng: np.random.Generator, malignant: bool, size: str = "small", hairs: int | None = None) -> Scene:
    """One lesion; `hairs` strands, or none to many at random."""
    grid = pixel_centres(*SIZES[size])
    shape = (grid[0].shape[0], grid[0].shape[1])
    skin = _ground(rng, grid)
    image, cover = paint_lesion(rng, grid, skin, sample_lesion(rng, malignant))
    image = _gel(rng, grid, _light(rng, grid, image))
    hair_counts = (0, 0, int(rng.integers(3, 20)), int(rng.integers(20, 70)))
    hair = _hair(rng, shape, int(rng.choice(hair_counts)) if hairs is None else hairs)
    low, high = LIGHT_HAIR if rng.random() < 0.2 else DARK_HAIR
    shade = low + (high - low) * rng.random()
    hairy = image + (shade - image) * hair[..., None]
    edge = _corners(rng, grid)
    noise = 0.012 * ndimage.gaussian_filter(rng.standard_normal(image.shape), (0.6, 0.6, 0))
    hairy, bare = (np.asarray((rgb + noise) * edge[..., None], np.float32) for rgb in (hairy, image))
    return Scene(as_bytes(hairy), as_bytes(bare), (cover > 0.5) & (edge > 0.3), np.asarray(hair * edge, np.float32))


def _ground(rng: np.random.Generator, grid: tuple[Float32Array, Float32Array]) -> Float32Array:
    """Skin (Y, X, 3): a tone, redness in patches, pigment in specks, the fine net of furrows."""
    shape = (grid[0].shape[0], grid[0].shape[1])
    tone = (DEEP + (PALE - DEEP) * rng.beta(2, 1)) * rng.normal(1, 0.015, 3)
    red = 0.04 * cloud(rng, shape, 0.12) + 0.02 * cloud(rng, shape, 0.02)
    brown = 0.03 * cloud(rng, shape, 0.08) + 0.025 * cloud(rng, shape, 0.006)
    absorbed = red[..., None] * [0.45, 1.1, 0.9] + brown[..., None] * [0.5, 0.8, 1.1]
    tilt = rng.uniform(0, np.pi)
    turned = (grid[0] * np.cos(tilt) + grid[1] * np.sin(tilt), grid[1] * np.cos(tilt) - grid[0] * np.sin(tilt))
    walls = cells(rng, (turned[0], turned[1] * np.float32(1.5)), max(0.016, 4 / shape[1]))
    furrows = rng.uniform(0.0, 0.05) * smoothstep(walls, 0.15, 0.0)
    return np.asarray(tone * np.exp(-absorbed) * (1 - furrows[..., None]), np.float32)


def _light(rng: np.random.Generator, grid: tuple[Float32Array, Float32Array], image: Float32Array) -> Float32Array:
    """Darker to the rim and to one side; a cast of colour."""
    turn = rng.uniform(0, 2 * np.pi)
    slope = rng.uniform(0, 0.15) * (grid[0] * np.cos(turn) + grid[1] * np.sin(turn))
    away = np.asarray(grid[0] ** 2 + grid[1] ** 2)
    lit = 1 + slope - rng.uniform(0.1, 1.1) * away - rng.uniform(0, 1) * away**2
    return np.asarray(image * lit[..., None] * rng.normal(1, 0.015, 3), np.float32)


def _gel(rng: np.random.Generator, grid: tuple[Float32Array, Float32Array], image: Float32Array) -> Float32Array:
    """A ruler and bubbles of the gel, in some images."""
    if rng.random() < 0.25:
        row, step = 0.34 * rng.choice((-1, 1)), rng.uniform(0.02, 0.04)
        xs = np.arange(-0.55, 0.55, step) + rng.uniform(0, step)
        longs = [0.05 if number % 10 == 0 else 0.035 if number % 5 == 0 else 0.02 for number in range(len(xs))]
        ends = [np.array([(x, row), (x, row - np.sign(row) * up)]) for x, up in zip(xs, longs, strict=True)]
        ticks = strokes(image.shape[:2], [Stroke(points, 0.0022) for points in ends])
        image = image * (1 - 0.85 * ticks[..., None])
    for _ in range(int(rng.integers(1, 9)) if rng.random() < 0.35 else 0):
        centre, size = rng.uniform(-0.48, 0.48, 2) * [1, 0.75], float(rng.gamma(2, 0.006)) + 0.004
        outer, inner = (blob(grid, centre, (r, r, 0.0), [], 0.25 * size) for r in (size, 0.75 * size))
        glint = blob(grid, centre - 0.35 * size, (0.25 * size, 0.2 * size, 0.8), [], 0.1 * size)
        image = image * (1 - 0.25 * outer)[..., None] + (0.22 * inner + 0.5 * glint)[..., None] * [1, 0.95, 0.9]
    return np.asarray(image, np.float32)


def _hair(rng: np.random.Generator, shape: tuple[int, int], count: int) -> Float32Array:
    """Cover 0..1 of each pixel by `count` curved strands, thin at the tip."""
    lie, thick = rng.uniform(0, np.pi), rng.uniform(0.003, 0.006)
    strands = []
    for _ in range(count):
        bend = (
            rng.normal(lie, 0.35) + np.linspace(-0.5, 0.5, 32) * rng.normal(0, 0.9) + rng.normal(0, 0.02, 32).cumsum()
        )
        steps = np.stack([np.cos(bend), np.sin(bend)], axis=1) * rng.uniform(0.25, 1.1) / 32
        path = np.cumsum(steps, axis=0)
        path += rng.uniform(-0.5, 0.5, 2) * [1, 0.75] - path.mean(axis=0)
        width, value = thick * rng.uniform(0.7, 1.3), float(rng.uniform(0.8, 1))
        strands += [Stroke(path[:25], width, value), Stroke(path[24:29], 0.75 * width, value)]
        strands.append(Stroke(path[28:], 0.5 * width, 0.9 * value))
    return np.asarray(ndimage.gaussian_filter(strokes(shape, strands), 0.4), np.float32)


def _corners(rng: np.random.Generator, grid: tuple[Float32Array, Float32Array]) -> Float32Array:
    """1 inside the dermoscope, 0 in black corners, if there are any."""
    if rng.random() > 0.35:
        return np.ones(grid[0].shape, np.float32)
    radius = rng.uniform(0.5, 0.57)
    return smoothstep(np.hypot(*grid), radius, radius - rng.uniform(0.01, 0.05))
