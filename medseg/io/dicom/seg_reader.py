"""Read a DICOM Segmentation back as a label map on the grid of the image it was made of."""

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
    """The numbers of the segments, as uint8, on the grid of `image` (X, Y, Z); frames that are left out are background.

    Raises ImageError: mask-grid where frames lie elsewhere, mask-values where segments overlap, and image-empty,
    image-truncated, image-unreadable.
    """
    read_header(path)  # says what is wrong with a broken file
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # they quote header values
            data = pydicom.dcmread(path)
            if data.SOPClassUID != SegmentationStorage or data.SegmentationType != "BINARY":
                raise ValueError("a binary segmentation")
            frames: npt.NDArray[np.uint8] = data.pixel_array.reshape(-1, data.Rows, data.Columns)  # (F, Y, X)
            groups = data.PerFrameFunctionalGroupsSequence
            places = [_place(path, data, group, image) for group in groups]
            numbers = [int(group.SegmentIdentificationSequence[0].ReferencedSegmentNumber) for group in groups]
            if max(numbers) > 255:
                raise ValueError("numbers of labels")
    except (*BROKEN, RuntimeError) as error:
        raise ImageError(
            f"{path}: is no DICOM SEG of binary segments that can be read ({type(error).__name__}); segment again",
            code="image-unreadable",
        ) from None  # the cause may quote the header
    array = np.zeros(image.GetSize()[::-1], np.uint8)  # (Z, Y, X)
    for frame, place, number in zip(frames, places, numbers, strict=True):
        if (array[place][frame > 0] > 0).any():
            raise ImageError(
                f"{path}: holds segments that overlap, which one label map cannot; segment again into NIfTI, which "
                "gives a file for each label",
                code="mask-values",
                hint="output_format=nifti",
            )
        array[place][frame > 0] = number
    return from_array(array, image)


def _place(path: Path, data: pydicom.Dataset, group: pydicom.Dataset, image: sitk.Image) -> int:
    """The slice of the image that a frame lies on; raises mask-grid where it lies on none."""
    shared = data.SharedFunctionalGroupsSequence[0]
    rows, columns = np.reshape(shared.PlaneOrientationSequence[0].ImageOrientationPatient, (2, 3)).astype(float)
    down, across = map(float, shared.PixelMeasuresSequence[0].PixelSpacing)
    first = np.array(group.PlanePositionSequence[0].ImagePositionPatient, float)
    last = first + (data.Columns - 1) * across * rows + (data.Rows - 1) * down * columns
    found = [image.TransformPhysicalPointToContinuousIndex(corner.tolist()) for corner in (first, last)]
    height: int = round(found[0][2])
    width, depth, count = image.GetSize()
    wanted = [(0, 0, height), (width - 1, depth - 1, height)]
    inside = (width, depth) == (data.Columns, data.Rows) and 0 <= height < count
    if not (inside and np.allclose(found, wanted, atol=NEAR)):
        raise ImageError(f"{path}: has frames that lie on no slice of its image; segment again", code="mask-grid")
    return height
