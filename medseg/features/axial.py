"""An image and its mask as arrays with anatomical axes, whatever orientation the file has."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import NamedTuple

import cv2
import numpy as np
import pandas as pd
import SimpleITK as sitk

from medseg.errors import ImageError
from medseg.io.geometry import from_array, require_same_grid
from medseg.io.labels import Labels
from medseg.typing import AnyArray, BoolArray, FloatArray


class AxialVolume(NamedTuple):
    """A volume reoriented to LPS: axis 0 runs from inferior to superior.

    values: (Z, Y, X) in the image's unit; mask: (Z, Y, X) labels; spacing: (z, y, x) mm;
    heights: (Z,) mm, the physical superior coordinate of the centre of each slice;
    reference: the reoriented mask image, for positions in all three axes.
    """

    values: AnyArray
    mask: AnyArray
    spacing: tuple[float, float, float]
    heights: FloatArray
    reference: sitk.Image

    @property
    def voxel_ml(self) -> float:
        """Volume of one voxel in mL."""
        return float(np.prod(self.spacing)) / 1000

    @property
    def pixel_mm2(self) -> float:
        """Area of one pixel of an axial slice in mm²."""
        return self.spacing[1] * self.spacing[2]


def axial(image: sitk.Image, mask: sitk.Image) -> AxialVolume:
    """Reorient a volume and its mask to LPS; ImageError (not-a-volume, grid-mismatch)."""
    if image.GetDimension() != 3 or mask.GetDimension() != 3:
        raise ImageError(
            f"these features need a volume and its mask, got {image.GetDimension()}D and {mask.GetDimension()}D; "
            "pass one frame at a time, or use the motion features, which need no mask",
            code="not-a-volume",
        )
    require_same_grid(image, mask)
    turned, reference = sitk.DICOMOrient(image, "LPS"), sitk.DICOMOrient(mask, "LPS")
    width, depth, count = turned.GetSize()
    centre = ((width - 1) / 2, (depth - 1) / 2)
    heights = [turned.TransformContinuousIndexToPhysicalPoint((*centre, float(k)))[2] for k in range(count)]
    x, y, z = turned.GetSpacing()
    return AxialVolume(
        sitk.GetArrayViewFromImage(turned).astype(np.float64),
        sitk.GetArrayFromImage(reference),
        (z, y, x),
        np.asarray(heights),
        reference,
    )


def axial_slices(image: sitk.Image) -> list[sitk.Image]:
    """Return the axial slices of a volume as 2D images, x to the patient's left, y to posterior, inferior first."""
    if image.GetDimension() != 3:
        raise ImageError(
            f"slice features need a volume, got a {image.GetDimension()}D image; choose other features",
            code="not-a-volume",
        )
    turned = sitk.DICOMOrient(image, "LPS")
    return [turned[:, :, number] for number in range(turned.GetSize()[2])]


def step_regions(image: sitk.Image, _mask: sitk.Image | None = None) -> sitk.Image:
    """Label each step of a volume: 1 in its lowest axial slice, 2 in the next; on the image's grid, UInt16."""
    if image.GetDimension() != 3:
        raise ImageError(
            f"slice features need a volume, got a {image.GetDimension()}D image; choose other features",
            code="not-a-volume",
        )
    turned = sitk.DICOMOrient(image, "LPS")
    count = turned.GetSize()[2]
    numbers = np.broadcast_to(np.arange(1, count + 1, dtype=np.uint16)[:, None, None], turned.GetSize()[::-1])
    regions = from_array(np.ascontiguousarray(numbers), turned)
    return sitk.Resample(regions, image, sitk.Transform(), sitk.sitkNearestNeighbor, 0)


def table(
    volume: AxialVolume, labels: Mapping[str, int], measure: Callable[[AnyArray, int], dict[str, float]]
) -> pd.DataFrame:
    """Return one row per slice, inferior to superior: step, position_mm, then ``<label>.<feature>``.

    `measure` takes the label's pixels in the slice as (Y, X) bool and the slice number.
    """
    rows = []
    for step, height in enumerate(volume.heights):
        row: dict[str, float] = {"step": step, "position_mm": float(height)}
        for name, inside in regions(volume.mask[step], labels):
            row |= {f"{name}.{key}": value for key, value in measure(inside, step).items()}
        rows.append(row)
    return pd.DataFrame(rows)


def regions(mask: AnyArray, labels: Mapping[str, int] | Labels) -> Iterator[tuple[str, AnyArray]]:
    """Yield each label's name and its voxels as bool; a plain mapping means labels that do not overlap."""
    coded = labels if isinstance(labels, Labels) else Labels(labels)
    for name in coded.numbers:
        yield name, coded.layer(mask, name)


def diameter(inside: BoolArray) -> float:
    """Largest distance in pixels between two points of a region (Y, X), including the pixels' width."""
    points = cv2.convexHull(np.argwhere(inside).astype(np.int32))[:, 0].astype(np.float64)  # (N, 2)
    return float(np.hypot(*(points[:, None] - points[None]).transpose(2, 0, 1)).max() + 1)
