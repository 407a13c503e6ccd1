"""What the headers of DICOM image files say, frame by frame, and whether their pixels are all there.

Read by pydicom without the pixels. No message holds anything about the patient: a value of the header is never quoted.
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
# they hold pixels, but none that a scanner took: nothing to segment
DERIVED = (SegmentationStorage, ParametricMapStorage, RTDoseStorage)
# what may tell time points of one place apart, the surest first
MOMENTS = (
    "TemporalPositionIdentifier", "TemporalPositionIndex", "NominalPercentageOfCardiacPhase", "TriggerTime",
    "FrameReferenceTime", "AcquisitionNumber", "AcquisitionTime",
)  # fmt: skip
CONTRASTS = ("ImageType", "EchoTime", "DiffusionBValue", "ConvolutionKernel", "KVP")  # images of another look
TAGS = [
    "SOPClassUID", "SOPInstanceUID", "SeriesInstanceUID", "FrameOfReferenceUID", "SeriesNumber", "SeriesDescription",
    "Modality", "Rows", "Columns", "NumberOfFrames", "SamplesPerPixel", "PhotometricInterpretation", "BitsAllocated",
    "BitsStored",
    "PixelRepresentation", "PixelPaddingValue", "PixelPaddingRangeLimit", "ImagePositionPatient",
    "ImageOrientationPatient", "PixelSpacing", "SliceThickness", "SpacingBetweenSlices", "RescaleSlope",
    "RescaleIntercept", "SharedFunctionalGroupsSequence", "PerFrameFunctionalGroupsSequence", *MOMENTS, *CONTRASTS,
]  # fmt: skip

logging.getLogger("pydicom").setLevel(logging.CRITICAL)  # its warnings quote header values, names among them

BROKEN = (  # what pydicom raises on garbage
    InvalidDicomError, BytesLengthException, ValueError, TypeError, KeyError, AttributeError, NotImplementedError,
    IndexError,
)  # fmt: skip


@dataclass(frozen=True)
class SliceHeader:
    """What the header says of one image; the vectors are empty where it is silent."""

    path: Path
    start: int  # bytes of the header
    syntax: str  # how the pixels are coded, in words
    instance: str
    series: str
    space: str  # UID of the frame of reference
    modality: str
    facts: str  # of its series, for one who has to choose: no free text, which may name the patient
    size: tuple[int, int]  # rows, columns
    frames: int  # held by this entry: more than one where nothing tells their places
    index: int | None  # of the frame within its file, None where the file is one image
    position: tuple[float, ...]  # mm, centre of the first pixel
    orientation: tuple[float, ...]  # direction of the rows, then of the columns
    spacing: tuple[float, ...]  # mm, between rows, between columns
    thickness: float  # mm, to the next slice; 0 unknown
    rescale: tuple[float, float] | None  # slope, intercept; None where not stated
    stored: tuple[int, int, bool]  # bits allocated, bits stored, signed
    inverse: bool  # MONOCHROME1: the lowest value is white
    padding: tuple[float, float] | None  # stored values from .. to that are no image
    localizer: bool
    moments: tuple[str, ...]  # by MOMENTS; blank where not stated
    contrast: tuple[str, ...]  # by CONTRASTS

    @property
    def name(self) -> str:
        """Of its series, for messages: the UID, unless some other text stands in its place."""
        return self.series if is_uid(self.series) else "(no UID)"


def is_uid(text: str) -> bool:
    """Whether it is made of what a UID is made of, and so tells of nobody. pydicom's own check quotes it."""
    return re.fullmatch(r"[0-9.]{1,64}", text) is not None


def holds_dicom(paths: Iterable[Path]) -> bool:
    """Whether one of `paths` is a DICOM image; stops at the first. A broken one counts, so that it gets reported."""
    for path in paths:
        try:
            if may_be_dicom(path) and read_header(path):
                return True
        except ImageError:
            return True
        except OSError:  # not ours to read; reading the folder will say so
            continue
    return False


def may_be_dicom(path: Path) -> bool:
    """A DICOM file by its magic, or by its suffix; a DICOMDIR is only a table of contents."""
    if path.name == "DICOMDIR" or not path.is_file():
        return False
    return path.suffix.lower() == ".dcm" or is_dicom(path)


def read_header(path: Path) -> tuple[SliceHeader, ...]:
    """The images of a file, none for other DICOM objects (contours, reports, masks). Raises ImageError if broken."""
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
            f"{path}: is no readable DICOM file ({type(error).__name__}); export it again or move it away",
            code="image-unreadable",
        ) from None  # the cause may quote the header


def _frames(path: Path, start: int, data: pydicom.Dataset) -> tuple[SliceHeader, ...]:
    """One entry for the file, or one for each frame of an enhanced image, whose places are stated one by one."""
    groups = data.get("PerFrameFunctionalGroupsSequence") or []
    count = int(data.get("NumberOfFrames") or 1)
    if not groups:
        return (_slice(path, start, data, None, count),)
    if len(groups) != count:
        raise ValueError("as many groups as frames")
    shared = _flat((data.get("SharedFunctionalGroupsSequence") or [pydicom.Dataset()])[0])
    frames = []
    for index, group in enumerate(groups):
        whole = pydicom.Dataset()
        whole.file_meta = data.file_meta
        for part in (data, shared, _flat(group)):  # the nearest one to the frame has the last word
            whole.update({element.tag: element for element in part if element.VR != "SQ"})
        frames.append(_slice(path, start, whole, index, 1))
    return tuple(frames)


def _flat(group: pydicom.Dataset) -> pydicom.Dataset:
    """The attributes of a functional group, whatever macro holds them."""
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
    """Number, kernel and phase of a series. Of its description only a percentage is taken: the rest is free text."""
    words = str(data.get("SeriesDescription") or "").split()
    kernel = data.get("ConvolutionKernel")
    facts = [
        f"number {int(data.SeriesNumber)}" if data.get("SeriesNumber") is not None else "",
        f"kernel {kernel}" if isinstance(kernel, str) and kernel else "",
        *(f"phase {word}" for word in words if word.endswith("%") and word[:-1].replace(".", "", 1).isdecimal()),
    ]
    return ", ".join(fact for fact in facts if fact)


def _check_pixels(file: BinaryIO, data: pydicom.Dataset) -> bool:
    """Whether the file, read up to its pixels, has any. Raises Short where their end is missing (PS3.5, A.4)."""
    size, start = size_of(file), file.tell()
    syntax = data.file_meta.get("TransferSyntaxUID")
    if syntax == DeflatedExplicitVRLittleEndian:  # the header is compressed too, and was inflated as a whole
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
    """Bytes that the pixels fill where they are not compressed: GDCM would fill what is missing with zeros."""

    def number(name: str, default: int) -> int:
        value: Any = data.get(name)
        return int(value or default)

    samples = 2 if str(data.get("PhotometricInterpretation")).endswith("422") else number("SamplesPerPixel", 1)
    pixels = int(data.Rows) * int(data.Columns) * number("NumberOfFrames", 1)
    return pixels * samples * number("BitsAllocated", 8) // 8
