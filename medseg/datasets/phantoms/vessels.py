"""A branching vessel tree that fills a lung, grown from its hilum."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from medseg.datasets.phantoms.canvas import Canvas
from medseg.datasets.phantoms.lung_anatomy import Anatomy, hilum

TWIG_MM = 1.0  # radius of the last branches


def paint_vessels(
    canvas: Canvas, anatomy: Anatomy, rng: np.random.Generator, side: float, inside: NDArray[np.bool_], branches: int
) -> None:
    """Paint the vessels of one lung, `inside` (Z, Y, X)."""
    voxels = np.argwhere(inside)
    ends = canvas.voxel_centres(voxels[rng.choice(len(voxels), branches)])
    points, parents = grow_tree(canvas.to_scanner(hilum(anatomy, side)), ends, rng)
    for i, radius in enumerate(radii(parents), start=1):
        canvas.capsule(points[parents[i]], points[i], radius, anatomy.contrast)


def grow_tree(
    root: NDArray[np.float64], ends: NDArray[np.float64], rng: np.random.Generator
) -> tuple[NDArray[np.float64], list[int]]:
    """Points (N, 3) and the parent of each; every end joins the tree at the point with a short path to the root.

    Long branches get a bent middle, so that the tree does not look drawn with a ruler.
    """
    points, parents, path_lengths = [root], [0], [0.0]
    for end in ends[np.argsort(np.linalg.norm(ends - root, axis=1))]:
        gaps = np.linalg.norm(np.array(points) - end, axis=1)
        at = int(np.argmin(gaps + 0.35 * np.array(path_lengths)))
        start, gap = points[at], float(gaps[at])
        if gap > 20:
            middle = (start + end) / 2 + rng.normal(0, 0.06 * gap, 3)
            points.append(middle)
            parents.append(at)
            path_lengths.append(path_lengths[at] + gap / 2)
            at = len(points) - 1
        points.append(end)
        parents.append(at)
        path_lengths.append(path_lengths[at] + float(np.linalg.norm(points[at] - end)))
    return np.array(points), parents


def radii(parents: list[int]) -> list[float]:
    """Radius (mm) of each branch but the root by Murray's law with the exponent 2.7 measured in lungs.

    r^2.7 = sum of the children's r^2.7 (Murray, PNAS 12:207, 1926, has 3).
    """
    flows = np.zeros(len(parents))
    for i in range(len(parents) - 1, 0, -1):  # children come after their parents
        if flows[i] == 0:
            flows[i] = TWIG_MM**2.7
        flows[parents[i]] += flows[i]
    return [float(r) for r in flows[1:] ** (1 / 2.7)]
