"""Synthetic dermoscopy: lesions benign and malignant on skin, with hair, vignette, ruler and bubbles; nobody's skin."""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from medseg.data.phantoms.canvas import Array, smoothstep
from medseg.data.phantoms.picture import (
    as_bytes,
    blob,
    cloud,
    facts_of,
    line,
    places,
    require_known,
    wavy,
    write_cohort,
)

SIZES = {"tiny": (96, 72), "small": (256, 192), "medium": (1024, 768)}  # pixels, width and height
# sRGB of the colours of dermoscopy, after Kasmi & Mokrani 2016: what a malignant lesion may show beside the browns
RGB = {
    "brown": (150, 92, 52), "dark": (100, 58, 36), "blue_grey": (113, 108, 139), "red": (150, 60, 50),
    "black": (45, 33, 30), "white": (205, 190, 205),
}  # fmt: skip
BROWN, DARK, BLUE_GREY, RED, BLACK, WHITE = (np.array(rgb) / 255 for rgb in RGB.values())


Floats = NDArray[np.float64]


class Scene(NamedTuple):
    """A picture (Y, X, 3) uint8, the same without hair, the lesion (Y, X), and how far hair covers each pixel 0..1."""

    picture: NDArray[np.uint8]
    hairless: NDArray[np.uint8]
    lesion: NDArray[np.bool_]
    hair: Array


def make_cohort(folder: Path, patients: int, seed: int, frames: int = 1, size: str = "small") -> Path:
    """Write a synthetic dataset and return its folder: mask of the lesion (255), label benign or malignant.

    Malignant lesions have, on average, rougher borders, more colours, less symmetry and a larger diameter; single ones
    overlap. Patient i depends on `seed` and i alone. DataError (phantom-settings) for other sizes, and for more than
    one frame.
    """
    require_known("skin", frames, size, SIZES)
    cases = []
    for number in range(patients):
        rng = np.random.default_rng([seed, number])
        malignant = bool((number + seed) % 3 == 0)
        scene = skin_phantom(rng, malignant, size)
        label = "malignant" if malignant else "benign"
        cases.append({"case": f"skin{number:03d}", "label": label, "image": scene.picture, "masks": {"": scene.lesion}})
    return write_cohort(folder, cases, {"lesion": 255}, facts_of("skin", patients, seed, size))


def skin_phantom(rng: np.random.Generator, malignant: bool, size: str = "small", hairs: int | None = None) -> Scene:
    """One lesion; `hairs` strands, or none to many at random."""
    grid = places(*SIZES[size])
    shape = (grid[0].shape[0], grid[0].shape[1])
    tone = np.array([0.88, 0.68, 0.58]) * rng.uniform(0.8, 1.05) * rng.uniform(0.95, 1.05, 3)
    ground = tone * (1 + 0.04 * cloud(rng, shape, 0.05) + 0.02 * cloud(rng, shape, 0.008))[..., None]
    cover, colour = _lesion(rng, grid, malignant)
    picture = _light(rng, grid, ground + (colour - ground) * cover[..., None])
    many = (0, 0, int(rng.integers(3, 25)), int(rng.integers(25, 90)))
    count = int(rng.choice(many)) if hairs is None else hairs
    hair = _hair(rng, shape, count)
    shade = np.array([0.75, 0.65, 0.45] if rng.random() < 0.15 else [0.13, 0.09, 0.07])
    noise = rng.normal(0, 0.01, picture.shape)
    parts = [picture, picture + (shade - picture) * hair[..., None]]
    edge = _corners(rng, grid)[..., None]
    hairless, hairy = (as_bytes(np.asarray((part + noise) * edge, np.float32)) for part in parts)
    return Scene(hairy, hairless, cover > 0.5, np.asarray(hair * edge[..., 0], np.float32))


def _lesion(rng: np.random.Generator, grid: tuple[Array, Array], malignant: bool) -> tuple[Array, Array]:
    """Cover (Y, X) and colours (Y, X, 3) of a lesion."""
    shape = (grid[0].shape[0], grid[0].shape[1])
    radius = float(np.clip(rng.normal(0.2 if malignant else 0.15, 0.04), 0.07, 0.3))
    stretch = float(rng.uniform(1.0, 1.5 if malignant else 1.3))
    centre = rng.normal(0, 0.05, 2)
    radii = (radius * np.sqrt(stretch), radius / np.sqrt(stretch), float(rng.uniform(0, np.pi)))
    rough = abs(float(rng.normal(0.14 if malignant else 0.04, 0.03)))
    soft = rng.uniform(0.01, 0.025) * (0.7 if malignant else 1.2)
    waves = wavy(rng, rough, 9 if malignant else 5)
    cover = blob(grid, centre, radii, waves, soft)
    colour = BROWN * rng.uniform(0.8, 1.15) * np.ones((*shape, 3))
    inner = blob(grid, centre + rng.normal(0, 0.25 * radius, 2), (radii[0] * 0.6, radii[1] * 0.6, 0.0), waves, 3 * soft)
    colour += (DARK - colour) * (rng.uniform(0.3, 0.9) * inner)[..., None]
    extra = [BLUE_GREY, RED, BLACK, WHITE]
    for index in rng.permutation(4)[: rng.integers(1, 4) if malignant else rng.integers(0, 2)]:
        turn, far = rng.uniform(0, 2 * np.pi), radius * rng.uniform(0.2, 0.7)
        place = centre + far * np.array([np.cos(turn), np.sin(turn)])
        size = radius * rng.uniform(0.2, 0.5)
        patch = blob(grid, place, (size, size * rng.uniform(0.5, 1), turn), wavy(rng, 0.15), 0.01)
        colour += (extra[index] - colour) * (0.85 * patch)[..., None]
    network = np.abs(np.sin(60 * (grid[0] + 0.01 * cloud(rng, shape, 0.05)) / radius * 0.2))
    network = np.minimum(network, np.abs(np.sin(60 * (grid[1] + 0.01 * cloud(rng, shape, 0.05)) / radius * 0.2)))
    colour *= (0.88 + 0.17 * smoothstep(network, 0.0, 0.5))[..., None]
    for _ in range(int(rng.integers(0, 25))):
        place = centre + rng.normal(0, 0.5 * radius, 2)
        dot = blob(grid, place, (*[rng.uniform(0.004, 0.01)] * 2, 0.0), [], 0.003)
        colour += (DARK * 0.6 - colour) * (0.8 * dot)[..., None]
    return cover, np.asarray(colour * (1 + 0.06 * cloud(rng, shape, 0.02))[..., None], np.float32)


def _light(rng: np.random.Generator, grid: tuple[Array, Array], picture: Floats) -> Array:
    """Darker to the sides, a ruler and bubbles of the gel in some pictures."""
    shape = (grid[0].shape[0], grid[0].shape[1])
    picture = picture * (1 - rng.uniform(0, 0.5) * (grid[0] ** 2 + grid[1] ** 2) * 2)[..., None]
    if rng.random() < 0.25:
        ticks = np.zeros(shape, np.float32)
        row = 0.33 * rng.choice((-1, 1))
        for number in range(40):
            x = -0.48 + 0.024 * number
            line(ticks, [(x, row), (x, row - np.sign(row) * (0.03 if number % 5 else 0.05))], 0.003)
        picture = picture * (1 - 0.85 * ticks[..., None])
    for _ in range(int(rng.integers(0, 6)) if rng.random() < 0.4 else 0):
        place, size = rng.uniform(-0.45, 0.45, 2) * [1, 0.7], rng.uniform(0.008, 0.03)
        outer, inner = (blob(grid, place, (r, r, 0.0), [], 0.003) for r in (size, 0.8 * size))
        picture = picture + 0.35 * (outer - inner)[..., None]
    return np.asarray(picture, np.float32)


def _hair(rng: np.random.Generator, shape: tuple[int, int], count: int) -> Array:
    """How far each pixel is covered by `count` curved strands."""
    cover = np.zeros(shape, np.float32)
    lie = rng.uniform(0, np.pi)
    for _ in range(count):
        turn = rng.normal(lie, 0.5)
        bend = turn + np.cumsum(rng.normal(0, 0.04, 24))
        steps = np.stack([np.cos(bend), np.sin(bend)], axis=1) * rng.uniform(0.008, 0.035)
        path = np.cumsum(steps, axis=0)
        path += rng.uniform(-0.5, 0.5, 2) * [1, 0.75] - path.mean(axis=0)
        line(cover, path, rng.uniform(0.002, 0.006), float(rng.uniform(0.75, 1)))
    return np.asarray(ndimage.gaussian_filter(cover, 0.4), np.float32)


def _corners(rng: np.random.Generator, grid: tuple[Array, Array]) -> Array:
    """1 inside the dermoscope, 0 in black corners, where there are any."""
    if rng.random() > 0.35:
        return np.ones(grid[0].shape, np.float32)
    return smoothstep(np.hypot(*grid), rng.uniform(0.5, 0.56), 0.48)
