"""A of the ABCD rule: the lesion folded about two orthogonal axes (Stolz et al., Eur J Dermatol 4, 1994)."""

from __future__ import annotations

import cv2
import numpy as np

from medseg.features.dermoscopy.lesion import Lesion, local_contrast
from medseg.typing import Float32Array

UNITS: dict[str, str] = {
    "a": "0..2: axes, of two orthogonal ones through the centroid placed where asymmetry is lowest, about which "
    "contour, colour or texture is asymmetric (Stolz 1994); NaN where too much is hidden to tell",
    "contour_asymmetry_low": "0..1: part of the lesion without a mirror partner, about the better of the two axes",
    "contour_asymmetry_high": "0..1: the same about the other axis",
    "colour_asymmetry_low": "ΔE (CIE76): mean difference between a place and its mirror image, about the better axis",
    "colour_asymmetry_high": "ΔE (CIE76): the same about the other axis",
    "texture_asymmetry_low": "0..1: mean difference of local contrast between mirror images as a share of its sum, "
    "about the better axis",
    "texture_asymmetry_high": "0..1: the same about the other axis",
}

PATCH = 127  # pixels of the patch that is folded; odd, so that the centroid lies on one
TURNS = 18  # positions of the axes, 5 degrees apart
SMOOTH = 0.12  # of the radius: colours are compared as the eye sees halves, not pixel by pixel
GRAIN = 0.05  # of the radius: texture is what is finer
FAINT = 1.0  # units of lightness: less local contrast is noise
COMPARED = 1 / 3  # of the pairs of places that an axis makes in a lesion: with fewer in sight it tells nothing
LIMITS = (0.13, 7.0, 0.22)  # of contour, colour and texture: what counts as asymmetric


def asymmetry(lesion: Lesion) -> dict[str, float]:
    """Score and features of A; colour and texture exclude hair, rulers and dark corners.

    Only axes with enough visible pixels to compare on both sides are used. Without such axes A, colour and texture are
    NaN: an occluded half must not count as symmetric; contour, which the mask defines, is then that of the best axes.
    """
    values, masks, scale = _layers(lesion)
    best: tuple[tuple[bool, int, float], Float32Array] | None = None
    for turn in range(TURNS):
        measured, compared = _both_axes(values, masks, lesion, turn * np.pi / 2 / TURNS, scale)  # (2, 3)
        relative = measured / np.asarray(LIMITS)  # contour is never NaN
        cost = not compared, int((np.nanmax(relative, axis=1) > 1).sum()), float(np.nansum(relative))
        if best is None or cost < best[0]:
            best = cost, measured
    assert best is not None
    (hidden, points, _), measured = best
    features = {"a": np.nan if hidden else float(points)}
    for column, name in enumerate(("contour", "colour", "texture")):
        low, high = sorted(float(value) for value in measured[:, column])
        features |= {f"{name}_asymmetry_low": low, f"{name}_asymmetry_high": high}
    return features


def _layers(lesion: Lesion) -> tuple[Float32Array, Float32Array, float]:
    """L, a, b, local contrast (Y, X, 4); label and its visible part (Y, X, 2); pixels of the view per patch pixel."""
    seen = lesion.seen.astype(np.float32)[..., None]
    sigma = max(0.7, SMOOTH * lesion.radius)
    weight = cv2.GaussianBlur(seen, (0, 0), sigma)[..., None] + 1e-6
    colour = cv2.GaussianBlur(lesion.lab * seen, (0, 0), sigma) / weight
    texture = local_contrast(lesion.lab[..., 0], lesion.visible, max(1.0, GRAIN * lesion.radius), sigma)
    values = np.dstack([colour, texture]).astype(np.float32)
    masks = np.dstack([lesion.inside, lesion.visible]).astype(np.float32)
    extent = float(np.hypot(*(np.argwhere(lesion.inside) - np.asarray(lesion.centre)).T).max()) + 1
    return values, masks, extent / (PATCH // 2)


def _both_axes(
    values: Float32Array, masks: Float32Array, lesion: Lesion, angle: float, scale: float
) -> tuple[Float32Array, bool]:
    """Contour, colour and texture asymmetry about the axis at `angle` and the one across it, (2, 3); whether enough
    pixels are visible about both, without which colour and texture are NaN.
    """
    turn = scale * np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
    shift = np.array(lesion.centre[::-1]) - turn @ np.full(2, PATCH // 2)
    matrix, flags = np.column_stack([turn, shift]), cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP
    shown = cv2.warpAffine(values, matrix, (PATCH, PATCH), flags=flags)  # (P, P, 4)
    inside, visible = (cv2.warpAffine(masks, matrix, (PATCH, PATCH), flags=flags) > 0.5).transpose(2, 0, 1)
    rows, compared = [], True
    for fold in (np.flipud, np.fliplr):
        contour = (inside != fold(inside)).sum() / (2 * inside.sum())
        pair = visible & fold(visible)
        compared &= bool(pair.sum() >= COMPARED * (inside & fold(inside)).sum())
        if not pair.any():
            rows.append((contour, np.nan, np.nan))
            continue
        pixels, mirrored = shown[pair], fold(shown)[pair]  # (N, 4)
        colour = np.linalg.norm(pixels[:, :3] - mirrored[:, :3], axis=1).mean()
        texture = np.abs(pixels[:, 3] - mirrored[:, 3]).sum() / (pixels[:, 3] + mirrored[:, 3] + FAINT).sum()
        rows.append((contour, colour, texture))
    asymmetries = np.asarray(rows, np.float32)
    if not compared:
        asymmetries[:, 1:] = np.nan
    return asymmetries, compared
