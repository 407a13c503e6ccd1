"""Read the headers of DICOM image files frame by frame, and check that the pixels are complete.

pydicom reads them without pixels. Messages never quote header values, which may hold patient data.
"""

from __future__ import annotations

import logging
import re
import struct
import warnings
import zlib
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

import pydicom
from pydicom.errors import BytesLengthException, InvalidDicomError
from pydicom.misc import is_dicom
from pydicom.uid import (
    UID,
    DeflatedExplicitVRLittleEndian,
    ParametricMapStorage,
    RTDoseStorage,
    SegmentationStorage,
)

from medseg.errors import ImageError
from medseg.io.integrity.photo import TruncatedFile, require, size_of
from medseg.io.integrity.verify import truncated

UNDEFINED = 0xFFFFFFFF  # length of compressed pixel data
SEQUENCE_END = (0xFFFE, 0xE0DD)
# they have pixels, but none acquired by a scanner: nothing to segment
DERIVED = (SegmentationStorage, ParametricMapStorage, RTDoseStorage)
# tags that may distinguish time points at one position, most reliable first
MOMENTS = (
    "TemporalPositionIdentifier", "TemporalPositionIndex", "NominalPercentageOfCardiacPhase", "TriggerTime",
    "FrameReferenceTime", "AcquisitionNumber", "AcquisitionTime",
)  # fmt: skip
CONTRASTS = ("ImageType", "EchoTime", "DiffusionBValue", "ConvolutionKernel", "KVP")  # images of different contrast
TAGS = [
    "SOPClassUID", "SOPInstanceUID", "SeriesInstanceUID", "FrameOfReferenceUID", "SeriesNumber", "SeriesDescription",
    "Modality", "Rows", "Columns", "NumberOfFrames", "SamplesPerPixel", "PhotometricInterpretation", "BitsAllocated",
    "BitsStored",
    "PixelRepresentation", "PixelPaddingValue", "PixelPaddingRangeLimit", "ImagePositionPatient",
    "ImageOrientationPatient", "PixelSpacing", "SliceThickness", "SpacingBetweenSlices", "RescaleSlope",
    "RescaleIntercept", "SharedFunctionalGroupsSequence", "PerFrameFunctionalGroupsSequence", *MOMENTS, *CONTRASTS,
]  # fmt: skip

logging.getLogger("pydicom").setLevel(logging.CRITICAL)  # its warnings quote header values, names among them

BROKEN = (  # errors of pydicom on invalid files
    InvalidDicomError, BytesLengthException, ValueError, TypeError, KeyError, AttributeError, NotImplementedError,
    IndexError,
)  # fmt: skip


@dataclass(frozen=True)
class SliceHeader:
    """The header of one image; vectors are empty if a tag is missing."""

    path: Path
    start: int  # bytes of the header
    syntax: str  # name of the transfer syntax
    instance: str
    series: str
    space: str  # UID of the frame of reference
    modality: str
    facts: str  # description of its series for the user's choice; without free text, which may name the patient
    size: tuple[int, int]  # rows, columns
    frames: int  # in this entry; more than one if their positions are unknown
    index: int | None  # of the frame in its file, None if the file is one image
    position: tuple[float, ...]  # mm, centre of the first pixel
    orientation: tuple[float, ...]  # direction of the rows, then of the columns
    spacing: tuple[float, ...]  # mm, between rows, between columns
    thickness: float  # mm, to the next slice; 0 unknown
    rescale: tuple[float, float] | None  # slope, intercept; None if missing
    stored: tuple[int, int, bool]  # bits allocated, bits stored, signed
    inverse: bool  # MONOCHROME1: the lowest value is white
    padding: tuple[float, float] | None  # range of stored values outside the image
    localizer: bool
    moments: tuple[str, ...]  # by MOMENTS; blank if missing
    contrast: tuple[str, ...]  # by CONTRASTS

    @property
    def name(self) -> str:
        """The series UID for messages; replaced if it is not a valid UID."""
        return self.series if is_uid(self.series) else "(no UID)"


def is_uid(text: str) -> bool:
    """Return True for a valid UID; other text could hold patient data. (pydicom's own check quotes the text.)"""
    return re.fullmatch(r"[0-9.]{1,64}", text) is not None


def holds_dicom(paths: Iterable[Path]) -> bool:
    """Return whether any of `paths` is a DICOM image; broken ones count, so that they are reported."""
    for path in paths:
        try:
            if may_be_dicom(path) and read_header(path):
                return True
        except ImageError:
            return True
        except OSError:  # not readable; reading the folder gives the error
            continue
    return False


def may_be_dicom(path: Path) -> bool:
    """Return whether magic or suffix are DICOM's; a DICOMDIR is only a table of contents."""
    if path.name == "DICOMDIR" or not path.is_file():
        return False
    return path.suffix.lower() == ".dcm" or is_dicom(path)


def read_header(path: Path) -> tuple[SliceHeader, ...]:
    """Read the images of a file, none of other DICOM objects (contours, masks). Raises ImageError if broken."""
    try:
        with path.open("rb") as file, warnings.catch_warnings():
            warnings.simplefilter("ignore")  # they quote header values
            if size_of(file) == 0:
                raise ImageError(f"{path}: the file is empty (0 bytes); copy it again", code="image-empty")
            data = pydicom.dcmread(file, stop_before_pixels=True, specific_tags=list(TAGS))
            start = file.tell()
            if not _check_pixels(file, data) or data.get("SOPClassUID") in DERIVED:
                return ()
            return _frames(path, start, data)
    except TruncatedFile as short:
        truncated(path, short)
    except (EOFError, struct.error, zlib.error):
        size = path.stat().st_size
        truncated(path, TruncatedFile(size + 1, size, " in its header"))
    except BROKEN as error:
        raise ImageError(
            f"{path}: is not a readable DICOM file ({type(error).__name__}); export it again or move it away",
            code="image-unreadable",
        ) from None  # the cause may quote the header


def _frames(path: Path, start: int, data: pydicom.Dataset) -> tuple[SliceHeader, ...]:
    """One entry for the file, or one for each frame of an enhanced image, with its own position."""
    groups = data.get("PerFrameFunctionalGroupsSequence") or []
    count = int(data.get("NumberOfFrames") or 1)
    if not groups:
        return (_slice(path, start, data, None, count),)
    if len(groups) != count:
        raise ValueError("as many groups as frames")
    shared = _flat((data.get("SharedFunctionalGroupsSequence") or [pydicom.Dataset()])[0])
    frames = []
    for index, group in enumerate(groups):
        merged = pydicom.Dataset()
        merged.file_meta = data.file_meta
        for source in (data, shared, _flat(group)):  # the most specific one wins
            merged.update({element.tag: element for element in source if element.VR != "SQ"})
        frames.append(_slice(path, start, merged, index, 1))
    return tuple(frames)


def _flat(group: pydicom.Dataset) -> pydicom.Dataset:
    """The attributes of a functional group, from all its macros."""
    flat = pydicom.Dataset()
    for macro in group:
        for item in macro.value if macro.VR == "SQ" and not macro.tag.is_private else []:
            flat.update({element.tag: element for element in item if element.keyword in TAGS})
    return flat


def _slice(path: Path, start: int, data: pydicom.Dataset, index: int | None, frames: int) -> SliceHeader:
    def text(name: str) -> str:
        return str("" if data.get(name) is None else data.get(name))

    def numbers(name: str) -> tuple[float, ...]:
        return tuple(float(value) for value in data.get(name) or ())

    syntax = UID(data.file_meta.TransferSyntaxUID)
    signed = int(data.get("PixelRepresentation") or 0) == 1
    allocated = int(data.get("BitsAllocated") or 0)
    return SliceHeader(
        path=path,
        start=start,
        syntax=syntax.name if syntax.is_valid else "unknown",
        instance=text("SOPInstanceUID") or str(path),
        series=text("SeriesInstanceUID"),
        space=text("FrameOfReferenceUID"),
        modality=text("Modality") if re.fullmatch("[A-Z]{2,8}", text("Modality")) else "",
        facts=_facts(data),
        size=(int(data.Rows), int(data.Columns)),
        frames=frames,
        index=index,
        position=numbers("ImagePositionPatient"),
        orientation=numbers("ImageOrientationPatient"),
        spacing=numbers("PixelSpacing"),
        thickness=float(text("SpacingBetweenSlices") or text("SliceThickness") or 0),
        rescale=_pair(text("RescaleSlope"), text("RescaleIntercept")),
        stored=(allocated, int(data.get("BitsStored") or allocated), signed),
        inverse=text("PhotometricInterpretation") == "MONOCHROME1",
        padding=_pair(text("PixelPaddingValue"), text("PixelPaddingRangeLimit") or text("PixelPaddingValue")),
        localizer="LOCALIZER" in str(data.get("ImageType")),
        moments=tuple(text(name) for name in MOMENTS),
        contrast=tuple(text(name) for name in CONTRASTS),
    )


def _pair(first: str, second: str) -> tuple[float, float] | None:
    return (float(first), float(second)) if first and second else None


def _facts(data: pydicom.Dataset) -> str:
    """Number, kernel and phase of a series. From its description only a percentage: the rest is free text."""
    words = str(data.get("SeriesDescription") or "").split()
    kernel = data.get("ConvolutionKernel")
    facts = [
        f"number {int(data.SeriesNumber)}" if data.get("SeriesNumber") is not None else "",
        f"kernel {kernel}" if isinstance(kernel, str) and kernel else "",
        *(f"phase {word}" for word in words if word.endswith("%") and word[:-1].replace(".", "", 1).isdecimal()),
    ]
    return ", ".join(fact for fact in facts if fact)


def _check_pixels(file: BinaryIO, data: pydicom.Dataset) -> bool:
    """Return whether the file, read up to its pixels, has any. Raises TruncatedFile if they are cut (PS3.5, A.4)."""
    size, start = size_of(file), file.tell()
    syntax = data.file_meta.get("TransferSyntaxUID")
    if syntax == DeflatedExplicitVRLittleEndian:  # the header is compressed too, and was fully inflated
        return "Rows" in data
    if start >= size or "Rows" not in data:
        kind = data.file_meta.get("MediaStorageSOPClassUID")
        if kind is None or UID(kind).name.endswith("Image Storage"):
            raise TruncatedFile(max(start, size) + 1, size, " before its pixels")
        return False
    syntax = data.file_meta.TransferSyntaxUID
    order = "<" if syntax.is_little_endian else ">"
    layout = order + ("4xI" if syntax.is_implicit_VR else "8xI")  # tag [, type], length
    file.seek(start)
    end = start + struct.calcsize(layout)
    require(end, size)
    (length,) = struct.unpack(layout, file.read(end - start))
    if length != UNDEFINED:
        require(end + length, size)
        require(_native_length(data), length, " in its pixels")
        return True
    item = (0, 0)
    while item != SEQUENCE_END:
        file.seek(end)
        require(end + 8, size)
        *tag, length = struct.unpack("<HHI", file.read(8))
        item, end = (tag[0], tag[1]), end + 8 + length
    return True


def _native_length(data: pydicom.Dataset) -> int:
    """Length of the pixels in bytes if not compressed: GDCM would fill missing ones with zeros."""

    def number(name: str, default: int) -> int:
        value: Any = data.get(name)
        return int(value or default)

    samples = 2 if str(data.get("PhotometricInterpretation")).endswith("422") else number("SamplesPerPixel", 1)
    pixels = int(data.Rows) * int(data.Columns) * number("NumberOfFrames", 1)
    return pixels * samples * number("BitsAllocated", 8) // 8
