"""Colour of photographs: colour constancy, selection of a channel or grey, CIE Lab.

Images are RGB in 0..1, 32-bit float, of three components.
"""

from __future__ import annotations

from collections.abc import Callable

import cv2
import numpy as np
import SimpleITK as sitk

from medseg.errors import ImageError
from medseg.preprocess.intensity import like_image
from medseg.typing import Float32Array

cv2.setNumThreads(0)  # its pool conflicts with torch's

CHANNELS = ("red", "green", "blue")
LUMA = (0.299, 0.587, 0.114)  # ITU-R BT.601, the grey of JPEG


class ShadesOfGrey:
    """Colour constancy: divides each channel by its share of the light, so that grey objects are grey under any lamp.

    The light is the Minkowski mean of each channel inside the field, (mean Iᵖ)^(1/p): p = 1 is grey world, a large p
    white patch; 6 was best on photographs (Finlayson and Trezzi 2004) and helps on dermoscopy (Barata et al. 2015).
    """

    def __init__(self, p: float = 6.0, field: Callable[[sitk.Image], sitk.Image] | None = None) -> None:
        if p < 1:
            raise ValueError(f"p {p}: must be at least 1")
        self.p, self.field = float(p), field

    def __call__(self, image: sitk.Image) -> sitk.Image:
        """RGB in 0..1 → RGB in 0..1 of the same overall brightness; values above 1 are clipped."""
        values = rgb(image, "ShadesOfGrey")
        inside = values.reshape(-1, 3)  # (N, 3)
        if self.field is not None:
            mask = sitk.GetArrayFromImage(self.field(image)) > 0
            inside = values[mask] if mask.any() else inside
        light = np.mean(inside.astype(np.float64) ** self.p, axis=0) ** (1 / self.p)  # (3,)
        if light.min() <= 0:  # a channel without light cannot be balanced
            return like_image(values, image)
        return like_image(np.clip(values * (light.mean() / light).astype(np.float32), 0, 1), image)


class Channel:
    """One channel of a colour image, by name (red, green, blue) or index from 0. Green shows retinal vessels best."""

    def __init__(self, channel: str | int) -> None:
        if channel not in CHANNELS and (isinstance(channel, str) or channel < 0):
            raise ValueError(f"channel {channel!r}: must be one of {', '.join(CHANNELS)}, or an index from 0")
        self.index = CHANNELS.index(channel) if isinstance(channel, str) else int(channel)

    def __call__(self, image: sitk.Image) -> sitk.Image:
        """Vector image → scalar image of one component; raises `ImageError` if it has no such component."""
        count = image.GetNumberOfComponentsPerPixel()
        if count == 1 or self.index >= count:
            raise ImageError(
                f"has {count} channels, this step needs channel {self.index}: read it in colour, or remove the step",
                code="image-channels",
            )
        return sitk.VectorIndexSelectionCast(image, self.index)


class ToGrey:
    """Luma of a colour image (ITU-R BT.601); grey is unchanged."""

    def __call__(self, image: sitk.Image) -> sitk.Image:
        """RGB or grey → 32-bit float scalar image."""
        if image.GetNumberOfComponentsPerPixel() == 1:
            return sitk.Cast(image, sitk.sitkFloat32)
        return like_image(rgb(image, "ToGrey") @ np.array(LUMA, np.float32), image)


def rgb(image: sitk.Image, step: str) -> Float32Array:
    """Values (…, 3) of a colour image; raises `ImageError` unless it has three components."""
    count = image.GetNumberOfComponentsPerPixel()
    if count != 3:
        raise ImageError(
            f"{step} needs 3 colour components, this image has {count}: read it in colour, or remove the step",
            code="image-channels",
        )
    return np.asarray(sitk.GetArrayFromImage(image), np.float32)


def to_lab(values: Float32Array) -> Float32Array:
    """sRGB (Y, X, 3) in 0..1 → CIE Lab under D65: L in 0..100, a and b about −110..110."""
    return np.asarray(cv2.cvtColor(np.ascontiguousarray(values), cv2.COLOR_RGB2LAB), np.float32)


def from_lab(lab: Float32Array) -> Float32Array:
    """CIE Lab (Y, X, 3) → sRGB in 0..1; colours that sRGB cannot show are clipped."""
    return np.asarray(np.clip(cv2.cvtColor(np.ascontiguousarray(lab), cv2.COLOR_LAB2RGB), 0, 1), np.float32)
