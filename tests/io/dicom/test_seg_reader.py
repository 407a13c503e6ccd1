from __future__ import annotations

from pathlib import Path

import numpy as np
import pydicom
import pytest
import SimpleITK as sitk

from medseg.errors import ImageError
from medseg.io.dicom.seg_reader import read_seg
from medseg.io.dicom.seg_writer import Origin, write_seg
from medseg.io.geometry import grid_difference
from medseg.io.image import read_image
from medseg.io.labels import Labels
from tests.dicom_files import NAME, ROTATION, write_enhanced, write_series

LABELS = Labels({"one": 1, "two": 2, "three": 3})


def made(folder: Path, labels: Labels = LABELS) -> tuple[sitk.Image, Path]:
    """A mask of noise in all but the first slice, and its SEG."""
    image = read_image(folder / "ct")
    array = np.random.default_rng(3).integers(0, 4, image.GetSize()[::-1]).astype(np.uint8)
    array[0] = 0
    coded = sitk.GetImageFromArray(array)
    coded.CopyInformation(image)
    write_seg(coded, folder / "m.seg.dcm", labels, Origin(folder / "ct", None, "m"))
    return coded, folder / "m.seg.dcm"


@pytest.mark.parametrize("enhanced", [False, True])
@pytest.mark.parametrize("rotation", [np.eye(3), ROTATION], ids=["axial", "oblique"])
def test_read_seg_returns_the_written_mask(tmp_path: Path, rotation: np.ndarray, enhanced: bool) -> None:
    if enhanced:
        write_enhanced(tmp_path / "ct/a.dcm", rotation=rotation)
    else:
        write_series(tmp_path / "ct", rotation=rotation)
    coded, file = made(tmp_path)
    mask = read_seg(file, read_image(tmp_path / "ct"))
    np.testing.assert_array_equal(sitk.GetArrayFromImage(mask), sitk.GetArrayFromImage(coded))
    assert grid_difference(mask, coded) is None
    assert mask.GetPixelID() == sitk.sitkUInt8


def refusal(file: Path, image: sitk.Image) -> ImageError:
    with pytest.raises(ImageError) as caught:
        read_seg(file, image)
    assert NAME not in str(caught.value)
    assert str(file) in str(caught.value)
    return caught.value


def test_read_seg_on_another_grid_raises(tmp_path: Path) -> None:
    write_series(tmp_path / "ct")
    _, file = made(tmp_path)
    image = read_image(tmp_path / "ct")
    assert refusal(file, image[:, :, :3]).code == "mask-grid"
    assert refusal(file, image[:8]).code == "mask-grid"
    moved = sitk.Image(image)
    moved.SetOrigin((-12.4, 30.25, 7.0))
    assert refusal(file, moved).code == "mask-grid"
    stretched = sitk.Image(image)
    stretched.SetSpacing((0.71, 0.8, 2.5))
    assert refusal(file, stretched).code == "mask-grid"


def test_read_seg_overlapping_segments_or_broken_file_raises(tmp_path: Path) -> None:
    write_series(tmp_path / "ct")
    coded, file = made(tmp_path, Labels({"a": 1, "b": 2}, exclusive=False))  # bits: 3 is both
    assert refusal(file, coded).code == "mask-values"
    content = file.read_bytes()
    file.write_bytes(content[:-50])
    assert refusal(file, coded).code == "image-truncated"
    file.write_bytes(content[:100])
    assert refusal(file, coded).code == "image-unreadable"
    file.write_bytes((tmp_path / "ct/im90.dcm").read_bytes())
    assert refusal(file, coded).code == "image-unreadable"
    file.write_bytes(content)
    data = pydicom.dcmread(file)
    del data.PerFrameFunctionalGroupsSequence
    data.save_as(file)
    assert refusal(file, coded).code == "image-unreadable"
