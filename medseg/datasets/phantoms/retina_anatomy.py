"""The healthy part of a synthetic fundus: ground, macula, optic disc with its cup, and the vessel tree."""

from __future__ import annotations

from itertools import pairwise
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage
from scipy.interpolate import CubicSpline

from medseg.datasets.phantoms.canvas import smoothstep
from medseg.datasets.phantoms.photo_canvas import Stroke, blob, cells, cloud, strokes, wavy
from medseg.typing import Float32Array

DISC = 0.07  # radius of the disc in image widths
AVASCULAR = 0.035  # no vessel comes nearer to the fovea, in widths
VEIN, ARTERY = 0.0115, 0.0078  # widths of the main vessels at the disc, about 3 to 2
# absorption of red, green and blue light by blood; arteries carry oxygen and are brighter
ABSORBED = {"vein": np.array([0.4, 0.85, 0.6]), "artery": np.array([0.14, 0.62, 0.5])}


class Eye(NamedTuple):
    """Positions in image widths from its middle; side: 1 if the disc is on the right."""

    side: int
    disc: tuple[float, float]
    fovea: tuple[float, float]


def sample_eye(rng: np.random.Generator) -> Eye:
    """A left or right eye, seen with its macula near the middle; the fovea lies a little below the disc."""
    side = int(rng.choice((-1, 1)))
    fovea = (float(rng.normal(-0.05 * side, 0.02)), float(rng.normal(0.015, 0.015)))
    away = side * 5 * DISC * rng.uniform(0.95, 1.05)
    return Eye(side, (float(fovea[0] + away), float(fovea[1] - DISC * rng.uniform(0.2, 0.8))), fovea)


def paint_ground(
    rng: np.random.Generator, grid: tuple[Float32Array, Float32Array], eye: Eye
) -> tuple[Float32Array, Float32Array]:
    """The red ground with macula and disc (Y, X, 3), and the disc's cover (Y, X)."""
    shape = (grid[0].shape[0], grid[0].shape[1])
    colour = np.array([0.74, 0.36, 0.17]) * rng.uniform(0.85, 1.15) * rng.normal(1, (0.03, 0.07, 0.15))
    mottled = 0.05 * cloud(rng, shape, 0.08) + 0.025 * cloud(rng, shape, 0.012) + 0.02 * cloud(rng, shape, 0.004)
    away = np.hypot(grid[0] - eye.fovea[0], grid[1] - eye.fovea[1])
    mottled = mottled - rng.uniform(0, 0.11) * _choroid(rng, grid) * smoothstep(away, 0.1, 0.3)
    image = colour * np.exp(mottled[..., None] * [0.8, 1.2, 1.2])
    macula = rng.uniform(0.3, 0.5) * np.exp(-((away / 0.03) ** 2)) + rng.uniform(0.2, 0.35) * np.exp(
        -((away / 0.09) ** 2)
    )
    image = image * np.exp(-macula[..., None] * [0.6, 1.1, 1.3])
    image += rng.uniform(0, 0.25) * np.exp(-((away / 0.004) ** 2))[..., None]  # the foveal reflex
    return _disc(rng, grid, eye, np.asarray(image, np.float32))


def _choroid(rng: np.random.Generator, grid: tuple[Float32Array, Float32Array]) -> Float32Array:
    """Dark meshes between the vessels of the choroid that shine through where there is little pigment (Y, X)."""
    shape = (grid[0].shape[0], grid[0].shape[1])
    bent = [np.asarray(axis + 0.015 * cloud(rng, shape, 0.03), np.float32) for axis in grid]
    return smoothstep(cells(rng, (bent[0], bent[1]), 0.045), 0.05, 0.4)


def _disc(
    rng: np.random.Generator, grid: tuple[Float32Array, Float32Array], eye: Eye, image: Float32Array
) -> tuple[Float32Array, Float32Array]:
    """The ground with the disc on it (Y, X, 3): pale yellow, paler in the cup and on the temporal side; its cover."""
    radii = (DISC * rng.uniform(0.88, 0.96), DISC * rng.uniform(0.98, 1.08))
    waves = wavy(rng, 0.015, 4)
    cover = blob(grid, eye.disc, (*radii, rng.normal(0, 0.1)), waves, 0.007)
    if rng.random() < 0.4:  # a crescent on the temporal side, where the ground ends short of the disc
        beside = (eye.disc[0] - 0.12 * eye.side * DISC, eye.disc[1])
        crescent = blob(grid, beside, (*radii, 0.0), waves, 0.006)
        image = image * (1 + 0.35 * crescent)[..., None]
    cup_at = np.asarray(eye.disc) + rng.normal(0, 0.06 * DISC, 2) - [0.1 * eye.side * DISC, 0]
    ratio = rng.uniform(0.3, 0.6)
    cup = blob(grid, cup_at, (ratio * radii[0], ratio * radii[1], 0.0), wavy(rng, 0.04, 4), 0.016)
    rim = np.array([0.93, 0.66, 0.36]) * rng.uniform(0.92, 1.06)
    temporal = np.clip(-eye.side * (grid[0] - eye.disc[0]) / DISC, -1, 1)
    texture = 1 + 0.08 * temporal + 0.03 * cloud(rng, (grid[0].shape[0], grid[0].shape[1]), 0.008)
    image = image + (rim * texture[..., None] - image) * (0.92 * cover)[..., None]
    image = image + (np.array([1.0, 0.9, 0.68]) - image) * (rng.uniform(0.5, 0.8) * cup)[..., None]
    return np.asarray(image, np.float32), cover


def paint_vessels(rng: np.random.Generator, image: Float32Array, eye: Eye) -> Float32Array:
    """Arteries and veins (Y, X, 3) from the disc: bows above and below the macula, branches, and short nasal ones."""
    shape = (image.shape[0], image.shape[1])
    for kind, width, shift in (("vein", VEIN, 0.0), ("artery", ARTERY, 0.022)):
        lines: list[Stroke] = []
        for up in (-1, 1):
            bow = rng.uniform(0.19, 0.24) + shift * rng.choice((-1, 1))
            arch = [
                (0.005, 0.01),
                (0.0, 0.35 * bow),
                (-0.06, 0.75 * bow),
                (-0.18, bow),
                (-0.36, 0.9 * bow),
                (-0.58, 0.55 * bow),
            ]
            _grow(rng, lines, _through(rng, eye, arch, up), (width * rng.uniform(0.9, 1.1), 2), eye)
            turn = rng.uniform(0.5, 1.1)
            nasal = [(0.005, 0.01)] + [(0.09 * k * np.cos(turn), 0.09 * k * np.sin(turn) ** 0.8) for k in (1, 2, 3)]
            _grow(rng, lines, _through(rng, eye, nasal, up), (0.6 * width, 1), eye)
            if rng.random() < 0.7:  # a twig straight to the macula
                twig = [(-0.03, 0.01), (-0.12, 0.035), (-0.2, 0.05), (-0.27, 0.045)]
                _grow(rng, lines, _through(rng, eye, twig, up), (0.33 * width, 1), eye)
        cover = ndimage.gaussian_filter(strokes(shape, lines), 0.0009 * shape[1])
        image = image * np.exp(-cover[..., None] * ABSORBED[kind] * rng.uniform(0.85, 1.15))
        reflex = [Stroke(line.points, 0.3 * line.width, 0.8) for line in lines if line.width > 0.005]
        shine = 0.14 if kind == "artery" else 0.05
        image = image * (1 + shine * ndimage.gaussian_filter(strokes(shape, reflex), 0.0006 * shape[1]))[..., None]
    return np.asarray(image, np.float32)


def _through(rng: np.random.Generator, eye: Eye, points: list[tuple[float, float]], up: int) -> NDArray[np.float64]:
    """A slightly winding path (64, 2) near points given from the disc, temporal to the left; up: 1 or -1."""
    moved = np.array(points) * [eye.side, up] + rng.normal(0, 0.008, (len(points), 2))
    moved[0] = np.array(points[0]) * [eye.side, up] + rng.normal(0, 0.004, 2)
    at = np.concatenate([[0], np.hypot(*np.diff(moved, axis=0).T).cumsum()])
    path = CubicSpline(at, moved)(np.linspace(0, at[-1], 64))
    winding = ndimage.gaussian_filter1d(rng.normal(0, 1, (64, 2)), 2.5, axis=0) * np.linspace(0, 1, 64)[:, None] ** 0.5
    return np.asarray(path + 0.005 * winding + eye.disc)


def _grow(
    rng: np.random.Generator, lines: list[Stroke], path: NDArray[np.float64], form: tuple[float, int], eye: Eye
) -> None:
    """Add a vessel along `path` (n, 2) to `lines`, thinner at each branch that leaves it; form: width, generations."""
    width, generations = form
    count = len(path)
    n_branches = (0, 3, 6)[generations]
    branch_points = np.sort(rng.uniform(0.12, 0.95, n_branches) * count).astype(int)
    start, side = 0, int(rng.choice((-1, 1)))
    for branch_point in branch_points:
        if branch_point <= start or branch_point + 2 >= count:
            continue
        lines.append(Stroke(path[start : branch_point + 1], width))
        start, side = branch_point, -side
        share = rng.uniform(0.45, 0.75)
        child = _twig(
            rng, path[branch_point], path[branch_point + 1] - path[branch_point - 1], side * rng.uniform(0.5, 1.0), eye
        )
        if len(child) > 4:
            _grow(rng, lines, child, (share * width, generations - 1), eye)
        width *= 0.96 - 0.16 * share
    cuts = np.linspace(start, count - 1, 5).astype(int)
    for begin, end in pairwise(cuts):  # to its end it fades
        lines.append(Stroke(path[begin : end + 1], width))
        width *= 0.85


def _twig(
    rng: np.random.Generator, start: NDArray[np.float64], along: NDArray[np.float64], angle: float, eye: Eye
) -> NDArray[np.float64]:
    """A branch (n, 2) that leaves at `angle` (radians), bends back to its parent's way and ends at the fovea."""
    heading = float(np.arctan2(along[1], along[0])) + angle
    count = int(rng.integers(14, 30))
    bends = -0.5 * angle * np.linspace(0, 1, count) + ndimage.gaussian_filter1d(rng.normal(0, 0.9, count), 3)
    headings = heading + bends
    steps = np.stack([np.cos(headings), np.sin(headings)], axis=1) * rng.uniform(0.005, 0.0085)
    path = start + np.concatenate([np.zeros((1, 2)), np.cumsum(steps, axis=0)])
    near = np.hypot(*(path - eye.fovea).T) < AVASCULAR * rng.uniform(1, 1.4)
    stop = int(np.argmax(near)) if near.any() else len(path)
    return np.asarray(path[:stop])
