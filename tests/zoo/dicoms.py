"""DICOM: folders of one series, and what hospitals and discs put into such folders."""

from __future__ import annotations

import io
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pydicom
from PIL import Image
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.encaps import encapsulate
from pydicom.uid import (
    MPEG2MPML,
    UID,
    BasicTextSRStorage,
    CTImageStorage,
    DeflatedExplicitVRLittleEndian,
    ExplicitVRBigEndian,
    ExplicitVRLittleEndian,
    ImplicitVRLittleEndian,
    JPEG2000Lossless,
    JPEGBaseline8Bit,
    JPEGLSLossless,
    MediaStorageDirectoryStorage,
    RLELossless,
    SecondaryCaptureImageStorage,
)

from medseg.typing import AnyArray
from tests.zoo.kind import ANY, PICTURE, SPACING, VOLUME, Make, Specimen

Change = Callable[[list[Dataset]], object]
ROOT = "1.2.826.0.1.3680043.8.498."
STORED = (VOLUME + 1024).astype(np.uint16)  # with slope 1 and intercept −1024


def part(number: int, array: AnyArray = STORED, series: str = "1") -> Dataset:
    """One slice of the volume."""
    data = Dataset()
    data.file_meta = FileMetaDataset()
    data.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    data.file_meta.MediaStorageSOPClassUID = data.SOPClassUID = CTImageStorage
    data.SOPInstanceUID = data.file_meta.MediaStorageSOPInstanceUID = f"{ROOT}{series}.{number + 1}"
    data.SeriesInstanceUID, data.StudyInstanceUID = ROOT + series, ROOT + "9"
    data.PatientName, data.PatientID, data.Modality = "Zoo^Animal", "Z1", "CT"
    data.Rows, data.Columns = array.shape[1:3]
    data.SamplesPerPixel, data.PhotometricInterpretation, data.PixelRepresentation = 1, "MONOCHROME2", 0
    data.BitsAllocated = data.BitsStored = 16
    data.HighBit = 15
    data.ImageOrientationPatient, data.PixelSpacing = [1, 0, 0, 0, 1, 0], [SPACING[1], SPACING[0]]
    data.ImagePositionPatient, data.SliceThickness = [0, 0, number * SPACING[2]], SPACING[2]
    data.RescaleSlope, data.RescaleIntercept = 1, -1024
    data.PixelData = array[number].tobytes()
    return data


def folder(*changes: Change, syntax: str = ExplicitVRLittleEndian, series: str = "1") -> Make:
    """A maker of a folder with all slices of the volume, changed as a list."""

    def make(path: Path) -> None:
        path.mkdir(exist_ok=True)
        slices = [part(number, series=series) for number in range(len(STORED))]
        for change in changes:
            change(slices)
        for place, data in enumerate(slices):
            _write(data, path / f"{series}-{place:03d}.dcm", UID(syntax))

    return make


def _write(data: Dataset, path: Path, syntax: UID) -> None:
    if data.file_meta.TransferSyntaxUID != ExplicitVRLittleEndian:
        data.save_as(path, enforce_file_format=True)  # somebody chose before
    elif syntax in (RLELossless, JPEGLSLossless):
        data.compress(syntax, generate_instance_uid=False)
        data.save_as(path, enforce_file_format=True)
    elif syntax == ExplicitVRBigEndian:
        data.PixelData = np.frombuffer(data.PixelData, "<u2").astype(">u2").tobytes()
        data.file_meta.TransferSyntaxUID = syntax
        pydicom.dcmwrite(path, data, implicit_vr=False, little_endian=False, enforce_file_format=True)
    elif syntax == JPEG2000Lossless:
        stream = io.BytesIO()
        picture = Image.fromarray(np.frombuffer(data.PixelData, "<u2").reshape(data.Rows, data.Columns))
        picture.save(stream, "JPEG2000", no_jp2=True, irreversible=False)
        data.PixelData = encapsulate([stream.getvalue()])
        data["PixelData"].VR, data["PixelData"].is_undefined_length = "OB", True
        data.file_meta.TransferSyntaxUID = syntax
        data.save_as(path, enforce_file_format=True)
    else:
        if syntax == MPEG2MPML:
            data.PixelData = encapsulate([bytes(400)])
        data.file_meta.TransferSyntaxUID = syntax
        data.save_as(path, enforce_file_format=True)


def each(**values: Any) -> Change:
    """Give every slice these values; None takes the entry away."""

    def change(slices: list[Dataset]) -> None:
        for data in slices:
            for name, value in values.items():
                if value is None:
                    del data[name]
                else:
                    setattr(data, name, value)

    return change


def one(number: int, **values: Any) -> Change:
    """Give one slice these values."""
    return lambda slices: each(**values)(slices[number : number + 1])


def colour(slices: list[Dataset], count: int = 1, jpeg: bool = False) -> None:
    """Secondary captures instead: photographs of a screen, without a position."""
    del slices[:]
    for number in range(count):
        data = part(number)
        data.Modality = "OT"
        data.file_meta.MediaStorageSOPClassUID = data.SOPClassUID = SecondaryCaptureImageStorage
        for name in (
            "ImagePositionPatient",
            "ImageOrientationPatient",
            "PixelSpacing",
            "RescaleSlope",
            "RescaleIntercept",
        ):
            del data[name]
        data.Rows, data.Columns = PICTURE.shape[:2]
        data.SamplesPerPixel, data.PhotometricInterpretation, data.PlanarConfiguration = 3, "RGB", 0
        data.BitsAllocated = data.BitsStored = 8
        data.HighBit, data.PixelData = 7, PICTURE.tobytes()
        if jpeg:
            stream = io.BytesIO()
            Image.fromarray(PICTURE).save(stream, "JPEG", quality=95, subsampling=0)
            data.PhotometricInterpretation, data.PixelData = "YBR_FULL", encapsulate([stream.getvalue()])
            data["PixelData"].VR, data["PixelData"].is_undefined_length = "OB", True
            data.file_meta.TransferSyntaxUID = JPEGBaseline8Bit
        slices.append(data)


def report(slices: list[Dataset]) -> None:
    """A structured report among the slices: no image, nobody's fault."""
    data = part(0, series="1.99")
    data.file_meta.MediaStorageSOPClassUID = data.SOPClassUID = BasicTextSRStorage
    for name in ("PixelData", "Rows", "Columns", "ImagePositionPatient"):
        del data[name]
    slices.append(data)


def localizer(slices: list[Dataset]) -> None:
    """A scout view of the same series, at a right angle."""
    data = part(0)
    data.SOPInstanceUID = data.file_meta.MediaStorageSOPInstanceUID = ROOT + "1.500"
    data.ImageOrientationPatient, data.ImageType = [1, 0, 0, 0, 0, -1], ["ORIGINAL", "PRIMARY", "LOCALIZER"]
    slices.append(data)


def uneven(slices: list[Dataset]) -> None:
    for number, data in enumerate(slices):
        data.ImagePositionPatient = [0, 0, number * 12 + (7 if number > 4 else 0)]


def tilted(slices: list[Dataset]) -> None:
    for number, data in enumerate(slices):
        data.ImagePositionPatient = [0, number * 5, number * 12]


def twice(slices: list[Dataset]) -> None:
    """The same slice, exported twice under two names."""
    slices.append(part(3))


def again(slices: list[Dataset]) -> None:
    """A second time point in the same series."""
    for number in range(len(STORED)):
        data = part(number)
        data.SOPInstanceUID = data.file_meta.MediaStorageSOPInstanceUID = f"{ROOT}1.{200 + number}"
        slices.append(data)


def also(make: Make, name: str, content: bytes) -> Make:
    """A maker that puts a file beside the slices."""

    def more(path: Path) -> None:
        make(path)
        (path / name).write_bytes(content)

    return more


def spoilt(length: int | float, syntax: str = ExplicitVRLittleEndian) -> Make:
    """A maker that cuts the fourth slice."""

    def make(path: Path) -> None:
        folder(syntax=syntax)(path)
        file = path / "1-003.dcm"
        content = file.read_bytes()
        file.write_bytes(content[: int(length * len(content)) if isinstance(length, float) else length])

    return make


def contents(path: Path) -> None:
    """A folder with nothing but a DICOMDIR."""
    path.mkdir()
    data = Dataset()
    data.file_meta = FileMetaDataset()
    data.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    data.file_meta.MediaStorageSOPClassUID = MediaStorageDirectoryStorage
    data.file_meta.MediaStorageSOPInstanceUID = ROOT + "77"
    data.FileSetID = "ZOO"
    data.save_as(path / "DICOMDIR", enforce_file_format=True)


def two_series(path: Path) -> None:
    folder()(path)
    folder(series="2")(path)


SYNTAXES = {
    "implicit": ImplicitVRLittleEndian,
    "rle": RLELossless,
    "jpeg-ls": JPEGLSLossless,
    "jpeg-2000": JPEG2000Lossless,
    "big-endian": ExplicitVRBigEndian,
    "deflated": DeflatedExplicitVRLittleEndian,
}
RIGHT = [
    Specimen(name, make, pixels=pixels)
    for name, (make, pixels) in {
        "good-ct": (folder(), VOLUME),
        **{f"syntax-{name}": (folder(syntax=syntax), VOLUME) for name, syntax in SYNTAXES.items()},
        "backwards": (folder(list.reverse), VOLUME),
        "same-slice-twice": (folder(twice), VOLUME),
        "with-report": (folder(report), VOLUME),
        "with-localizer": (folder(localizer), VOLUME),
        "with-dicomdir": (also(folder(), "DICOMDIR", b"table of contents"), VOLUME),
        "with-notes": (also(folder(), "notes.txt", b"words"), VOLUME),
        "latin-name": (folder(each(SpecificCharacterSet="ISO_IR 100", PatientName="Müller^Zoë")), VOLUME),
    }.items()
]
ERRORS = [
    Specimen(name, make, code)
    for name, (make, code) in {
        "missing-slice": (folder(lambda slices: slices.pop(4)), "dicom-spacing"),
        "uneven": (folder(uneven), "dicom-spacing"),
        "time-points": (folder(again), "dicom-spacing"),
        "tilted": (folder(tilted), "dicom-tilt"),
        "no-spacing": (folder(each(PixelSpacing=None)), "dicom-pixel-spacing"),
        "no-rescale": (folder(each(RescaleSlope=None, RescaleIntercept=None)), "dicom-rescale"),
        "localizer-alone": (folder(lambda s: (s.clear(), localizer(s))), "dicom-localizer"),
        "two-series": (two_series, "dicom-several-series"),
        "other-size": (folder(one(2, Rows=18, PixelData=STORED[2, :18].tobytes())), "dicom-mixed"),
        "no-position": (folder(each(ImagePositionPatient=None)), "dicom-position"),
        "captures": (folder(lambda s: colour(s, 3)), "dicom-position"),
        "empty-file": (also(folder(), "1-099.dcm", b""), "image-empty"),
        "text-file": (also(folder(), "1-099.dcm", b"these are words\n" * 30), "image-unreadable"),
        "cut-head": (spoilt(200), "image-truncated"),
        "cut-middle": (spoilt(0.5), "image-truncated"),
        "cut-byte": (spoilt(-1), "image-truncated"),
        "cut-rle": (spoilt(-30, RLELossless), "image-truncated"),
        "film": (folder(each(), syntax=MPEG2MPML), "image-unreadable"),
        "claims-rows": (folder(each(Rows=60_000, Columns=60_000)), "image-truncated"),
        "zero-rows": (folder(each(Rows=0)), "image-unreadable"),
        "space-zero": (folder(each(PixelSpacing=[0, 0])), "dicom-pixel-spacing"),
        "space-negative": (folder(each(PixelSpacing=[-8, 8])), "dicom-pixel-spacing"),
        "no-axes": (folder(each(ImageOrientationPatient=[0] * 6)), "dicom-position"),
        "same-axes": (folder(each(ImageOrientationPatient=[1, 0, 0] * 2)), "dicom-position"),
    }.items()
]
ODD = [
    Specimen("only-dicomdir", contents, "dicom-none", alone=True),
    Specimen("capture", folder(colour), refused="image-channels"),
    Specimen("capture-jpeg", folder(lambda s: colour(s, jpeg=True)), refused="image-channels"),
    Specimen("two-slopes", folder(one(4, RescaleSlope=2, RescaleIntercept=-1024)), mask=ANY),
]
