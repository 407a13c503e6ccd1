"""A small thorax in DICOM: contours in millimetres become voxels, whatever the order of the files."""

from pathlib import Path

import numpy as np
import numpy.typing as npt
import pydicom
import pytest
import SimpleITK as sitk
from pydicom.dataset import Dataset, FileDataset, FileMetaDataset
from pydicom.uid import ExplicitVRLittleEndian, generate_uid

from medseg.commands.prepare_dataset import prepare_dataset
from medseg.data.ground_truth import read_ground_truth
from medseg.data.readers import read_cases
from medseg.datasets.lctsc import within
from medseg.io.image import read_image
from medseg.io.labels import Labels
from medseg.typing import FloatArray

CT, RTSTRUCT = "1.2.840.10008.5.1.4.1.1.2", "1.2.840.10008.5.1.4.1.1.481.3"
SPACING, ORIGIN, SLICES = 2.0, (-20.0, -30.0, 50.0), 4


def file_of(path: Path, kind: str, patient: str, modality: str) -> FileDataset:
    meta = FileMetaDataset()
    meta.MediaStorageSOPClassUID, meta.MediaStorageSOPInstanceUID = kind, generate_uid()
    meta.TransferSyntaxUID = ExplicitVRLittleEndian
    path.parent.mkdir(parents=True, exist_ok=True)
    dataset = FileDataset(str(path), {}, file_meta=meta, preamble=b"\0" * 128)
    dataset.SOPClassUID, dataset.SOPInstanceUID = kind, meta.MediaStorageSOPInstanceUID
    dataset.PatientID, dataset.Modality = patient, modality
    return dataset


def series(folder: Path, patient: str) -> None:
    uid, study = generate_uid(), generate_uid()
    for number in range(SLICES):
        dataset = file_of(folder / f"{SLICES - number}.dcm", CT, patient, "CT")
        dataset.SeriesInstanceUID, dataset.StudyInstanceUID, dataset.InstanceNumber = uid, study, number + 1
        dataset.ImagePositionPatient = [*ORIGIN[:2], ORIGIN[2] + 3.0 * number]
        dataset.ImageOrientationPatient, dataset.PixelSpacing = [1, 0, 0, 0, 1, 0], [SPACING, SPACING]
        dataset.SliceThickness = 3.0
        dataset.Rows, dataset.Columns = 16, 20
        dataset.SamplesPerPixel, dataset.PhotometricInterpretation = 1, "MONOCHROME2"
        dataset.BitsAllocated, dataset.BitsStored, dataset.HighBit, dataset.PixelRepresentation = 16, 16, 15, 1
        dataset.RescaleIntercept, dataset.RescaleSlope = -1024, 1
        values = np.random.default_rng(number).integers(0, 2000, (16, 20)).astype(np.int16)
        dataset.PixelData = values.tobytes()
        dataset.save_as(folder / f"{SLICES - number}.dcm", enforce_file_format=True)


def box(row: int, column: int, number: int) -> list[float]:
    """A contour through the centres of a box of 3 × 4 voxels, in mm."""
    corners = [(row, column), (row, column + 3), (row + 2, column + 3), (row + 2, column)]
    return [v for r, c in corners for v in (ORIGIN[0] + c * SPACING, ORIGIN[1] + r * SPACING, ORIGIN[2] + 3.0 * number)]


def structures(file: Path, patient: str, names: tuple[str, ...]) -> None:
    dataset = file_of(file, RTSTRUCT, patient, "RTSTRUCT")
    rois, contours = [], []
    for number, name in enumerate(names, start=1):
        roi, drawn = Dataset(), Dataset()
        roi.ROINumber, roi.ROIName = number, name
        drawn.ReferencedROINumber, drawn.ContourSequence = number, []
        for level in (1, 2):
            contour = Dataset()
            contour.ContourGeometricType = "CLOSED_PLANAR"
            contour.ContourData = box(4, 2 + 8 * (number - 1), level)
            drawn.ContourSequence.append(contour)
        rois.append(roi)
        contours.append(drawn)
    dataset.StructureSetROISequence, dataset.ROIContourSequence = rois, contours
    dataset.save_as(file, enforce_file_format=True)


@pytest.fixture
def raw(tmp_path: Path) -> Path:
    for patient, names in (("LCTSC-Train-S1-001", ("Lung_R", "Lung_L", "Heart")), ("LCTSC-Test-S1-101", ("Heart",))):
        series(tmp_path / "raw" / patient / "study" / "ct", patient)
        structures(tmp_path / "raw" / patient / "study" / "rt" / "1-1.dcm", patient, names)
    return tmp_path / "raw"


def test_prepare_dataset_lctsc_draws_lungs_on_the_scan(raw: Path, tmp_path: Path) -> None:
    case_log = prepare_dataset("lctsc", raw, tmp_path / "out")
    assert case_log.counts == {"ok": 1, "failed": 1}
    case = read_cases(tmp_path / "out", ["ct"])[0]
    assert (case.name, case.split) == ("LCTSC-Train-S1-001", "train")
    labels = Labels({"right_lung": 1, "left_lung": 2})
    truth = sitk.GetArrayFromImage(read_ground_truth(case, read_image(case.image), labels).mask)
    for number, column in ((1, 2), (2, 10)):
        z, y, x = np.nonzero(truth == number)
        assert (z.min(), z.max(), y.min(), y.max(), x.min(), x.max()) == (1, 2, 4, 6, column, column + 3)
        assert len(z) == 2 * 3 * 4


def test_prepare_dataset_lctsc_missing_structure_fails(raw: Path, tmp_path: Path) -> None:
    case_log = prepare_dataset("lctsc", raw, tmp_path / "out")
    failed = next(entry for entry in case_log.entries if entry.status == "failed")
    assert "no structure lung_r" in failed.message
    assert "heart" in failed.message


def with_broken_ones(raw: Path) -> dict[str, Path]:
    """Four patients more, each with something wrong: the file that must be named."""
    broken_files = {}
    for name in ("garbage-ct", "garbage-slice", "garbage-rt", "no-contours"):
        ct, rt = raw / name / "study" / "ct", raw / name / "study" / "rt" / "1-1.dcm"
        series(ct, name)
        structures(rt, name, ("Lung_R", "Lung_L"))
        broken_files[name] = {"garbage-ct": ct / "1.dcm", "garbage-slice": ct / "3.dcm"}.get(name, rt)
        if name != "no-contours":
            broken_files[name].write_bytes(b"<html>404</html>")
    dataset = pydicom.dcmread(broken_files["no-contours"])
    del dataset.ROIContourSequence[1].ContourSequence
    dataset.save_as(broken_files["no-contours"])
    series(raw / "no-rt" / "study" / "ct", "no-rt")
    return {**broken_files, "no-rt": raw / "no-rt" / "study" / "ct"}


def test_prepare_dataset_lctsc_broken_patient_fails_alone(raw: Path, tmp_path: Path) -> None:
    wrong = with_broken_ones(raw)
    case_log = prepare_dataset("lctsc", raw, tmp_path / "out")
    messages = {entry.case: entry.message for entry in case_log.entries if entry.status == "failed"}
    assert messages.keys() == {*wrong, "LCTSC-Test-S1-101"}
    for name, file in wrong.items():
        assert str(file) in messages[name]
    assert "lung_l has no contours" in messages["no-contours"]
    assert "no series RTSTRUCT" in messages["no-rt"]
    assert [case.name for case in read_cases(tmp_path / "out", ["ct"])] == ["LCTSC-Train-S1-001"]


def test_prepare_dataset_lctsc_all_broken_can_be_repeated(raw: Path, tmp_path: Path) -> None:
    file = raw / "LCTSC-Train-S1-001" / "study" / "rt" / "1-1.dcm"
    whole = file.read_bytes()
    file.write_bytes(b"\0" * 200)
    assert prepare_dataset("lctsc", raw, tmp_path / "out").counts == {"failed": 2}
    file.write_bytes(whole)
    assert prepare_dataset("lctsc", raw, tmp_path / "out").counts == {"ok": 1, "failed": 1}


def test_prepare_dataset_lctsc_upper_case_suffixes(raw: Path, tmp_path: Path) -> None:
    for file in list(raw.rglob("*.dcm")):
        file.rename(file.with_suffix(".DCM"))
    assert prepare_dataset("lctsc", raw, tmp_path / "out").counts == {"ok": 1, "failed": 1}


def test_prepare_dataset_lctsc_contours_of_another_scan_fail(raw: Path, tmp_path: Path) -> None:
    file = raw / "LCTSC-Train-S1-001" / "study" / "rt" / "1-1.dcm"
    dataset = pydicom.dcmread(file)
    for roi in dataset.ROIContourSequence:
        for contour in roi.ContourSequence:
            contour.ContourData = [float(value) + 500 for value in contour.ContourData]
    dataset.save_as(file)
    case_log = prepare_dataset("lctsc", raw, tmp_path / "out")
    assert "no contour of lung_r lies in the scan" in case_log.entries[-1].message


def corners(low: float, high: float) -> FloatArray:
    return np.array([(low, low), (high, low), (high, high), (low, high)])


def circle(centre: float, radius: float) -> FloatArray:
    angle = np.linspace(0, 2 * np.pi, 2000, endpoint=False)
    return centre + radius * np.stack([np.cos(angle), np.sin(angle)], axis=1)


def disc(centre: float, radius: float) -> npt.NDArray[np.bool_]:
    y, x = np.mgrid[:40, :40]
    return (x - centre) ** 2 + (y - centre) ** 2 < radius**2


def test_within_pixel_is_inside_by_its_centre() -> None:
    square = within([corners(9.5, 19.5)], 40, 40)
    assert square.sum() == 100
    assert square[10:20, 10:20].all()
    assert np.array_equal(within([circle(20, 10.3)], 40, 40), disc(20, 10.3))
    assert np.array_equal(within([circle(0, 10.3)], 40, 40), disc(0, 10.3))  # cut by the border of the image
    assert np.array_equal(within([circle(35, 10.3)], 40, 40), disc(35, 10.3))
    assert not within([circle(-30, 10.3)], 40, 40).any()
    assert not within([circle(90, 10.3)], 40, 40).any()


def test_within_inner_contour_is_a_hole() -> None:
    assert np.array_equal(within([circle(20, 10.3), circle(20, 4.2)], 40, 40), disc(20, 10.3) & ~disc(20, 4.2))
    island = [circle(20, 10.3), circle(20, 6.6), circle(20, 3.2)]
    assert np.array_equal(within(island, 40, 40), disc(20, 10.3) & ~disc(20, 6.6) | disc(20, 3.2))
    # a ring drawn in one stroke: to the hole and back along one line, through centres
    way = np.concatenate([corners(4.5, 14.5), [(4.5, 4.5), (7, 7)], corners(7.5, 9.5)[::-1], [(7.5, 9.5), (7, 7)]])
    assert within([way], 40, 40).sum() == 100 - 4


@pytest.mark.parametrize("border", [9.5, 10.0])
def test_within_touching_contours_keep_shared_pixels(border: float) -> None:
    left = np.array([(4.5, 4.5), (border, 4.5), (border, 14.5), (4.5, 14.5)])
    right = np.array([(border, 4.5), (15.5, 4.5), (15.5, 14.5), (border, 14.5)])
    assert within([left, right], 40, 40).sum() == 11 * 10


def test_within_centre_on_outline_is_inside() -> None:
    for noise in (-1e-9, 0, 1e-9):
        assert within([corners(9, 12) + noise], 40, 40).sum() == 16
        assert within([corners(5, 15), corners(9, 12) + noise], 40, 40).sum() == 121 - 4
