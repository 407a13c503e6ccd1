from __future__ import annotations

import zlib
from pathlib import Path

import numpy as np
import pydicom
import pytest
import SimpleITK as sitk
from pydicom.dataset import FileDataset, FileMetaDataset
from pydicom.uid import (
    CTImageStorage,
    ExplicitVRLittleEndian,
    ImplicitVRLittleEndian,
    RLELossless,
    RTStructureSetStorage,
)

from medseg.data.image import find_images, grid_difference, read_image, write_image
from medseg.errors import ImageError

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
    data.SeriesDescription, data.Modality, data.InstanceNumber = "Thorax 2.5", "CT", 99 - number
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
    if syntax == RLELossless:
        meta.TransferSyntaxUID = ExplicitVRLittleEndian
        data.compress(RLELossless, generate_instance_uid=False)
    data.save_as(path, enforce_file_format=True)


def write_series(folder: Path, heights=EVEN, rotation=None, lean=0.0, prefix="im", **changes) -> None:
    """Slices at `heights` mm along the normal, leaning by `lean` mm a mm; file names fall as positions rise."""
    rotation = np.eye(3) if rotation is None else rotation
    folder.mkdir(parents=True, exist_ok=True)
    for number, height in enumerate(heights):
        position = np.array([-12.5, 30.25, 7.0]) + rotation @ [0, lean * height, height]
        write_slice(folder / f"{prefix}{90 - number}.dcm", number, position, rotation.T[:2], **changes)


def error_of(folder: Path, series: str | None = None) -> ImageError:
    with pytest.raises(ImageError) as caught:
        read_image(folder, series)
    for identity in (NAME, "Mustermann", "ID-4711", "19610203"):
        assert identity not in str(caught.value)
    return caught.value


@pytest.mark.parametrize("rotation", [np.eye(3), ROTATION], ids=["axial", "oblique"])
@pytest.mark.parametrize("syntax", [ExplicitVRLittleEndian, ImplicitVRLittleEndian, RLELossless])
def test_slices_in_order_of_position_in_hu_with_geometry(tmp_path: Path, rotation: np.ndarray, syntax: str) -> None:
    write_series(tmp_path, rotation=rotation, syntax=syntax)
    (tmp_path / "LICENSE").write_text("not an image")
    image = read_image(tmp_path)
    expected = sitk.GetImageFromArray(np.stack([stored(number) for number in range(5)]).astype(np.int32) - 1024)
    expected.SetSpacing((0.7, 0.8, 2.5))
    expected.SetOrigin((-12.5, 30.25, 7.0))
    expected.SetDirection(rotation.ravel())
    assert grid_difference(expected, image) is None
    np.testing.assert_array_equal(sitk.GetArrayFromImage(image), sitk.GetArrayFromImage(expected))
    assert not image.GetMetaDataKeys()
    write_image(image, tmp_path / "out.nii.gz")
    assert grid_difference(read_image(tmp_path / "out.nii.gz"), image) is None


def test_one_slice(tmp_path: Path) -> None:
    write_series(tmp_path, heights=(3.0,))
    image = read_image(tmp_path)
    assert image.GetSize() == (16, 16, 1)
    assert sitk.GetArrayFromImage(image).min() == -1024
    assert not image.GetMetaDataKeys()


def test_rescaling_that_differs_by_slice(tmp_path: Path) -> None:
    write_series(tmp_path, heights=(0.0, 2.5))
    for number, path in enumerate(sorted(tmp_path.iterdir(), reverse=True)):
        data = pydicom.dcmread(path)
        data.RescaleSlope, data.RescaleIntercept = str(1 + number * 0.5), "0"
        data.save_as(path)
    values = sitk.GetArrayFromImage(read_image(tmp_path))
    np.testing.assert_allclose(values, np.stack([stored(0), stored(1) * 1.5]))


def test_several_series_are_listed_and_one_is_chosen(tmp_path: Path) -> None:
    other = f"{SERIES}.77"
    write_series(tmp_path)
    write_series(tmp_path, (0.0, 3.0), prefix="b", SeriesInstanceUID=other, SeriesDescription="Lung B60", Modality="CT")
    error = error_of(tmp_path)
    assert error.code == "dicom-several-series"
    assert "--series UID" in str(error)
    assert f"{SERIES}  CT 'Thorax 2.5', 5 slices, 16×16" in str(error)
    assert f"{other}  CT 'Lung B60', 2 slices, 16×16" in str(error)
    assert read_image(tmp_path, series=other).GetSize() == (16, 16, 2)
    assert read_image(tmp_path, series=SERIES).GetSize() == (16, 16, 5)
    assert error_of(tmp_path, "1.2.3").code == "dicom-series"


def test_missing_slice(tmp_path: Path) -> None:
    write_series(tmp_path)
    (tmp_path / "im88.dcm").unlink()
    error = error_of(tmp_path)
    assert error.code == "dicom-spacing"
    assert "5.00 mm between the positions 9.50 and 14.50 mm, elsewhere 2.50 mm" in str(error)


@pytest.mark.parametrize("heights", [(0, 2, 4, 6.5, 8), (0, 1, 2, 4), (0, 2, 3), (0, 1, 2, 3.5, 5, 6.5)])
def test_unequal_spacing(tmp_path: Path, heights: tuple[float, ...]) -> None:
    write_series(tmp_path, heights)
    assert error_of(tmp_path).code == "dicom-spacing"


def test_positions_rounded_by_the_scanner_are_even(tmp_path: Path) -> None:
    write_series(tmp_path, (0.0, 0.6, 1.3, 1.9, 2.5))  # 0.625 mm to one decimal
    assert read_image(tmp_path).GetSpacing()[2] == pytest.approx(0.625)


def test_two_time_points_in_one_series(tmp_path: Path) -> None:
    write_series(tmp_path)
    write_series(tmp_path, prefix="b")
    error = error_of(tmp_path)
    assert error.code == "dicom-spacing"
    assert "5 of 10 slices lie where another one does" in str(error)


def test_the_same_slice_twice_counts_once(tmp_path: Path) -> None:
    write_series(tmp_path)
    (tmp_path / "copy.dcm").write_bytes((tmp_path / "im90.dcm").read_bytes())
    assert read_image(tmp_path).GetSize() == (16, 16, 5)


def test_gantry_tilt(tmp_path: Path) -> None:
    write_series(tmp_path, lean=np.tan(np.radians(10)))
    error = error_of(tmp_path)
    assert error.code == "dicom-tilt"
    assert "10.0°" in str(error)


def test_mixed_slices(tmp_path: Path) -> None:
    write_series(tmp_path)
    write_slice(tmp_path / "scout.dcm", 9, (0, 0, 0), ((1, 0, 0), (0, 0, -1)))
    error = error_of(tmp_path)
    assert error.code == "dicom-mixed"
    assert "scout.dcm" in str(error)


def test_slices_without_position(tmp_path: Path) -> None:
    write_series(tmp_path, ImagePositionPatient=None)
    assert error_of(tmp_path).code == "dicom-position"


@pytest.mark.parametrize("syntax", [ExplicitVRLittleEndian, ImplicitVRLittleEndian, RLELossless])
def test_file_cut_anywhere_is_named(tmp_path: Path, syntax: str, capfd: pytest.CaptureFixture[str]) -> None:
    write_series(tmp_path, syntax=syntax)
    cut = tmp_path / "im88.dcm"
    data = cut.read_bytes()
    expected = {0: "image-empty", 1: "image-unreadable", 131: "image-unreadable", 160: "image-truncated"}
    expected |= dict.fromkeys([*range(360, len(data), 23), len(data) - 1], "image-truncated")
    for length, code in expected.items():
        cut.write_bytes(data[:length])
        error = error_of(tmp_path)
        assert str(error).startswith(f"{cut}: "), length
        assert error.code == code, (length, str(error))
    assert capfd.readouterr() == ("", "")


def test_other_objects_are_no_images(tmp_path: Path) -> None:
    write_series(tmp_path / "ct")
    structure = tmp_path / "contours/rs.dcm"
    structure.parent.mkdir()
    write_slice(structure, 1, (0, 0, 0), SOPClassUID=RTStructureSetStorage)
    data = pydicom.dcmread(structure)
    for keyword in ("PixelData", "Rows", "Columns"):
        delattr(data, keyword)
    data.save_as(structure)
    assert find_images(tmp_path) == [tmp_path / "ct"]
    assert error_of(structure.parent).code == "dicom-none"
    (tmp_path / "ct/rs.dcm").write_bytes(structure.read_bytes())
    assert read_image(tmp_path / "ct").GetSize() == (16, 16, 5)


def test_a_dicom_folder_is_one_entry(tmp_path: Path) -> None:
    write_series(tmp_path / "b/ct")
    for number, path in enumerate(sorted((tmp_path / "b/ct").iterdir())):
        path.rename(path.with_name(f"IM{number}"))  # as on a CD: no suffix
    write_series(tmp_path / "a.1")
    (tmp_path / "c").mkdir()
    (tmp_path / "c/broken.dcm").write_bytes(b"")
    (tmp_path / "notes").write_text("x" * 200)
    (tmp_path / "x.png").touch()
    assert find_images(tmp_path) == [tmp_path / "a.1", tmp_path / "b/ct", tmp_path / "c", tmp_path / "x.png"]
    assert find_images(tmp_path / "b/ct") == [tmp_path / "b/ct"]
    assert error_of(tmp_path / "c").code == "image-empty"
