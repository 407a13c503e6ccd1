"""Convert stored DICOM values: HU by slope and intercept, photometric interpretation, padding.

Physical values (HU) stay, however they are to be displayed. In all others larger is brighter, so that MONOCHROME1 is
inverted.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import SimpleITK as sitk

from medseg.io.dicom.header import SliceHeader
from medseg.io.geometry import from_array

PHYSICAL = ("CT", "PT")  # HU, activity: not inverted for display


def rescaled(stored: Sequence[npt.NDArray[Any]], slices: Sequence[SliceHeader]) -> sitk.Image:
    """Convert stored values (Y, X) of each slice to an image of physical values, in index space."""
    array = np.empty((len(stored), *slices[0].size), np.float32)  # (Z, Y, X)
    for z, (values, item) in enumerate(zip(stored, slices, strict=True)):
        array[z] = _inverted(values.astype(np.float64), item) if item.inverse and not _physical(item) else values
        slope, intercept = item.rescale or (1.0, 0.0)
        array[z] = array[z] * slope + intercept
    _clear_padding(array, slices)
    if all(not value % 1 for item in slices for value in item.rescale or ()) and np.abs(array).max() < 2**24:
        return sitk.GetImageFromArray(array.astype(np.int32))
    return sitk.GetImageFromArray(array)


def corrected(image: sitk.Image, slices: Sequence[SliceHeader]) -> sitk.Image:
    """Correct GDCM's image of slices, (X, Y, Z) in physical values: padding is cleared, HU are not inverted."""
    incorrect = any((item.inverse and _physical(item)) or item.padding for item in slices)
    if image.GetNumberOfComponentsPerPixel() > 1 or not incorrect:
        return image
    array = sitk.GetArrayFromImage(image)  # (Z, Y, X)
    for pixels, item in _pixels_by_slice(array, slices):
        if item.inverse and _physical(item):  # GDCM inverts stored values before it rescales them
            slope, intercept = item.rescale or (1.0, 0.0)
            pixels[...] = sum(_range(item)) * slope + 2 * intercept - pixels.astype(np.float64)
    _clear_padding(array, slices)
    return from_array(array, image)


def _pixels_by_slice(
    array: npt.NDArray[Any], slices: Sequence[SliceHeader]
) -> Iterator[tuple[npt.NDArray[Any], SliceHeader]]:
    """A view of each slice's pixels; of a cine, one entry with many frames, a view of all."""
    return zip([array] if len(slices) == 1 else array, slices, strict=True)


def _physical(item: SliceHeader) -> bool:
    return item.modality in PHYSICAL


def _range(item: SliceHeader) -> tuple[int, int]:
    """Lowest and highest value that a pixel can store."""
    bits, signed = item.stored[1], item.stored[2]
    return (-(1 << (bits - 1)), (1 << (bits - 1)) - 1) if signed else (0, (1 << bits) - 1)


def _inverted(values: npt.NDArray[Any], item: SliceHeader) -> npt.NDArray[Any]:
    inverted: npt.NDArray[Any] = sum(_range(item)) - values
    return inverted


def _clear_padding(array: npt.NDArray[Any], slices: Sequence[SliceHeader]) -> None:
    """Set padding pixels to the lowest scanned value.

    Only if padding is beyond all other values, as the standard demands: some devices state a value of tissue.
    """
    padded = np.zeros(array.shape, np.bool_)
    for (pixels, item), (padding, _) in zip(
        _pixels_by_slice(array, slices), _pixels_by_slice(padded, slices), strict=True
    ):
        if item.padding is None:
            continue
        ends = np.array(item.padding)
        if item.inverse and not _physical(item):
            ends = _inverted(ends, item)
        slope, intercept = item.rescale or (1.0, 0.0)
        low, high = sorted(ends * slope + intercept)
        slack = 1e-3 * abs(slope)  # rounding to float32
        padding[...] = (pixels >= low - slack) & (pixels <= high + slack)
    if not padded.any() or padded.all():
        return
    scanned = array[~padded]
    if array[padded].max() < scanned.min() or array[padded].min() > scanned.max():
        array[padded] = scanned.min()
