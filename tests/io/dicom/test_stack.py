from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import SimpleITK as sitk

from medseg.errors import ImageError
from medseg.io.dicom.series import series_stacks
from medseg.io.image import read_image
from tests.dicom_files import EVEN, NAME, SERIES, stored, write_series


def refusal(folder: Path) -> ImageError:
    with pytest.raises(ImageError) as caught:
        read_image(folder)
    assert f"series {SERIES}:" in str(caught.value)
    assert NAME not in str(caught.value)
    return caught.value


def write_times(folder: Path, tag: str, moments: tuple[object, ...], **changes) -> None:
    """A series with a volume for each moment; each is 1000 higher in value than the one before."""
    for number, moment in enumerate(moments):
        pixels = {"PixelData": (stored(0) + 1000 * number).astype(np.uint16).tobytes()}
        name = f"{chr(ord('z') - number)}"  # names fall as time goes on
        write_series(folder, prefix=name, **{tag: moment}, **pixels, **changes)


@pytest.mark.parametrize(
    ("tag", "moments"),
    [
        ("TemporalPositionIdentifier", (1, 2, 3)),
        ("TriggerTime", ("0", "125.5", "1000")),
        ("AcquisitionNumber", (8, 9, 10)),
        ("AcquisitionTime", ("095959.5", "100000", "100001")),
    ],
)
def test_read_image_time_points_of_one_series_make_a_sequence(
    tmp_path: Path, tag: str, moments: tuple[object, ...]
) -> None:
    write_times(tmp_path, tag, moments)
    image = read_image(tmp_path)
    assert image.GetSize() == (16, 16, 5, 3)
    assert image.GetSpacing()[:3] == pytest.approx((0.7, 0.8, 2.5))
    assert sitk.GetArrayFromImage(image)[:, 0, 0, 0].tolist() == [-1024, -24, 976]
    assert len(series_stacks(tmp_path)) == 3


def test_read_image_missing_slice_of_a_time_point_raises(tmp_path: Path) -> None:
    write_times(tmp_path, "TemporalPositionIdentifier", (1, 2))
    (tmp_path / "z88.dcm").unlink()
    error = refusal(tmp_path)
    assert error.code == "dicom-spacing"
    assert "4 of 9 slices have the position of another" in str(error)


def test_read_image_echoes_are_not_time_points(tmp_path: Path) -> None:
    for number, echo in enumerate(("4.6", "9.2")):
        write_series(tmp_path, prefix="ab"[number], AcquisitionNumber=number, EchoTime=echo)
    error = refusal(tmp_path)
    assert error.code == "dicom-mixed"
    assert "EchoTime" in str(error)


def test_read_image_sorts_slices_by_position(tmp_path: Path) -> None:
    write_series(tmp_path)
    (stack,) = series_stacks(tmp_path)
    assert [path.name for path in stack.files] == ["im90.dcm", "im89.dcm", "im88.dcm", "im87.dcm", "im86.dcm"]
    assert [item.position[2] for item in stack.slices] == [7.0 + height for height in EVEN]
    assert stack.gap == 2.5


@pytest.mark.parametrize("angle", [-25, -2, 2, 25])
def test_read_image_sheared_stack_raises(tmp_path: Path, angle: float) -> None:
    write_series(tmp_path, tuple(np.arange(12) * 3.0), lean=np.tan(np.radians(angle)))
    error = refusal(tmp_path)
    assert error.code == "dicom-tilt"
    assert f"{abs(angle):.1f}°" in str(error)


def test_read_image_rounded_positions_are_not_sheared(tmp_path: Path) -> None:
    write_series(tmp_path, tuple(np.arange(12) * 3.0), lean=0.002)  # 0.07 mm over the stack
    assert read_image(tmp_path).GetSize() == (16, 16, 12)


@pytest.mark.parametrize(
    ("changes", "code"),
    [
        ({"ImageOrientationPatient": ["0"] * 6}, "dicom-position"),
        ({"ImageOrientationPatient": ["1", "0", "0", "1", "0", "0"]}, "dicom-position"),
        ({"ImageOrientationPatient": ["1", "0", "0"]}, "dicom-position"),
        ({"ImagePositionPatient": ["nan", "0", "0"]}, "dicom-position"),
        ({"PixelSpacing": None}, "dicom-pixel-spacing"),
        ({"PixelSpacing": ["0", "0.7"]}, "dicom-pixel-spacing"),
        ({"PixelSpacing": ["-0.8", "0.7"]}, "dicom-pixel-spacing"),
    ],
)
@pytest.mark.filterwarnings("ignore:Invalid value for VR")
def test_read_image_invalid_geometry_raises(tmp_path: Path, changes: dict[str, object], code: str) -> None:
    write_series(tmp_path, **changes)
    assert refusal(tmp_path).code == code


def test_read_image_two_frames_of_reference_raise(tmp_path: Path) -> None:
    write_series(tmp_path, (0.0, 1.0, 2.0))
    write_series(tmp_path, (3.0, 4.0), prefix="b", FrameOfReferenceUID=f"{SERIES}.10")
    assert refusal(tmp_path).code == "dicom-mixed"
