"""Post-processing: no structure outside the field of view."""

from __future__ import annotations

from collections.abc import Callable

import SimpleITK as sitk

Finder = Callable[[sitk.Image], sitk.Image]


class WithinField:
    """Remove every label outside the field of view that `field` finds in the image: the body, a fundus, echoes.

    Give it before a step that keeps the largest component, which air around the body may otherwise be.
    """

    def __init__(self, field: Finder) -> None:
        self.field = field

    def __call__(self, mask: sitk.Image, image: sitk.Image) -> sitk.Image:
        """Mask and the raw image on its grid → mask. An empty field removes nothing."""
        if not sitk.GetArrayViewFromImage(mask).any():
            return sitk.Image(mask)
        field = self.field(image)
        if not sitk.GetArrayViewFromImage(field).any():
            return sitk.Image(mask)
        field.CopyInformation(mask)  # the grids are equal up to rounding
        return sitk.Mask(mask, field)
