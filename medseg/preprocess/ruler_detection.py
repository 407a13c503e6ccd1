"""Rulers in dermoscopy: straight lines with evenly spaced teeth, which are not hair."""

from __future__ import annotations

import cv2
import numpy as np
from scipy import ndimage

from medseg.typing import BoolArray, ByteArray

ANGLES = 12  # directions of a line, 15 degrees apart


def detect_rulers(lines: BoolArray, angle: ByteArray, grey: ByteArray) -> BoolArray:
    """Lines (Y, X) of a ruler (long, straight, with evenly spaced teeth at the side) and its teeth."""
    side = max(lines.shape)
    ends = cv2.HoughLinesP(
        lines.astype(np.uint8) * 255, 1, np.pi / 360, max(8, round(0.08 * side)),
        minLineLength=0.15 * side, maxLineGap=0.02 * side,
    )  # fmt: skip
    ruler = np.zeros(lines.shape, np.bool_)
    for x0, y0, x1, y1 in [] if ends is None else np.asarray(ends).reshape(-1, 4).tolist():
        if _toothed(grey, (x0, y0), (x1, y1)):
            steps = np.arctan2(y1 - y0, x1 - x0) / np.pi * ANGLES
            away = np.abs((angle - steps + ANGLES / 2) % ANGLES - ANGLES / 2)  # 0 along the ruler, 6 across it
            for reach, chosen in ((0.01, away <= 1.5), (0.05, away >= ANGLES / 2 - 1.5)):
                band = np.zeros(lines.shape, np.uint8)
                cv2.line(band, (x0, y0), (x1, y1), 1, max(3, round(reach * side)))
                ruler |= (band > 0) & chosen
    return ruler


def _toothed(grey: ByteArray, start: tuple[int, int], end: tuple[int, int]) -> bool:
    """Return whether dark teeth are evenly spaced along the line, stronger on one side (unlike a mesh)."""
    side = max(grey.shape)
    direction = np.subtract(end, start).astype(np.float64)
    count = int(np.hypot(*direction))
    along, across = direction / count, np.array([-direction[1], direction[0]]) / count
    best = []  # of each side: evenness and depth
    for sign in (-1, 1):
        scores = []
        for distance in (0.006, 0.009, 0.012, 0.016):
            x, y = np.add(start, sign * distance * side * across)[:, None] + along[:, None] * np.arange(count)
            coordinates = [np.asarray(axis, np.float32)[None] for axis in (x, y)]
            scores.append(_teeth(cv2.remap(grey, coordinates[0], coordinates[1], cv2.INTER_LINEAR)[0], side))
        best.append(max(scores))
    (_, lower), (even, deeper) = sorted(best)
    return even >= 0.6 and deeper >= max(3.0, 1.6 * lower)


def _teeth(profile: ByteArray, side: int) -> tuple[float, float]:
    """Evenness of narrow dark teeth in a profile (N), the peak of their autocorrelation, and their depth."""
    teeth = ndimage.grey_closing(profile.astype(np.float64), (max(3, round(0.008 * side) | 1),)) - profile
    depth = float(np.percentile(teeth, 90))
    teeth -= teeth.mean()
    if depth < 1:  # of 255: only noise
        return 0.0, depth
    alike = np.correlate(teeth, teeth, "full")[len(teeth) - 1 :] / (teeth @ teeth)
    first, last = max(4, round(0.005 * side)), min(round(0.08 * side), len(teeth) // 4)
    inner = alike[first:last]
    peaks = inner[(inner >= alike[first - 1 : last - 1]) & (inner >= alike[first + 1 : last + 1])]
    return float(peaks.max(initial=0.0)), depth
