"""Read one DICOM series from a folder: slices in the order of their positions, CT in HU, geometry checked.

Headers are read by pydicom without their pixels, pixels by SimpleITK (GDCM), those of enhanced images by pydicom.
Slices that do not form one regular volume, or one per time point, are an error.
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
from medseg.io.dicom.pixel_values import corrected, rescaled
from medseg.io.dicom.stack import SliceStack, group_slices, refuse

__all__ = ["holds_dicom", "read_series", "series_stacks"]

MEASURED = ("CT",)  # modalities whose values need rescaling


def read_series(folder: Path, series: str | None = None) -> sitk.Image:
    """Read the only series of `folder`, or the one with SeriesInstanceUID `series`: 3D, or 4D with time points.

    Raises ImageError: dicom-none, dicom-several-series, dicom-series (no such one), dicom-localizer, dicom-mixed,
    dicom-position, dicom-pixel-spacing, dicom-spacing, dicom-tilt, dicom-rescale, image-empty, image-truncated,
    image-unreadable.
    """
    slices = _series(folder, series)
    _require_rescaling(folder, slices)
    if len(slices) == 1 and (
        not slices[0].position or slices[0].frames > 1
    ):  # the positions of a cine's frames are unknown
        return _scanned(folder, slices)
    volumes = [_volume(folder, stack) for stack in group_slices(folder, slices)]
    return volumes[0] if len(volumes) == 1 else sitk.JoinSeries(volumes)


def series_stacks(folder: Path, series: str | None = None) -> list[SliceStack]:
    """The slice stacks of the image that `read_series` returns, one per time point; same errors."""
    return group_slices(folder, _series(folder, series))


def _series(folder: Path, series: str | None) -> list[SliceHeader]:
    files = sorted(path for path in folder.iterdir() if not path.name.startswith(".") and may_be_dicom(path))
    return _choose(folder, _distinct([header for header in map(read_header, files) if header]), series)


def _distinct(files: Sequence[tuple[SliceHeader, ...]]) -> list[SliceHeader]:
    """The images of all files without copies of a file; different images with the same UID are not copies."""
    first_images: dict[tuple[str, tuple[float, ...]], SliceHeader] = {}
    images: list[SliceHeader] = []
    for file_images in files:
        first = first_images.setdefault((file_images[0].instance, file_images[0].position), file_images[0])
        if (
            first is file_images[0]
            or first.path.read_bytes()[first.start :] != file_images[0].path.read_bytes()[file_images[0].start :]
        ):
            images += file_images
    return images


def _choose(folder: Path, slices: list[SliceHeader], series: str | None) -> list[SliceHeader]:
    """The slices of the chosen series, or of the only one; scout views among other series are ignored."""
    if not slices:
        raise ImageError(f"{folder}: has no DICOM images; give the folder of the DICOM files", code="dicom-none")
    groups: dict[str, list[SliceHeader]] = {}
    for item in slices:
        groups.setdefault(item.series, []).append(item)
    if series in groups:
        return [item for item in groups[series] if not item.localizer] or groups[series]
    listed = "\n".join(_describe(group) for _, group in sorted(groups.items()))
    if series is not None:
        message = f"{folder}: has no series {series}; its series by UID:\n{listed}"
        raise ImageError(message, code="dicom-series", hint="series_uid=UID")
    images = [item for item in slices if not item.localizer]
    if not images:
        raise ImageError(
            f"{folder}: has only scout views (localizers); copy the others too, or choose one by its UID:\n{listed}",
            code="dicom-localizer",
            hint="series_uid=UID",
        )
    n_series = len({item.series for item in images})
    if n_series > 1:
        message = f"{folder}: has {n_series} DICOM series; choose one by its UID:\n{listed}"
        raise ImageError(message, code="dicom-several-series", hint="series_uid=UID")
    return images


def _describe(group: list[SliceHeader]) -> str:
    """Describe a series without patient data."""
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
    """Raise dicom-rescale if CT values may not be HU, or if the slope is 0 or not finite."""
    for item in slices:
        if item.rescale is None and item.modality in MEASURED:
            reason = f"{item.path.name} has no rescale slope and intercept, so its values may not be HU; "
            refuse(folder, slices, reason + "export the series again from its source", code="dicom-rescale")
        if item.rescale is not None and not (np.isfinite(item.rescale).all() and item.rescale[0] != 0):
            slope, intercept = item.rescale
            reason = (
                f"{item.path.name} has the invalid rescale slope {slope:g} and intercept {intercept:g}; export again"
            )
            refuse(folder, slices, reason, code="dicom-rescale")


def _volume(folder: Path, stack: SliceStack) -> sitk.Image:
    """Read the image of a stack, with the geometry of its headers."""
    first = stack.slices[0]
    image = _scanned(folder, stack.slices) if first.index is None else _framed(folder, stack.slices)
    rows, columns = np.reshape(first.orientation, (2, 3))
    image.SetDirection(np.stack([rows, columns, stack.normal], axis=1).ravel().tolist())  # one column per axis
    image.SetOrigin(first.position)
    image.SetSpacing((first.spacing[1], first.spacing[0], stack.gap or image.GetSpacing()[2]))
    return image


def _scanned(folder: Path, slices: Sequence[SliceHeader]) -> sitk.Image:
    """Read the pixels of slices with a file each, or of a cine, in physical values."""
    reader = sitk.ImageSeriesReader() if len(slices) > 1 else sitk.ImageFileReader()
    if len(slices) > 1:
        reader.SetFileNames([str(item.path) for item in slices])
    else:
        reader.SetFileName(str(slices[0].path))
    values = {(item.rescale, item.stored) for item in slices}
    if len(values) > 1 or any(value % 1 for value in slices[0].rescale or ()):
        reader.SetOutputPixelType(sitk.sitkFloat32)  # else all slices get the first one's integer type
    try:
        with itk.quiet():
            return corrected(reader.Execute(), slices)
    except RuntimeError:  # ITK's message does not help
        _undecodable(folder, slices)


def _framed(folder: Path, slices: Sequence[SliceHeader]) -> sitk.Image:
    """Read the pixels of frames of enhanced images, in physical values: GDCM ignores the position of each frame."""
    arrays = {}
    for path in {item.path for item in slices}:
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")  # they quote header values
                pixels = pixel_array(path)  # (F, Y, X), (Y, X) where there is one
        except (*BROKEN, RuntimeError, EOFError, struct.error):
            _undecodable(folder, slices)
        if pixels.ndim not in (2, 3):
            refuse(folder, slices, f"{path.name} has colour frames; export it as grey", code="dicom-mixed")
        arrays[path] = pixels[None] if pixels.ndim == 2 else pixels
    return rescaled([arrays[item.path][item.index] for item in slices], slices)


def _undecodable(folder: Path, slices: Sequence[SliceHeader]) -> NoReturn:
    coded = ", ".join(sorted({item.syntax for item in slices}))
    reason = f"its pixels are damaged or their coding ({coded}) is not supported; save it uncompressed first "
    raise ImageError(
        f"{folder}: series {slices[0].name}: {reason}(gdcmconv --raw, dcmconv)", code="image-unreadable"
    ) from None
