"""Uneven light in photographs: slow changes of brightness estimated inside the field, and taken out.

Images are 2D in 0..1, grey or colour. Outside the field they become 0.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import cv2
import numpy as np
import numpy.typing as npt
import SimpleITK as sitk
from scipy import ndimage

cv2.setNumThreads(0)  # its pool would fight with torch's

Field = Callable[[sitk.Image], sitk.Image]
Floats = npt.NDArray[np.float32]
Bools = npt.NDArray[np.bool_]
SMALL = {"gaussian": 256, "median": 96}  # pixels of the longer side on which slow changes are estimated


class Background:
    """Divide by, or subtract, the slow background; the mean inside the field stays.

    The background is a median or Gaussian of `size` times the field's width, of each colour by itself. Division had the
    lowest variation of a comparison on fundus photographs (PMC4335144).
    """

    def __init__(
        self, mode: str = "divide", kind: str = "gaussian", size: float = 0.15, field: Field | None = None
    ) -> None:
        if mode not in ("divide", "subtract") or kind not in ("gaussian", "median"):
            raise ValueError(f"mode {mode!r}, kind {kind!r}: must be divide or subtract, gaussian or median")
        self.mode, self.kind, self.size, self.field = mode, kind, size, field

    def __call__(self, image: sitk.Image) -> sitk.Image:
        """Image in 0..1 → image in 0..1."""
        values, inside = _parts(image, self.field)
        slow = background(values, inside, self.size, self.kind)
        level = values[inside].mean(axis=0)
        flat = values / np.maximum(slow, 1e-3) * level if self.mode == "divide" else values - slow + level
        return _whole(flat, inside, image)


class Graham:
    """4·I − 4·G(I, r/30) + ½ inside the field, r its radius (Graham 2015, in 0..1): colours and light of all cameras
    alike, small structures four times as strong."""

    def __init__(self, field: Field | None = None, gain: float = 4.0, share: float = 1 / 30) -> None:
        self.field, self.gain, self.share = field, gain, share

    def __call__(self, image: sitk.Image) -> sitk.Image:
        """Image in 0..1 → image in 0..1."""
        values, inside = _parts(image, self.field)
        slow = background(values, inside, self.share / 2, "gaussian")
        return _whole(self.gain * (values - slow) + 0.5, inside, image)


class Homomorphic:
    """Slow light and fast detail apart in the logarithm: light to the power `light`, detail to `detail` (Oppenheim)."""

    def __init__(self, light: float = 0.5, detail: float = 1.0, size: float = 0.15, field: Field | None = None) -> None:
        self.light, self.detail, self.size, self.field = light, detail, size, field

    def __call__(self, image: sitk.Image) -> sitk.Image:
        """Image in 0..1 → image in 0..1, the mean inside the field kept."""
        values, inside = _parts(image, self.field)
        logs = np.log(values + 0.01)
        slow = background(logs, inside, self.size, "gaussian")
        level = slow[inside].mean(axis=0)
        mapped = np.exp(self.light * (slow - level) + level + self.detail * (logs - slow)) - 0.01
        return _whole(mapped, inside, image)


class Clahe:
    """Contrast limited adaptive histogram equalisation (Zuiderveld 1994), of colour on CIE lightness alone."""

    def __init__(self, clip: float = 2.0, tiles: int = 8, field: Field | None = None) -> None:
        self.clip, self.tiles, self.field = clip, tiles, field

    def __call__(self, image: sitk.Image) -> sitk.Image:
        """Image in 0..1 → image in 0..1."""
        values, inside = _parts(image, self.field)
        equalise = cv2.createCLAHE(self.clip, (self.tiles, self.tiles))
        if values.shape[-1] == 1:
            mapped = _levels(values[..., 0], 1.0, equalise)[..., None]
        else:
            lab: Any = cv2.cvtColor(np.ascontiguousarray(values[..., :3]), cv2.COLOR_RGB2LAB)
            lab[..., 0] = _levels(np.asarray(lab[..., 0], np.float32), 100.0, equalise)
            mapped = cv2.cvtColor(lab, cv2.COLOR_LAB2RGB)
        return _whole(np.asarray(mapped, np.float32), inside, image)


def background(values: Floats, inside: Bools, size: float, kind: str) -> Floats:
    """The slow part of values (Y, X, C) inside a field, estimated on a shrunken copy; the dark surround has no say.

    `size` is a share of the field's width: twice the Gaussian's σ, or the side of the median's window.
    """
    factor = max(1, max(inside.shape) // SMALL[kind])
    if size * max(inside.shape) < 8 * factor:  # too small a window to be seen on that copy
        factor = max(1, int(size * max(inside.shape) / 8))
    weight = inside.astype(np.float32)
    shape = (-(-inside.shape[1] // factor), -(-inside.shape[0] // factor))  # x y
    held = np.asarray(cv2.resize(weight, shape, interpolation=cv2.INTER_AREA), np.float32)
    width = float(np.ptp(np.flatnonzero(held.max(axis=0) > 0.5))) + 1 if (held > 0.5).any() else float(shape[0])
    result = np.empty_like(values)
    for channel in range(values.shape[-1]):
        small = cv2.resize(values[..., channel] * weight, shape, interpolation=cv2.INTER_AREA)
        slow = _slow(np.asarray(small, np.float32), held, size * width, kind)
        result[..., channel] = cv2.resize(slow, weight.shape[::-1], interpolation=cv2.INTER_CUBIC)
    return result


def _slow(small: Floats, held: Floats, width: float, kind: str) -> Floats:
    if kind == "gaussian":
        above, below = (ndimage.gaussian_filter(part, width / 2) for part in (small, held))
        return np.asarray(above / np.maximum(below, 1e-4), np.float32)
    # outside takes the nearest value inside, so that windows at the rim see no black
    nearest = ndimage.distance_transform_edt(held < 0.5, return_distances=False, return_indices=True)
    filled = (small / np.maximum(held, 0.5))[tuple(nearest)]
    return np.asarray(ndimage.median_filter(filled, max(3, round(width))), np.float32)


def _levels(values: Floats, top: float, equalise: cv2.CLAHE) -> Floats:
    """CLAHE on 16-bit levels of values in 0..top."""
    levels = np.clip(values / top * 65535, 0, 65535).astype(np.uint16)
    return np.asarray(equalise.apply(levels) / 65535 * top, np.float32)


def _parts(image: sitk.Image, field: Field | None) -> tuple[Floats, Bools]:
    """Values (Y, X, C) and the field (Y, X); everywhere where there is none."""
    values = sitk.GetArrayFromImage(image).astype(np.float32)
    if image.GetNumberOfComponentsPerPixel() == 1:
        values = values[..., None]
    inside = np.ones(values.shape[:-1], np.bool_)
    if field is not None:
        found = sitk.GetArrayFromImage(field(image)) > 0
        inside = found if found.any() else inside
    return values, inside


def _whole(values: Floats, inside: Bools, image: sitk.Image) -> sitk.Image:
    values = np.clip(values, 0, 1) * inside[..., None]
    vector = image.GetNumberOfComponentsPerPixel() > 1
    made = sitk.GetImageFromArray((values if vector else values[..., 0]).astype(np.float32), isVector=vector)
    made.CopyInformation(image)
    return made
