"""Read one DICOM series from a folder: slices in the order of their positions, CT in HU, geometry checked.

Headers are read by pydicom without their pixels, pixels by SimpleITK (GDCM). What cannot be one regular volume is an
error, not a guess. No message holds anything about the patient.
"""

from __future__ import annotations

import logging
import struct
import warnings
from collections.abc import Iterable
from pathlib import Path
from typing import Any, BinaryIO, NamedTuple

import numpy as np
import numpy.typing as npt
import pydicom
import SimpleITK as sitk
from pydicom.errors import BytesLengthException, InvalidDicomError
from pydicom.misc import is_dicom
from pydicom.uid import UID, DeflatedExplicitVRLittleEndian

from medseg.data import itk
from medseg.data.payload import truncated
from medseg.data.payload_photo import Short, require, size_of
from medseg.errors import ImageError

SPACING_TOLERANCE = 0.1  # of the gap; positions are often rounded to 0.1 mm
DRIFT_TOLERANCE = 0.5  # pixels; how far a stack may lean before straightening it would show
UNDEFINED = 0xFFFFFFFF  # length of compressed pixel data
SEQUENCE_END = (0xFFFE, 0xE0DD)
TAGS = [
    "SOPInstanceUID", "SeriesInstanceUID", "SeriesDescription", "Modality", "Rows", "Columns", "NumberOfFrames",
    "ImagePositionPatient", "ImageOrientationPatient", "PixelSpacing", "RescaleSlope", "RescaleIntercept",
]  # fmt: skip

logging.getLogger("pydicom").setLevel(logging.CRITICAL)  # its warnings quote header values, names among them

_BROKEN = (  # what pydicom raises on garbage
    InvalidDicomError, BytesLengthException, ValueError, TypeError, KeyError, AttributeError, NotImplementedError,
)  # fmt: skip


class Slice(NamedTuple):
    """What the header of one image file says; the vectors are empty where it is silent."""

    path: Path
    instance: str
    series: str
    description: str
    modality: str
    size: tuple[int, int]  # rows, columns
    frames: int
    position: tuple[float, ...]  # mm, centre of the first pixel
    orientation: tuple[float, ...]  # direction of the rows, then of the columns
    spacing: tuple[float, ...]  # mm, between rows, between columns
    rescale: tuple[float, float]  # slope, intercept


def holds_dicom(paths: Iterable[Path]) -> bool:
    """Whether one of `paths` is a DICOM image; stops at the first. A broken one counts, so that it gets reported."""
    for path in paths:
        try:
            if _is_candidate(path) and _read_header(path) is not None:
                return True
        except ImageError:
            return True
        except OSError:  # not ours to read; reading the folder will say so
            continue
    return False


def _is_candidate(path: Path) -> bool:
    """A DICOM file by its magic, or by its suffix; a DICOMDIR is only a table of contents."""
    if path.name == "DICOMDIR" or not path.is_file():
        return False
    return path.suffix.lower() == ".dcm" or is_dicom(path)


def read_series(folder: Path, series: str | None = None) -> sitk.Image:
    """The 3D image of the only series of `folder`, or of the one whose SeriesInstanceUID is `series`.

    Raises ImageError: dicom-none, dicom-several-series, dicom-series (no such one), dicom-mixed, dicom-position,
    dicom-spacing, dicom-tilt, image-empty, image-truncated, image-unreadable; RuntimeError from ITK as it comes.
    """
    files = sorted(path for path in folder.iterdir() if not path.name.startswith(".") and _is_candidate(path))
    headers = [header for header in map(_read_header, files) if header is not None]
    slices = _choose(folder, list({header.instance: header for header in headers}.values()), series)
    if len(slices) == 1:
        with itk.quiet():
            return sitk.ReadImage(str(slices[0].path))
    slices, normal, gap = _stack(folder, slices)
    reader = sitk.ImageSeriesReader()
    reader.SetFileNames([str(item.path) for item in slices])
    rescales = {item.rescale for item in slices}
    if len(rescales) > 1 or any(value % 1 for value in slices[0].rescale):
        reader.SetOutputPixelType(sitk.sitkFloat32)  # else the first slice's integer type would serve all
    with itk.quiet():
        image = reader.Execute()
    direction = np.reshape(image.GetDirection(), (3, 3))  # rows x, y, z; one column an axis
    direction[:, 2] = normal
    image.SetDirection(direction.ravel().tolist())
    image.SetSpacing((*image.GetSpacing()[:2], gap))
    return image


def _read_header(path: Path) -> Slice | None:
    """The header of an image file, None for other DICOM objects (contours, reports). Raises ImageError if broken."""
    try:
        with path.open("rb") as file, warnings.catch_warnings():
            warnings.simplefilter("ignore")  # they quote header values
            if size_of(file) == 0:
                raise ImageError(f"{path}: the file is empty (0 bytes); copy it again", code="image-empty")
            data = pydicom.dcmread(file, stop_before_pixels=True, specific_tags=list(TAGS))
            if not _check_pixels(file, data):
                return None
            return _slice(path, data)
    except Short as short:
        truncated(path, short)
    except (EOFError, struct.error):
        size = path.stat().st_size
        truncated(path, Short(size + 1, size, " in its header"))
    except _BROKEN as error:
        raise ImageError(
            f"{path}: is no readable DICOM file ({type(error).__name__}); export it again or move it away",
            code="image-unreadable",
        ) from None  # the cause may quote the header


def _slice(path: Path, data: pydicom.Dataset) -> Slice:
    def text(name: str) -> str:
        return str(data.get(name) or "")

    def numbers(name: str) -> tuple[float, ...]:
        return tuple(float(value) for value in data.get(name) or ())

    return Slice(
        path=path,
        instance=text("SOPInstanceUID") or str(path),
        series=text("SeriesInstanceUID"),
        description=text("SeriesDescription"),
        modality=text("Modality"),
        size=(int(data.Rows), int(data.Columns)),
        frames=int(data.get("NumberOfFrames") or 1),
        position=numbers("ImagePositionPatient"),
        orientation=numbers("ImageOrientationPatient"),
        spacing=numbers("PixelSpacing"),
        rescale=(float(data.get("RescaleSlope", 1)), float(data.get("RescaleIntercept", 0))),
    )


def _check_pixels(file: BinaryIO, data: pydicom.Dataset) -> bool:
    """Whether the file, read up to its pixels, has any. Raises Short where their end is missing (PS3.5, A.4)."""
    size, start = size_of(file), file.tell()
    if start >= size or "Rows" not in data:
        kind = data.file_meta.get("MediaStorageSOPClassUID")
        if kind is None or UID(kind).name.endswith("Image Storage"):
            raise Short(max(start, size) + 1, size, " before its pixels")
        return False
    syntax = data.file_meta.TransferSyntaxUID
    if syntax == DeflatedExplicitVRLittleEndian:
        return True  # the header is compressed too: GDCM has to find out
    order = "<" if syntax.is_little_endian else ">"
    layout = order + ("4xI" if syntax.is_implicit_VR else "8xI")  # tag [, type], length
    file.seek(start)
    end = start + struct.calcsize(layout)
    require(end, size)
    (length,) = struct.unpack(layout, file.read(end - start))
    if length != UNDEFINED:
        require(end + length, size)
        return True
    item = (0, 0)
    while item != SEQUENCE_END:
        file.seek(end)
        require(end + 8, size)
        *tag, length = struct.unpack("<HHI", file.read(8))
        item, end = (tag[0], tag[1]), end + 8 + length
    return True


def _choose(folder: Path, slices: list[Slice], series: str | None) -> list[Slice]:
    """The slices of the series that is asked for, or of the only one."""
    groups: dict[str, list[Slice]] = {}
    for item in slices:
        groups.setdefault(item.series, []).append(item)
    if not groups:
        raise ImageError(f"{folder}: holds no DICOM images; give the folder that does", code="dicom-none")
    if series in groups:
        return groups[series]
    if series is None and len(groups) == 1:
        return slices
    listed = "\n".join(
        f"  {uid}  {group[0].modality} '{group[0].description}', {sum(item.frames for item in group)} slices, "
        f"{group[0].size[0]}×{group[0].size[1]}"
        for uid, group in sorted(groups.items())
    )
    if series is None:
        message = f"{folder}: holds {len(groups)} DICOM series; choose one by its UID (--series UID):\n{listed}"
        raise ImageError(message, code="dicom-several-series")
    raise ImageError(f"{folder}: holds no series {series}; --series takes one of:\n{listed}", code="dicom-series")


def _stack(folder: Path, slices: list[Slice]) -> tuple[list[Slice], npt.NDArray[Any], float]:
    """Slices in the order of their positions, the unit normal (3,) they are stacked along and their gap in mm."""
    first = slices[0]
    if any(len(item.position) != 3 or len(item.orientation) != 6 for item in slices):
        message = f"{folder}: some slices state no position, so that they cannot be put in order; convert them first"
        raise ImageError(message, code="dicom-position")
    for item in slices:
        alike = item.size == first.size and len(item.spacing) == len(first.spacing) and item.frames == 1
        if not (alike and np.allclose(item.orientation + item.spacing, first.orientation + first.spacing, atol=1e-3)):
            raise ImageError(
                f"{folder}: {item.path.name} differs from {first.path.name} in size, pixel spacing, orientation or "
                "number of frames; move what is not part of the volume (such as a scout view) away",
                code="dicom-mixed",
            )
    normal = np.cross(first.orientation[:3], first.orientation[3:])
    normal /= np.linalg.norm(normal)
    slices = sorted(slices, key=lambda item: float(np.dot(item.position, normal)))
    positions = np.array([item.position for item in slices])  # (N, 3) mm
    heights = positions @ normal  # (N,) mm
    _require_even(folder, heights)
    lean = positions - positions[0] - np.outer(heights - heights[0], normal)  # (N, 3) mm
    drift = np.linalg.norm(lean, axis=1).max()
    if drift > DRIFT_TOLERANCE * min(first.spacing, default=1.0):
        angle = np.degrees(np.arctan2(drift, heights[-1] - heights[0]))
        raise ImageError(
            f"{folder}: the slices lean by {angle:.1f}° ({drift:.1f} mm over the stack; gantry tilt), which no regular "
            "volume can hold; correct the tilt first (dcm2niix does)",
            code="dicom-tilt",
        )
    return slices, normal, float((heights[-1] - heights[0]) / (len(slices) - 1))


def _require_even(folder: Path, heights: npt.NDArray[Any]) -> None:
    """Raise dicom-spacing unless the sorted `heights` (N,) in mm are distinct and evenly spaced."""
    gaps = np.diff(heights)
    usual = float(np.median(gaps))
    repeated = int((gaps < 1e-3).sum())
    if repeated:
        raise ImageError(
            f"{folder}: {repeated} of {len(heights)} slices lie where another one does (several time points or "
            "acquisitions in one series); keep one slice a position in a folder",
            code="dicom-spacing",
        )
    even = np.linspace(heights[0], heights[-1], len(heights))
    if np.abs(heights - even).max() > SPACING_TOLERANCE * (even[1] - even[0]):
        worst = int(np.abs(gaps - usual).argmax())
        raise ImageError(
            f"{folder}: the {len(heights)} slices are not evenly spaced: {gaps[worst]:.2f} mm between the positions "
            f"{heights[worst]:.2f} and {heights[worst + 1]:.2f} mm, elsewhere {usual:.2f} mm; "
            "a slice is missing or the series is mixed: copy it again, or resample it",
            code="dicom-spacing",
        )
