"""Synthetic B-mode ultrasound of a breast: layers, speckle, a tumour and look-alikes; no patient data."""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from medseg.datasets.phantoms.canvas import smoothstep
from medseg.datasets.phantoms.photo_canvas import (
    as_bytes,
    blob,
    cells,
    cloud,
    facts_of,
    pixel_centres,
    require_known,
    wavy,
    write_cohort,
)
from medseg.typing import Float32Array

SIZES = {"tiny": (72, 64), "small": (192, 160), "medium": (560, 460)}  # pixels, width and height
CLASSES = ("normal", "benign", "malignant")
# depths in widths from the upper edge at which a layer ends: skin, fat, gland; the ribs lie at the last
SKIN, FAT, GLAND, RIBS = 0.03, 0.22, 0.56, 0.7
# amplitude before speckle, gland 1; the mass is the darkest tissue of all
ECHO = {"skin": 1.5, "fat": 0.32, "septum": 1.1, "gland": 1.0, "muscle": 0.42, "fibre": 1.0, "rib": 2.2, "mass": 0.13}
RANGE_DB, GAIN = 52, 0.6  # dynamic range, and the grey level of amplitude 1
AXIAL, LATERAL = 0.0016, 0.003  # standard deviations of the pulse at the skin, in widths


class Mass(NamedTuple):
    """A dark region: centre x (from the middle) and depth, radii, in widths; malignant ones are rough and upright."""

    centre: tuple[float, float]
    radii: tuple[float, float]
    malignant: bool = False


class Appearance(NamedTuple):
    """Shared appearance of all masses of an image: amplitude, waves of the border, rotation in radians."""

    echo: float
    waves: list[tuple[int, float, float]]
    turn: float


def make_cohort(folder: Path, patients: int, seed: int, frames: int = 1, size: str = "small") -> Path:
    """Write a synthetic dataset and return its folder: mask of the tumour (255), label normal, benign or malignant.

    Every image has one to four look-alikes of a tumour's size, form and echo in the fat, near the muscle or at the
    sides; the tumour alone lies in the gland near the middle. Normal ones have look-alikes only and a blank mask.
    Patient i depends on `seed` and i alone. DataError (phantom-settings) for other sizes, and for more than one frame.
    """
    require_known("breast", frames, size, SIZES)

    def case(number: int) -> dict[str, object]:
        rng = np.random.default_rng([seed, number])
        label = CLASSES[(number + seed) % 3]
        image, mask = breast_phantom(rng, label, int(rng.integers(1, 5)), size)
        return {"case": f"breast{number:03d}", "label": label, "image": image, "masks": {"": mask}}

    facts = facts_of("breast", patients, seed, size)
    return write_cohort(folder, map(case, range(patients)), {"tumour": 255}, facts)


def breast_phantom(
    rng: np.random.Generator, label: str, look_alikes: int, size: str = "small"
) -> tuple[NDArray[np.uint8], NDArray[np.bool_]]:
    """Grey image and mask of the tumour (Y, X)."""
    return _draw(rng, place_masses(rng, label, look_alikes), label != "normal", size)


def look_alikes_phantom(
    rng: np.random.Generator, look_alikes: int, size: str = "small"
) -> tuple[NDArray[np.uint8], NDArray[np.bool_], list[tuple[float, float]]]:
    """A tumour of either kind among `look_alikes`: grey image and mask (Y, X), and the centres (x, y) in pixels.

    The tumour's centre is the first. All have the same form, size, echo and shadow; only their positions differ.
    """
    masses = place_masses(rng, str(rng.choice(CLASSES[1:])), look_alikes)
    image, mask = _draw(rng, masses, True, size)
    width = SIZES[size][0]
    return image, mask, [((x + 0.5) * width - 0.5, depth * width - 0.5) for x, depth in (m.centre for m in masses)]


def place_masses(rng: np.random.Generator, label: str, look_alikes: int) -> list[Mass]:
    """The tumour first, if any, and its look-alikes: same size and form, different only in position.

    Those of a normal breast look like either kind. A crowd of many may touch.
    """
    malignant = label == "malignant" or (label == "normal" and rng.random() < 0.5)
    size = rng.uniform(0.038, 0.07)
    flat = rng.uniform(0.7, 0.9) if malignant else rng.uniform(1.25, 1.8)
    radii = (float(size * np.sqrt(flat)), float(size / np.sqrt(flat)))
    masses: list[Mass] = []
    if label != "normal":
        centre = (float(rng.uniform(-0.13, 0.13)), float(rng.uniform(FAT + 0.1, GLAND - 0.1)))
        masses.append(Mass(centre, radii, malignant))
    n_masses, gap = look_alikes + len(masses), 2.6 * max(radii)
    while len(masses) < n_masses:
        centre_ = _elsewhere(rng, radii)
        gap *= 0.995  # guarantees an end for any number of masses
        if all(np.hypot(*np.subtract(centre_, other.centre)) > gap for other in masses):
            masses.append(Mass(centre_, radii, malignant))
    return masses


def _elsewhere(rng: np.random.Generator, radii: tuple[float, float]) -> tuple[float, float]:
    """In the fat, at the muscle, or in the gland at a side."""
    where = rng.integers(3)
    if where == 2:
        return float(rng.choice((-1, 1)) * rng.uniform(0.33, 0.42)), float(rng.uniform(FAT + 0.08, GLAND - 0.08))
    low, high = ((SKIN + radii[1], FAT - 0.02), (GLAND + 0.03, RIBS - 0.02))[where]
    return float(rng.uniform(-0.4, 0.4)), float(rng.uniform(low, max(low + 0.01, high)))


def _draw(
    rng: np.random.Generator, masses: list[Mass], tumour: bool, size: str
) -> tuple[NDArray[np.uint8], NDArray[np.bool_]]:
    """Grey image of `masses` in their layers, and the mask (Y, X) of the first if it is a tumour."""
    x, y = pixel_centres(*SIZES[size])
    grid = (x, np.asarray(y - y.min() + 0.5 / x.shape[1], np.float32))  # from the middle, from the upper edge
    echo, strength = _layers(rng, *grid)
    malignant = bool(masses) and masses[0].malignant
    waves = wavy(rng, 0.05, 4) if not malignant else [*wavy(rng, 0.14, 7), *_spicules(rng)]
    appearance = Appearance(ECHO["mass"] * rng.uniform(0.7, 1.3), waves, float(rng.normal(0, 0.15)))
    mask = np.zeros(x.shape, bool)
    for number, mass in enumerate(masses):
        cover, rim = _cover(grid, mass, appearance)
        echo = echo + (appearance.echo - echo) * cover
        echo = echo * (1 + (0.7 if malignant else 0.4) * rim)  # an echogenic halo or a thin capsule
        strength = strength * _behind(grid, mass)
        if number == 0 and tumour:
            mask = cover > 0.5
    return _scanned(rng, np.asarray(echo * strength, np.float32), grid[1]), mask


def _layers(rng: np.random.Generator, x: Float32Array, depth: Float32Array) -> tuple[Float32Array, Float32Array]:
    """Echo of the layers (Y, X), and how strong the beam still is."""
    shape = (x.shape[0], x.shape[1])
    bow = 0.02 * cloud(rng, shape, 0.15) + rng.uniform(-0.12, 0.12) * x
    level = np.asarray(depth + bow * smoothstep(depth, 0, FAT), np.float32)
    echo = _fat(rng, x, depth, level)
    gland = ECHO["gland"] * np.exp(0.3 * cloud(rng, shape, 0.05, 3) + 0.2 * cloud(rng, shape, 0.015, 3))
    edge = 0.012 * cloud(rng, shape, 0.03)
    echo += (gland - echo) * smoothstep(level + edge, FAT - 0.012, FAT + 0.012)
    fibres = smoothstep(cloud(rng, shape, 0.06, 12) + np.sin(2 * np.pi * 26 * level), 1.0, 2.2)
    muscle = ECHO["muscle"] + (ECHO["fibre"] - ECHO["muscle"]) * fibres
    echo += (muscle - echo) * smoothstep(level, GLAND - 0.006, GLAND + 0.006)
    for start, thick in ((GLAND, 0.006), (RIBS + 0.09, 0.005)):  # fasciae: bright where the beam meets them squarely
        fascia = np.exp(-(((level - start) / thick) ** 2)) * smoothstep(cloud(rng, shape, 0.08), -1.2, 0.8)
        echo += (1.5 - echo) * 0.8 * fascia
    skin = smoothstep(depth, SKIN + 0.004, SKIN - 0.002)
    lines = np.exp(-(((depth - 0.006) / 0.004) ** 2)) + np.exp(-(((depth - SKIN + 0.004) / 0.004) ** 2))
    echo += (ECHO["skin"] * (0.35 + 0.65 * lines) - echo) * skin
    # what the gain over depth leaves of the attenuation, darker where the probe lifts at a side
    strength = np.exp(-rng.uniform(0.5, 1.6) * depth) * (1 - rng.uniform(0, 0.5) * smoothstep(np.abs(x), 0.4, 0.5))
    strength = strength * np.exp(0.12 * cloud(rng, shape, 0.05, 0.1))  # streaks down the beam
    return _ribs(rng, x, level, echo, np.asarray(strength, np.float32))


def _fat(rng: np.random.Generator, x: Float32Array, depth: Float32Array, level: Float32Array) -> Float32Array:
    """Dark lobules, wider than high, between bright septa (Y, X)."""
    shape = (x.shape[0], x.shape[1])
    bent = (x + 0.02 * cloud(rng, shape, 0.03), 2.2 * level + 0.03 * cloud(rng, shape, 0.03))
    walls = cells(rng, (np.asarray(bent[0], np.float32), np.asarray(bent[1], np.float32)), 0.13)
    septa = (
        smoothstep(walls, 0.09, 0.0) * smoothstep(cloud(rng, shape, 0.06), -1.0, 1.0) * smoothstep(depth, 0.03, 0.06)
    )
    fat = ECHO["fat"] * np.exp(0.15 * cloud(rng, shape, 0.03, 2))
    return np.asarray(fat + (ECHO["septum"] - fat) * septa, np.float32)


def _ribs(
    rng: np.random.Generator, x: Float32Array, level: Float32Array, echo: Float32Array, strength: Float32Array
) -> tuple[Float32Array, Float32Array]:
    """None to two ribs in cross-section: a bright arc and the shadow behind it."""
    first = rng.uniform(-0.45, 0.0)
    for middle in (first, first + rng.uniform(0.35, 0.45))[: rng.choice((0, 1, 2), p=(0.4, 0.2, 0.4))]:
        half = rng.uniform(0.05, 0.08)
        top = RIBS + 0.4 * ((x - middle) ** 2) / half  # arched towards the probe
        inside = smoothstep(np.abs(x - middle), half, 0.75 * half)
        arc = np.exp(-(((level - top) / 0.007) ** 2)) * inside
        echo = echo + (ECHO["rib"] - echo) * 0.9 * arc
        strength = strength * (1 - 0.93 * inside * smoothstep(level - top, 0.004, 0.03))
    return np.asarray(echo, np.float32), np.asarray(strength, np.float32)


def _spicules(rng: np.random.Generator) -> list[tuple[int, float, float]]:
    """Waves of neighbouring numbers, which beat: sharp points, long on one side and hardly there on another."""
    number = int(rng.integers(9, 14))
    steps = ((0, 0.05), (2, 0.04), (-3, 0.04), (number + 1, 0.035), (number - 2, 0.03))
    return [(number + more, height, float(rng.uniform(0, 2 * np.pi))) for more, height in steps]


def _cover(
    grid: tuple[Float32Array, Float32Array], mass: Mass, appearance: Appearance
) -> tuple[Float32Array, Float32Array]:
    """How far a mass covers each pixel (Y, X), and its rim."""
    cover = blob(grid, mass.centre, (*mass.radii, appearance.turn), appearance.waves, 0.005)
    wide = 1.35 if mass.malignant else 1.12
    outer = blob(
        grid, mass.centre, (wide * mass.radii[0], wide * mass.radii[1], appearance.turn), appearance.waves, 0.01
    )
    return cover, np.asarray(np.clip(outer - cover, 0, 1), np.float32)


def _behind(grid: tuple[Float32Array, Float32Array], mass: Mass) -> Float32Array:
    """What a mass leaves of the beam (Y, X): a shadow behind malignant ones, else more, dark at the edges."""
    x, depth = grid
    aside = np.abs(x - mass.centre[0]) / mass.radii[0]
    below = smoothstep(depth, mass.centre[1], mass.centre[1] + 1.3 * mass.radii[1])
    fading = np.exp(-np.maximum(depth - mass.centre[1] - mass.radii[1], 0) / 0.25)
    if mass.malignant:
        return np.asarray(1 - 0.7 * smoothstep(aside, 1.2, 0.3) * below * (0.4 + 0.6 * fading), np.float32)
    edges = np.exp(-(((aside - 1) / 0.12) ** 2))
    return np.asarray(1 + (0.8 * smoothstep(aside, 1.0, 0.3) - 0.35 * edges) * below * fading, np.float32)


def _scanned(rng: np.random.Generator, echo: Float32Array, depth: Float32Array) -> NDArray[np.uint8]:
    """Fully developed speckle (Rayleigh amplitude, wider with depth), of one to four looks, log-compressed."""
    width = echo.shape[1]
    near = (max(AXIAL * width, 0.5), max(LATERAL * width, 0.6))
    far = (near[0] * 1.15, near[1] * 1.9)
    share = np.clip(depth / 0.8, 0, 1)
    looks = int(rng.integers(1, 5))
    power = np.zeros_like(echo)
    for _ in range(2 * looks):  # scatterers in phase and out of phase
        field = rng.standard_normal(echo.shape).astype(np.float32) * echo
        mixed = _blurred(field, near) * np.sqrt(1 - share) + _blurred(field, far) * np.sqrt(share)
        power += mixed**2 / (2 * looks)
    power += 4e-5 * rng.exponential(1.0, echo.shape)  # the receiver's own noise
    return as_bytes(np.asarray(GAIN + 10 * np.log10(power) / RANGE_DB, np.float32))


def _blurred(field: Float32Array, sigmas: tuple[float, float]) -> Float32Array:
    """White noise filtered to the pulse, of unchanged power."""
    gain = 1.0
    for sigma in sigmas:
        kernel = ndimage.gaussian_filter1d(np.eye(1, 81, 40)[0], sigma)
        gain *= float((kernel**2).sum())
    return np.asarray(ndimage.gaussian_filter(field, sigmas) / np.sqrt(gain), np.float32)
