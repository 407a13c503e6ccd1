"""Read a DICOM Segmentation as a label map on the grid of its source image."""

from __future__ import annotations

import warnings
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pydicom
import SimpleITK as sitk
from pydicom.uid import SegmentationStorage

from medseg.errors import ImageError
from medseg.io.dicom.header import BROKEN, read_header
from medseg.io.geometry import from_array

NEAR = 0.01  # voxels; positions are written with ten digits


def read_seg(path: Path, image: sitk.Image) -> sitk.Image:
    """Read the segment numbers as uint8 on the grid of `image` (X, Y, Z); missing frames are background.

    Raises ImageError: mask-grid if frames are on another grid, mask-values if segments overlap, and image-empty,
    image-truncated, image-unreadable.
    """
    read_header(path)  # raises the error of a broken file
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # they quote header values
            data = pydicom.dcmread(path)
            if data.SOPClassUID != SegmentationStorage or data.SegmentationType != "BINARY":
                raise ValueError("a binary segmentation")
            frames: npt.NDArray[np.uint8] = data.pixel_array.reshape(-1, data.Rows, data.Columns)  # (F, Y, X)
            groups = data.PerFrameFunctionalGroupsSequence
            slice_indices = [_slice_index(path, data, group, image) for group in groups]
            numbers = [int(group.SegmentIdentificationSequence[0].ReferencedSegmentNumber) for group in groups]
            if max(numbers) > 255:
                raise ValueError("numbers of labels")
    except (*BROKEN, RuntimeError) as error:
        raise ImageError(
            f"{path}: is not a readable binary DICOM SEG ({type(error).__name__}); segment again",
            code="image-unreadable",
        ) from None  # the cause may quote the header
    array = np.zeros(image.GetSize()[::-1], np.uint8)  # (Z, Y, X)
    for frame, z, number in zip(frames, slice_indices, numbers, strict=True):
        if (array[z][frame > 0] > 0).any():
            raise ImageError(
                f"{path}: has overlapping segments, which a label map cannot store; segment again into NIfTI, "
                "with one file per label",
                code="mask-values",
                hint="output_format=nifti",
            )
        array[z][frame > 0] = number
    return from_array(array, image)


def _slice_index(path: Path, data: pydicom.Dataset, group: pydicom.Dataset, image: sitk.Image) -> int:
    """Index of the image's slice that a frame lies on; raises mask-grid if it lies on none."""
    shared = data.SharedFunctionalGroupsSequence[0]
    rows, columns = np.reshape(shared.PlaneOrientationSequence[0].ImageOrientationPatient, (2, 3)).astype(float)
    down, across = map(float, shared.PixelMeasuresSequence[0].PixelSpacing)
    first = np.array(group.PlanePositionSequence[0].ImagePositionPatient, float)
    last = first + (data.Columns - 1) * across * rows + (data.Rows - 1) * down * columns
    indices = [image.TransformPhysicalPointToContinuousIndex(corner.tolist()) for corner in (first, last)]
    height: int = round(indices[0][2])
    width, depth, count = image.GetSize()
    expected = [(0, 0, height), (width - 1, depth - 1, height)]
    inside = (width, depth) == (data.Columns, data.Rows) and 0 <= height < count
    if not (inside and np.allclose(indices, expected, atol=NEAR)):
        raise ImageError(f"{path}: has frames outside the slices of its image; segment again", code="mask-grid")
    return height
