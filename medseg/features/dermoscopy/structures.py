"""D of the ABCD rule: pigment network, structureless areas, streaks, dots and globules; and the diameter."""

from __future__ import annotations

import cv2
import numpy as np
from scipy import ndimage
from skimage.feature import hessian_matrix, hessian_matrix_eigvals, peak_local_max

from medseg.features.axial import diameter
from medseg.features.dermoscopy.lesion import Lesion, local_contrast
from medseg.typing import BoolArray, Float32Array

UNITS: dict[str, str] = {
    "d": "0..5: points of D: dermoscopic structures that are there, at least one (Stolz 1994); with d_mode=diameter "
    "d_diameter, where that is known",
    "d_diameter": "0..5: the largest diameter in mm, at most 5 points; NaN where the image has no scale",
    "network_share": "0..1: share of the visible lesion among dark lines that enclose lighter holes",
    "structureless_share": "0..1: share of the visible lesion without local contrast",
    "streaks": "dark lines longer than a fifth of the radius that run outwards within the outer third",
    "dots": "dark round spots less than a twentieth of the radius across",
    "globules": "dark round spots a twentieth to a fifth of the radius across",
    "diameter_px": "pixels of the working grid (longer side at most 512): largest distance between two border points",
    "diameter_mm": "mm: the same; NaN where the image's spacing says nothing",
    "grain": "units of CIE L: mean local contrast inside the visible lesion",
}

FLAT = 1.2  # units of CIE L: less local contrast is no structure
NETWORK, STRUCTURELESS = 0.005, 0.10  # share of the lesion from which these count; few meshes are closed at this size
STREAKS, DOTS, GLOBULES = 2, 2, 1  # more than two streaks, more than two dots, at least one globule
STRENGTH = 1.5  # units of CIE L: how dark a spot must be
FINE = 0.6  # units of CIE L: and how dark a line
SMALL = 0.05  # of the radius: the widest dot
OUTER = 1 / 3  # of the radius: where streaks are looked for
LENGTH = 0.2  # of the radius: a shorter line is no streak


def structures(lesion: Lesion, scale_mm: float | None) -> dict[str, float]:
    """Score and features of D; `scale_mm`: pixel size of the working grid in mm, None if unknown."""
    visible, radius = lesion.visible, lesion.radius
    lightness = lesion.lab[..., 0]
    lines = _ridges(lightness, max(1.0, 0.02 * radius))
    long = _long(lines, LENGTH * radius)
    spots = _off_lines(_spots(lightness, radius), long)
    inner = visible & (lesion.depth > 0.05 * radius)
    counted = inner if inner.any() else visible
    grain = max(2.0, 0.08 * radius)
    contrast = local_contrast(lightness, counted, grain, grain)
    features = {
        "network_share": float(_network(long & visible, radius)[counted].mean()),
        "structureless_share": float((contrast < FLAT)[counted].mean()),
        "streaks": float(_streaks(lines, lesion)),
        "dots": float(_count(spots, inner, 0.0, SMALL * radius)),
        "globules": float(_count(spots, inner, SMALL * radius, np.inf)),
        "grain": float(contrast[counted].mean()),
    }
    present = (
        features["network_share"] >= NETWORK,
        features["structureless_share"] > STRUCTURELESS,
        features["streaks"] > STREAKS,
        features["dots"] > DOTS,
        features["globules"] >= GLOBULES,
    )
    across = diameter(lesion.inside)
    mm = across * scale_mm if scale_mm is not None else np.nan
    features |= {"d": float(max(1, sum(present))), "diameter_px": across, "diameter_mm": mm}
    return features | {"d_diameter": float(min(mm, 5.0)) if np.isfinite(mm) else np.nan}


def _ridges(lightness: Float32Array, sigma: float) -> BoolArray:
    """Dark lines (Y, X) about `sigma` wide: curved across, straight along (Frangi's condition on the Hessian), and
    darker than both sides, which the dark side of an edge is not.
    """
    large, small = _curvatures(lightness, sigma)
    reach = round(3 * sigma)
    disc = cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (2 * reach + 1, 2 * reach + 1))
    depth = cv2.morphologyEx(cv2.GaussianBlur(lightness, (0, 0), sigma / 2), cv2.MORPH_BLACKHAT, disc)
    return np.asarray((large > FINE) & (np.abs(small) < 0.5 * large) & (depth > FINE))


def _long(lines: BoolArray, least: float) -> BoolArray:
    """The connected lines (Y, X) that span more than `least` pixels."""
    numbers, count = ndimage.label(lines, np.ones((3, 3)))
    spans = [max(side.stop - side.start for side in window) for window in ndimage.find_objects(numbers, count)]
    return np.asarray(np.array([False, *(span > least for span in spans)])[numbers])


def _off_lines(spots: Float32Array, lines: BoolArray) -> Float32Array:
    """The spots (N, 3) that are not on a line: ends and crossings of lines are round, too."""
    if not lines.any() or not len(spots):
        return spots
    away = ndimage.distance_transform_edt(~lines)
    y, x = spots[:, :2].astype(int).T
    return np.asarray(spots[away[y, x] > np.maximum(1.5, spots[:, 2] / 2)], np.float32)


def _curvatures(lightness: Float32Array, sigma: float) -> tuple[Float32Array, Float32Array]:
    """Larger and smaller second derivative (Y, X), scaled by σ² to units of lightness."""
    hessian = hessian_matrix(lightness, sigma=sigma, order="rc", use_gaussian_derivatives=False)
    large, small = hessian_matrix_eigvals(hessian) * sigma**2
    return np.asarray(large, np.float32), np.asarray(small, np.float32)


def _spots(lightness: Float32Array, radius: float) -> Float32Array:
    """Dark round spots: (y, x, diameter) in pixels, (N, 3).

    A spot of diameter d is where the smaller curvature is largest over place and scale, at σ = d/√8, and at least half
    the larger one.
    """
    scales = radius * np.geomspace(0.02, 0.2, 7) / np.sqrt(8)
    scales = scales[scales >= 0.5]
    if not len(scales):
        return np.zeros((0, 3), np.float32)
    curved = [_curvatures(lightness, sigma) for sigma in scales]
    response = np.stack([np.where(small > 0.5 * large, small, 0) for large, small in curved])  # (S, Y, X)
    peaks = peak_local_max(response, min_distance=1, threshold_abs=STRENGTH, exclude_border=False)  # (N, 3)
    strength = response[tuple(peaks.T)]
    spots = np.column_stack([peaks[:, 1:], scales[peaks[:, 0]] * np.sqrt(8)])[np.argsort(-strength, kind="stable")]
    strongest: list[int] = []
    for number, (y, x, _) in enumerate(spots):  # strongest first; suppress weaker spots on its rim
        near = np.hypot(*(spots[strongest, :2] - (y, x)).T) < 0.75 * spots[strongest, 2]
        if not near.any():
            strongest.append(number)
    return spots[strongest].astype(np.float32)


def _count(spots: Float32Array, inside: BoolArray, low: float, high: float) -> int:
    """Spots inside with a diameter above `low` and up to `high` pixels."""
    y, x = spots[:, :2].astype(int).T
    return int((inside[y, x] & (spots[:, 2] > low) & (spots[:, 2] <= high)).sum())


def _network(lines: BoolArray, radius: float) -> BoolArray:
    """Where lines enclose small holes: lines and holes together (Y, X)."""
    holes, count = ndimage.label(~lines)
    sizes = np.bincount(holes.ravel(), minlength=count + 1)
    small = (sizes >= 4) & (sizes <= np.pi * (0.12 * radius) ** 2)
    small[0] = False
    meshes = small[holes]
    reach = max(1, round(0.03 * radius))
    disc = cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (2 * reach + 1, 2 * reach + 1))
    return np.asarray(cv2.morphologyEx(meshes.astype(np.uint8), cv2.MORPH_CLOSE, disc) > 0)


def _streaks(lines: BoolArray, lesion: Lesion) -> int:
    """Lines in the outer third that are long and run away from the centre."""
    rim = lines & lesion.visible & (lesion.depth < OUTER * lesion.radius)
    numbers, n_lines = ndimage.label(rim, np.ones((3, 3)))
    centre = np.asarray(lesion.centre)
    count = 0
    for number, window in enumerate(ndimage.find_objects(numbers, n_lines), start=1):
        points = np.argwhere(numbers[window] == number) + np.array([window[0].start, window[1].start])
        if len(points) < 5:
            continue
        middle = points.mean(axis=0)
        values, vectors = np.linalg.eigh(np.cov((points - middle).T))
        length, out = 4 * np.sqrt(max(values[1], 0)), middle - centre
        along = abs(float(vectors[:, 1] @ out)) / max(float(np.hypot(*out)), 1e-6)
        count += length > LENGTH * lesion.radius and along > 0.8
    return count
