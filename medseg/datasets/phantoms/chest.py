"""Surroundings of the lungs in a synthetic chest CT: body, table, bones, abdomen, heart, vessels and airways."""

from __future__ import annotations

from itertools import pairwise

import numpy as np

from medseg.datasets.phantoms.canvas import Canvas, Grid, blend, ellipsoid, smoothstep
from medseg.datasets.phantoms.lung_anatomy import (
    Anatomy,
    aorta_points,
    cavity,
    central_tendon,
    diaphragm,
    heart,
    hilum,
    spine,
    spine_y,
)
from medseg.typing import Float32Array, FloatArray

FAT, MUSCLE, SKIN, BONE, MARROW, LIVER, AIR = -100.0, 52.0, 10.0, 600.0, 180.0, 58.0, -995.0
RIB_MM = 27.0  # from rib to rib
VERTEBRA_MM = 27.0
LOBAR = ((24, -14, 34), (30, -30, -6), (16, 14, -38))  # path of the lobar bronchi from the hilum, body mm


def body_outline(grid: Grid, a: Anatomy) -> Float32Array:
    """Signed distance to the skin: a barrel that widens to the shoulders and thins towards the neck in front."""
    up = np.clip(grid.z / a.height, -0.5, 1.4)
    wall = 12 + a.muscle + a.fat
    width = a.width + wall + 14 * smoothstep(up, 0.5, 1.0)
    depth = a.depth + 0.8 * wall - 14 * smoothstep(up, 0.6, 1.2)
    y = grid.y - 6 - 12 * smoothstep(up, 0.5, 1.2)
    q = (np.abs(grid.x) / width) ** 2.5 + (np.abs(y) / depth) ** 2.5
    return np.asarray((q ** (1 / 2.5) - 1) * np.minimum(width, depth), np.float32)


def paint_outside(canvas: Canvas, a: Anatomy, rng: np.random.Generator) -> None:
    """Table, arms, and the layers of the body wall: skin, fat, muscle streaked with fat."""
    grid = canvas.body
    back = (a.depth + 0.8 * (12 + a.muscle + a.fat) + 6) * a.scale
    y, x = canvas.scanner.y - float(canvas.to_scanner((0, 0, 0))[1]), canvas.scanner.x
    bow = (x / 230) ** 2 * rng.uniform(-45, 0)  # curved or flat table
    for depth, thick, hu in ((6.0, 14.0, -900.0), (14.0, 3.0, -350.0), (30.0, 30.0, -960.0), (46.0, 2.5, -300.0)):
        slab = np.maximum(np.abs(y - back - depth - bow) - thick / 2, np.abs(x) - 215)
        canvas.paint(slab / canvas.scale + 0 * grid.z, hu)
    skin = body_outline(grid, a)
    if a.breasts:
        for side in (-1.0, 1.0):
            size = np.array([66, 48, 66]) * a.breasts
            breast = ellipsoid(grid, (side * 0.58 * a.width, -a.depth + 2, 0.25 * a.height), size)
            skin = blend(skin, breast, 30)
    if a.arms:
        for side in (-1.0, 1.0):
            at = (side * (a.width + a.fat + a.muscle + 62), 15, 0)
            canvas.paint(ellipsoid(grid, at, (42, 46, np.inf)), FAT)
            canvas.paint(ellipsoid(grid, at, (35, 39, np.inf)), MUSCLE)
            canvas.paint(ellipsoid(grid, at, (11, 11, np.inf)), BONE)
            canvas.paint(ellipsoid(grid, at, (6, 6, np.inf)), 0.0)
    canvas.paint(skin, SKIN)
    canvas.paint(skin + 2, FAT)
    streaks = 22 * np.sin(grid.x / 9 + grid.z / 23) * np.sin(grid.y / 7 - grid.z / 31)
    canvas.paint(body_outline(grid, a) + a.fat, np.asarray(MUSCLE + streaks, np.float32))


def paint_bones(canvas: Canvas, a: Anatomy) -> None:
    """Ribs sloping forward and down, costal cartilage, sternum, scapulae, clavicles and spine."""
    grid = canvas.body
    wall = cavity(grid, a)
    slope = grid.z + 0.85 * (a.depth - grid.y) + 0.06 * np.abs(grid.x)
    along = np.abs((slope % RIB_MM) - RIB_MM / 2)
    ribs = np.maximum(np.abs(wall - 7) - 3.6, along - 6)
    ribs = np.maximum(ribs, grid.z - a.height - 12)
    cartilage = smoothstep(grid.y, -0.55 * a.depth, -0.8 * a.depth)
    canvas.paint(ribs, np.asarray(430 - 320 * cartilage, np.float32))
    canvas.paint(ribs + 2.5, np.asarray(200 - 80 * cartilage, np.float32))
    low, high = 0.12 * a.height, 0.85 * a.height
    up = np.clip((grid.z - 30) / (a.height - 30), 0, 1.3)
    front = -a.depth * (1 - 0.38 * up**2) + 18 * up**1.6 - 9
    plate = np.maximum(np.abs(grid.x) - 18, np.abs(grid.y - front) - 5.5)
    sternum = np.maximum(plate, np.abs(grid.z - (low + high) / 2) - (high - low) / 2)
    canvas.paint(sternum, 350.0)
    canvas.paint(sternum + 3, 130.0)
    for side in (-1.0, 1.0):
        blade = Grid(
            (grid.x - side * 0.78 * a.width) * 0.75 + side * (grid.y - 0.72 * a.depth) * 0.65,
            (grid.y - 0.72 * a.depth) * 0.75 - side * (grid.x - side * 0.78 * a.width) * 0.65,
            grid.z,
        )
        canvas.paint(ellipsoid(blade, (0, a.muscle * 0.6 + 18, 0.72 * a.height), (42, 4.5, 62)), 420.0)
        inner, outer = (side * 24, 10 - 0.62 * a.depth, a.height - 8), (side * 0.95 * a.width, -12, a.height + 16)
        canvas.capsule(canvas.to_scanner(inner), canvas.to_scanner(outer), 7 * a.scale, 450.0)
    _paint_spine(canvas, a)


def _paint_spine(canvas: Canvas, a: Anatomy) -> None:
    grid = canvas.body
    centre = spine_y(grid, a)
    behind = Grid(grid.x, grid.y - centre, grid.z)
    beat = np.abs((grid.z % VERTEBRA_MM) - VERTEBRA_MM / 2)  # 0 in the middle of a vertebra
    disc = smoothstep(beat, VERTEBRA_MM / 2 - 5, VERTEBRA_MM / 2 - 2)
    arch = np.maximum(ellipsoid(behind, (0, 26, 0), (22, 13, np.inf)), beat - 10)
    process = np.maximum(np.maximum(np.abs(behind.x) - 4, np.abs(behind.y - 46) - 16), beat - 7)
    wings = np.maximum(np.maximum(np.abs(behind.y - 24) - 6, np.abs(behind.x) - 38), beat - 7)
    for shape in (arch, process, wings):
        canvas.paint(shape, 380.0)
    body = spine(grid, a)
    canvas.paint(body, np.asarray(420 - 340 * disc, np.float32))
    canvas.paint(body + 3, np.asarray(MARROW - 95 * disc, np.float32))
    canvas.paint(ellipsoid(behind, (0, 25, 0), (10, 8, np.inf)), 25.0)


def paint_abdomen(canvas: Canvas, a: Anatomy, rng: np.random.Generator) -> None:
    """Fat fills the cavity; under the diaphragm lie liver, spleen, stomach with its air bubble, and bowel with gas."""
    grid = canvas.body
    inner = cavity(grid, a) + 1
    canvas.paint(inner, -70.0)
    top = np.maximum(np.maximum(diaphragm(grid, a, -1.0), diaphragm(grid, a, 1.0)), central_tendon(grid, a))
    below = np.maximum(inner + 1, (grid.z - top) * 0.75)
    below = np.maximum(below, -(spine(grid, a) - 2))
    canvas.paint(below, MUSCLE)
    canvas.paint(below + 4, FAT)
    organs = below + 3.5
    liver = np.maximum(organs, grid.x - (45 - 0.5 * (grid.y + 40)))
    canvas.paint(np.maximum(liver, -55 - grid.z * 0.2 - 0.5 * a.width), LIVER + 0.25 * (a.contrast - 45))
    spleen = ellipsoid(grid, (0.62 * a.width, 0.42 * a.depth, -a.left_dome - 38), (38, 30, 46))
    canvas.paint(np.maximum(spleen, organs), 50.0 + 0.4 * (a.contrast - 45))
    for _ in range(int(rng.integers(0, 5))):
        size = rng.uniform(8, 20, 3)
        at = np.array([rng.uniform(0.0, 0.7) * a.width, rng.uniform(-0.6, -0.1) * a.depth, rng.uniform(-95, -55)])
        bowel = np.maximum(ellipsoid(grid, at, size), organs + 1)
        canvas.paint(bowel - 3, 35.0)
        canvas.paint(bowel, AIR)
    if a.stomach:
        at = np.array([0.5 * a.width, -0.22 * a.depth, -a.left_dome - a.stomach - 9])
        size = np.array([1.25, 1.15, 1.0]) * a.stomach
        stomach = np.maximum(ellipsoid(grid, at, size), organs + 1)
        canvas.paint(stomach - 4, 40.0)
        level = grid.y - float(at[1]) - rng.uniform(-0.4, 0.6) * a.stomach  # air rises to the front
        canvas.paint(np.maximum(stomach, level), AIR)
        canvas.paint(np.maximum(stomach, -level), 25.0)


def paint_mediastinum(canvas: Canvas, a: Anatomy) -> None:
    """Heart with its chambers, aorta, vena cava, pulmonary arteries and oesophagus."""
    grid = canvas.body
    surface = heart(grid, a)
    canvas.paint(surface, 55.0 + 0.3 * (a.contrast - 45))
    chamber = np.minimum(
        ellipsoid(grid, (34 + a.shift, -34, 20), (26, 22, 24)), ellipsoid(grid, (-14 + a.shift, -20, 34), (22, 24, 26))
    )
    canvas.paint(np.maximum(chamber, surface + 8), a.contrast)

    def tube(points: list[tuple[float, float, float]], radius: float, hu: float) -> None:
        for start, stop in pairwise(canvas.to_scanner(points)):
            canvas.capsule(start, stop, radius * a.scale, hu)

    tube(aorta_points(a), 13, a.contrast)
    tube([(-24 + a.shift, -14, 45), (-23 + a.shift * 0.6, -16, a.height + 40)], 9, a.contrast)
    oesophagus = 0.68 * a.depth - 26
    tube([(6, oesophagus, -60), (2, oesophagus - 4, 0.5 * a.height), (0, oesophagus, a.height + 40)], 7, 38.0)
    trunk = (6 + a.shift * 0.8, -28, 0.46 * a.height)
    for side in (-1.0, 1.0):
        tube([trunk, hilum(a, side)], 11, a.contrast)


def paint_airways(canvas: Canvas, a: Anatomy) -> Float32Array:
    """Airways with their walls; returns what share of each voxel trachea and main bronchi take from the lung."""
    carina = np.array([a.shift * 0.5, 12.0, 0.6 * a.height])
    main, lobar = [(np.array([0.0, 14.0, a.height + 70]), carina, 9.0)], []
    for side in (-1.0, 1.0):
        root = np.array(hilum(a, side)) + np.array([0, 4, 4])
        main.append((carina, root, 6.5))
        lobar += [(root, root + np.array([side * out, y, z]), 2.6) for out, y, z in LOBAR]
    before = canvas.hu.copy()
    _tubes(canvas, main, a.scale)
    airway_share = np.clip(np.abs(canvas.hu - before) / 800, 0, 1)  # 800 HU: from lung to wall, or from tissue to air
    _tubes(canvas, lobar, a.scale)
    return np.asarray(airway_share, np.float32)


def _tubes(canvas: Canvas, tubes: list[tuple[FloatArray, FloatArray, float]], scale: float) -> None:
    """Walls first, then lumens, so that the branches open into each other."""
    for wall, hu in ((1.6, 30.0), (0.0, AIR)):
        for start, stop, radius in tubes:
            ends = canvas.to_scanner([start, stop])
            canvas.capsule(ends[0], ends[1], (radius + wall) * scale, hu)
