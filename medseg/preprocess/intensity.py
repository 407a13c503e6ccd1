"""Intensities brought to 0..1, the range augmentation and networks work in."""

from __future__ import annotations

import numpy as np
import SimpleITK as sitk


class Window:
    """Clip to `low`..`high` (HU in CT) and scale to 0..1."""

    def __init__(self, low: float, high: float) -> None:
        if not low < high:
            raise ValueError(f"window {low}..{high}: low must be below high")
        self.low, self.high = float(low), float(high)

    def __call__(self, image: sitk.Image) -> sitk.Image:
        """Image of any intensity → 32-bit image in 0..1."""
        return sitk.IntensityWindowing(sitk.Cast(image, sitk.sitkFloat32), self.low, self.high, 0.0, 1.0)


class Percentiles:
    """Clip to two percentiles of the image itself and scale to 0..1; a constant image becomes 0."""

    def __init__(self, low: float = 0.5, high: float = 99.5) -> None:
        if not 0 <= low < high <= 100:
            raise ValueError(f"percentiles {low}..{high}: need 0 <= low < high <= 100")
        self.low, self.high = float(low), float(high)

    def __call__(self, image: sitk.Image) -> sitk.Image:
        """Image of any intensity → 32-bit image in 0..1."""
        low, high = np.percentile(sitk.GetArrayViewFromImage(image), [self.low, self.high])
        if high <= low:
            return sitk.Cast(image, sitk.sitkFloat32) * 0.0
        return Window(float(low), float(high))(image)
