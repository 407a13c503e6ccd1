"""A pigmented lesion of the skin: its border, colours and structures, and how malignancy changes them."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from medseg.datasets.phantoms.canvas import blend, smoothstep
from medseg.datasets.phantoms.photo_canvas import blob, cells, cloud
from medseg.typing import Float32Array

# Absorption of red, green and blue light by melanin: thin layers look light brown, thick ones dark brown to black
MELANIN = np.array([0.5, 0.8, 1.15])
# sRGB of the colours of dermoscopy besides brown, after Kasmi & Mokrani 2016
COLOURS = {
    name: np.array(rgb) / 255
    for name, rgb in {
        "blue_grey": (113, 108, 139),
        "red": (166, 78, 70),
        "black": (45, 33, 30),
        "white": (222, 196, 192),
    }.items()
}
OPACITY = {"blue_grey": 0.75, "red": 0.65, "black": 0.85, "white": 0.6}


class Lesion(NamedTuple):
    """Parameters of one lesion; lengths in image widths, angles in radians.

    centre and radii of the ellipse; turn: rotation of its long axis; rough: deviation of the border, in radii; lobe:
    extent of a second lobe, in radii, 0 for none; soft: width of the border; colours besides brown; dots: their number.
    """

    centre: tuple[float, float]
    radii: tuple[float, float]
    turn: float
    rough: float
    lobe: float
    soft: float
    colours: tuple[str, ...]
    dots: int


def sample_lesion(rng: np.random.Generator, malignant: bool) -> Lesion:
    """Malignant: larger, longer, rougher, lobed, sharper and of more colours, each on average only."""
    radius = float(np.clip(rng.normal(0.2 if malignant else 0.145, 0.045), 0.07, 0.3))
    stretch = float(1 + rng.beta(2, 3) * (0.9 if malignant else 0.5))
    rough = float(np.clip(rng.normal(0.13 if malignant else 0.05, 0.03), 0.01, 0.25))
    lobed = rng.random() < (0.75 if malignant else 0.2)
    extra = 1 + int(rng.binomial(3, 0.5)) if malignant else int(rng.binomial(2, 0.15))
    return Lesion(
        centre=(float(rng.normal(0, 0.03)), float(rng.normal(0, 0.025))),
        radii=(radius * np.sqrt(stretch), radius / np.sqrt(stretch)),
        turn=float(rng.uniform(0, np.pi)),
        rough=rough,
        lobe=float(rng.uniform(0.4, 0.8)) if lobed else 0.0,
        soft=float(rng.uniform(0.008, 0.02) if malignant else rng.uniform(0.012, 0.035)),
        colours=tuple(str(name) for name in rng.permutation(list(COLOURS))[:extra]),
        dots=int(rng.poisson(25 if malignant else 10)),
    )


def paint_lesion(
    rng: np.random.Generator, grid: tuple[Float32Array, Float32Array], skin: Float32Array, lesion: Lesion
) -> tuple[Float32Array, Float32Array]:
    """The skin with the lesion (Y, X, 3), and the lesion's cover 0..1 (Y, X), connected above 0.5."""
    shape = (skin.shape[0], skin.shape[1])
    radius = float(np.sqrt(np.prod(lesion.radii)))
    away = _border(rng, grid, lesion)
    soft = lesion.soft * np.exp(0.35 * cloud(rng, shape, 0.7 * radius))  # fades on one side, ends sharply on another
    cover = smoothstep(away / soft, 1.0, -1.0)
    depth = np.clip(-away / radius, 0, 1)
    pigment = rng.uniform(0.75, 1.3) * (0.8 + 0.6 * rng.uniform(-0.3, 1) * smoothstep(depth, 0.0, 0.6))
    pigment = pigment * np.exp(0.18 * cloud(rng, shape, 0.35 * radius) + 0.1 * cloud(rng, shape, 0.08 * radius))
    pigment += _network(rng, grid, radius) * smoothstep(depth, 0.75, 0.2)  # a net is clearest near the border
    pigment += _dots(rng, grid, lesion, depth)
    image = skin * np.exp(-(cover * np.maximum(pigment, 0.15))[..., None] * MELANIN)
    for name in lesion.colours:
        share = OPACITY[name] * cover * _patch(rng, grid, lesion)
        image = image + (COLOURS[name] * rng.uniform(0.9, 1.1) - image) * share[..., None]
    return np.asarray(image, np.float32), cover


def _border(rng: np.random.Generator, grid: tuple[Float32Array, Float32Array], lesion: Lesion) -> Float32Array:
    """Approximate distance from the border (Y, X) in image widths; negative in one component without holes."""
    shape = (grid[0].shape[0], grid[0].shape[1])
    radius = float(np.sqrt(np.prod(lesion.radii)))
    away = _ellipse(grid, lesion.centre, lesion.radii, lesion.turn)
    if lesion.lobe:
        turn = rng.uniform(0, 2 * np.pi)
        reach = lesion.lobe * radius
        centre = (lesion.centre[0] + reach * np.cos(turn), lesion.centre[1] + reach * np.sin(turn))
        size = radius * rng.uniform(0.5, 0.75)
        away = blend(away, _ellipse(grid, centre, (size, 0.8 * size), rng.uniform(0, np.pi)), 0.4 * radius)
    wide, narrow = cloud(rng, shape, 0.4 * radius), cloud(rng, shape, 0.13 * radius)
    strayed = away + lesion.rough * radius * (1.1 * wide + 0.55 * narrow)
    numbered = ndimage.label(strayed < 0)[0]
    largest = int(np.argmax(np.bincount(numbered.ravel())[1:])) + 1
    component = ndimage.binary_fill_holes(numbered == largest)
    far = np.abs(strayed) + 1e-6
    return np.asarray(np.where(component, -far, far), np.float32)


def _ellipse(
    grid: tuple[Float32Array, Float32Array], centre: tuple[float, float], radii: tuple[float, float], turn: float
) -> Float32Array:
    """Distance to an ellipse (Y, X), in widths, exact on the border only."""
    dx, dy = grid[0] - np.float32(centre[0]), grid[1] - np.float32(centre[1])
    u, v = dx * np.cos(turn) + dy * np.sin(turn), dy * np.cos(turn) - dx * np.sin(turn)
    return np.asarray((np.hypot(u / radii[0], v / radii[1]) - 1) * np.sqrt(radii[0] * radii[1]), np.float32)


def _network(rng: np.random.Generator, grid: tuple[Float32Array, Float32Array], radius: float) -> Float32Array:
    """Pigment (Y, X) of a net of brown lines, clear in some parts of the lesion and lost in others."""
    shape = (grid[0].shape[0], grid[0].shape[1])
    size = max(rng.uniform(0.01, 0.018), 4 / shape[1])  # a mesh of less than four pixels is only noise
    bent = [np.asarray(axis + 0.2 * size * cloud(rng, shape, 2 * size), np.float32) for axis in grid]
    lines = smoothstep(cells(rng, (bent[0], bent[1]), size), 0.45, 0.0)
    where = smoothstep(cloud(rng, shape, 0.5 * radius), -0.6, 1.0)
    return np.asarray(rng.uniform(0.2, 0.9) * where * lines, np.float32)


def _dots(
    rng: np.random.Generator, grid: tuple[Float32Array, Float32Array], lesion: Lesion, depth: Float32Array
) -> Float32Array:
    """Pigment (Y, X) of dots and globules: they lie in groups, all inside the lesion."""
    pigment = np.zeros_like(depth)
    inside = np.argwhere(depth > 0.05)
    pixel = 1 / depth.shape[1]
    groups = inside[rng.integers(len(inside), size=3)] if len(inside) else inside
    for _ in range(lesion.dots if len(inside) else 0):
        row, column = groups[rng.integers(len(groups))] + rng.normal(0, 0.3 * lesion.radii[1] / pixel, 2)
        size = max(float(rng.uniform(0.0025, 0.007)), 0.8 * pixel)
        reach = int(np.ceil(2 * size / pixel)) + 1
        i, j = int(row), int(column)
        window = (slice(max(0, i - reach), max(0, i + reach)), slice(max(0, j - reach), max(0, j + reach)))
        window_grid = (grid[0][window], grid[1][window])
        if window_grid[0].size:
            centre = ((column + 0.5) * pixel - 0.5, (row + 0.5 - depth.shape[0] / 2) * pixel)
            dot = blob(window_grid, centre, (size, size * rng.uniform(0.7, 1), 0.0), [], 0.4 * size)
            pigment[window] = np.maximum(pigment[window], rng.uniform(0.4, 1.0) * dot)
    return pigment


def _patch(rng: np.random.Generator, grid: tuple[Float32Array, Float32Array], lesion: Lesion) -> NDArray[np.float32]:
    """Share (Y, X) of a structureless area off the lesion's middle, with a mottled border."""
    shape = (grid[0].shape[0], grid[0].shape[1])
    radius = float(np.sqrt(np.prod(lesion.radii)))
    turn, far = rng.uniform(0, 2 * np.pi), radius * rng.uniform(0.2, 0.75)
    dx = grid[0] - np.float32(lesion.centre[0] + far * np.cos(turn))
    dy = grid[1] - np.float32(lesion.centre[1] + far * np.sin(turn))
    size = radius * rng.uniform(0.3, 0.6)
    near = np.exp(-(dx**2 + dy**2) / (2 * size**2))
    rough = 0.14 * cloud(rng, shape, 0.25 * radius) + 0.06 * cloud(rng, shape, 0.06 * radius)
    return smoothstep(near + rough, 0.5, 0.95)
