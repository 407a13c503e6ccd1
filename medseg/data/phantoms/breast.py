"""Synthetic B-mode ultrasound of a breast: layers, speckle, a tumour and look-alikes; nobody's breast."""

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
    places,
    require_known,
    wavy,
    write_cohort,
)

SIZES = {"tiny": (72, 64), "small": (192, 160), "medium": (560, 460)}  # pixels, width and height
CLASSES = ("normal", "benign", "malignant")
# depths in widths from the upper edge: skin, fat, gland, muscle, ribs
SKIN, FAT, GLAND, MUSCLE = 0.03, 0.2, 0.55, 0.68
ECHO = {"skin": 0.9, "fat": 0.3, "gland": 0.6, "muscle": 0.38, "rib": 0.95, "mass": 0.12}  # before speckle
RANGE_DB, GAIN = 55, 0.72  # shown, and where an amplitude of 1 stands in it


class Mass(NamedTuple):
    """A dark region: centre x (from the middle) and depth, radii, in widths; malignant ones are rough and upright."""

    centre: tuple[float, float]
    radii: tuple[float, float]
    malignant: bool = False


def make_cohort(folder: Path, patients: int, seed: int, frames: int = 1, size: str = "small") -> Path:
    """Write a synthetic dataset and return its folder: mask of the tumour (255), label normal, benign or malignant.

    Every picture has one to four look-alikes of a tumour's size, form and echo in the fat, near the muscle or at the
    sides; the tumour alone lies in the gland near the middle. Normal ones have look-alikes only and a blank mask.
    Patient i depends on `seed` and i alone. DataError (phantom-settings) for other sizes, and for more than one frame.
    """
    require_known("breast", frames, size, SIZES)
    cases = []
    for number in range(patients):
        rng = np.random.default_rng([seed, number])
        label = CLASSES[(number + seed) % 3]
        image, mask = breast_phantom(rng, label, int(rng.integers(1, 5)), size)
        cases.append({"case": f"breast{number:03d}", "label": label, "image": image, "masks": {"": mask}})
    return write_cohort(folder, cases, {"tumour": 255}, facts_of("breast", patients, seed, size))


def breast_phantom(
    rng: np.random.Generator, label: str, look_alikes: int, size: str = "small"
) -> tuple[NDArray[np.uint8], NDArray[np.bool_]]:
    """Grey picture and mask of the tumour (Y, X)."""
    grid = places(*SIZES[size])
    depth = grid[1] + grid[0].shape[0] / grid[0].shape[1] / 2  # from the upper edge
    masses = place_masses(rng, label, look_alikes)
    echo, strength = _layers(rng, grid[0], depth)
    mask = np.zeros(grid[0].shape, bool)
    for number, mass in enumerate(masses):
        cover = _cover(rng, (grid[0], depth), mass)
        echo += (ECHO["mass"] * rng.uniform(0.8, 1.3) - echo) * cover
        behind = (np.abs(grid[0] - mass.centre[0]) < 0.8 * mass.radii[0]) & (depth > mass.centre[1] + mass.radii[1])
        shade = ndimage.gaussian_filter(behind.astype(np.float32), 0.012 * grid[0].shape[1])
        strength *= 1 + (-0.45 if mass.malignant else 0.35) * shade
        if number == 0 and label != "normal":
            mask = cover > 0.5
    return _scanned(rng, echo * strength, depth), mask


def place_masses(rng: np.random.Generator, label: str, look_alikes: int) -> list[Mass]:
    """The tumour, first, where there is one, and its look-alikes: of one size and form, told by their places alone."""
    size = rng.uniform(0.035, 0.085)
    flat = rng.uniform(1.15, 1.6) if label != "malignant" else rng.uniform(0.75, 1.0)
    radii = (float(size * np.sqrt(flat)), float(size / np.sqrt(flat)))
    malignant = label == "malignant"
    masses: list[Mass] = []
    if label != "normal":
        centre = (float(rng.uniform(-0.15, 0.15)), float(rng.uniform(FAT + 0.1, GLAND - 0.1)))
        masses.append(Mass(centre, radii, malignant))
    for _ in range(200):
        if len(masses) == look_alikes + (label != "normal"):
            break
        place = _elsewhere(rng)
        if all(np.hypot(*np.subtract(place, other.centre)) > 2.4 * max(radii) for other in masses):
            masses.append(Mass(place, radii, malignant))
    return masses


def _elsewhere(rng: np.random.Generator) -> tuple[float, float]:
    """In the fat, at the muscle, or in the gland at a side."""
    where = rng.integers(3)
    if where == 2:
        return float(rng.choice((-1, 1)) * rng.uniform(0.34, 0.44)), float(rng.uniform(FAT + 0.05, GLAND - 0.05))
    low, high = ((SKIN + 0.04, FAT - 0.04), (GLAND + 0.04, MUSCLE))[where]
    return float(rng.uniform(-0.42, 0.42)), float(rng.uniform(low, high))


def _layers(rng: np.random.Generator, x: Array, depth: Array) -> tuple[Array, Array]:
    """Echo of the layers (Y, X), and how strong the beam still is."""
    shape = (x.shape[0], x.shape[1])
    bow = 0.02 * cloud(rng, shape, 0.25) + rng.uniform(-0.15, 0.15) * x
    level = depth + bow
    echo = np.full(shape, ECHO["fat"], np.float32)
    for start, name in ((FAT, "gland"), (GLAND, "muscle")):
        echo += (ECHO[name] - echo) * smoothstep(level, start - 0.01, start + 0.01)
    echo *= 1 + 0.2 * cloud(rng, shape, 0.04)
    echo *= 1 + 0.25 * np.sin(2 * np.pi * (level * 22 + cloud(rng, shape, 0.1))) * (level > GLAND)  # muscle is striped
    echo += (ECHO["skin"] - echo) * (smoothstep(depth, 0.005, 0.01) * smoothstep(depth, SKIN + 0.005, SKIN))
    strength = np.exp(-rng.uniform(0.6, 1.3) * depth)
    for middle in rng.uniform(-0.45, 0.45, 2):
        bone = np.exp(-(((x - middle) / 0.06) ** 2)) * smoothstep(np.abs(level - MUSCLE - 0.03), 0.012, 0.0)
        echo += (ECHO["rib"] - echo) * bone
        strength = strength * (1 - 0.7 * np.exp(-(((x - middle) / 0.06) ** 4)) * (level > MUSCLE + 0.04))
    return np.asarray(echo, np.float32), np.asarray(strength, np.float32)


def _cover(rng: np.random.Generator, grid: tuple[Array, Array], mass: Mass) -> Array:
    """How far a mass covers each pixel; spicules where it is malignant."""
    waves = wavy(rng, 0.14 if mass.malignant else 0.04, 14 if mass.malignant else 5)
    return blob(grid, mass.centre, (*mass.radii, float(rng.normal(0, 0.15))), waves, 0.008)


def _scanned(rng: np.random.Generator, echo: Array, depth: Array) -> NDArray[np.uint8]:
    """Fully developed speckle (Rayleigh amplitude, wider with depth) on the echo, log-compressed."""
    fields = rng.standard_normal((2, *echo.shape)).astype(np.float32)
    near, far = (np.stack([ndimage.gaussian_filter(f, sigma) for f in fields]) for sigma in ((0.6, 0.9), (0.8, 1.8)))
    share = np.clip(depth / 0.8, 0, 1)
    mixed = near / near.std() * (1 - share) + far / far.std() * share
    amplitude = np.maximum(echo, 0.004) * np.hypot(*mixed) / np.sqrt(2)
    grey = GAIN + 20 * np.log10(np.maximum(amplitude, 1e-4)) / RANGE_DB
    return as_bytes(np.asarray(grey, np.float32))
