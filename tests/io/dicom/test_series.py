from __future__ import annotations

from pathlib import Path

import numpy as np
import pydicom
import pytest
import SimpleITK as sitk
from pydicom.encaps import encapsulate
from pydicom.uid import (
    MPEG2MPML,
    DeflatedExplicitVRLittleEndian,
    ExplicitVRLittleEndian,
    ImplicitVRLittleEndian,
    JPEG2000Lossless,
    JPEGLosslessSV1,
    JPEGLSLossless,
    MRImageStorage,
    RLELossless,
    RTDoseStorage,
    RTStructureSetStorage,
    SegmentationStorage,
    UltrasoundMultiFrameImageStorage,
    VLPhotographicImageStorage,
)

from medseg.errors import ImageError
from medseg.io.geometry import grid_difference
from medseg.io.image import find_images, read_image, write_image
from tests.dicom_files import NAME, ROTATION, SERIES, stored, write_enhanced, write_series, write_slice


def error_of(folder: Path, series: str | None = None) -> ImageError:
    with pytest.raises(ImageError) as caught:
        read_image(folder, series)
    for identity in (NAME, "Mustermann", "ID-4711", "19610203"):
        assert identity not in str(caught.value)
    return caught.value


@pytest.mark.parametrize("rotation", [np.eye(3), ROTATION], ids=["axial", "oblique"])
@pytest.mark.parametrize("syntax", [ExplicitVRLittleEndian, ImplicitVRLittleEndian, RLELossless])
def test_read_series_gives_sorted_slices_in_hu_with_geometry(tmp_path: Path, rotation: np.ndarray, syntax: str) -> None:
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


def test_read_series_applies_rescaling_by_slice(tmp_path: Path) -> None:
    write_series(tmp_path, heights=(0.0, 2.5))
    for number, path in enumerate(sorted(tmp_path.iterdir(), reverse=True)):
        data = pydicom.dcmread(path)
        data.RescaleSlope, data.RescaleIntercept = str(1 + number * 0.5), "0"
        data.save_as(path)
    values = sitk.GetArrayFromImage(read_image(tmp_path))
    np.testing.assert_allclose(values, np.stack([stored(0), stored(1) * 1.5]))


def test_read_series_of_several_lists_them_and_takes_the_chosen_one(tmp_path: Path) -> None:
    other_uid = f"{SERIES}.77"
    write_series(tmp_path)
    facts = {"SeriesDescription": "Lung", "SeriesNumber": 4, "ConvolutionKernel": "B60"}
    write_series(tmp_path, (0.0, 3.0), prefix="b", SeriesInstanceUID=other_uid, **facts)
    error = error_of(tmp_path)
    assert error.code == "dicom-several-series"
    assert error.hint == "series_uid=UID"
    assert f"{SERIES}  CT, 5 slices, 16×16, phase 40%" in str(error)
    assert f"{other_uid}  CT, 2 slices, 16×16, number 4, kernel B60" in str(error)
    assert read_image(tmp_path, series=other_uid).GetSize() == (16, 16, 2)
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


def test_read_series_rounded_positions_are_even(tmp_path: Path) -> None:
    write_series(tmp_path, (0.0, 0.6, 1.3, 1.9, 2.5))  # 0.625 mm to one decimal
    assert read_image(tmp_path).GetSpacing()[2] == pytest.approx(0.625)


def test_two_time_points_in_one_series(tmp_path: Path) -> None:
    write_series(tmp_path)
    write_series(tmp_path, prefix="b")
    error = error_of(tmp_path)
    assert error.code == "dicom-spacing"
    assert "5 of 10 slices have the position of another" in str(error)


def test_read_series_ignores_copies_of_a_slice(tmp_path: Path) -> None:
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
def test_read_series_file_cut_anywhere_is_truncated(
    tmp_path: Path, syntax: str, capfd: pytest.CaptureFixture[str]
) -> None:
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


def test_read_series_ignores_other_dicom_objects(tmp_path: Path) -> None:
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


def test_find_images_dicom_folder_is_one_entry(tmp_path: Path) -> None:
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


# rows and columns in the patient's axes; DICOM's x goes to the left, y to the back, z to the head
PLANES = {
    "sagittal": ((0, 1, 0), (0, 0, -1)),
    "coronal": ((1, 0, 0), (0, 0, -1)),
    "prone": ((-1, 0, 0), (0, -1, 0)),
    "feet first": ((-1, 0, 0), (0, 1, 0)),
}


@pytest.mark.parametrize("plane", PLANES)
def test_read_series_keeps_patient_coordinates(tmp_path: Path, plane: str) -> None:
    """A bright voxel in column 3, row 5 of the third slice lies where the standard's equation puts it."""
    rows, columns = np.array(PLANES[plane], float)
    normal = np.cross(rows, columns)
    for number in range(4):
        pixels = np.zeros((16, 16), np.uint16)
        pixels[5, 3] = 500 if number == 2 else 0
        position = np.array([10.0, 20.0, 30.0]) - number * 3.0 * normal  # against the normal, names upwards
        write_slice(tmp_path / f"{number}", number, position, (rows, columns), PixelData=pixels.tobytes())
    image = read_image(tmp_path)
    index = np.argwhere(sitk.GetArrayFromImage(image) == 500 - 1024)[0][::-1]
    expected = np.array([10.0, 20.0, 30.0]) - 6.0 * normal + 3 * 0.7 * rows + 5 * 0.8 * columns
    np.testing.assert_allclose(image.TransformIndexToPhysicalPoint(index.tolist()), expected)
    assert image.GetSpacing() == pytest.approx((0.7, 0.8, 3.0))
    assert np.linalg.det(np.reshape(image.GetDirection(), (3, 3))) == pytest.approx(1)


def test_find_images_tree_of_series(tmp_path: Path) -> None:
    write_series(tmp_path / "p1/ct")
    write_series(tmp_path / "p1/thin", (0.0, 1.0, 2.0))
    write_series(tmp_path / "p2", (0.0, 1.0))
    assert find_images(tmp_path) == [tmp_path / "p1/ct", tmp_path / "p1/thin", tmp_path / "p2"]
    assert [read_image(folder).GetSize()[2] for folder in find_images(tmp_path)] == [5, 3, 2]


def test_read_series_ignores_scout_view_of_a_volume(tmp_path: Path) -> None:
    scout = {"ImageType": ["ORIGINAL", "PRIMARY", "LOCALIZER"], "orientation": ((1, 0, 0), (0, 0, -1))}
    write_series(tmp_path)
    write_slice(tmp_path / "scout.dcm", 9, (0, 0, 0), **scout)
    write_slice(tmp_path / "other.dcm", 9, (0, 0, 0), SeriesInstanceUID=f"{SERIES}.5", **scout)
    assert read_image(tmp_path).GetSize() == (16, 16, 5)
    assert read_image(tmp_path, f"{SERIES}.5").GetSize() == (16, 16, 1)
    for path in tmp_path.glob("im*"):
        path.unlink()
    error = error_of(tmp_path)
    assert error.code == "dicom-localizer"
    assert f"{SERIES}.5  CT, 1 slices, 16×16, phase 40%, localizer" in str(error)


def test_read_series_different_slices_with_one_uid_are_not_copies(tmp_path: Path) -> None:
    write_series(tmp_path, SOPInstanceUID=f"{SERIES}.1")
    assert read_image(tmp_path).GetSize() == (16, 16, 5)
    twin = pydicom.dcmread(tmp_path / "im90.dcm")
    twin.PixelData = bytes(512)
    twin.save_as(tmp_path / "twin.dcm")
    assert error_of(tmp_path).code == "dicom-spacing"


@pytest.mark.parametrize("syntax", [JPEGLSLossless, JPEG2000Lossless, DeflatedExplicitVRLittleEndian])
def test_read_series_supports_other_codings(tmp_path: Path, syntax: str) -> None:
    write_series(tmp_path / "plain")
    write_series(tmp_path / "coded", syntax=syntax)
    plain, coded = (sitk.GetArrayFromImage(read_image(tmp_path / name)) for name in ("plain", "coded"))
    np.testing.assert_array_equal(coded, plain)


@pytest.mark.parametrize("syntax", [JPEGLosslessSV1, MPEG2MPML])
def test_read_series_unsupported_coding_is_named(tmp_path: Path, syntax: str) -> None:
    write_series(tmp_path)
    for path in tmp_path.iterdir():
        data = pydicom.dcmread(path)
        data.PixelData = encapsulate([bytes(range(40))])
        data.file_meta.TransferSyntaxUID = syntax
        data["PixelData"].is_undefined_length = True
        data.save_as(path)
    error = error_of(tmp_path)
    assert error.code == "image-unreadable"
    assert f"series {SERIES}" in str(error)
    assert syntax.name in str(error)
    assert "gdcmconv --raw" in str(error)


@pytest.mark.parametrize("missing", ["RescaleSlope", "RescaleIntercept"])
@pytest.mark.parametrize("how", ["absent", "blank"])
def test_read_series_ct_without_rescaling_raises(tmp_path: Path, missing: str, how: str) -> None:
    write_series(tmp_path, **{missing: None})
    for path in tmp_path.iterdir() if how == "absent" else []:
        data = pydicom.dcmread(path)
        delattr(data, missing)
        data.save_as(path)
    error = error_of(tmp_path)
    assert error.code == "dicom-rescale"
    assert "HU" in str(error)


def test_read_series_mr_needs_no_rescaling_but_slope_0_raises(tmp_path: Path) -> None:
    write_series(tmp_path / "mr", Modality="MR", SOPClassUID=MRImageStorage, RescaleSlope=None, RescaleIntercept=None)
    np.testing.assert_array_equal(sitk.GetArrayFromImage(read_image(tmp_path / "mr"))[2], stored(2))
    write_series(tmp_path / "flat", Modality="MR", RescaleSlope="0")
    assert error_of(tmp_path / "flat").code == "dicom-rescale"


def test_read_series_slices_of_different_pixel_types(tmp_path: Path) -> None:
    """The first is signed; an unsigned one beyond its range must not wrap round."""
    for number in range(3):
        changes = {"PixelRepresentation": int(number == 0), "RescaleIntercept": "0"}
        pixels = np.full(256, 40000 if number else 100, np.uint16)
        write_slice(tmp_path / f"{number}", number, (0, 0, 2.0 * number), PixelData=pixels.tobytes(), **changes)
    values = sitk.GetArrayFromImage(read_image(tmp_path))
    assert values[:, 0, 0].tolist() == [100, 40000, 40000]


def test_read_series_too_few_pixels_raise(tmp_path: Path) -> None:
    write_series(tmp_path, PixelData=bytes(200))
    error = error_of(tmp_path)
    assert error.code == "image-truncated"
    assert "512 bytes expected, 200 found" in str(error)


@pytest.mark.parametrize("kind", [SegmentationStorage, RTDoseStorage])
def test_read_series_ignores_masks_and_doses(tmp_path: Path, kind: str) -> None:
    write_series(tmp_path / "ct")
    write_slice(tmp_path / "ct/more.dcm", 1, (0, 0, 1), SOPClassUID=kind, SeriesInstanceUID=f"{SERIES}.3")
    write_slice(tmp_path / "made/mask.dcm", 1, (0, 0, 1), SOPClassUID=kind)
    assert find_images(tmp_path) == [tmp_path / "ct"]
    assert read_image(tmp_path / "ct").GetSize() == (16, 16, 5)
    assert error_of(tmp_path / "made").code == "dicom-none"


@pytest.mark.parametrize("rotation", [np.eye(3), ROTATION], ids=["axial", "oblique"])
@pytest.mark.parametrize("syntax", [ExplicitVRLittleEndian, RLELossless])
def test_read_series_sorts_frames_of_an_enhanced_image(tmp_path: Path, rotation: np.ndarray, syntax: str) -> None:
    write_enhanced(tmp_path / "ct.dcm", rotation=rotation, syntax=syntax)
    image = read_image(tmp_path)
    values = np.stack([stored(number).astype(int) * (1 + number) - 1024 for number in range(5)])
    np.testing.assert_array_equal(sitk.GetArrayFromImage(image), values)
    expected = sitk.Image([16, 16, 5], sitk.sitkInt16)
    expected.SetSpacing((0.7, 0.8, 2.5))
    expected.SetOrigin((-12.5, 30.25, 7.0))
    expected.SetDirection(rotation.ravel())
    assert grid_difference(expected, image) is None
    assert not image.GetMetaDataKeys()


def test_read_series_enhanced_image_with_time_points(tmp_path: Path) -> None:
    write_enhanced(tmp_path / "ct.dcm", times=3)
    image = read_image(tmp_path)
    assert image.GetSize() == (16, 16, 5, 3)
    assert (np.diff(sitk.GetArrayFromImage(image)[:, 0], axis=0) == 1).all()


def test_read_series_enhanced_image_with_gap_or_cut_raises(tmp_path: Path) -> None:
    path = tmp_path / "ct.dcm"
    write_enhanced(path, (0.0, 2.5, 7.5))
    assert error_of(tmp_path).code == "dicom-spacing"
    write_enhanced(path)
    path.write_bytes(path.read_bytes()[:-300])
    assert error_of(tmp_path).code == "image-truncated"


def test_read_series_photograph_and_cine_need_no_position(tmp_path: Path) -> None:
    nowhere = {"ImagePositionPatient": None, "ImageOrientationPatient": None, "PixelSpacing": None}
    bits = {"BitsAllocated": 8, "BitsStored": 8, "HighBit": 7, "RescaleSlope": None, "RescaleIntercept": None}
    colours = np.random.default_rng(1).integers(0, 256, (16, 16, 3)).astype(np.uint8)
    photo = {"SamplesPerPixel": 3, "PhotometricInterpretation": "RGB", "PlanarConfiguration": 0, "Modality": "XC"}
    pixels = {"PixelData": colours.tobytes(), "SOPClassUID": VLPhotographicImageStorage}
    write_slice(tmp_path / "photo/a", 0, (0, 0, 0), **(nowhere | bits | photo | pixels))
    image = read_image(tmp_path / "photo")
    np.testing.assert_array_equal(sitk.GetArrayFromImage(image)[0], colours)
    film = {"NumberOfFrames": 4, "Modality": "US", "SOPClassUID": UltrasoundMultiFrameImageStorage}
    pixels = {"PixelData": np.arange(1024, dtype=np.int64).astype(np.uint8).tobytes()}
    write_slice(tmp_path / "film/a", 0, (0, 0, 0), **(nowhere | bits | film | pixels))
    assert read_image(tmp_path / "film").GetSize() == (16, 16, 4)
    write_slice(tmp_path / "film/b", 1, (0, 0, 0), **(nowhere | bits | film | pixels))
    assert error_of(tmp_path / "film").code == "dicom-position"


def test_read_series_invalid_enhanced_image_raises(tmp_path: Path) -> None:
    write_enhanced(tmp_path / "ct.dcm")
    content = (tmp_path / "ct.dcm").read_bytes()
    (tmp_path / "ct.dcm").write_bytes(content.replace(b"MONOCHROME2", b"MONO\\HROME2"))
    error = error_of(tmp_path)
    assert error.code == "image-unreadable"
    assert "gdcmconv --raw" in str(error)
