"""Correction of the smooth bias field of MRI coils."""

from __future__ import annotations

import numpy as np
import SimpleITK as sitk

from medseg.errors import ImageError
from medseg.io.geometry import from_array
from medseg.preprocess.intensity import Field, inside_field

NEGATIVE = 0.01  # maximum fraction of negative voxels in the field (interpolation); above, the image is not raw


class N4:
    """Nonparametric bias field correction (N4, Tustison 2010).

    The field is estimated inside `field` (None: by Otsu's threshold) on every `shrink`-th voxel, with
    `levels` levels of B-splines, each twice as fine as the one before, of at most `iterations` iterations. Its
    logarithm is interpolated to the image's voxels and has mean 0 inside, so that the mean brightness is unchanged.
    """

    def __init__(self, field: Field | None = None, shrink: int = 4, levels: int = 4, iterations: int = 50) -> None:
        if min(shrink, levels, iterations) < 1:
            raise ValueError(f"shrink={shrink}, levels={levels}, iterations={iterations}: each must be at least 1")
        self.field, self.shrink, self.levels, self.iterations = field, shrink, levels, iterations

    def __call__(self, image: sitk.Image) -> sitk.Image:
        """MRI of one channel, 2D or 3D, values from 0 → 32-bit image of the same grid; a constant image is unchanged.

        Raises ImageError: image-channels; image-negative; bias-failed; and those of the field.
        """
        if image.GetNumberOfComponentsPerPixel() > 1:
            raise ImageError("is a colour image; N4 corrects MRI of one channel: remove it", code="image-channels")
        image = sitk.Cast(image, sitk.sitkFloat32)
        array = sitk.GetArrayViewFromImage(image)
        if array.min() == array.max():
            return image
        inside = from_array(inside_field(image, self.field or _bright).astype(np.uint8), image)
        negative = float((array < 0).mean(where=sitk.GetArrayViewFromImage(inside) > 0))
        if negative > NEGATIVE:
            raise ImageError(
                f"{negative:.0%} of its voxels are below 0; N4 needs raw scanner intensities: disable it "
                "(~preprocess.bias) if images are already normalised",
                code="image-negative",
            )
        correction = sitk.Exp(sitk.Resample(-self._log_field(image, inside), image, *_TO_EDGES))
        return image * sitk.Cast(correction, sitk.sitkFloat32)

    def _log_field(self, image: sitk.Image, inside: sitk.Image) -> sitk.Image:
        """Logarithm of the field on a coarse grid with the image's extent, mean 0 inside."""
        steps = [_step(size, self.shrink) for size in image.GetSize()]
        image, inside = sitk.Shrink(sitk.Clamp(image, lowerBound=0.0), steps), sitk.Shrink(inside, steps)
        padding = _thin_axes(image)
        image, inside = (sitk.ConstantPad(volume, padding, padding, 0.0) for volume in (image, inside))
        n4 = sitk.N4BiasFieldCorrectionImageFilter()
        n4.SetMaximumNumberOfIterations([self.iterations] * self.levels)
        try:
            n4.Execute(image, inside)
            log = n4.GetLogBiasFieldAsImage(image)  # on the estimation grid: ITK maps grids by index
        except RuntimeError as error:
            raise ImageError(
                f"N4 failed to estimate a bias field: {error}; disable it (~preprocess.bias)", code="bias-failed"
            ) from error
        log = sitk.Crop(log, padding, padding)
        inside = sitk.Crop(inside, padding, padding)
        return log - float(sitk.GetArrayViewFromImage(log).mean(where=sitk.GetArrayViewFromImage(inside) > 0))


_TO_EDGES = (sitk.Transform(), sitk.sitkLinear, 0.0, sitk.sitkFloat32, True)  # constant beyond the outer centres


def _bright(image: sitk.Image) -> sitk.Image:
    return sitk.OtsuThreshold(image, 0, 1, 200)


def _step(size: int, shrink: int) -> int:
    """Voxels to step over along an axis: at most `shrink`, keeping at least 8 if there are as many."""
    return max(1, min(shrink, size // 8))


def _thin_axes(image: sitk.Image) -> list[int]:
    """Voxels to add on both sides of each axis that is shorter than half of the longest.

    Splines divide each axis into the same number of intervals: a slab 18 mm thick would get intervals of 2 mm,
    and the field would follow tissue. Added voxels lie outside the mask.
    """
    lengths = [size * spacing for size, spacing in zip(image.GetSize(), image.GetSpacing(), strict=True)]
    min_length = max(lengths) / 2
    gaps = [
        max(0.0, min_length - length) / 2 / spacing for length, spacing in zip(lengths, image.GetSpacing(), strict=True)
    ]
    return [int(np.ceil(gap)) for gap in gaps]
