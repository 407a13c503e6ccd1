"""What a scanner does to an image: coil field, blur, noise, contrast curve, sharpening, limited precision."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from medseg.datasets.synthesis.deformation import Slab, smooth_noise
from medseg.typing import Float32Array

FIELD = (0.0, 0.3)  # standard deviation of the coil field's logarithm
FIELD_MM = (60.0, 140.0)
NOISE = (0.005, 0.07)  # standard deviation, white matter being 1
GAMMA = 0.2  # standard deviation of the exponent's logarithm
BLUR_MM = (0.0, 0.7)  # standard deviation in plane


def scan(signal: Float32Array, slab: Slab, rng: np.random.Generator) -> NDArray[np.int16]:
    """Image (Z, Y, X) of any gain from a noiseless signal (Z, Y, X) in which white matter is about 1."""
    control = tuple(float(rng.uniform(*FIELD_MM)) / d for d in slab.spacing)
    image = signal * np.exp(float(rng.uniform(*FIELD)) * smooth_noise(signal.shape, control, rng))
    blur = float(rng.uniform(*BLUR_MM))
    image = ndimage.gaussian_filter(image, (0, *(blur / d for d in slab.spacing[1:])))
    if rng.random() < 0.25:  # scanners and resampling sharpen edges
        image = image + float(rng.uniform(0.2, 0.8)) * (image - ndimage.gaussian_filter(image, (0, 1, 1)))
    image = _noisy(np.maximum(image, 0), rng)
    top = max(float(np.percentile(image, 99.8)), 1e-6)
    image = np.clip(image / top, 0, 1.3) ** float(np.exp(rng.normal(0, GAMMA)))
    return np.asarray(np.rint(image * float(rng.uniform(200, 2000))), np.int16)


def _noisy(image: Float32Array, rng: np.random.Generator) -> Float32Array:
    """Rician noise, or Gaussian that is cut off at 0; smoothed over neighbours in a third of the cases."""
    spread = float(rng.uniform(*NOISE))
    noise = rng.standard_normal((2, *image.shape)).astype(np.float32)
    if rng.random() < 1 / 3:
        noise = ndimage.gaussian_filter(noise, (0, 0, 0.6, 0.6)) * np.float32(2.0)
    noise *= np.float32(spread)
    if rng.random() < 0.7:
        return np.asarray(np.hypot(image + noise[0], noise[1]), np.float32)
    return np.asarray(np.maximum(image + noise[0], 0), np.float32)
