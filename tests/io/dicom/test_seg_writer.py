from __future__ import annotations

import warnings
from pathlib import Path

import highdicom
import numpy as np
import pydicom
import pytest
import SimpleITK as sitk

import medseg
from medseg.errors import ImageError
from medseg.io.dicom.seg_writer import Origin, write_seg
from medseg.io.image import find_images, read_image
from medseg.io.labels import Labels
from tests.dicom_files import NAME, ROTATION, SERIES, write_enhanced, write_series

LUNGS = Labels({"right_lung": 1, "left_lung": 2}, codes={"left_lung": ("91723000 Anatomy", "44029006 Left lung")})
NESTED = Labels({"whole": 1, "core": 2}, exclusive=False)
IDENTITY = (b"Mustermann", b"Erika", b"ID-4711", b"19610203", b"20240506", b"Dr^House")
STUDY = {"StudyDate": "20240506", "ReferringPhysicianName": "Dr^House", "AccessionNumber": "ID-4711"}


def mask_of(folder: Path, labels: Labels) -> sitk.Image:
    """A coded mask on the grid of the series: something in each slice but the first, at another place in each."""
    image = read_image(folder)
    layers = {}
    for number, name in enumerate(labels.numbers):
        layer = np.zeros(image.GetSize()[::-1], np.bool_)
        for z in range(1, len(layer)):
            layer[z, z : z + 4, 2 + number : 7 + number] = True
        layers[name] = layer
    coded = sitk.GetImageFromArray(labels.join(layers))
    coded.CopyInformation(image)
    return coded


def voxels(file: Path) -> dict[tuple[int, float, float, float], str]:
    """Segment number and position in mm of each voxel that is set → the source image it refers to."""
    data = pydicom.dcmread(file)
    shared = data.SharedFunctionalGroupsSequence[0]
    axes = np.reshape(shared.PlaneOrientationSequence[0].ImageOrientationPatient, (2, 3)).astype(float)
    down, across = map(float, shared.PixelMeasuresSequence[0].PixelSpacing)
    sources = {}
    for pixels, group in zip(np.atleast_3d(data.pixel_array), data.PerFrameFunctionalGroupsSequence, strict=True):
        corner = np.array(group.PlanePositionSequence[0].ImagePositionPatient, float)
        segment = group.SegmentIdentificationSequence[0].ReferencedSegmentNumber
        source = group.DerivationImageSequence[0].SourceImageSequence[0]
        for y, x in np.argwhere(pixels):
            position = corner + x * across * axes[0] + y * down * axes[1]
            sources[(segment, *position.round(3).tolist())] = f"{source.ReferencedSOPInstanceUID}"
    return sources


def expected(coded: sitk.Image, labels: Labels) -> set[tuple[int, float, float, float]]:
    array = sitk.GetArrayFromImage(coded)
    return {
        (number, *np.round(coded.TransformIndexToPhysicalPoint(index[::-1].tolist()), 3).tolist())
        for name, number in labels.numbers.items()
        for index in np.argwhere(labels.layer(array, name))
    }


@pytest.mark.parametrize("labels", [LUNGS, NESTED], ids=["exclusive", "overlapping"])
@pytest.mark.parametrize("rotation", [np.eye(3), ROTATION], ids=["axial", "oblique"])
@pytest.mark.parametrize("enhanced", [False, True])
def test_write_seg_keeps_voxel_positions_and_sources(
    tmp_path: Path, labels: Labels, rotation: np.ndarray, enhanced: bool
) -> None:
    if enhanced:
        write_enhanced(tmp_path / "ct/all.dcm", rotation=rotation)
    else:
        write_series(tmp_path / "ct", rotation=rotation)
    coded = mask_of(tmp_path / "ct", labels)
    file = tmp_path / "out/mask.seg.dcm"
    write_seg(coded, file, labels, Origin(tmp_path / "ct", None, "lungs"))
    source_by_voxel = voxels(file)
    assert set(source_by_voxel) == expected(coded, labels)
    if not enhanced:  # each refers to the slice that lies at its height
        instances = {}
        for path in (tmp_path / "ct").iterdir():
            data = pydicom.dcmread(path)
            height = float(np.dot(data.ImagePositionPatient, rotation[:, 2]))
            instances[round(height, 2)] = str(data.SOPInstanceUID)
        assert {instances[round(float(np.dot(key[1:], rotation[:, 2])), 2)] for key in source_by_voxel} == set(
            source_by_voxel.values()
        )
        for key, instance in source_by_voxel.items():
            assert instances[round(float(np.dot(key[1:], rotation[:, 2])), 2)] == instance
    assert [path.name for path in file.parent.iterdir()] == ["mask.seg.dcm"]


def test_write_seg_is_readable_by_highdicom(tmp_path: Path) -> None:
    write_series(tmp_path / "ct")
    coded = mask_of(tmp_path / "ct", LUNGS)
    write_seg(coded, tmp_path / "mask.seg.dcm", LUNGS, Origin(tmp_path / "ct", None, "lungs"))
    read = highdicom.seg.segread(tmp_path / "mask.seg.dcm")
    volume = read.get_volume(combine_segments=True)
    flipped = sitk.GetArrayFromImage(coded)[1:]  # the first slice is empty and left out
    corner = coded.TransformIndexToPhysicalPoint((0, 0, 1))
    np.testing.assert_allclose(volume.spacing, (2.5, 0.8, 0.7))
    if not np.allclose(volume.position, corner):  # from the other end
        flipped = flipped[::-1]
    np.testing.assert_array_equal(volume.array, flipped)


def test_write_seg_states_references_and_algorithm(tmp_path: Path) -> None:
    write_series(tmp_path / "ct", LossyImageCompression="01", LossyImageCompressionRatio="8")
    coded = mask_of(tmp_path / "ct", LUNGS)
    write_seg(coded, tmp_path / "mask.seg.dcm", LUNGS, Origin(tmp_path / "ct", None, "my lungs"))
    data = pydicom.dcmread(tmp_path / "mask.seg.dcm")
    assert (data.LossyImageCompression, data.LossyImageCompressionRatio) == ("01", 8)
    assert data.ContentCreatorName == ""
    assert (data.Modality, data.SegmentationType, data.SOPClassUID.name) == ("SEG", "BINARY", "Segmentation Storage")
    assert data.StudyInstanceUID == f"{SERIES}.8"
    assert data.FrameOfReferenceUID == f"{SERIES}.9"
    assert data.SeriesInstanceUID != SERIES
    (referenced,) = data.ReferencedSeriesSequence
    assert referenced.SeriesInstanceUID == SERIES
    sources = {str(pydicom.dcmread(path).SOPInstanceUID) for path in (tmp_path / "ct").iterdir()}
    assert {str(item.ReferencedSOPInstanceUID) for item in referenced.ReferencedInstanceSequence} == sources
    right, left = data.SegmentSequence
    assert [(s.SegmentNumber, s.SegmentLabel) for s in (right, left)] == [(1, "right_lung"), (2, "left_lung")]
    assert left.SegmentedPropertyTypeCodeSequence[0].CodeValue == "44029006"
    assert left.SegmentedPropertyTypeCodeSequence[0].CodingSchemeDesignator == "SCT"
    assert left.SegmentedPropertyCategoryCodeSequence[0].CodeValue == "91723000"
    assert right.SegmentedPropertyTypeCodeSequence[0].CodingSchemeDesignator == "99MEDSEG"
    assert (right.SegmentAlgorithmType, right.SegmentAlgorithmName) == ("AUTOMATIC", "medseg my lungs")
    assert right.SegmentationAlgorithmIdentificationSequence[0].AlgorithmVersion == medseg.__version__


@pytest.mark.parametrize("enhanced", [False, True])
def test_write_seg_removes_identity_by_default(tmp_path: Path, enhanced: bool) -> None:
    if enhanced:
        write_enhanced(tmp_path / "ct/all.dcm", **STUDY)
    else:
        write_series(tmp_path / "ct", **STUDY)
    coded = mask_of(tmp_path / "ct", LUNGS)
    write_seg(coded, tmp_path / "a.seg.dcm", LUNGS, Origin(tmp_path / "ct", None, "lungs"))
    content = (tmp_path / "a.seg.dcm").read_bytes()
    assert not [word for word in IDENTITY if word in content]
    blank = pydicom.dcmread(tmp_path / "a.seg.dcm")
    assert (blank.PatientName, blank.PatientID, blank.PatientBirthDate, blank.StudyDate) == ("", "", "", "")
    assert blank.PatientIdentityRemoved == "YES"
    write_seg(coded, tmp_path / "b.seg.dcm", LUNGS, Origin(tmp_path / "ct", None, "lungs", keep_identity=True))
    named = pydicom.dcmread(tmp_path / "b.seg.dcm")
    assert (named.PatientName, named.PatientID, named.PatientBirthDate) == (NAME, "ID-4711", "19610203")
    assert (named.StudyDate, named.ReferringPhysicianName) == ("20240506", "Dr^House")
    assert "PatientIdentityRemoved" not in named
    assert named.SOPInstanceUID != blank.SOPInstanceUID
    assert set(voxels(tmp_path / "b.seg.dcm")) == set(voxels(tmp_path / "a.seg.dcm"))


def test_write_seg_is_deterministic_with_uids_by_content(tmp_path: Path) -> None:
    write_series(tmp_path / "ct")
    coded = mask_of(tmp_path / "ct", LUNGS)
    origin = Origin(tmp_path / "ct", None, "lungs")
    for name, mask in {"a": coded, "b": coded, "c": sitk.Mask(coded, coded == 1)}.items():
        write_seg(mask, tmp_path / f"{name}.seg.dcm", LUNGS, origin)
    a, b, c = ((tmp_path / f"{name}.seg.dcm").read_bytes() for name in "abc")
    assert a == b
    assert a != c
    first, other = (pydicom.dcmread(tmp_path / f"{name}.seg.dcm") for name in "ac")
    assert first.SOPInstanceUID != other.SOPInstanceUID
    assert first.SeriesInstanceUID != other.SeriesInstanceUID


def test_write_seg_empty_mask(tmp_path: Path) -> None:
    write_series(tmp_path / "ct")
    coded = mask_of(tmp_path / "ct", LUNGS) * 0
    write_seg(coded, tmp_path / "mask.seg.dcm", LUNGS, Origin(tmp_path / "ct", None, "lungs"))
    data = pydicom.dcmread(tmp_path / "mask.seg.dcm")
    assert len(data.SegmentSequence) == 2
    assert not data.pixel_array.any()


def test_write_seg_one_slice_and_unicode_labels(tmp_path: Path) -> None:
    labels = Labels({"größe–肺": 1, "x" * 80: 2})
    write_series(tmp_path / "ct", (0.0, 1.0), PatientName="Müller^Jörg", SpecificCharacterSet="ISO_IR 100")
    next((tmp_path / "ct").iterdir()).unlink()
    coded = sitk.Cast(read_image(tmp_path / "ct") > -800, sitk.sitkUInt8)
    write_seg(coded, tmp_path / "mask.seg.dcm", labels, Origin(tmp_path / "ct", None, "m", keep_identity=True))
    data = pydicom.dcmread(tmp_path / "mask.seg.dcm")
    assert data.SegmentSequence[0].SegmentLabel == "größe–肺"
    assert data.PatientName == "Müller^Jörg"
    assert data.NumberOfFrames == 1


def test_find_images_ignores_written_segs(tmp_path: Path) -> None:
    """A mask that lies beside its series, or alone, is no case."""
    write_series(tmp_path / "ct")
    coded = mask_of(tmp_path / "ct", LUNGS)
    for folder in ("ct", "alone"):
        write_seg(coded, tmp_path / folder / "mask.seg.dcm", LUNGS, Origin(tmp_path / "ct", None, "lungs"))
    assert find_images(tmp_path) == [tmp_path / "ct"]
    assert read_image(tmp_path / "ct").GetSize() == (16, 16, 5)


def test_write_seg_without_valid_source_raises(tmp_path: Path) -> None:
    write_series(tmp_path / "times", TemporalPositionIdentifier=1)
    write_series(tmp_path / "times", prefix="b", TemporalPositionIdentifier=2)
    write_series(tmp_path / "frameless", FrameOfReferenceUID=None)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # pydicom writes it all the same
        write_series(tmp_path / "nameless", StudyInstanceUID=NAME)
    write_series(tmp_path / "ct")
    coded = mask_of(tmp_path / "ct", LUNGS)
    (tmp_path / "a.nii.gz").touch()
    cases = {
        "a.nii.gz": "not a DICOM folder",
        "times": "2 time points",
        "frameless": "frame of reference",
        "nameless": "UIDs",
    }
    for name, words in cases.items():
        with pytest.raises(ImageError, match=words) as caught:
            write_seg(coded, tmp_path / "mask.seg.dcm", LUNGS, Origin(tmp_path / name, None, "lungs"))
        assert caught.value.code == "dicom-seg"
        assert NAME not in str(caught.value)
        assert not (tmp_path / "mask.seg.dcm").exists()
    with pytest.raises(ImageError, match="changed during segmentation") as caught:
        write_seg(coded[:, :, :3], tmp_path / "mask.seg.dcm", LUNGS, Origin(tmp_path / "ct", None, "lungs"))
    assert caught.value.code == "dicom-seg"


def test_write_seg_to_unwritable_path_raises(tmp_path: Path) -> None:
    write_series(tmp_path / "ct")
    (tmp_path / "file").touch()
    coded = mask_of(tmp_path / "ct", LUNGS)
    with pytest.raises(ImageError) as caught:
        write_seg(coded, tmp_path / "file/m.seg.dcm", LUNGS, Origin(tmp_path / "ct", None, "m"))
    assert caught.value.code == "image-write"


def test_write_seg_on_full_disk_keeps_the_old_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_series(tmp_path / "ct")
    coded, origin, file = mask_of(tmp_path / "ct", LUNGS), Origin(tmp_path / "ct", None, "m"), tmp_path / "o/m.seg.dcm"
    write_seg(coded, file, LUNGS, origin)
    before = file.read_bytes()

    def short(target, data, **_):  # writes a part and says nothing
        target.write(before[:-10])

    monkeypatch.setattr(pydicom, "dcmwrite", short)
    with pytest.raises(ImageError, match="cut off") as caught:
        write_seg(coded * 0, file, LUNGS, origin)
    assert caught.value.code == "image-write"
    assert [path.name for path in file.parent.iterdir()] == ["m.seg.dcm"]
    assert file.read_bytes() == before
