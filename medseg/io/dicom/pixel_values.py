"""What stored DICOM values mean: HU by slope and intercept, white by photometric interpretation, padding.

Values that measure something (HU) stay as they are, however they are to be shown. Of all others more is brighter, so
that MONOCHROME1 is turned round.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import SimpleITK as sitk

from medseg.io.dicom.header import SliceHeader
from medseg.io.geometry import from_array

PHYSICAL = ("CT", "PT")  # HU, activity: low is not bright because a display shows it so


def rescaled(stored: Sequence[npt.NDArray[Any]], slices: Sequence[SliceHeader]) -> sitk.Image:
    """Stored values (Y, X) of each slice as an image of physical ones, in the index space."""
    array = np.empty((len(stored), *slices[0].size), np.float32)  # (Z, Y, X)
    for place, (values, item) in enumerate(zip(stored, slices, strict=True)):
        array[place] = _turned(values.astype(np.float64), item) if item.inverse and not _physical(item) else values
        slope, intercept = item.rescale or (1.0, 0.0)
        array[place] = array[place] * slope + intercept
    _clear_padding(array, slices)
    if all(not value % 1 for item in slices for value in item.rescale or ()) and np.abs(array).max() < 2**24:
        return sitk.GetImageFromArray(array.astype(np.int32))
    return sitk.GetImageFromArray(array)


def mended(image: sitk.Image, slices: Sequence[SliceHeader]) -> sitk.Image:
    """What GDCM read of slices, (X, Y, Z) in physical values, with padding cleared and HU not turned round."""
    wrong = any((item.inverse and _physical(item)) or item.padding for item in slices)
    if image.GetNumberOfComponentsPerPixel() > 1 or not wrong:
        return image
    array = sitk.GetArrayFromImage(image)  # (Z, Y, X)
    for part, item in _parts(array, slices):
        if item.inverse and _physical(item):  # GDCM turns stored values before it rescales them
            slope, intercept = item.rescale or (1.0, 0.0)
            part[...] = sum(_range(item)) * slope + 2 * intercept - part.astype(np.float64)
    _clear_padding(array, slices)
    return from_array(array, image)


def _parts(array: npt.NDArray[Any], slices: Sequence[SliceHeader]) -> Iterator[tuple[npt.NDArray[Any], SliceHeader]]:
    """A view of each slice's pixels; of a film, one entry with many frames, a view of all."""
    return zip([array] if len(slices) == 1 else array, slices, strict=True)


def _physical(item: SliceHeader) -> bool:
    return item.modality in PHYSICAL


def _range(item: SliceHeader) -> tuple[int, int]:
    """The lowest and highest value that a pixel can store."""
    bits, signed = item.stored[1], item.stored[2]
    return (-(1 << (bits - 1)), (1 << (bits - 1)) - 1) if signed else (0, (1 << bits) - 1)


def _turned(values: npt.NDArray[Any], item: SliceHeader) -> npt.NDArray[Any]:
    turned: npt.NDArray[Any] = sum(_range(item)) - values
    return turned


def _clear_padding(array: npt.NDArray[Any], slices: Sequence[SliceHeader]) -> None:
    """Set pixels outside of what was scanned to the lowest value that was.

    Only where they lie beyond all other values, as the standard wants: some devices state a value that tissue has too.
    """
    padded = np.zeros(array.shape, np.bool_)
    for (part, item), (inside, _) in zip(_parts(array, slices), _parts(padded, slices), strict=True):
        if item.padding is None:
            continue
        ends = np.array(item.padding)
        if item.inverse and not _physical(item):
            ends = _turned(ends, item)
        slope, intercept = item.rescale or (1.0, 0.0)
        low, high = sorted(ends * slope + intercept)
        slack = 1e-3 * abs(slope)  # of rounding to float32
        inside[...] = (part >= low - slack) & (part <= high + slack)
    if not padded.any() or padded.all():
        return
    scanned = array[~padded]
    if array[padded].max() < scanned.min() or array[padded].min() > scanned.max():
        array[padded] = scanned.min()
