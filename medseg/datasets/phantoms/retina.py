"""Synthetic fundus photographs of known grade: lesions painted on an eye, uneven light; no patient data."""

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
    cloud,
    facts_of,
    pixel_centres,
    require_known,
    strokes,
    wavy,
    write_cohort,
)
from medseg.datasets.phantoms.retina_anatomy import DISC, Eye, paint_ground, paint_vessels, sample_eye
from medseg.typing import Float32Array

SIZES = {"tiny": (96, 72), "small": (480, 360), "medium": (1440, 1080)}  # pixels, width and height of most images
FIELD = 0.46  # radius of the field in image widths
SEVERE = 3  # grade 3 of a phantom has more haemorrhages than this in each quadrant (ICDR: more than 20)
LESIONS = ("haemorrhages", "hard_exudates", "microaneurysms", "soft_exudates")
# absorption of red, green and blue by blood; colours of the exudates
BLOOD = np.array([0.5, 1.25, 1.0])
TINTS = {"hard_exudates": np.array([0.98, 0.88, 0.5]), "soft_exudates": np.array([0.93, 0.82, 0.66])}


class Spot(NamedTuple):
    """One lesion: its centre, radii along and across in image widths, rotation in radians, roughness in radii."""

    centre: tuple[float, float]
    radii: tuple[float, float]
    turn: float
    rough: float


class Plan(NamedTuple):
    """The lesions of an eye by type, and whether new vessels grow on its disc."""

    spots: dict[str, list[Spot]]
    new_vessels: bool = False


def make_cohort(folder: Path, patients: int, seed: int, frames: int = 1, size: str = "small") -> Path:
    """Write a synthetic dataset and return its folder; grades 0 … 4 in turn, left and right eyes.

    label is the grade of the painted lesions (`icdr`). Masks: mask_<lesion>, `absent` where an eye has none,
    and mask_optic_disc; lesions may overlap. Patient i depends on `seed` and i alone. DataError (phantom-settings) for
    other sizes, and for more than one frame.
    """
    require_known("retina", frames, size, SIZES)

    def case(number: int) -> dict[str, object]:
        rng = np.random.default_rng([seed, number])
        grade = (number + seed) % 5
        image, masks = retina_phantom(rng, grade, size)
        return {"case": f"eye{number:03d}", "label": grade, "image": image, "masks": masks}

    values = dict.fromkeys((*LESIONS, "optic_disc"), 255)
    return write_cohort(folder, map(case, range(patients)), values, facts_of("retina", patients, seed, size))


def retina_phantom(
    rng: np.random.Generator, grade: int, size: str = "small"
) -> tuple[NDArray[np.uint8], dict[str, NDArray[np.bool_]]]:
    """RGB image (Y, X, 3) and masks (Y, X) of each lesion and of the optic disc, for an eye of `grade` 0 … 4."""
    width, height = SIZES[size]
    grid = pixel_centres(width, width if rng.random() < 0.3 else height)  # a square image shows the whole field
    eye = sample_eye(rng)
    plan = plan_lesions(rng, eye, grade)
    image, disc = paint_ground(rng, grid, eye)
    covers = {name: _cover(rng, grid, plan.spots[name]) for name in LESIONS}
    image = _paint(rng, image, "soft_exudates", covers["soft_exudates"])  # they hide vessels little, the rest much
    image = paint_vessels(rng, image, eye)
    if plan.new_vessels:
        image = _new_vessels(rng, image, eye)
    for name in ("hard_exudates", "haemorrhages", "microaneurysms"):
        image = _paint(rng, image, name, covers[name])
    field = _field(rng, grid)
    image = _light(rng, grid, image) * field[..., None]
    blur = 0.0007 * image.shape[1]
    grain = ndimage.gaussian_filter(rng.normal(0, 0.012, image.shape), (0.5, 0.5, 0))
    photo = np.asarray(ndimage.gaussian_filter(image, (blur, blur, 0)) + grain * field[..., None], np.float32)
    masks = {name: (cover > 0.5) & (field > 0.5) for name, cover in (covers | {"optic_disc": disc}).items()}
    return as_bytes(photo), masks


def icdr(plan: Plan, eye: Eye) -> int:
    """The grade of a plan: 0 nothing; 1 microaneurysms alone; 2 more than these.

    3 more than `SEVERE` haemorrhages in each quadrant about the fovea; 4 new vessels. After the international clinical
    scale of diabetic retinopathy, which demands more than 20 haemorrhages.
    """
    if plan.new_vessels:
        return 4
    quadrants = [_quadrant(spot.centre, eye) for spot in plan.spots["haemorrhages"]]
    if np.bincount(quadrants, minlength=4).min() > SEVERE:
        return 3
    if any(plan.spots[name] for name in LESIONS if name != "microaneurysms"):
        return 2
    return int(bool(plan.spots["microaneurysms"]))


def plan_lesions(rng: np.random.Generator, eye: Eye, grade: int) -> Plan:
    """Sample lesions with an `icdr` of `grade`."""
    spots: dict[str, list[Spot]] = {name: [] for name in LESIONS}
    if grade == 0:
        return Plan(spots)
    dots = int(rng.integers(2, 8) if grade == 1 else rng.integers(5, 20))
    spots["microaneurysms"] = [_spot(rng, point, (0.0018, 0.003), 1.0, 0.04) for point in _somewhere(rng, dots, eye)]
    if grade == 1:
        return Plan(spots)
    counts = [int(rng.integers(SEVERE + 1, SEVERE + 6)) for _ in range(4)] if grade > 2 else []
    bleeding = [point for quadrant, count in enumerate(counts) for point in _somewhere(rng, count, eye, quadrant)]
    for point in bleeding or _somewhere(rng, int(rng.integers(1, 10)), eye):
        if rng.random() < 0.35:  # a flame lies along the nerve fibres
            spots["haemorrhages"].append(_spot(rng, point, (0.006, 0.013), 3.0, 0.2, _along(point, eye)))
        else:
            spots["haemorrhages"].append(_spot(rng, point, (0.004, 0.017), rng.uniform(1, 1.6), 0.13))
    for centre in _somewhere(rng, int(rng.integers(1, 4)) if rng.random() < 0.8 else 0, eye, far=0.22):
        spots["hard_exudates"] += [_spot(rng, point, (0.0018, 0.006), 1.3, 0.15) for point in _cluster(rng, centre)]
    pale = int(rng.integers(1, 5)) if rng.random() < (0.8 if grade > 2 else 0.3) else 0
    for point in _somewhere(rng, pale, eye):
        spots["soft_exudates"].append(_spot(rng, point, (0.011, 0.02), 1.5, 0.08, _along(point, eye)))
    return Plan(spots, new_vessels=grade == 4)


def _somewhere(
    rng: np.random.Generator, count: int, eye: Eye, quadrant: int | None = None, far: float = 0.37
) -> list[tuple[float, float]]:
    """Points in the field outside disc and fovea, up to `far` widths from the fovea, in any or one quadrant."""
    points: list[tuple[float, float]] = []
    while len(points) < count:
        angle, away = rng.uniform(0, 2 * np.pi), 0.04 + (far - 0.04) * np.sqrt(rng.random())
        point = (float(eye.fovea[0] + away * np.cos(angle)), float(eye.fovea[1] + away * np.sin(angle)))
        in_field = np.hypot(*point) < FIELD - 0.03 and abs(point[1]) < 0.32
        if (
            in_field
            and np.hypot(*np.subtract(point, eye.disc)) > 1.4 * DISC
            and quadrant in (None, _quadrant(point, eye))
        ):
            points.append(point)
    return points


def _quadrant(point: tuple[float, float], eye: Eye) -> int:
    return 2 * (point[1] > eye.fovea[1]) + (point[0] > eye.fovea[0])


def _along(point: tuple[float, float], eye: Eye) -> float:
    """The direction of the nerve fibres (radians): away from the disc, in bows about the fovea."""
    from_disc, from_fovea = np.subtract(point, eye.disc), np.subtract(point, eye.fovea)
    round_fovea = np.array([-from_fovea[1], from_fovea[0]]) / np.hypot(*from_fovea) ** 2
    direction = from_disc / np.hypot(*from_disc) ** 2 + 1.2 * round_fovea * np.sign(round_fovea @ from_disc)
    return float(np.arctan2(direction[1], direction[0]))


def _spot(
    rng: np.random.Generator,
    centre: tuple[float, float],
    sizes: tuple[float, float],
    longer: float,
    rough: float,
    turn: float | None = None,
) -> Spot:
    """A spot with a radius between `sizes`, `longer` times as long as wide."""
    radius = float(np.exp(rng.uniform(*np.log(sizes))))  # most are small
    radii = (radius * float(np.sqrt(longer)), radius / float(np.sqrt(longer)))
    return Spot(centre, radii, float(rng.uniform(0, np.pi) if turn is None else turn + rng.normal(0, 0.15)), rough)


def _cluster(rng: np.random.Generator, centre: tuple[float, float]) -> list[tuple[float, float]]:
    """Points in a cluster or, around a leak, on a ring."""
    count = int(rng.integers(6, 30))
    if rng.random() < 0.4:
        turns, radius = rng.uniform(0, rng.uniform(3, 2 * np.pi), count), rng.uniform(0.03, 0.05)
        offsets = np.stack([np.cos(turns), np.sin(turns)], axis=1) * rng.normal(radius, 0.1 * radius, (count, 1))
    else:
        offsets = rng.normal(0, rng.uniform(0.012, 0.028), (count, 2))
    return [(float(x), float(y)) for x, y in np.asarray(centre) + offsets]


def _cover(rng: np.random.Generator, grid: tuple[Float32Array, Float32Array], spots: list[Spot]) -> Float32Array:
    """Cover 0..1 (Y, X) of spots, none smaller than a pixel."""
    cover = np.zeros_like(grid[0])
    height, width = cover.shape[0], cover.shape[1]
    for spot in spots:
        along, across = (max(radius, 0.75 / width) for radius in spot.radii)
        reach = int(np.ceil(1.6 * along * width)) + 2
        column, row = int((spot.centre[0] + 0.5) * width), int(spot.centre[1] * width + height / 2)
        window = (
            slice(max(0, row - reach), max(0, row + reach + 1)),
            slice(max(0, column - reach), max(0, column + reach + 1)),
        )
        window_grid = (grid[0][window], grid[1][window])
        soft = max(0.25 * across, 0.5 / width)
        painted = blob(window_grid, spot.centre, (along, across, spot.turn), wavy(rng, spot.rough, 7), soft)
        cover[window] = np.maximum(cover[window], painted)
    return cover


def _paint(rng: np.random.Generator, image: Float32Array, name: str, cover: Float32Array) -> Float32Array:
    """Lesions on the ground: blood takes light away, hard exudates are yellow and sharp, soft ones pale."""
    if not cover.any():
        return image
    uneven = np.clip(0.85 + 0.12 * cloud(rng, (cover.shape[0], cover.shape[1]), 0.008), 0.5, 1.1)
    if name in ("haemorrhages", "microaneurysms"):
        return np.asarray(image * np.exp(-(cover * uneven)[..., None] * BLOOD), np.float32)
    share = cover * uneven
    if name == "soft_exudates":
        share = 0.75 * ndimage.gaussian_filter(share, 0.005 * cover.shape[1])
    return np.asarray(image + (TINTS[name] - image) * share[..., None].clip(0, 1), np.float32)


def _new_vessels(rng: np.random.Generator, image: Float32Array, eye: Eye) -> Float32Array:
    """A tangle of fine vessels that grow on the disc and over its border."""
    lines = []
    for _ in range(int(rng.integers(14, 24))):
        turn, reach = rng.uniform(0, 2 * np.pi), rng.uniform(0.7, 1.8) * DISC
        bends = turn + rng.normal(0, 0.45, 16).cumsum()
        steps = np.stack([np.cos(bends), np.sin(bends)], axis=1) * reach / 10
        path = eye.disc + rng.normal(0, 0.3 * DISC, 2) + np.cumsum(steps, axis=0)
        lines.append(Stroke(path, float(rng.uniform(0.001, 0.0022)), 0.8))
    cover = strokes((image.shape[0], image.shape[1]), lines)
    return np.asarray(image * np.exp(-0.9 * cover[..., None] * BLOOD), np.float32)


def _field(rng: np.random.Generator, grid: tuple[Float32Array, Float32Array]) -> Float32Array:
    """1 inside the round field of the camera, whose top and bottom a wide image cuts, 0 around it (Y, X)."""
    cut = rng.uniform(0.94, 0.98) * 0.5 * grid[0].shape[0] / grid[0].shape[1]
    width = 1.5 / grid[0].shape[1]
    edge = np.maximum(np.hypot(*grid) - FIELD, np.abs(grid[1]) - cut)
    return smoothstep(edge, width, -width)


def _light(rng: np.random.Generator, grid: tuple[Float32Array, Float32Array], image: Float32Array) -> Float32Array:
    """Darker to the rim, brighter on one side, a pale haze in a crescent at one edge."""
    radius = np.hypot(*grid) / FIELD
    turn = rng.uniform(0, 2 * np.pi, 2)
    slope = rng.uniform(0, 0.25) * (grid[0] * np.cos(turn[0]) + grid[1] * np.sin(turn[0])) / FIELD
    lit = image * ((1.05 - rng.uniform(0.25, 0.5) * radius**2) * (1 + slope))[..., None]
    side = (grid[0] * np.cos(turn[1]) + grid[1] * np.sin(turn[1])) / FIELD
    crescent = smoothstep(side, 0.45, 1.1) + 0.35 * smoothstep(radius, 0.85, 1.05)
    haze = rng.uniform(0, 0.4) * crescent * (rng.random() < 0.6)
    return np.asarray(lit + haze[..., None] * np.array([0.75, 0.6, 0.55]), np.float32)
