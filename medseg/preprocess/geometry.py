"""Axes and grids. Steps keep physical coordinates, so a result is put back by resampling onto the input's own grid."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import SimpleITK as sitk


class Orient:
    """Turn a volume's axes to the patient's: x to the left, y to the back, z to the head (LPS). 2D images stay."""

    def __call__(self, image: sitk.Image) -> sitk.Image:
        """Volume in any axis order or flip → the same voxels in LPS order; oblique volumes to the nearest axes."""
        if image.GetDimension() != 3:
            return image
        axes = sitk.DICOMOrientImageFilter.GetOrientationFromDirectionCosines(image.GetDirection())
        return image if axes == "LPS" else sitk.DICOMOrient(image, "LPS")  # which would copy it


class SliceAxis:
    """Put the axis that slices are stacked along last: the one of the fewest mm in all, or the one that is named.

    A slab is thin across its slices, whatever its header calls that axis. In a volume whose extents are alike (none is
    below 60 % of the others) the patient's z stays.
    """

    THIN = 0.6

    def __init__(self, axis: int | None = None) -> None:
        if axis not in (None, 0, 1, 2):
            raise ValueError(f"axis {axis}: must be 0, 1, 2 or null")
        self.axis = axis

    def __call__(self, image: sitk.Image) -> sitk.Image:
        """Volume → the same voxels, axes permuted; 2D images stay."""
        if image.GetDimension() != 3:
            return image
        extents = [size * step for size, step in zip(image.GetSize(), image.GetSpacing(), strict=True)]
        axis = self.axis
        if axis is None:
            axis = extents.index(min(extents))
            if min(extents) > self.THIN * sorted(extents)[1]:
                axis = 2
        return sitk.PermuteAxes(image, [*(other for other in range(3) if other != axis), axis])


class Resample:
    """Resample to a spacing in mm per axis x, y(, z); None keeps an axis as it is.

    Axes that shrink twofold or more are averaged first (bin shrink), so that noise and thin structures do not alias.
    """

    def __init__(self, spacing: Sequence[float | None]) -> None:
        self.spacing = tuple(spacing)

    def __call__(self, image: sitk.Image) -> sitk.Image:
        """Image → image of the same extent and direction, linear interpolation, 32-bit float."""
        image = as_float(image)
        targets = self.spacing[: image.GetDimension()]
        shrink = [
            max(1, min(size, int(target / own))) if target else 1
            for target, own, size in zip(targets, image.GetSpacing(), image.GetSize(), strict=True)
        ]
        if max(shrink) > 1:
            image = sitk.BinShrink(image, shrink)
        spacing = [target or own for target, own in zip(targets, image.GetSpacing(), strict=True)]
        if np.allclose(spacing, image.GetSpacing(), rtol=1e-9, atol=0):
            return image
        return sitk.Resample(image, grid_of(image, spacing), sitk.Transform(), sitk.sitkLinear)


def as_float(image: sitk.Image) -> sitk.Image:
    """The image in 32-bit floats; itself where it is that already, for a cast copies all the same."""
    kind = sitk.sitkVectorFloat32 if image.GetNumberOfComponentsPerPixel() > 1 else sitk.sitkFloat32
    return image if image.GetPixelID() == kind else sitk.Cast(image, kind)


def grid_of(image: sitk.Image, spacing: Sequence[float]) -> sitk.Image:
    """An empty image that covers `image`'s extent at another spacing, edges aligned."""
    sizes = [
        max(1, round(size * own / new))
        for size, own, new in zip(image.GetSize(), image.GetSpacing(), spacing, strict=True)
    ]
    # voxel centres: the first one moves in or out by half the change of spacing
    first = [(new / own - 1) / 2 for own, new in zip(image.GetSpacing(), spacing, strict=True)]
    grid = sitk.Image(sizes, sitk.sitkUInt8)
    grid.SetSpacing([float(value) for value in spacing])
    grid.SetDirection(image.GetDirection())
    grid.SetOrigin(image.TransformContinuousIndexToPhysicalPoint(first))
    return grid


def match_mask(mask: sitk.Image, grid: sitk.Image) -> sitk.Image:
    """A mask on the grid of a preprocessed image; outside the mask's extent it is background."""
    return sitk.Resample(mask, grid, sitk.Transform(), sitk.sitkLabelLinear, 0.0, sitk.sitkUInt8)
