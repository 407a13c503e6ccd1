"""The chest of one synthetic patient: its dimensions and the shapes that follow from them."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from medseg.datasets.phantoms.canvas import Grid, blend, ellipsoid, smoothstep
from medseg.typing import Float32Array


@dataclass(frozen=True)
class Anatomy:
    """Dimensions of one patient at end-exhale, in body mm before `scale`.

    Body axes: x to the patient's left, y posterior, z superior; z = 0 is the top of the right dome, x = 0 the spine.
    """

    width: float  # half width of the chest cavity
    depth: float  # half depth
    height: float  # dome to apex
    left_dome: float  # how much lower the left dome lies
    dome_drop: float  # dome to lateral costophrenic angle
    heart: float  # size of the heart, 1 is average
    shift: float  # of heart and mediastinum to the left; solved for a given ratio of right and left volume
    junction: float  # half width of the anterior junction line
    fat: float  # under the skin
    muscle: float  # between ribs and fat
    breasts: float  # 0 for none
    arms: bool  # beside the body, inside the field of view
    contrast: float  # HU of blood
    lung_hu: float
    emphysema: float  # HU taken away in patches
    stomach: float  # radius of the air bubble, 0 for none
    nodule: float  # radius, 0 for none
    turn: float  # about the long axis, radians
    scale: float  # body mm to mm; solved for a given lung volume


def sample_anatomy(rng: np.random.Generator) -> Anatomy:
    """A random adult: lungs of 2.2 to 5 L at end-exhale, the right one 7 to 18 % larger than the left."""

    def sometimes(probability: float, low: float, high: float) -> float:
        value = rng.uniform(low, high)
        return float(value if rng.random() < probability else 0.0)

    draft = Anatomy(
        width=rng.uniform(124, 142),
        depth=rng.uniform(84, 100),
        height=rng.uniform(150, 190),
        left_dome=rng.uniform(6, 20),
        dome_drop=rng.uniform(38, 62),
        heart=rng.uniform(0.88, 1.12),
        shift=0.0,
        junction=rng.uniform(1.0, 6.0),
        fat=rng.uniform(6, 28),
        muscle=rng.uniform(8, 18),
        breasts=sometimes(0.4, 0.6, 1.2),
        arms=bool(rng.random() < 0.2),
        contrast=45 + sometimes(0.35, 60, 180),
        lung_hu=rng.uniform(-830, -720),
        emphysema=sometimes(0.25, 40, 110),
        stomach=sometimes(0.7, 18, 38),
        nodule=sometimes(0.3, 4, 14),
        turn=float(rng.normal(0, 0.04)),
        scale=1.0,
    )
    return _fit_volumes(draft, ratio=rng.uniform(1.07, 1.18), size=rng.uniform(0.8, 1.08))


def _fit_volumes(anatomy: Anatomy, ratio: float, size: float) -> Anatomy:
    """The same patient with the mediastinum moved until right / left is `ratio`, scaled by `size` or to 2.2 to 5 L."""
    step = 7.0
    x, y, z = (np.arange(low, high, step, dtype=np.float32) for low, high in ((-154, 155), (-119, 120), (-84, 200)))
    grid = Grid(x[None, None, :], y[None, :, None], z[:, None, None])

    low, high = -40.0, 40.0  # moving to the left makes the right lung larger
    for _ in range(9):
        middle = (low + high) / 2
        sides = lungs(grid, replace(anatomy, shift=middle))
        right, left = (float(np.clip(0.5 - side / step, 0, 1).sum()) * step**3 / 1000 for side in sides)  # mL
        low, high = (middle, high) if right / left < ratio else (low, middle)
    total = float(np.clip((right + left) * size**3, 2200, 5000))
    return replace(anatomy, shift=middle, scale=float((total / (right + left)) ** (1 / 3)))


def cavity(grid: Grid, a: Anatomy, wall: float = 0.0) -> Float32Array:
    """Signed distance to the inner chest wall, or to a surface `wall` mm outside it; open below."""
    up = np.clip((grid.z - 30) / (a.height - 30), 0, 1.3)
    width = a.width * (1 - 0.42 * up**2.4) + wall
    depth = a.depth * (1 - 0.38 * up**2.0) + wall
    y = grid.y - 18 * up**1.6
    q = (np.abs(grid.x) / width) ** 2.4 + (np.abs(y) / depth) ** 2.4
    return np.asarray((q ** (1 / 2.4) - 1) * np.minimum(width, depth), np.float32)


def diaphragm(grid: Grid, a: Anatomy, side: float) -> Float32Array:
    """Height z (mm) of the diaphragm under one lung (side -1 right, +1 left), (1, Y, X)."""
    x = (grid.x - side * 0.52 * a.width) / (0.56 * a.width)
    x = x * np.where(x * side > 0, 1.0, 0.7)  # lower at the ribs than beside the heart
    y = (grid.y + 4) / (0.98 * a.depth)
    y = y * np.where(y > 0, 1.15, 0.78)  # the recess behind reaches lower than the one in front
    top = -a.left_dome if side > 0 else 0.0
    return np.asarray(top - a.dome_drop * np.sqrt(x * x + y * y) ** 2.4, np.float32)


def central_tendon(grid: Grid, a: Anatomy) -> Float32Array:
    """Height z (mm) of the diaphragm under the heart, (1, Y, X); far below beside it."""
    y = (grid.y + 25) / a.depth
    sag = 60 * y * y + 60 * smoothstep(np.abs(grid.x), 0.25 * a.width, 0.75 * a.width)
    return np.asarray(-12 - a.left_dome / 2 - sag, np.float32)


def heart(grid: Grid, a: Anatomy) -> Float32Array:
    """Signed distance to the heart: an ellipsoid whose apex points left, forward and down, and the right atrium."""
    long = np.array([0.78, -0.42, -0.46])
    long /= np.linalg.norm(long)
    wide = np.cross(long, [0, 0, 1.0])
    wide /= np.linalg.norm(wide)
    axes = np.stack([long, wide, np.cross(long, wide)]).astype(np.float32)
    p = [grid.x - np.float32(14 + a.shift), grid.y + np.float32(24), grid.z - np.float32(26)]
    turned = Grid(*(row[0] * p[0] + row[1] * p[1] + row[2] * p[2] for row in axes))
    ventricles = ellipsoid(turned, (0, 0, 0), np.array([66, 46, 47]) * a.heart)
    atrium = ellipsoid(grid, (-16 + a.shift, -14, 34), np.array([32, 34, 40]) * a.heart)
    return blend(ventricles, atrium, 20)


def mediastinum(grid: Grid, a: Anatomy) -> Float32Array:
    """Signed distance to the space between the lungs, without heart and spine.

    Wide around the great vessels; a thin sheet in front (anterior junction line), where the lungs nearly touch.
    """
    up = grid.z / a.height
    front = smoothstep(grid.y, -20, -50)  # 1 in front of the great vessels
    behind = smoothstep(grid.y, 25, 50)
    vessels = 27 - 4 * smoothstep(up, 0.3, 0.6) + 8 * smoothstep(up, 0.75, 1.0)
    sheet = a.junction + 24 * smoothstep(up, 0.72, 0.95) + 5 * smoothstep(up, 0.35, 0.1)
    half = vessels + (sheet - vessels) * front
    half = half + (13 - half) * behind
    middle = np.float32(a.shift * 0.6) + 4 * front
    sheet_like = np.asarray(np.abs(grid.x - middle) - half, np.float32)
    roots = [ellipsoid(grid, hilum(a, side), (19, 17, 24)) for side in (-1.0, 1.0)]
    trunk = ellipsoid(grid, (18 + a.shift * 0.8, -34, 0.46 * a.height), (22, 20, 26))
    arch = ellipsoid(grid, (15 + a.shift * 0.6, 0, 0.72 * a.height - 4), (22, 32, 19))
    bulges = np.minimum(np.minimum(roots[0], roots[1]), np.minimum(trunk, arch))
    return blend(sheet_like, bulges, 14)


def hilum(a: Anatomy, side: float) -> tuple[float, float, float]:
    """Where vessels and bronchi enter a lung, body mm; side -1 right, +1 left. The left hilum is higher."""
    return (a.shift * 0.6 + side * 33, 6.0, (0.46 if side < 0 else 0.5) * a.height)


def spine(grid: Grid, a: Anatomy) -> Float32Array:
    """Signed distance to the vertebral column without its processes; it follows the back wall of the cavity."""
    return ellipsoid(Grid(grid.x, grid.y - spine_y(grid, a), grid.z), (0, 0, 0), (18, 16, np.inf), 2.4)


def spine_y(grid: Grid, a: Anatomy) -> Float32Array:
    """y (mm) of the middle of the vertebral bodies, (Z, 1, 1): a slight kyphosis."""
    up = np.clip(grid.z / a.height, -0.6, 1.2)
    return np.asarray(a.depth * 0.68 - 22 * (up - 0.35) ** 2, np.float32)


def aorta_points(a: Anatomy) -> list[tuple[float, float, float]]:
    """Centre line of the aorta in body mm: root, arch, and down beside the spine."""
    top, s = 0.72 * a.height, a.shift
    back = 0.68 * a.depth - 20
    return [
        (-4 + s, -28, 60),
        (-14 + s, -30, top - 22),
        (-2 + s, -12, top),
        (12 + s / 2, 12, top),
        (24, back, top - 25),
        (22, back + 4, 40),
        (14, back + 6, -120),
    ]


def lungs(grid: Grid, a: Anatomy) -> tuple[Float32Array, Float32Array]:
    """Signed distances to the right and the left lung in body mm, (Z, Y, X)."""
    wall = cavity(grid, a) + 2
    between = blend(heart(grid, a) - 2, mediastinum(grid, a), 16)
    ridge = np.maximum(np.abs(grid.x) - 25, spine_y(grid, a) + 6 - grid.y)  # rib heads beside the vertebrae
    middle = -np.minimum(between, blend(spine(grid, a) - 3, ridge, 16))
    back = 0.68 * a.depth - 18
    descending = ellipsoid(grid, (23, back, 0), (14, 14, np.inf))
    descending = np.where(grid.z < 0.7 * a.height, descending, np.float32(99))
    common = np.maximum(wall, np.maximum(middle, -descending))
    sides = []
    for side in (-1.0, 1.0):
        # the apex: a blunt dome over each lung
        dome = ellipsoid(grid, (side * 0.44 * a.width, 10, 0), (0.66 * a.width, 1.08 * a.depth, a.height), 2.3)
        above = np.maximum(dome, (diaphragm(grid, a, side) - grid.z) * 0.75)
        beyond = (a.shift * 0.6 + 4 - grid.x) * side  # never across the middle
        sides.append(np.asarray(np.maximum(common, np.maximum(above, beyond)), np.float32))
    return sides[0], sides[1]
