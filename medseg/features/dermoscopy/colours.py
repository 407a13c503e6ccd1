"""C of the ABCD rule: which of six colours a lesion shows, each place given to the nearest one."""

from __future__ import annotations

import cv2
import numpy as np
import numpy.typing as npt

from medseg.features.dermoscopy.lesion import Lesion
from medseg.preprocess.colour import to_lab
from medseg.typing import Float32Array

# sRGB references of Kasmi & Mokrani, IET Image Processing 10, 2016
REFERENCES: dict[str, tuple[int, int, int]] = {
    "white": (197, 188, 217),
    "red": (118, 21, 17),
    "light_brown": (163, 82, 16),
    "dark_brown": (135, 44, 5),
    "blue_grey": (113, 108, 139),
    "black": (41, 31, 30),
}
LEAST_SHARE = 0.05  # of the visible lesion: a colour that counts
CAP = 45.0  # ΔE (CIE76): further from every reference a place has none of the colours
LIGHTER = 2.0  # units of L: white only where lighter than the skin around
BLUER = 5.0  # units of b: blue-grey only where bluer than the skin around, which pale brown is not
SMOOTH = 0.05  # of the radius: a colour is an area, not a pixel

UNITS: dict[str, str] = {
    "c": "1..6: colours of the six on at least 5 % of the visible lesion, at least one (Stolz 1994)",
    **{f"share_{name}": "0..1: share of the visible lesion whose nearest reference is this one" for name in REFERENCES},
    "colour_entropy": "bits: of those shares, with that of no colour at all",
    **{f"skin_d{axis}": f"units of CIE {axis}: lesion's mean minus that of the skin around" for axis in "Lab"},
    "skin_contrast": "ΔE (CIE76): between the mean colours of lesion and skin around",
    "colour_spread": "ΔE (CIE76): root mean square distance from the lesion's mean colour, places smoothed",
    "lightness_range": "units of CIE L: 95th minus 5th percentile inside the lesion",
}


def six_colours(lesion: Lesion) -> dict[str, float]:
    """Score and features of C."""
    names = list(REFERENCES)
    nearest = nearest_colour(lesion)
    inside = nearest[lesion.visible]
    shares = np.array([(inside == k).mean() for k in range(len(names))])
    features = {"c": float(max(1, (shares >= LEAST_SHARE).sum()))}
    features |= {f"share_{name}": float(share) for name, share in zip(names, shares, strict=True)}
    fractions = np.append(shares, 1 - shares.sum())
    fractions = fractions[fractions > 0]
    features["colour_entropy"] = float(-(fractions * np.log2(fractions)).sum())
    colours = smooth_lab(lesion)[lesion.visible]  # (N, 3)
    mean = colours.mean(axis=0)
    difference = mean - lesion.around
    features |= {f"skin_d{axis}": float(value) for axis, value in zip("Lab", difference, strict=True)}
    features["skin_contrast"] = float(np.linalg.norm(difference))
    features["colour_spread"] = float(np.sqrt(((colours - mean) ** 2).sum(axis=1).mean()))
    features["lightness_range"] = float(np.ptp(np.percentile(colours[:, 0], [5, 95])))
    return features


def nearest_colour(lesion: Lesion) -> npt.NDArray[np.int8]:
    """Index of the nearest reference at each pixel (Y, X), −1 if none is near."""
    lab = smooth_lab(lesion)
    distance = np.linalg.norm(lab[..., None, :] - references(), axis=-1)  # (Y, X, 6)
    lightest = lesion.around[0] + LIGHTER if np.isfinite(lesion.around[0]) else np.inf
    distance[..., 0] = np.where(lab[..., 0] > lightest, distance[..., 0], np.inf)
    bluest = lesion.around[2] - BLUER if np.isfinite(lesion.around[2]) else -np.inf
    distance[..., 4] = np.where(lab[..., 2] < bluest, distance[..., 4], np.inf)
    return np.asarray(np.where(distance.min(axis=-1) <= CAP, distance.argmin(axis=-1), -1), np.int8)


def references() -> Float32Array:
    """The references in CIE Lab, (6, 3)."""
    colours = np.array([list(REFERENCES.values())], np.float32) / np.float32(255)  # (1, 6, 3)
    return np.asarray(to_lab(colours)[0], np.float32)


def smooth_lab(lesion: Lesion) -> Float32Array:
    """CIE Lab (Y, X, 3) smoothed within the visible lesion, so that skin does not mix into its colours."""
    sigma = max(0.7, SMOOTH * lesion.radius)
    seen = lesion.visible.astype(np.float32)[..., None]
    weight = cv2.GaussianBlur(seen, (0, 0), sigma)[..., None] + 1e-6
    return np.asarray(cv2.GaussianBlur(lesion.lab * seen, (0, 0), sigma) / weight, np.float32)
