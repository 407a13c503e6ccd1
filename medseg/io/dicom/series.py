"""Read one DICOM series from a folder: slices in the order of their positions, CT in HU, geometry checked.

Headers are read by pydicom without their pixels, pixels by SimpleITK (GDCM), those of enhanced images by pydicom. What
cannot be one regular volume, or one for each time point, is an error, not a guess.
"""

from __future__ import annotations

import struct
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import NoReturn

import numpy as np
import SimpleITK as sitk
from pydicom.pixels.utils import pixel_array

from medseg.errors import ImageError
from medseg.io import itk
from medseg.io.dicom.header import BROKEN, SliceHeader, holds_dicom, may_be_dicom, read_header
from medseg.io.dicom.pixel_values import mended, rescaled
from medseg.io.dicom.stack import SliceStack, group_slices, refuse

__all__ = ["holds_dicom", "read_series", "series_stacks"]

MEASURED = ("CT",)  # their values mean nothing without rescaling


def read_series(folder: Path, series: str | None = None) -> sitk.Image:
    """The only series of `folder`, or the one whose SeriesInstanceUID is `series`: 3D, or 4D if it has time points.

    Raises ImageError: dicom-none, dicom-several-series, dicom-series (no such one), dicom-localizer, dicom-mixed,
    dicom-position, dicom-pixel-spacing, dicom-spacing, dicom-tilt, dicom-rescale, image-empty, image-truncated,
    image-unreadable.
    """
    slices = _series(folder, series)
    _require_rescaling(folder, slices)
    if len(slices) == 1 and (not slices[0].position or slices[0].frames > 1):  # nothing says where a film's frames lie
        return _scanned(folder, slices)
    volumes = [_volume(folder, stack) for stack in group_slices(folder, slices)]
    return volumes[0] if len(volumes) == 1 else sitk.JoinSeries(volumes)


def series_stacks(folder: Path, series: str | None = None) -> list[SliceStack]:
    """Where the slices of the image that `read_series` gives lie: a stack for each time point; errors alike."""
    return group_slices(folder, _series(folder, series))


def _series(folder: Path, series: str | None) -> list[SliceHeader]:
    files = sorted(path for path in folder.iterdir() if not path.name.startswith(".") and may_be_dicom(path))
    return _choose(folder, _distinct([header for header in map(read_header, files) if header]), series)


def _distinct(files: Sequence[tuple[SliceHeader, ...]]) -> list[SliceHeader]:
    """The images of all files, a copy of a file left out; one UID on different images does not make them copies."""
    seen: dict[tuple[str, tuple[float, ...]], SliceHeader] = {}
    kept: list[SliceHeader] = []
    for images in files:
        first = seen.setdefault((images[0].instance, images[0].position), images[0])
        if (
            first is images[0]
            or first.path.read_bytes()[first.start :] != images[0].path.read_bytes()[images[0].start :]
        ):
            kept += images
    return kept


def _choose(folder: Path, slices: list[SliceHeader], series: str | None) -> list[SliceHeader]:
    """The slices of the series that is asked for, or of the only one; scout views beside others are left out."""
    if not slices:
        raise ImageError(f"{folder}: holds no DICOM images; give the folder that does", code="dicom-none")
    groups: dict[str, list[SliceHeader]] = {}
    for item in slices:
        groups.setdefault(item.series, []).append(item)
    if series in groups:
        return [item for item in groups[series] if not item.localizer] or groups[series]
    listed = "\n".join(_line(group) for _, group in sorted(groups.items()))
    if series is not None:
        message = f"{folder}: holds no series {series}; its series by UID:\n{listed}"
        raise ImageError(message, code="dicom-series", hint="series_uid=UID")
    images = [item for item in slices if not item.localizer]
    if not images:
        raise ImageError(
            f"{folder}: holds scout views (localizers) only, which are no volume; copy the other series too, or "
            f"choose one by its UID:\n{listed}",
            code="dicom-localizer",
            hint="series_uid=UID",
        )
    several = len({item.series for item in images})
    if several > 1:
        message = f"{folder}: holds {several} DICOM series; choose one by its UID:\n{listed}"
        raise ImageError(message, code="dicom-several-series", hint="series_uid=UID")
    return images


def _line(group: list[SliceHeader]) -> str:
    """A series by facts that name no patient."""
    first = group[0]
    facts = [
        first.modality,
        f"{sum(item.frames for item in group)} slices",
        f"{first.size[0]}×{first.size[1]}",
        first.facts,
        "localizer" if first.localizer else "",
    ]
    return f"  {first.name}  {', '.join(fact for fact in facts if fact)}"


def _require_rescaling(folder: Path, slices: Sequence[SliceHeader]) -> None:
    """Raise dicom-rescale where values of CT are not known to be HU, or where a slope would flatten them."""
    for item in slices:
        if item.rescale is None and item.modality in MEASURED:
            why = f"{item.path.name} states no rescale slope and intercept, so that its values are not known to be HU; "
            refuse(folder, slices, why + "export the series again from its source", code="dicom-rescale")
        if item.rescale is not None and not (np.isfinite(item.rescale).all() and item.rescale[0] != 0):
            why = f"{item.path.name} states the rescale slope {item.rescale[0]:g} and intercept {item.rescale[1]:g}, "
            refuse(folder, slices, why + "which leave no image; export it again", code="dicom-rescale")


def _volume(folder: Path, stack: SliceStack) -> sitk.Image:
    """The image of a stack, with the geometry of its headers."""
    first = stack.slices[0]
    image = _scanned(folder, stack.slices) if first.index is None else _framed(folder, stack.slices)
    rows, columns = np.reshape(first.orientation, (2, 3))
    image.SetDirection(np.stack([rows, columns, stack.normal], axis=1).ravel().tolist())  # one column an axis
    image.SetOrigin(first.position)
    image.SetSpacing((first.spacing[1], first.spacing[0], stack.gap or image.GetSpacing()[2]))
    return image


def _scanned(folder: Path, slices: Sequence[SliceHeader]) -> sitk.Image:
    """The pixels of slices that are a file each, or of a film, in physical values."""
    reader = sitk.ImageSeriesReader() if len(slices) > 1 else sitk.ImageFileReader()
    if len(slices) > 1:
        reader.SetFileNames([str(item.path) for item in slices])
    else:
        reader.SetFileName(str(slices[0].path))
    values = {(item.rescale, item.stored) for item in slices}
    if len(values) > 1 or any(value % 1 for value in slices[0].rescale or ()):
        reader.SetOutputPixelType(sitk.sitkFloat32)  # else the first slice's integer type would serve all
    try:
        with itk.quiet():
            return mended(reader.Execute(), slices)
    except RuntimeError:  # of ITK, in words that help nobody
        _undecodable(folder, slices)


def _framed(folder: Path, slices: Sequence[SliceHeader]) -> sitk.Image:
    """The pixels of frames of enhanced images, in physical values: GDCM knows nothing of the place of each frame."""
    arrays = {}
    for path in {item.path for item in slices}:
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")  # they quote header values
                pixels = pixel_array(path)  # (F, Y, X), (Y, X) where there is one
        except (*BROKEN, RuntimeError, EOFError, struct.error):
            _undecodable(folder, slices)
        if pixels.ndim not in (2, 3):
            refuse(folder, slices, f"{path.name} holds frames in colour; export it as grey", code="dicom-mixed")
        arrays[path] = pixels[None] if pixels.ndim == 2 else pixels
    return rescaled([arrays[item.path][item.index] for item in slices], slices)


def _undecodable(folder: Path, slices: Sequence[SliceHeader]) -> NoReturn:
    coded = ", ".join(sorted({item.syntax for item in slices}))
    why = f"its pixels are damaged, or coded ({coded}) in a way that is not read; save it uncompressed first "
    raise ImageError(
        f"{folder}: series {slices[0].name}: {why}(gdcmconv --raw, dcmconv)", code="image-unreadable"
    ) from None
