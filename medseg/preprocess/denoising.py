"""Noise filters: median, non-local means, and two for speckle, which grows with the signal: Lee's and SRAD.

Images may be grey or colour, of any range; slices of a volume are filtered one by one unless a step states otherwise.
Beyond the border the nearest pixel is repeated.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import SimpleITK as sitk
from scipy import ndimage
from skimage.restoration import denoise_nl_means

from medseg.errors import ImageError
from medseg.preprocess.intensity import like_image
from medseg.typing import FloatArray

NORMAL = 0.6745  # median of |x| where x is normal with standard deviation 1
NEIGHBOURS = 2.2  # median q² of speckle whose pixels are independent, over its squared coefficient of variation


class Median:
    """The median of a square of 2·`radius` + 1 pixels in plane, with `across` of a cube (Tukey 1977): removes
    outlier pixels and keeps straight edges. Colour channels are filtered one by one."""

    def __init__(self, radius: int = 1, across: bool = False) -> None:
        if radius < 1:
            raise ValueError(f"radius {radius}: must be at least 1 pixel")
        self.radius, self.across = int(radius), across

    def __call__(self, image: sitk.Image) -> sitk.Image:
        """Image → image of the same grid and pixel type."""
        radius = [self.radius, self.radius, self.radius if self.across else 0][: image.GetDimension()]
        count = image.GetNumberOfComponentsPerPixel()
        if count == 1:
            return sitk.Median(image, radius)
        channels = [sitk.Median(sitk.VectorIndexSelectionCast(image, channel), radius) for channel in range(count)]
        return sitk.Compose(channels)


class NonLocalMeans:
    """Means over pixels with similar neighbourhoods (Buades, Coll and Morel 2005), for additive noise.

    A pixel weighs exp(−(d² − 2σ²)₊ / h²), where d² is the mean squared difference of two squares of `patch` pixels and
    h = `strength` · σ; pixels up to `distance` away are compared. σ is estimated for each plane from its diagonal Haar
    details (Donoho 1995): median |detail| / 0.6745, without those that are 0. Colours are compared together. Time grows
    with the square of `distance`.
    """

    def __init__(self, strength: float = 0.8, patch: int = 5, distance: int = 6) -> None:
        if strength <= 0 or patch < 1 or patch % 2 == 0 or distance < 1:
            raise ValueError(
                f"strength={strength}, patch={patch}, distance={distance}: strength must be above 0, patch odd, "
                "distance at least 1 pixel"
            )
        self.strength, self.patch, self.distance = float(strength), int(patch), int(distance)

    def __call__(self, image: sitk.Image) -> sitk.Image:
        """Image of any range → 32-bit image of the same grid and range; a plane without noise is unchanged."""
        return _by_plane(image, self._filter)

    def _filter(self, plane: FloatArray) -> FloatArray:
        sigma = noise_level(plane)
        if sigma == 0:
            return plane
        denoised = denoise_nl_means(
            plane, patch_size=self.patch, patch_distance=self.distance, h=self.strength * sigma, sigma=sigma,
            fast_mode=True, preserve_range=True, channel_axis=-1,
        )  # fmt: skip
        return np.asarray(denoised).reshape(plane.shape)  # the axis of a single channel is dropped


class Lee:
    """Lee's filter for speckle (Lee 1980, IEEE PAMI 2(2):165): shrinks to the local mean where speckle dominates.

    z = x·v with mean(v) = 1 and var(v) = 1 / `looks`. With the mean m and variance s² of a square of 2·`radius` + 1
    pixels, Q = (s² + m²) / (1 + var(v)) − m² is the variance of x, and x̂ = m + Q / (Q + m²·var(v)) · (z − m). Without
    `looks`, var(v) is the median of s² / m², since most squares lie inside one tissue.
    """

    def __init__(self, radius: int = 2, looks: float | None = None) -> None:
        if radius < 1 or (looks is not None and looks <= 0):
            raise ValueError(f"radius={radius}, looks={looks}: radius must be at least 1 pixel, looks above 0 or null")
        self.radius, self.looks = int(radius), looks

    def __call__(self, image: sitk.Image) -> sitk.Image:
        """Image of values from 0 → 32-bit image of the same grid; ImageError (image-negative) for others."""
        _need_positive(image, "Lee")
        return _by_plane(image, _by_channel(self._filter))

    def _filter(self, plane: FloatArray) -> FloatArray:
        side = 2 * self.radius + 1
        mean = ndimage.uniform_filter(plane, side, mode="nearest")
        variance = np.maximum(ndimage.uniform_filter(plane**2, side, mode="nearest") - mean**2, 0)
        speckle = 1 / self.looks if self.looks is not None else _typical(variance, mean**2)
        signal = np.maximum((variance + mean**2) / (1 + speckle) - mean**2, 0)  # Q
        share = np.divide(signal, signal + mean**2 * speckle, out=np.zeros_like(plane), where=signal > 0)
        return np.asarray(mean + share * (plane - mean))


class Srad:
    """Speckle reducing anisotropic diffusion (Yu and Acton 2002, IEEE TIP 11(11):1260).

    I ← I + `rate`/4 · div(c(q) ∇I), `steps` times. q² = (½ g − l²/16) / (1 + l/4)² is the instantaneous coefficient of
    variation, g the sum of the squared and l that of the differences to the four neighbours, over I² and I.
    c = 1 / (1 + (q² − q₀²) / (q₀² (1 + q₀²))), at most 1, is small where the image varies more than its speckle:
    q₀ = `speckle`·exp(−t/6), t = step · `rate`. `speckle` is standard deviation over mean in even tissue; null: the
    root of median(q²) / 2.2, since the median of q² is 2.2 times that squared where pixels are independent (the paper
    measures it in a manual region).
    """

    DECAY = 1 / 6  # of q₀ per unit of t: the paper's ρ

    def __init__(self, steps: int = 40, rate: float = 0.2, speckle: float | None = None) -> None:
        if steps < 1 or not 0 < rate <= 1 or (speckle is not None and speckle <= 0):
            raise ValueError(
                f"steps={steps}, rate={rate}, speckle={speckle}: steps must be at least 1, rate above 0 and at most 1 "
                "(beyond, diffusion is unstable), speckle above 0 or null"
            )
        self.steps, self.rate, self.speckle = int(steps), float(rate), speckle

    def __call__(self, image: sitk.Image) -> sitk.Image:
        """Image of values from 0 → 32-bit image of the same grid; ImageError (image-negative) for others."""
        _need_positive(image, "Srad")
        return _by_plane(image, _by_channel(self._diffuse))

    def _diffuse(self, plane: FloatArray) -> FloatArray:
        floor = 1e-3 * float(plane.mean())  # avoids division by 0 in black
        if floor == 0:
            return plane
        values, start = plane + floor, None if self.speckle is None else self.speckle**2
        for step in range(self.steps):
            north, south, west, east = _differences(values)
            squares = (north**2 + south**2 + west**2 + east**2) / values**2  # g
            laplace = (north + south + west + east) / values  # l, at least −4
            varied = np.maximum(squares / 2 - laplace**2 / 16, 0) / np.maximum(1 + laplace / 4, 1e-3) ** 2  # q²
            start = _typical(varied, np.ones_like(varied)) / NEIGHBOURS if start is None else start
            level = max(start * np.exp(-2 * self.DECAY * step * self.rate), 1e-12)  # q₀²
            allowed = 1 / (1 + np.maximum(varied - level, 0) / (level * (1 + level)))  # c
            below, right = np.roll(allowed, -1, 0), np.roll(allowed, -1, 1)  # wrapped values meet a difference of 0
            values = values + self.rate / 4 * (allowed * (north + west) + below * south + right * east)
        return np.asarray(values - floor)


def noise_level(plane: FloatArray) -> float:
    """Standard deviation of noise in values (Y, X, C), the mean over channels; 0 if neighbours are nearly equal."""
    rows, columns = (size // 2 * 2 for size in plane.shape[:2])
    block = plane[:rows, :columns]
    detail = (block[::2, ::2] - block[1::2, ::2] - block[::2, 1::2] + block[1::2, 1::2]) / 2  # (Y/2, X/2, C)
    flat = 1e-9 * max(float(np.abs(plane).max()), 1e-30)
    details = [values[np.abs(values) > flat] for values in np.moveaxis(detail, -1, 0)]
    return float(np.mean([np.median(np.abs(values)) / NORMAL if values.size else 0.0 for values in details]))


def _typical(numerator: FloatArray, denominator: FloatArray) -> float:
    """Median of the ratio where both are above 0; 0 if they never are."""
    usable = (numerator > 1e-12 * denominator) & (denominator > 0)
    return float(np.median(numerator[usable] / denominator[usable])) if usable.any() else 0.0


def _differences(values: FloatArray) -> tuple[FloatArray, FloatArray, FloatArray, FloatArray]:
    """Differences to the neighbours above, below, left and right (Y, X); 0 at the border."""
    down, right = np.zeros_like(values), np.zeros_like(values)
    down[:-1], right[:, :-1] = np.diff(values, axis=0), np.diff(values, axis=1)
    return -np.roll(down, 1, 0), down, -np.roll(right, 1, 1), right


def _by_channel(change: Callable[[FloatArray], FloatArray]) -> Callable[[FloatArray], FloatArray]:
    """Apply a function of (Y, X) to each channel of (Y, X, C)."""
    return lambda plane: np.stack([change(plane[..., channel]) for channel in range(plane.shape[-1])], axis=-1)


def _by_plane(image: sitk.Image, change: Callable[[FloatArray], FloatArray]) -> sitk.Image:
    """Apply `change` to each plane (Y, X, C) of an image; a 32-bit image on its grid."""
    values = sitk.GetArrayViewFromImage(image)  # ([Z,] Y, X[, C])
    colours = image.GetNumberOfComponentsPerPixel()
    planes = values.reshape(-1, *image.GetSize()[1::-1], colours)  # (Z, Y, X, C)
    changed = np.empty(planes.shape, np.float32)
    for target, plane in zip(changed, planes, strict=True):
        target[:] = change(plane.astype(np.float64))
    return like_image(changed.reshape(values.shape), image)


def _need_positive(image: sitk.Image, step: str) -> None:
    lowest = float(sitk.GetArrayViewFromImage(image).min())
    if lowest < 0:
        raise ImageError(
            f"has negative values ({lowest:g}); {step} is for multiplicative speckle of values from 0: "
            "put Photo or Percentiles before this step, or remove it",
            code="image-negative",
        )
