"""DICOM files made tag by tag, with a patient in their headers who must never be heard of again."""

from __future__ import annotations

import io
import zlib
from pathlib import Path

import numpy as np
import pydicom
import SimpleITK as sitk
from PIL import Image
from pydicom.dataset import Dataset, FileDataset, FileMetaDataset
from pydicom.encaps import encapsulate
from pydicom.uid import (
    CTImageStorage,
    EnhancedCTImageStorage,
    ExplicitVRLittleEndian,
    JPEG2000Lossless,
    JPEGLSLossless,
    RLELossless,
)

NAME = "Mustermann^Erika"
EVEN = (0.0, 2.5, 5.0, 7.5, 10.0)
AXIAL = ((1.0, 0.0, 0.0), (0.0, 1.0, 0.0))
ROTATION = np.linalg.qr(np.array([[0.9, 0.3, -0.2], [-0.2, 0.95, 0.3], [0.3, -0.1, 0.9]]))[0]
ROTATION *= np.sign(np.linalg.det(ROTATION))  # right-handed, as DICOM's normal is
SERIES = "1.2.826.0.1.3680043.8.498.1"


def stored(number: int) -> np.ndarray:
    """16×16 stored values of slice `number`; HU = value − 1024."""
    return (np.arange(256, dtype=np.uint16).reshape(16, 16) + 256 * number).astype(np.uint16)


def write_slice(path: Path, number: int, position, orientation=AXIAL, **changes) -> None:
    """One CT slice, written tag by tag; `changes` are further DICOM attributes."""
    syntax = changes.pop("syntax", ExplicitVRLittleEndian)
    meta = FileMetaDataset()
    meta.MediaStorageSOPClassUID = changes.get("SOPClassUID", CTImageStorage)
    meta.MediaStorageSOPInstanceUID = f"{SERIES}.{number}.{zlib.crc32(path.name.encode())}"
    meta.TransferSyntaxUID = syntax
    data = FileDataset(str(path), {}, file_meta=meta, preamble=bytes(128))
    data.SOPClassUID, data.SOPInstanceUID = meta.MediaStorageSOPClassUID, meta.MediaStorageSOPInstanceUID
    data.SeriesInstanceUID, data.StudyInstanceUID, data.FrameOfReferenceUID = SERIES, f"{SERIES}.8", f"{SERIES}.9"
    data.SeriesDescription, data.Modality, data.InstanceNumber = f"Thorax 40% {NAME}", "CT", 99 - number
    data.PatientName, data.PatientID, data.PatientBirthDate = NAME, "ID-4711", "19610203"
    data.ImagePositionPatient = [f"{value:.10g}" for value in position]
    data.ImageOrientationPatient = [f"{value:.10g}" for value in np.ravel(orientation)]
    data.PixelSpacing = ["0.8", "0.7"]  # between rows (y), between columns (x)
    data.Rows = data.Columns = 16
    data.SamplesPerPixel, data.PhotometricInterpretation = 1, "MONOCHROME2"
    data.BitsAllocated = data.BitsStored = 16
    data.HighBit, data.PixelRepresentation = 15, 0
    data.RescaleSlope, data.RescaleIntercept = "1", "-1024"
    for key, value in changes.items():
        setattr(data, key, value)
    if "PixelData" not in changes:
        data.PixelData = stored(number).tobytes()
    if syntax == JPEG2000Lossless:
        meta.TransferSyntaxUID = ExplicitVRLittleEndian
        coded = io.BytesIO()
        Image.fromarray(data.pixel_array).save(coded, "JPEG2000", no_jp2=True)
        data.PixelData = encapsulate([coded.getvalue()])
        data["PixelData"].is_undefined_length = True
        meta.TransferSyntaxUID = syntax
    elif syntax in (RLELossless, JPEGLSLossless):
        meta.TransferSyntaxUID = ExplicitVRLittleEndian
        data.compress(syntax, generate_instance_uid=False)
    path.parent.mkdir(parents=True, exist_ok=True)
    data.save_as(path, enforce_file_format=True)


def write_series(folder: Path, heights=EVEN, rotation=None, lean=0.0, prefix="im", **changes) -> None:
    """Slices at `heights` mm along the normal, leaning by `lean` mm a mm; file names fall as positions rise."""
    rotation = np.eye(3) if rotation is None else rotation
    folder.mkdir(parents=True, exist_ok=True)
    for number, height in enumerate(heights):
        position = np.array([-12.5, 30.25, 7.0]) + rotation @ [0, lean * height, height]
        write_slice(folder / f"{prefix}{90 - number}.dcm", number, position, rotation.T[:2], **changes)


def write_enhanced(path: Path, heights=EVEN, rotation=None, times=1, syntax=ExplicitVRLittleEndian, **changes) -> None:
    """One enhanced CT whose frames are stored from the highest position down, every time point of a place in turn."""
    rotation = np.eye(3) if rotation is None else rotation
    path.parent.mkdir(parents=True, exist_ok=True)
    write_slice(path, 0, (0, 0, 0), SOPClassUID=EnhancedCTImageStorage, **changes)
    data = pydicom.dcmread(path)
    for keyword in ("ImagePositionPatient", "ImageOrientationPatient", "PixelSpacing", "RescaleSlope"):
        delattr(data, keyword)
    del data.RescaleIntercept
    shared = Dataset()
    shared.PixelMeasuresSequence = [Dataset()]
    shared.PixelMeasuresSequence[0].PixelSpacing = ["0.8", "0.7"]
    shared.PixelMeasuresSequence[0].SliceThickness = "2.5"
    shared.PlaneOrientationSequence = [Dataset()]
    shared.PlaneOrientationSequence[0].ImageOrientationPatient = [f"{v:.10g}" for v in rotation.T[:2].ravel()]
    data.SharedFunctionalGroupsSequence = [shared]
    groups, pixels = [], []
    for number, height in reversed(list(enumerate(heights))):
        for time in range(times):
            group = Dataset()
            group.PlanePositionSequence = [Dataset()]
            position = np.array([-12.5, 30.25, 7.0]) + rotation @ [0, 0, height]
            group.PlanePositionSequence[0].ImagePositionPatient = [f"{value:.10g}" for value in position]
            group.PixelValueTransformationSequence = [Dataset()]
            group.PixelValueTransformationSequence[0].RescaleSlope = str(1 + number)
            group.PixelValueTransformationSequence[0].RescaleIntercept = "-1024"
            group.FrameContentSequence = [Dataset()]
            group.FrameContentSequence[0].TemporalPositionIndex = time + 1
            groups.append(group)
            pixels.append(stored(number) + time)
    data.PerFrameFunctionalGroupsSequence = groups
    data.NumberOfFrames = len(groups)
    data.PixelData = np.stack(pixels).astype(np.uint16).tobytes()
    if syntax == RLELossless:
        data.compress(RLELossless, generate_instance_uid=False)
    data.save_as(path, enforce_file_format=True)


def write_scan(image: sitk.Image, folder: Path, **changes) -> None:
    """A volume of HU as a series."""
    axes = np.reshape(image.GetDirection(), (3, 3)).T  # one row an axis
    across, down = image.GetSpacing()[:2]
    folder.mkdir(parents=True, exist_ok=True)
    for number, pixels in enumerate(sitk.GetArrayFromImage(image)):
        facts = {"Rows": pixels.shape[0], "Columns": pixels.shape[1], "PixelSpacing": [f"{down:.8g}", f"{across:.8g}"]}
        facts |= {"PixelData": (np.rint(pixels) + 1024).clip(0, 65535).astype(np.uint16).tobytes()} | changes
        position = image.TransformIndexToPhysicalPoint((0, 0, number))
        write_slice(folder / f"slice{number:03d}.dcm", number, position, axes[:2], **facts)
