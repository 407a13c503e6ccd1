"""Synthetic fundus photographs: vessels, disc, fovea, uneven light and four types of lesion; nobody's eye."""

from __future__ import annotations

from itertools import pairwise
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

SIZES = {"tiny": (96, 72), "small": (480, 360), "medium": (1440, 1080)}  # pixels, width and height
FIELD = 0.46  # radius of the field in widths of the picture
DISC = 0.07  # radius of the disc in widths
SEVERE = 3  # grade 3 of a phantom has more haemorrhages than this in each quadrant (ICDR asks for more than 20)
LESIONS = ("haemorrhages", "hard_exudates", "microaneurysms", "soft_exudates")


class Eye(NamedTuple):
    """Places in widths of the picture from its middle; side: 1 where the disc is on the right."""

    side: int
    disc: tuple[float, float]
    fovea: tuple[float, float]


def make_cohort(folder: Path, patients: int, seed: int, frames: int = 1, size: str = "small") -> Path:
    """Write a synthetic dataset and return its folder; grades 0 … 4 in turn, left and right eyes.

    label is the grade that follows from what is painted: 0 nothing; 1 microaneurysms alone; 2 more; 3 more than 3
    haemorrhages in each quadrant about the fovea; 4 new vessels on the disc. Masks: mask_<lesion>, `absent` where an
    eye has none, and mask_optic_disc. Patient i depends on `seed` and i alone. DataError (phantom-settings) for other
    sizes, and for more than one frame.
    """
    require_known("retina", frames, size, SIZES)
    cases = []
    for number in range(patients):
        rng = np.random.default_rng([seed, number])
        grade = (number + seed) % 5
        image, masks = retina_phantom(rng, grade, size)
        cases.append({"case": f"eye{number:03d}", "label": grade, "image": image, "masks": masks})
    values = dict.fromkeys((*LESIONS, "optic_disc"), 255)
    return write_cohort(folder, cases, values, facts_of("retina", patients, seed, size))


def retina_phantom(
    rng: np.random.Generator, grade: int, size: str = "small"
) -> tuple[NDArray[np.uint8], dict[str, NDArray[np.bool_]]]:
    """RGB picture (Y, X, 3) and masks (Y, X) of each lesion and of the optic disc, for an eye of `grade` 0 … 4."""
    grid = places(*SIZES[size])
    side = int(rng.choice((-1, 1)))
    fovea = (float(rng.normal(-0.02 * side, 0.02)), float(rng.normal(0.02, 0.015)))
    disc = (fovea[0] + side * 5 * DISC * rng.uniform(0.95, 1.05), fovea[1] - 0.5 * DISC * rng.uniform(0.5, 1.5))
    eye = Eye(side, disc, fovea)
    picture, cover = _ground(rng, grid, eye)
    picture = _vessels(rng, picture, eye, new=grade == 4)
    masks = {}
    for name, painted in _lesions(rng, grid, eye, grade).items():
        picture = _paint(picture, painted, name, rng)
        masks[name] = painted > 0.5
    masks["optic_disc"] = cover > 0.5
    radius = np.hypot(*grid)
    field = smoothstep(radius, FIELD + 0.004, FIELD - 0.004) * (np.abs(grid[1]) < 0.36)
    picture = _light(rng, grid, picture) * field[..., None]
    noise = rng.normal(0, 0.008, picture.shape) * field[..., None]
    seen = np.asarray(ndimage.gaussian_filter(picture, (0.4, 0.4, 0)) + noise, np.float32)
    inside = field > 0.5
    return as_bytes(seen), {name: mask & inside for name, mask in masks.items()}


def _ground(rng: np.random.Generator, grid: tuple[Array, Array], eye: Eye) -> tuple[Array, Array]:
    """The red ground with macula and disc (Y, X, 3), and the disc's cover (Y, X)."""
    shape = (grid[0].shape[0], grid[0].shape[1])
    colour = np.array([0.72, 0.36, 0.16]) * rng.uniform(0.85, 1.15, 3)
    choroid = 1 + 0.05 * cloud(rng, shape, 0.03) + 0.03 * cloud(rng, shape, 0.008)
    picture = colour * choroid[..., None]
    away = np.hypot(grid[0] - eye.fovea[0], grid[1] - eye.fovea[1])
    macula = 0.35 * np.exp(-((away / 0.035) ** 2)) + 0.15 * np.exp(-((away / 0.09) ** 2))
    picture = picture * (1 - macula[..., None] * [0.7, 1, 1])
    waves = wavy(rng, 0.03)
    radii = (DISC * 0.93, DISC * rng.uniform(1.0, 1.1), 0.0)
    cover = blob(grid, eye.disc, radii, waves, 0.006)
    cup = blob(grid, eye.disc, [r * rng.uniform(0.35, 0.55) for r in radii[:2]] + [0.0], waves, 0.015)
    picture += (np.array([0.95, 0.72, 0.42]) * rng.uniform(0.9, 1.05) - picture) * (0.9 * cover)[..., None]
    picture += (np.array([1.0, 0.9, 0.7]) - picture) * (0.7 * cup)[..., None]
    return np.asarray(picture, np.float32), cover


def _vessels(rng: np.random.Generator, picture: Array, eye: Eye, new: bool) -> Array:
    """Arteries and veins from the disc, arching around the macula; `new`: a fan of fine vessels on the disc."""
    veins, arteries = (np.zeros(picture.shape[:2], np.float32) for _ in range(2))
    for up in (-1, 1):
        for canvas, thick, shift in ((veins, 0.011, 0.0), (arteries, 0.008, 0.025)):
            bow = rng.uniform(0.2, 0.26) + shift
            arch = [(0.0, 0.0), (-0.02, 0.6 * bow), (-0.14, bow), (-0.34, bow * 0.95), (-0.6, bow * 0.7)]
            _branch(rng, canvas, _curve(rng, eye, arch, up), thick, 2)
            nasal = [(0.0, 0.0), (0.02, 0.5 * bow), (0.1, 0.9 * bow), (0.22, 1.2 * bow)]
            _branch(rng, canvas, _curve(rng, eye, nasal, up), 0.7 * thick, 1)
    if new:
        for _ in range(14):
            turn, reach = rng.uniform(0, 2 * np.pi), rng.uniform(0.5, 1.4) * DISC
            bends = np.cumsum(rng.normal(0, 0.35, 6)) + turn
            steps = np.stack([np.cos(bends), np.sin(bends)], axis=1) * reach / 4
            line(veins, np.cumsum(steps, axis=0) + eye.disc, 0.002, 0.8)
    picture = picture * (1 - veins[..., None] * np.array([0.35, 0.6, 0.5], np.float32))
    return np.asarray(picture * (1 - arteries[..., None] * np.array([0.15, 0.42, 0.4], np.float32)), np.float32)


def _curve(rng: np.random.Generator, eye: Eye, points: list[tuple[float, float]], up: int) -> NDArray[np.float64]:
    """A smooth path (n, 2) through points given from the disc, temporal to the left."""
    moved = np.array(points) * [eye.side, up] + rng.normal(0, 0.008, (len(points), 2))
    moved[0] = 0
    at = np.linspace(0, len(points) - 1, 40)
    smooth = np.stack([np.interp(at, np.arange(len(points)), moved[:, k]) for k in range(2)], axis=1)
    smooth = ndimage.gaussian_filter1d(smooth, 3, axis=0, mode="nearest")
    return np.asarray(smooth - smooth[0] + eye.disc)


def _branch(rng: np.random.Generator, canvas: Array, path: NDArray[np.float64], thick: float, depth: int) -> None:
    """Draw a vessel that thins to its end, and smaller ones that leave it."""
    cuts = np.linspace(0, len(path) - 1, 6).astype(int)
    for part, (start, stop) in enumerate(pairwise(cuts)):
        line(canvas, path[start : stop + 1], thick * (1 - 0.18 * part))
    if depth == 0:
        return
    for place in rng.integers(4, max(5, len(path) - 4), 4):
        heading = np.arctan2(*(path[place + 2] - path[place])[::-1]) + rng.choice((-1, 1)) * rng.uniform(0.4, 1.0)
        turns = heading + np.cumsum(rng.normal(0, 0.12, 16))
        step = rng.uniform(0.005, 0.012)
        child = path[place] + np.cumsum(np.stack([np.cos(turns), np.sin(turns)], axis=1) * step, axis=0)
        _branch(rng, canvas, np.concatenate([path[place : place + 1], child]), 0.6 * thick, depth - 1)


def _lesions(rng: np.random.Generator, grid: tuple[Array, Array], eye: Eye, grade: int) -> dict[str, Array]:
    """Cover (Y, X) of each type."""
    found = {name: np.zeros(grid[0].shape, np.float32) for name in LESIONS}
    if grade == 0:
        return found
    for place in _spots(rng, int(rng.integers(2, 7) if grade == 1 else rng.integers(5, 16)), eye):
        _add(found["microaneurysms"], rng, grid, place, (0.002, 0.0035), (0.05, 1.0))
    if grade == 1:
        return found
    each = int(rng.integers(SEVERE + 1, SEVERE + 5)) if grade > 2 else 0
    bleeding = [spot for q in range(4) for spot in _spots(rng, each, eye, q)] or _spots(
        rng, int(rng.integers(1, 9)), eye
    )
    for place in bleeding:
        flame = rng.random() < 0.3
        _add(found["haemorrhages"], rng, grid, place, (0.006, 0.022), (0.12, 2.5 if flame else 1.2))
    for centre in _spots(rng, int(rng.integers(1, 4)) if rng.random() < 0.8 else 0, eye):
        for _ in range(int(rng.integers(4, 18))):
            near = tuple(np.add(centre, rng.normal(0, 0.03, 2)))
            _add(found["hard_exudates"], rng, grid, near, (0.002, 0.009), (0.15, 1.2))
    for place in _spots(rng, int(rng.integers(1, 4)) if grade > 2 or rng.random() < 0.3 else 0, eye):
        _add(found["soft_exudates"], rng, grid, place, (0.012, 0.025), (0.12, 1.4))
    return found


def _spots(rng: np.random.Generator, count: int, eye: Eye, quadrant: int | None = None) -> list[tuple[float, float]]:
    """Places in the field away from disc and fovea, in any or in one of four quadrants about the fovea."""
    spots: list[tuple[float, float]] = []
    while len(spots) < count:
        angle = rng.uniform(0, np.pi / 2) * 0.8 + 0.1 + np.pi / 2 * (rng.integers(4) if quadrant is None else quadrant)
        far = 0.06 + 0.32 * np.sqrt(rng.random())
        place = (eye.fovea[0] + far * np.cos(angle), eye.fovea[1] + far * np.sin(angle))
        if np.hypot(*place) < FIELD - 0.03 and abs(place[1]) < 0.33 and np.hypot(*np.subtract(place, eye.disc)) > 0.1:
            spots.append(place)
    return spots


def _add(
    cover: Array,
    rng: np.random.Generator,
    grid: tuple[Array, Array],
    place: tuple[float, ...],
    sizes: tuple[float, float],
    form: tuple[float, float],
) -> None:
    """Paint a blob of a random size onto `cover` in place, never smaller than a pixel; form: roughness, length."""
    rough, longer = form
    pixel = 1 / grid[0].shape[1]
    radius = max(float(rng.uniform(*sizes)), 0.75 * pixel)
    radii = (radius * np.sqrt(longer), radius / np.sqrt(longer), float(rng.uniform(0, np.pi)))
    reach = int(np.ceil(2.5 * radius * longer / pixel)) + 2
    column, row = (int((place[0] + 0.5) / pixel), int(place[1] / pixel + grid[0].shape[0] / 2))
    window = (slice(max(0, row - reach), row + reach + 1), slice(max(0, column - reach), column + reach + 1))
    part = blob((grid[0][window], grid[1][window]), place, radii, wavy(rng, rough), max(0.3 * radius, 0.5 * pixel))
    cover[window] = np.maximum(cover[window], part)


def _paint(picture: Array, cover: Array, name: str, rng: np.random.Generator) -> Array:
    """Lesions on the ground: dark red ones take light away, exudates are bright, hard ones sharp and yellow."""
    strength = cover[..., None] * np.float32(rng.uniform(0.8, 1.0))
    if name in ("haemorrhages", "microaneurysms"):
        return np.asarray(picture * (1 - strength * np.array([0.4, 0.68, 0.6], np.float32)), np.float32)
    tint = np.array([0.95, 0.85, 0.45] if name == "hard_exudates" else [0.9, 0.75, 0.55], np.float32)
    share = strength if name == "hard_exudates" else 0.6 * ndimage.gaussian_filter(strength, (1.5, 1.5, 0))
    return np.asarray(picture + (tint - picture) * share, np.float32)


def _light(rng: np.random.Generator, grid: tuple[Array, Array], picture: Array) -> Array:
    """Darker to the rim, brighter on one side, and a pale haze at the edge."""
    radius = np.hypot(*grid) / FIELD
    turn = rng.uniform(0, 2 * np.pi)
    slope = rng.uniform(0, 0.3) * (grid[0] * np.cos(turn) + grid[1] * np.sin(turn)) / FIELD
    lit = picture * ((1 - rng.uniform(0.25, 0.5) * radius**2) * (1 + slope))[..., None]
    haze = rng.uniform(0, 0.15) * np.clip(radius - 0.8, 0, None) * 5
    return np.asarray(lit + haze[..., None] * np.array([0.5, 0.45, 0.4]), np.float32)
