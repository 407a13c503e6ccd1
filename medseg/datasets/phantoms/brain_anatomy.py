"""The head of one synthetic patient: its dimensions, and the share of each tissue in each voxel."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from medseg.datasets.phantoms.canvas import Grid, blend, ellipsoid, smoothstep
from medseg.typing import Float32Array

TISSUES = (
    "air", "scalp", "bone", "marrow", "csf", "gm", "deep", "wm", "vessel",
    "spot", "oedema", "necrosis", "core", "enhancing",
)  # fmt: skip


@dataclass(frozen=True)
class Anatomy:
    """Dimensions of a patient in mm. Axes: x to the patient's left, y posterior, z superior; 0 between the thalami."""

    width: float  # half width of the brain
    length: float  # half length
    height: float  # above the thalami
    scalp: float
    bone: float
    rim: float  # of fluid around the brain
    cortex: float  # thickness
    gyrus: float  # wavelength of the folding; two gyri side by side
    sulcus: float  # depth
    gap: float  # half width of a sulcus
    ventricles: float  # size, 1 is a young adult's
    spots: int  # of white matter that are bright in FLAIR and no tumour
    shade: float  # by how much the back of the head is wider than the front, per mm
    tumour: Tumour | None = None


@dataclass(frozen=True)
class Tumour:
    """A glioma: enhancing rim around a core, oedema around both; it pushes its surroundings away."""

    centre: tuple[float, float, float]
    radius: float  # of the rim's outside, mm
    rim: float  # thickness, mm
    dead: float  # share of the radius that is necrotic
    spread: float  # of the oedema beyond the rim, mm
    push: float  # share of the radius by which tissue moves


def sample_anatomy(rng: np.random.Generator, tumour: bool = False) -> Anatomy:
    """Sample a random adult, with a tumour if `tumour`."""
    age = rng.uniform(0, 1)  # widens fluid and thins cortex
    width, length, height = rng.uniform(63, 70), rng.uniform(79, 88), rng.uniform(62, 70)
    glioma = None
    if tumour:
        # anywhere in white matter but the middle: side, height and distance from the axis of the head
        side, around, out = rng.choice([-1.0, 1.0]), rng.uniform(-1.1, 1.1), rng.uniform(0.42, 0.62)
        glioma = Tumour(
            centre=(
                float(side * width * out * np.cos(around)),
                float(length * out * np.sin(around)),
                rng.uniform(0, 0.45) * height,
            ),
            radius=rng.uniform(11, 22),
            rim=rng.uniform(2.5, 5.0),
            dead=rng.uniform(0.3, 0.75),
            spread=rng.uniform(5, 20),
            push=rng.uniform(0.05, 0.3),
        )
    return Anatomy(
        width=width,
        length=length,
        height=height,
        scalp=rng.uniform(4, 8),
        bone=rng.uniform(5, 8),
        rim=1.2 + 2.2 * age,
        cortex=rng.uniform(3.6, 4.3) - 0.4 * age,
        gyrus=rng.uniform(19, 24),
        sulcus=rng.uniform(17, 24),
        gap=0.45 + 0.6 * age,
        ventricles=0.75 + 0.65 * age + rng.uniform(-0.1, 0.15),
        spots=int(rng.integers(0, 3) + 6 * (age > 0.6)),
        shade=rng.uniform(0.0006, 0.0014),
        tumour=glioma,
    )


class Tissues:
    """Shares of tissues in each voxel, painted one over another; a surface is one voxel wide (partial volume)."""

    def __init__(self, shape: tuple[int, ...], blur: float) -> None:
        self.shares = {name: np.zeros(shape, np.float32) for name in TISSUES}  # each (Z, Y, X)
        self.shares["air"] += 1
        self.blur = blur

    def coverage(self, distance: Float32Array) -> Float32Array:
        """Share of each voxel inside a surface, of signed distances in mm."""
        return np.asarray(np.clip(0.5 - distance / self.blur, 0, 1), np.float32)

    def paint(self, name: str, cover: Float32Array, over: tuple[str, ...] = TISSUES) -> None:
        """Turn `cover` (0..1) of the tissues `over` into `name`."""
        gained = np.zeros_like(cover)
        for tissue in over:
            if tissue != name:
                converted = cover * self.shares[tissue]
                self.shares[tissue] -= converted
                gained += converted
        self.shares[name] += gained


def waves(grid: Grid, rng: np.random.Generator, wavelength: float, count: int = 20) -> Float32Array:
    """A random field of one wavelength (mm) and variance 1: plane waves in all directions. Its zeros wind like gyri."""
    total = np.zeros(np.broadcast_shapes(*(axis.shape for axis in grid)), np.float32)
    for _ in range(count):
        direction = rng.normal(size=3)
        k = (2 * np.pi / wavelength * direction / np.linalg.norm(direction)).astype(np.float32)
        total += np.cos(k[0] * grid.x + k[1] * grid.y + (k[2] * grid.z + np.float32(rng.uniform(0, 2 * np.pi))))
    return np.asarray(total * np.float32(np.sqrt(2 / count)), np.float32)


def tube(grid: Grid, points: ArrayLike, radii: ArrayLike) -> Float32Array:
    """Signed distance (mm) to a bent rod through points (N, 3) whose radius changes along it, (N,)."""
    p, r = np.asarray(points, np.float32), np.asarray(radii, np.float32)
    best = np.full(np.broadcast_shapes(*(axis.shape for axis in grid)), np.inf, np.float32)
    for a, b, ra, rb in zip(p[:-1], p[1:], r[:-1], r[1:], strict=True):
        d = b - a
        t = sum((axis - a[i]) * d[i] for i, axis in enumerate(grid)) / np.float32(d @ d)
        t = np.clip(t, 0, 1)
        far = np.sqrt(sum((axis - a[i] - t * d[i]) ** 2 for i, axis in enumerate(grid)))
        best = np.minimum(best, far - (ra + t * (rb - ra)))
    return best


def fill_head(grid: Grid, spacing: tuple[float, float, float], anatomy: Anatomy, rng: np.random.Generator) -> Tissues:
    """Tissues of a head on full grids (Z, Y, X) in mm of the head; `spacing` is the voxels' own, x, y, z."""
    tissues = Tissues(grid.x.shape, float(np.mean(spacing)))
    hull = brain_hull(grid, anatomy, rng)
    _paint_skull(tissues, hull, anatomy, waves(grid, rng, 60.0, 8))
    before = _pushed(grid, anatomy.tumour, hull) if anatomy.tumour else grid
    _paint_brain(tissues, before, spacing, hull, anatomy, rng)
    _paint_middle(tissues, before, anatomy)
    _paint_spots(tissues, before, anatomy, rng)
    if anatomy.tumour:
        _paint_tumour(tissues, grid, anatomy.tumour, hull, rng)
    return tissues


def brain_hull(grid: Grid, a: Anatomy, rng: np.random.Generator) -> Float32Array:
    """Signed distance to the brain's smooth envelope, narrower in front and flat below, a little uneven."""
    x = grid.x / (1 + a.shade * grid.y)
    z = np.asarray(np.where(grid.z > 0, grid.z, grid.z * (a.height / 52)), np.float32)
    brain = ellipsoid(Grid(x, grid.y, z), (0, 0, 0), (a.width, a.length, a.height), 2.3)
    stem = tube(grid, [(0, 14, -20), (0, 24, -110)], [15, 12])
    return np.asarray(blend(brain, stem, 12) + 1.2 * waves(grid, rng, 75.0, 8), np.float32)


def _paint_skull(tissues: Tissues, hull: Float32Array, a: Anatomy, uneven: Float32Array) -> None:
    table, skin = a.rim + a.bone, a.rim + a.bone + a.scalp * (1 + 0.15 * uneven)
    tissues.paint("scalp", tissues.coverage(hull - skin))
    tissues.paint("bone", tissues.coverage(hull - table))
    half = a.bone * (0.22 + 0.06 * uneven)
    tissues.paint("marrow", tissues.coverage(np.abs(hull - a.rim - a.bone / 2) - half))
    tissues.paint("csf", tissues.coverage(hull - a.rim * (1 + 0.35 * uneven)))


def _pushed(grid: Grid, tumour: Tumour, hull: Float32Array) -> Grid:
    """Position of each point before the tumour grew; the skull is fixed, so the shift fades towards the surface."""
    d = [axis - np.float32(c) for axis, c in zip(grid, tumour.centre, strict=True)]
    far = np.sqrt(d[0] ** 2 + d[1] ** 2 + d[2] ** 2)
    share = tumour.push * np.exp(-((far / (1.8 * tumour.radius)) ** 2)) * smoothstep(-hull, 0, 12)
    return Grid(*(np.asarray(axis - share * offset, np.float32) for axis, offset in zip(grid, d, strict=True)))


def _paint_brain(
    tissues: Tissues,
    grid: Grid,
    spacing: tuple[float, float, float],
    hull: Float32Array,
    a: Anatomy,
    rng: np.random.Generator,
) -> None:
    """Grey matter under everything that is open to the fluid outside (surface, sulci, fissures), white matter below."""
    reach = np.sqrt((grid.x / a.width) ** 2 + (grid.y / a.length) ** 2 + (grid.z / a.height) ** 2)
    # sulci run inwards: the folding is that of the surface, but for a part that lets them bend
    inwards = 0.35 + 0.65 / np.maximum(reach, 0.35)
    surface = Grid(*(axis * inwards + 0.16 * a.gyrus * waves(grid, rng, 1.8 * a.gyrus, 8) for axis in grid))
    folds = waves(surface, rng, a.gyrus)
    slope = np.sqrt(sum(np.gradient(folds, d, axis=2 - i) ** 2 for i, d in enumerate(spacing)))
    sheet = np.abs(folds) / np.maximum(slope, 0.35 / a.gyrus) - a.gap  # distance to the middle of a sulcus
    depth = a.sulcus * (0.85 + 0.35 * waves(surface, rng, 2 * a.gyrus, 8))
    open_to = blend(hull * -1, _corner(sheet, -hull - depth), 2.0)
    # between the hemispheres, but for the bridge and what lies below it; and the cleft above each temporal lobe
    bridge = ellipsoid(grid, (0, -2, -6), (np.inf, 46, 31))
    middle = np.abs(grid.x + 1.5 * np.sin(grid.y / 25)) - (a.gap + 0.3)
    open_to = np.minimum(open_to, _corner(middle, 0.5 - bridge))
    cleft = np.abs(grid.z + 8 - 0.25 * grid.y + 2 * np.sin(grid.y / 9)) - (a.gap + 0.6)
    along = np.maximum(np.abs(grid.y + 12) - 30, 34 - np.abs(grid.x))
    open_to = np.minimum(open_to, _corner(cleft, along))
    tissues.paint("gm", tissues.coverage(-open_to))
    ribbon = a.cortex * (1 + 0.12 * waves(grid, rng, 30.0, 6))
    tissues.paint("wm", tissues.coverage(ribbon - open_to))
    sinus = np.maximum(np.abs(grid.x) - 3.2, np.abs(hull - 0.3) - 2.4)
    tissues.paint("vessel", tissues.coverage(np.maximum(sinus, 14 - grid.z - 0.25 * grid.y)))


def _corner(across: NDArray[np.floating], beyond: NDArray[np.floating]) -> Float32Array:
    """Distance to a sheet whose sides are `across` and whose end is `beyond` (negative inside both), round its end."""
    outside = np.hypot(np.maximum(across, 0), np.maximum(beyond, 0))
    return np.asarray(outside + np.minimum(np.maximum(across, beyond), 0), np.float32)


def _paint_middle(tissues: Tissues, grid: Grid, a: Anatomy) -> None:
    """White matter around the middle, deep grey matter and the ventricles; both sides at once by |x|."""
    g = Grid(np.abs(grid.x), grid.y, grid.z)
    v = a.ventricles
    brain = ("csf", "gm", "wm", "deep")
    bulk = ellipsoid(g, (0, 0, 2), (38, 48, 24))
    tissues.paint("wm", tissues.coverage(bulk), brain)
    thalamus = ellipsoid(g, (9 + 2 * v, 10, 0), (7.5, 14, 9.5))
    caudate = tube(g, [(9 + 5 * v, -24, 3), (11 + 5 * v, -10, 13), (14 + 5 * v, 12, 19)], [5.5, 4.5, 2.5])
    putamen = ellipsoid(Grid(g.x - 0.22 * (g.y + 3), g.y, g.z), (24, -3, 0), (6.5, 17, 10))
    tissues.paint("deep", tissues.coverage(np.minimum(thalamus, np.minimum(caudate, putamen))), brain)
    shift = 1 + 2.2 * v
    path = [(shift + 7, -34, 5), (shift, -12, 10), (shift + 3, 14, 14), (shift + 14, 36, 7), (shift + 16, 54, 3)]
    narrow = 0.6  # higher than wide
    path = [(x / narrow, y, z) for x, y, z in path]
    lateral = narrow * tube(Grid(g.x / narrow, g.y, g.z), path, np.array([5.5, 6.5, 7.0, 7.0, 3.0]) * v)
    horn = tube(g, [(shift + 14, 32, 4), (shift + 20, 22, -16), (shift + 22, 0, -24)], np.array([4.5, 2.5, 2.0]) * v)
    third = ellipsoid(g, (0, 6, -6), (1.6 * v, 15, 11))
    tissues.paint("csf", tissues.coverage(np.minimum(np.minimum(lateral, horn), third)), brain)
    septum = np.maximum(np.maximum(g.x - 0.8, lateral - 1), np.abs(grid.y + 10) - 28)
    tissues.paint("wm", tissues.coverage(np.maximum(septum, 4 - grid.z)), ("csf",))


def _paint_spots(tissues: Tissues, grid: Grid, a: Anatomy, rng: np.random.Generator) -> None:
    """Small old lesions of white matter, not part of a tumour."""
    candidates: NDArray[np.intp] = np.argwhere(tissues.shares["wm"] > 0.95)
    for voxel in rng.choice(candidates, a.spots) if len(candidates) else ():
        z, y, x = (int(i) for i in voxel)
        centre = [float(axis[z, y, x]) for axis in grid]
        spot = ellipsoid(grid, centre, rng.uniform(1.5, 4.0, 3))
        tissues.paint("spot", tissues.coverage(spot), ("wm",))


def _paint_tumour(tissues: Tissues, grid: Grid, tumour: Tumour, hull: Float32Array, rng: np.random.Generator) -> None:
    """Oedema along white matter, then the rim, the core inside it and its necrosis."""
    far = np.sqrt(sum((axis - np.float32(c)) ** 2 for axis, c in zip(grid, tumour.centre, strict=True)))
    uneven = waves(grid, rng, 1.4 * tumour.radius, 12)
    edge = far - tumour.radius * (1 + 0.13 * uneven)
    fingers = edge - tumour.spread * np.clip(0.7 + 0.5 * waves(grid, rng, 38.0, 10), 0.05, 1.6)
    tissues.paint("oedema", tissues.coverage(fingers), ("wm", "spot"))
    tissues.paint("oedema", 0.35 * tissues.coverage(fingers + 0.5 * tumour.spread), ("gm", "deep"))
    brain = ("gm", "deep", "wm", "spot", "csf", "oedema")
    tissues.paint("enhancing", tissues.coverage(np.maximum(edge, hull)), brain)
    rim = tumour.rim * np.clip(0.95 + 0.4 * waves(grid, rng, 1.1 * tumour.radius, 12), 0.3, 1.8)
    tissues.paint("core", tissues.coverage(edge + rim), ("enhancing",))
    dead = far - tumour.radius * tumour.dead * (1 + 0.25 * waves(grid, rng, 0.9 * tumour.radius, 12))
    tissues.paint("necrosis", tissues.coverage(dead), ("core",))
