"""B of the ABCD rule: how abruptly the pigment ends in eight sectors, and how irregular the outline is."""

from __future__ import annotations

from typing import NamedTuple

import cv2
import numpy as np
import numpy.typing as npt
from scipy import ndimage, stats

from medseg.features.dermoscopy.lesion import Lesion
from medseg.typing import Float32Array

UNITS: dict[str, str] = {
    "b": "0..8: sectors with an abrupt cut-off of pigment, of those whose border is in the image (Stolz 1994)",
    "b_judged": "0..8: sectors whose border is in the image and not under hair",
    "cutoff_mean": "units of CIE L: mean over the sectors of the steepest rise of lightness across the border, between "
    "an inner and an outer band of a tenth of the lesion's radius",
    "cutoff_sd": "units of CIE L: standard deviation of the same over the sectors",
    "cutoff_max": "units of CIE L: the same in the sharpest sector",
    **{f"cutoff_{k}": f"units of CIE L: the same in sector {k}, from the major axis on" for k in range(8)},
    "abruptness": "0..1: median over the border of the share of its whole rise that lies between those two bands",
    "compactness": "1 for a disc: perimeter² / (4π × area)",
    "solidity": "0..1: area over that of the convex hull",
    "radius_variation": "0..1: standard deviation over mean of the distance from the centroid to the outline",
    "fractal_dimension": "1..2: slope of box counts of the outline over box size (log–log)",
    "eccentricity": "0..1: of the ellipse of the same second moments",
}

SECTORS = 8
POINTS = 240  # of the outline that are looked at
BAND = 0.1  # of the radius: width of the inner and the outer band
SLACK = 0.15  # of the radius: the border is searched as far from the outline, which nobody draws to the pixel
REACH = 0.35  # of the radius: where pigment and skin are no longer border
ABRUPT = 12.0  # units of CIE L from band to band


class Profile(NamedTuple):
    """Points of the outline: `angle` (N,) radians from the major axis, 0..2π; `distance` (N,) of the radius;
    `cutoff` (N,) and `contrast` (N,) units of CIE L, NaN where not seen."""

    angle: npt.NDArray[np.float64]
    distance: npt.NDArray[np.float64]
    cutoff: npt.NDArray[np.float64]
    contrast: npt.NDArray[np.float64]

    @property
    def sector(self) -> npt.NDArray[np.int64]:
        """Number 0..7 of each point's sector (N,); sector 0 is centred on the major axis."""
        return sectors(self.angle)


def border(lesion: Lesion) -> dict[str, float]:
    """Score and features of B."""
    profile = border_profile(lesion)
    cutoffs = sector_cutoffs(profile)
    visible_cutoffs = cutoffs[np.isfinite(cutoffs)]
    features = {
        "b": float((visible_cutoffs >= ABRUPT).sum()) if len(visible_cutoffs) else np.nan,
        "b_judged": float(len(visible_cutoffs)),
    }
    for name, measure in (("mean", np.mean), ("sd", np.std), ("max", np.max)):
        features[f"cutoff_{name}"] = float(measure(visible_cutoffs)) if len(visible_cutoffs) else np.nan
    features |= {f"cutoff_{k}": float(value) for k, value in enumerate(cutoffs)}
    known = np.isfinite(profile.cutoff) & (profile.contrast > 3)  # units of L: less is no border at all
    share = np.clip(profile.cutoff[known] / profile.contrast[known], 0, 1)
    features["abruptness"] = float(np.median(share)) if known.any() else np.nan
    return features | outline(lesion)


def sectors(angle: npt.NDArray[np.float64]) -> npt.NDArray[np.int64]:
    """Angle from the major axis in radians → number 0..7 of the sector; sector 0 is centred on the axis."""
    step = 2 * np.pi / SECTORS
    return np.asarray(np.floor((angle + step / 2) / step), np.int64) % SECTORS


def sector_cutoffs(profile: Profile) -> npt.NDArray[np.float64]:
    """Median rise of lightness in each sector (8,); NaN if less than a third of its points are visible, or if the image
    ends before it and shows only a corner of the border.
    """
    cutoffs = np.full(SECTORS, np.nan)
    least = len(profile.cutoff) / (6 * SECTORS)
    for number in range(SECTORS):
        values = profile.cutoff[profile.sector == number]
        if len(values) >= least and np.isfinite(values).mean() >= 1 / 3:
            cutoffs[number] = np.nanmedian(values)
    return cutoffs


def border_profile(lesion: Lesion) -> Profile:
    """Lightness across the outline, along its normal, at up to `POINTS` points."""
    points = np.argwhere(lesion.inside & (lesion.depth < 1))  # (N, 2)
    relative = points - np.asarray(lesion.centre)
    angle = (np.arctan2(relative[:, 0], relative[:, 1]) - lesion.axis) % (2 * np.pi)
    order = np.argsort(angle, kind="stable")
    chosen = order[np.unique(np.linspace(0, len(order) - 1, POINTS).round().astype(int))]
    points, angle, radius = points[chosen], angle[chosen], lesion.radius
    distance = np.hypot(*relative[chosen].T) / radius
    smooth = cv2.GaussianBlur(lesion.depth, (0, 0), max(1.0, 0.08 * radius))
    slope = np.stack([gradient[tuple(points.T)] for gradient in np.gradient(smooth)], axis=1)
    normal = -slope / np.maximum(np.linalg.norm(slope, axis=1, keepdims=True), 1e-6)  # outwards
    step = 0.02
    offsets = np.arange(-REACH, REACH + step / 2, step)  # (K,) of the radius, outwards
    where = points[:, :, None] + normal[:, :, None] * offsets * radius  # (N, 2, K)
    where = where.transpose(1, 0, 2)
    lightness = ndimage.map_coordinates(lesion.lab[..., 0], where, order=1, mode="nearest")
    seen = ndimage.map_coordinates(lesion.seen.astype(np.float32), where, order=1, cval=0.0) > 0.5
    lightness = np.where(seen, lightness, np.nan)  # (N, K)
    return Profile(angle, distance, *_rises(lightness, offsets))


def _rises(lightness: Float32Array, offsets: npt.NDArray[np.float64]) -> tuple[npt.NDArray[np.float64], ...]:
    """Steepest rise between neighbouring bands near the outline, and the total rise, of profiles (N, K)."""
    known = np.isfinite(lightness)
    total = np.cumsum(np.pad(np.nan_to_num(lightness), ((0, 0), (1, 0))), axis=1)
    count = np.cumsum(np.pad(known, ((0, 0), (1, 0))), axis=1)
    width = round(BAND / (offsets[1] - offsets[0]))
    steps = []
    for middle in np.flatnonzero(np.abs(offsets) <= SLACK):
        low, high = max(0, middle - width), min(len(offsets), middle + width)
        inner, outer = (count[:, b] - count[:, a] for a, b in ((low, middle), (middle, high)))
        sums = (total[:, b] - total[:, a] for a, b in ((low, middle), (middle, high)))
        dark, light = (s / np.maximum(n, 1) for s, n in zip(sums, (inner, outer), strict=True))
        steps.append(np.where((inner > width / 2) & (outer > width / 2), light - dark, -np.inf))
    steepest = np.max(steps, axis=0)
    levels = []
    for chosen in (offsets > REACH - BAND, offsets < BAND - REACH):
        n_known = known[:, chosen].sum(axis=1)
        levels.append(
            np.where(n_known > 0, np.nan_to_num(lightness[:, chosen]).sum(axis=1) / np.maximum(n_known, 1), np.nan)
        )
    return np.where(np.isfinite(steepest), steepest, np.nan), levels[0] - levels[1]


def outline(lesion: Lesion) -> dict[str, float]:
    """Features of the shape alone."""
    shape = lesion.inside.astype(np.uint8)
    curves, _ = cv2.findContours(shape, cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_NONE)
    largest = max(curves, key=cv2.contourArea)
    smooth = ndimage.gaussian_filter1d(largest[:, 0].astype(np.float64), 1.5, axis=0, mode="wrap")  # no stairs
    perimeter = float(np.linalg.norm(smooth - np.roll(smooth, 1, axis=0), axis=1).sum())
    area = 0.5 * abs(
        float(np.cross(np.c_[smooth, 0 * smooth[:, :1]], np.c_[np.roll(smooth, -1, 0), 0 * smooth[:, :1]])[:, 2].sum())
    )
    hull = float(cv2.contourArea(cv2.convexHull(smooth.astype(np.float32))))
    distance = np.hypot(*(smooth - smooth.mean(axis=0)).T)
    points = np.argwhere(lesion.inside) - np.asarray(lesion.centre)
    small, large = np.linalg.eigvalsh(points.T @ points)
    return {
        "compactness": perimeter**2 / (4 * np.pi * area) if area > 0 else np.nan,
        "solidity": min(1.0, area / hull) if hull > 0 else np.nan,
        "radius_variation": float(distance.std() / distance.mean()) if distance.mean() > 0 else np.nan,
        "fractal_dimension": _fractal(largest[:, 0], lesion.radius),
        "eccentricity": float(np.sqrt(1 - small / large)) if large > 0 else np.nan,
    }


def _fractal(curve: npt.NDArray[np.int32], radius: float) -> float:
    """Box-counting dimension of an outline (N, 2) between 2 pixels and half its radius."""
    sizes = [size for size in (2, 3, 4, 6, 8, 12, 16, 24, 32, 48, 64) if size <= max(6.0, radius / 2)]
    counts = [len(np.unique((curve - curve.min(axis=0)) // size, axis=0)) for size in sizes]
    return float(-stats.linregress(np.log(sizes), np.log(counts)).slope)
