"""Axes and grids. Steps keep physical coordinates, so a result is resampled back onto the input's grid."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import SimpleITK as sitk


class Orient:
    """Reorient a volume to LPS: x to the left, y to the back, z to the head. 2D images are unchanged."""

    def __call__(self, image: sitk.Image) -> sitk.Image:
        """Volume in any axis order or flip → the same voxels in LPS order; oblique volumes to the nearest axes."""
        if image.GetDimension() != 3:
            return image
        axes = sitk.DICOMOrientImageFilter.GetOrientationFromDirectionCosines(image.GetDirection())
        return image if axes == "LPS" else sitk.DICOMOrient(image, "LPS")  # avoids a copy


class SliceAxis:
    """Move the slice axis to the end: the one of the smallest extent in mm, or `axis`.

    A slab is thin across its slices, whatever the header's order. In a volume with similar extents (none is
    below 60 % of the others) z stays the slice axis.
    """

    THIN = 0.6

    def __init__(self, axis: int | None = None) -> None:
        if axis not in (None, 0, 1, 2):
            raise ValueError(f"axis {axis}: must be 0, 1, 2 or null")
        self.axis = axis

    def __call__(self, image: sitk.Image) -> sitk.Image:
        """Volume → the same voxels, axes permuted; 2D images are unchanged."""
        if image.GetDimension() != 3:
            return image
        extents = [size * step for size, step in zip(image.GetSize(), image.GetSpacing(), strict=True)]
        axis = self.axis
        if axis is None:
            axis = extents.index(min(extents))
            if min(extents) > self.THIN * sorted(extents)[1]:
                axis = 2
        return sitk.PermuteAxes(image, [*(i for i in range(3) if i != axis), axis])


class Resample:
    """Resample to a spacing in mm per axis x, y(, z); None keeps an axis unchanged.

    Axes that shrink twofold or more are averaged first (bin shrink), so that noise and thin structures do not alias.
    """

    def __init__(self, spacing: Sequence[float | None]) -> None:
        self.spacing = tuple(spacing)

    def __call__(self, image: sitk.Image) -> sitk.Image:
        """Image → image of the same extent and direction, linear interpolation, 32-bit float."""
        image = as_float(image)
        targets = self.spacing[: image.GetDimension()]
        shrink = [
            max(1, min(size, int(target / spacing_))) if target else 1
            for target, spacing_, size in zip(targets, image.GetSpacing(), image.GetSize(), strict=True)
        ]
        if max(shrink) > 1:
            image = sitk.BinShrink(image, shrink)
        spacing = [target or spacing_ for target, spacing_ in zip(targets, image.GetSpacing(), strict=True)]
        if np.allclose(spacing, image.GetSpacing(), rtol=1e-9, atol=0):
            return image
        return sitk.Resample(image, grid_of(image, spacing), sitk.Transform(), sitk.sitkLinear)


def as_float(image: sitk.Image) -> sitk.Image:
    """The image in 32-bit floats; the same object if it already is, since a cast would copy it."""
    kind = sitk.sitkVectorFloat32 if image.GetNumberOfComponentsPerPixel() > 1 else sitk.sitkFloat32
    return image if image.GetPixelID() == kind else sitk.Cast(image, kind)


def grid_of(image: sitk.Image, spacing: Sequence[float]) -> sitk.Image:
    """An empty image that covers `image`'s extent at another spacing, edges aligned."""
    sizes = [
        max(1, round(size * old / new))
        for size, old, new in zip(image.GetSize(), image.GetSpacing(), spacing, strict=True)
    ]
    # voxel centres: the first one moves in or out by half the change of spacing
    first = [(new / old - 1) / 2 for old, new in zip(image.GetSpacing(), spacing, strict=True)]
    grid = sitk.Image(sizes, sitk.sitkUInt8)
    grid.SetSpacing([float(value) for value in spacing])
    grid.SetDirection(image.GetDirection())
    grid.SetOrigin(image.TransformContinuousIndexToPhysicalPoint(first))
    return grid


def match_mask(mask: sitk.Image, grid: sitk.Image) -> sitk.Image:
    """A mask on the grid of a preprocessed image; outside the mask's extent it is background."""
    return sitk.Resample(mask, grid, sitk.Transform(), sitk.sitkLabelLinear, 0.0, sitk.sitkUInt8)
