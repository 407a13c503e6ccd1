"""Shape of each label in 2D images and volumes, independent of its grey values.

Features of volumes are those of IBSI (Zwanenburg et al., Radiology 295, 2020; reference manual, section 3.1) on
the mesh that marching cubes lay through the label's faces. IBSI defines none for 2D images: there each pixel is a
rectangle, and the perimeter is Crofton's, which is unbiased on average over all directions of an outline. Lengths are
in mm, or in pixels without a spacing. A label of several connected components is measured as a whole.
"""

from __future__ import annotations

from collections.abc import Mapping

import cv2
import numpy as np
import SimpleITK as sitk
from scipy import ndimage, spatial
from skimage import measure

from medseg.features.regions import Region, crop_regions
from medseg.io.labels import Labels
from medseg.typing import BoolArray, FloatArray

FLAT: dict[str, str] = {
    "shape_area": "mm² (px²): number of pixels × pixel area; 0 where the label is absent",
    "shape_perimeter": "mm (px): outer and inner outlines, by Crofton's formula in 4 directions (Legland et al. 2007)",
    "shape_compactness": "perimeter² / (4π × area): 1 for a disc, larger for all else",
    "shape_circularity": "4π × area / perimeter²: 1 for a disc",
    "shape_eccentricity": "0..1: of the ellipse of the same second moments, √(1 − minor² / major²); 0 for a disc",
    "shape_feret_max": "mm (px): greatest distance of two points of the label",
    "shape_feret_min": "mm (px): least width of the label between two parallel lines",
    "shape_equivalent_diameter": "mm (px): of the disc of the same area",
    "shape_fractal_dimension": "1..2: slope of box counts of the border pixels over box size, log–log, boxes of 2, 4, "
    "8 … pixels up to a quarter of the longer side; NaN where that side is shorter than 32 pixels",
    "shape_border_variance": "standard deviation over mean of the distance from centroid to outer border; 0 for a disc",
    "shape_holes": "count: background pieces, connected by edges, that the label encloses",
}
BOTH: dict[str, str] = {
    "shape_major_axis": "mm (px): 4 × √ of the greatest variance of the voxels' positions (IBSI TDIC)",
    "shape_minor_axis": "mm (px): likewise of the second greatest (IBSI P9VJ)",
    "shape_elongation": "0..1: minor over major axis; 1 for a disc or ball (IBSI Q3CK)",
    "shape_solidity": "0..1: area or mesh volume over that of the convex hull (IBSI R3ER)",
    "shape_extent": "0..1: area or mesh volume over that of the bounding box along the image's axes (IBSI PBX1)",
    "shape_components": "count: pieces, connected by edges or corners",
}
SOLID: dict[str, str] = {
    "shape_volume": "mm³: inside the mesh; 0 where the label is absent (IBSI RNU0)",
    "shape_voxel_volume": "mm³: number of voxels × voxel volume; 0 where the label is absent (IBSI YEKZ)",
    "shape_surface": "mm²: area of the mesh (IBSI C0JK)",
    "shape_surface_to_volume": "1/mm: surface over mesh volume (IBSI 2PR5)",
    "shape_compactness_1": "volume / (√π × surface^1.5): 0.053 for a ball (IBSI SKGS)",
    "shape_compactness_2": "0..1: 36π × volume² / surface³; 1 for a ball (IBSI BQWJ)",
    "shape_sphericity": "0..1: surface of the ball of this volume over the surface (IBSI QCFX)",
    "shape_least_axis": "mm: 4 × √ of the least variance of the voxels' positions (IBSI 7J51)",
    "shape_flatness": "0..1: least over major axis; 1 for a ball (IBSI N17B)",
    "shape_max_diameter": "mm: greatest distance of two points of the mesh (IBSI L0JK)",
}
UNITS: dict[str, str] = FLAT | BOTH | SOLID
COUNTED = ("shape_area", "shape_volume", "shape_voxel_volume", "shape_components", "shape_holes")  # 0 of what is absent


def frame_features(image: sitk.Image, mask: sitk.Image, labels: Mapping[str, int] | Labels) -> dict[str, float]:
    """Features of each label; with fewer than two voxels all but the counts are NaN."""
    flat = image.GetDimension() == 2
    return {
        f"{name}.{key}": value
        for name, region in crop_regions(image, mask, labels)
        for key, value in (_of_image(region) if flat else _of_volume(region)).items()
    }


def _of_image(region: Region) -> dict[str, float]:
    inside, (height, width) = region.inside, region.spacing
    count = int(np.count_nonzero(inside))
    area = count * height * width
    features = _blank(FLAT) | {"shape_area": area}
    if not count:
        return features
    binary = np.pad(inside, 1).astype(np.uint8)
    features["shape_components"] = float(cv2.connectedComponents(binary, connectivity=8)[0] - 1)
    features["shape_holes"] = float(cv2.connectedComponents(1 - binary, connectivity=4)[0] - 2)
    if count < 2:
        return features
    points, length = _hull(inside, region.spacing), perimeter(inside, region.spacing)
    hull = spatial.ConvexHull(points)
    axes = _axes(inside, region.spacing)
    return features | {
        "shape_perimeter": length,
        "shape_compactness": length**2 / (4 * np.pi * area),
        "shape_circularity": 4 * np.pi * area / length**2,
        "shape_eccentricity": float(np.sqrt(1 - (axes[1] / axes[0]) ** 2)),
        "shape_feret_max": _farthest(points),
        "shape_feret_min": _narrowest(points, hull.equations),
        "shape_equivalent_diameter": float(np.sqrt(4 * area / np.pi)),
        "shape_fractal_dimension": fractal_dimension(inside),
        "shape_border_variance": _border_variance(inside, region.spacing),
        "shape_major_axis": float(axes[0]),
        "shape_minor_axis": float(axes[1]),
        "shape_elongation": float(axes[1] / axes[0]),
        "shape_solidity": min(1.0, area / float(hull.volume)),  # in a plane qhull's volume is the area
        "shape_extent": count / inside.size,
    }


def _of_volume(region: Region) -> dict[str, float]:
    inside = region.inside
    count = int(np.count_nonzero(inside))
    features = _blank(SOLID) | {"shape_voxel_volume": count * float(np.prod(region.spacing))}
    if not count:
        return features
    features["shape_components"] = float(ndimage.label(inside, np.ones((3, 3, 3)))[1])
    if count < 2:
        return features | {"shape_volume": np.nan}
    padded = np.pad(inside, 1).astype(np.float32)
    corners, faces, _, _ = measure.marching_cubes(padded, 0.5, spacing=region.spacing)
    first, second, third = (corners[faces[:, k]].astype(np.float64) for k in range(3))  # (N, 3)
    volume = abs(float(np.einsum("ij,ij->", first, np.cross(second, third)))) / 6
    surface = float(np.linalg.norm(np.cross(second - first, third - first), axis=1).sum()) / 2
    hull = spatial.ConvexHull(corners.astype(np.float64))
    axes = _axes(inside, region.spacing)
    return features | {
        "shape_volume": volume,
        "shape_surface": surface,
        "shape_surface_to_volume": surface / volume,
        "shape_compactness_1": volume / (np.sqrt(np.pi) * surface**1.5),
        "shape_compactness_2": 36 * np.pi * volume**2 / surface**3,
        "shape_sphericity": (36 * np.pi * volume**2) ** (1 / 3) / surface,
        "shape_major_axis": float(axes[0]),
        "shape_minor_axis": float(axes[1]),
        "shape_least_axis": float(axes[2]),
        "shape_elongation": float(axes[1] / axes[0]),
        "shape_flatness": float(axes[2] / axes[0]),
        "shape_max_diameter": _farthest(hull.points[hull.vertices]),
        "shape_solidity": min(1.0, volume / float(hull.volume)),
        "shape_extent": volume / float(np.prod(np.ptp(corners, axis=0))),
    }


def perimeter(inside: BoolArray, spacing: tuple[float, ...]) -> float:
    """Length of all outlines of a label (Y, X) in the unit of `spacing`.

    Lines in four directions through the pixels' centres are counted where they cross the outline; each direction stands
    for the angles nearest to it.
    """
    padded, (height, width) = np.pad(inside, 1), spacing
    slope = np.arctan2(height, width)
    crossed = (
        (slope, width, padded[:, 1:] != padded[:, :-1]),
        (np.pi / 2 - slope, height, padded[1:] != padded[:-1]),
        (np.pi / 4, float(np.hypot(height, width)), padded[1:, 1:] != padded[:-1, :-1]),
        (np.pi / 4, float(np.hypot(height, width)), padded[1:, :-1] != padded[:-1, 1:]),
    )
    return float(sum(angle / step * np.count_nonzero(where) for angle, step, where in crossed)) * height * width / 2


def fractal_dimension(inside: BoolArray) -> float:
    """Box-counting dimension of the border of a label (Y, X) in its bounding box."""
    points = np.argwhere(_border(inside))
    sizes = [2**k for k in range(1, 20) if 4 * 2**k <= max(inside.shape)]  # at 1 pixel a border is a chain of corners
    if len(sizes) < 3:
        return float("nan")
    counts = [len(np.unique((points // size) @ np.array([inside.shape[1] + 1, 1]))) for size in sizes]
    return float(-np.polyfit(np.log(sizes), np.log(counts), 1)[0])


def _blank(named: dict[str, str]) -> dict[str, float]:
    return {key: 0.0 if key in COUNTED else np.nan for key in (named | BOTH)}


def _border(inside: BoolArray) -> BoolArray:
    """Pixels of a label (Y, X) that touch the outside with an edge."""
    padded = np.pad(inside, 1)
    return np.asarray(inside & ~(padded[2:, 1:-1] & padded[:-2, 1:-1] & padded[1:-1, 2:] & padded[1:-1, :-2]))


def _border_variance(inside: BoolArray, spacing: tuple[float, ...]) -> float:
    """Coefficient of variation of the distances from the centroid to the outer border pixels of a label (Y, X)."""
    centre = np.argwhere(inside).mean(axis=0) * spacing
    outlines, _ = cv2.findContours(inside.astype(np.uint8), cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_NONE)
    outer = np.concatenate(outlines)[:, 0, ::-1] * spacing  # (N, 2)
    radius = np.linalg.norm(outer - centre, axis=1)
    return float(radius.std() / radius.mean())


def _hull(inside: BoolArray, spacing: tuple[float, ...]) -> FloatArray:
    """Corners of the convex hull of a label's pixels (Y, X), (N, 2)."""
    rows = np.flatnonzero(inside.any(axis=1))
    left, right = inside.argmax(axis=1), inside.shape[1] - inside[:, ::-1].argmax(axis=1)
    sides = [(rows + down, edge[rows]) for edge in (left, right) for down in (0, 1)]
    corners = np.concatenate([np.stack(side, axis=1) for side in sides]) * spacing
    return np.asarray(corners[spatial.ConvexHull(corners).vertices], np.float64)


def _axes(inside: BoolArray, spacing: tuple[float, ...]) -> FloatArray:
    """Lengths of the principal axes of a label, the longest first."""
    points = np.argwhere(inside) * spacing
    variances = np.linalg.eigvalsh(np.cov(points.T))[::-1]
    return np.asarray(4 * np.sqrt(np.maximum(variances, 0)))


def _narrowest(points: FloatArray, edges: FloatArray) -> float:
    """Least distance of an edge of the hull, as qhull states it (E, 3), from the point farthest from it."""
    return float(np.abs(points @ edges[:, :2].T + edges[:, 2]).max(axis=0).min())


def _farthest(points: FloatArray) -> float:
    """Greatest distance of two points (N, D), in blocks: thousands of points have millions of distances."""
    blocks = (points[k : k + 256] for k in range(0, len(points), 256))
    return max(float(spatial.distance.cdist(block, points).max()) for block in blocks)
