"""Colours of each label of a 2D image in RGB, CIE Lab and HSV, and their difference to a ring around it.

Colours are in 0..1 as `Photo` scales pixels of any type; Lab is of sRGB under D65. The ring is as wide as `ring` × the
radius of the disc of the label's size, at least two pixels: its difference to the label does not depend on how
pigmented the surroundings are. A grey image has no colour features.
"""

from __future__ import annotations

from collections.abc import Mapping

import cv2
import numpy as np
import SimpleITK as sitk

from medseg.features.regions import RING, crop_regions
from medseg.io.labels import Labels
from medseg.preprocess.colour import to_lab
from medseg.preprocess.intensity import Photo
from medseg.typing import AnyArray

CHANNELS: dict[str, str] = {
    "red": "0..1",
    "green": "0..1",
    "blue": "0..1",
    "lightness": "0..100, L* of CIE Lab",
    "a": "CIE Lab a*, from green to red",
    "b": "CIE Lab b*, from blue to yellow",
    "saturation": "0..1, of HSV",
    "value": "0..1, of HSV",
    "hue": "degrees 0..360, of HSV, each pixel weighted by how far it is from grey; NaN where all are grey",
}
RGB = ("red", "green", "blue")
ORDER = (*RGB, "lightness", "a", "b", "hue", "saturation", "value")  # as the arrays of RGB, Lab and HSV hold them
UNITS: dict[str, str] = {
    **{f"colour_{name}_mean": f"{unit}: mean inside the label" for name, unit in CHANNELS.items()},
    **{f"colour_{name}_sd": f"{unit}: standard deviation inside the label" for name, unit in CHANNELS.items()},
    **{f"colour_{name}_difference": f"{unit}: mean inside − mean in the ring" for name, unit in CHANNELS.items()},
    **{f"colour_{name}_relative": "mean inside over mean in the ring; NaN where that is 0" for name in RGB},
    "colour_distance": "ΔE (CIE76): between the mean colours inside and in the ring",
}
UNITS["colour_hue_sd"] = "degrees: circular standard deviation inside the label, weighted likewise (Mardia 1972)"
UNITS["colour_hue_difference"] = "degrees −180..180: hue inside − hue in the ring"


def frame_features(
    image: sitk.Image, mask: sitk.Image, labels: Mapping[str, int] | Labels, ring: float = RING
) -> dict[str, float]:
    """Features of each label; NaN for fewer than two pixels; empty for a grey image."""
    if image.GetNumberOfComponentsPerPixel() < 3:
        return {}
    ready = image.GetPixelID() == sitk.sitkVectorUInt8 and image.GetNumberOfComponentsPerPixel() == 3
    picture, full = (image, 255) if ready else (Photo(colour=True)(image), 1)  # bytes are scaled only inside the label
    features: dict[str, float] = {}
    for name, region in crop_regions(picture, mask, labels, ring):
        values = dict.fromkeys(UNITS, np.nan)
        if np.count_nonzero(region.inside) > 1:
            mean, spread = _summary(region.values[region.inside] / np.float32(full))
            around = region.values[region.ring] / np.float32(full)
            values |= {f"colour_{key}_mean": number for key, number in mean.items()}
            values |= {f"colour_{key}_sd": number for key, number in spread.items()}
            values |= _against(mean, _summary(around)[0]) if around.size else {}
        features |= {f"{name}.{key}": number for key, number in values.items()}
    return features


def _summary(colours: AnyArray) -> tuple[dict[str, float], dict[str, float]]:
    """Mean and standard deviation by channel of colours (N, 3) in 0..1."""
    colour_row = np.ascontiguousarray(colours[:, None], np.float32)  # (N, 1, 3)
    hsv = cv2.cvtColor(colour_row, cv2.COLOR_RGB2HSV)  # hue in degrees
    statistics = [cv2.meanStdDev(values) for values in (colour_row, to_lab(colour_row), hsv)]
    means, spreads = (np.concatenate([pair[k] for pair in statistics]).ravel().tolist() for k in (0, 1))  # (9,) each
    mean, spread = (dict(zip(ORDER, values, strict=True)) for values in (means, spreads))
    mean["hue"], spread["hue"] = _hue(hsv[:, 0, 0], hsv[:, 0, 1] * hsv[:, 0, 2])
    return mean, spread


def _hue(degrees: AnyArray, weight: AnyArray) -> tuple[float, float]:
    """Circular mean and standard deviation in degrees of hues (N,)."""
    total = float(weight.sum())
    if total <= 0:
        return np.nan, np.nan
    angle = np.deg2rad(degrees)
    vector = complex((np.cos(angle) * weight).sum(), (np.sin(angle) * weight).sum()) / total
    length = min(1.0, abs(vector))
    spread = float(np.rad2deg(np.sqrt(-2 * np.log(length)))) if length > 0 else np.nan
    return float(np.rad2deg(np.angle(vector))) % 360, spread


def _against(inside: dict[str, float], around: dict[str, float]) -> dict[str, float]:
    """Differences and ratios of a label's mean colours to those of its ring."""
    difference = {name: inside[name] - around[name] for name in CHANNELS}
    difference["hue"] = (difference["hue"] + 180) % 360 - 180
    features = {f"colour_{name}_difference": value for name, value in difference.items()}
    features |= {f"colour_{name}_relative": inside[name] / around[name] if around[name] > 0 else np.nan for name in RGB}
    lab = [difference[name] for name in ("lightness", "a", "b")]
    return features | {"colour_distance": float(np.linalg.norm(lab))}
