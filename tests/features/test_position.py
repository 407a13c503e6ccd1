"""Boxes at known places of a known field, in pictures and volumes."""

import numpy as np
import pytest
import SimpleITK as sitk

from medseg.errors import ImageError
from medseg.features.position import FLAT, UNITS, frame_features, lit
from medseg.io.labels import Labels

LABELS = {"m": 1, "n": 2}


def volume(spacing: tuple[float, float, float] = (1.0, 1.0, 3.0)) -> tuple[sitk.Image, sitk.Image]:
    """A head of 40 × 60 × 20 voxels (x y z) that begins at 10, 10, 2, and two boxes in it; stored as LPS."""
    values, mask = np.zeros((24, 80, 60), np.float32), np.zeros((24, 80, 60), np.uint8)
    values[2:22, 10:70, 10:50] = 100
    values[6:8, 30:40, 20:30] = 0  # a dark hole belongs to the field
    mask[2:12, 25:31, 40:46] = 1
    mask[2:12, 25:31, 20:30] = 2
    image, coded = sitk.GetImageFromArray(values), sitk.GetImageFromArray(mask)
    for sitk_image in (image, coded):
        sitk_image.SetSpacing(spacing)
    return image, coded


def test_a_box_in_a_volume() -> None:
    features = frame_features(*volume(), LABELS)
    assert set(features) == {f"{name}.{key}" for name in LABELS for key in UNITS}
    assert features["m.place_x"] == pytest.approx((42.5 - 10) / 40)  # towards the patient's left
    assert features["m.place_side"] == pytest.approx(2 * (32.5 / 40 - 0.5))
    assert features["m.place_depth"] == pytest.approx((27.5 - 10) / 60)
    assert features["m.place_top"] == pytest.approx(15 / 60)
    assert features["m.place_height"] == pytest.approx((6.5 - 2) / 20)
    assert features["m.place_share"] == pytest.approx(360 / 48000)
    assert features["m.place_edge"] == 0  # lies on the lowest slice
    assert features["m.place_near"] == pytest.approx(10 / 40)
    assert features["n.place_near"] == features["m.place_near"]


@pytest.mark.parametrize("spacing", [(1.0, 1.0, 1.0), (1.0, 1.0, 5.0), (5.0, 1.0, 1.0), (1.0, 0.2, 3.0)])
@pytest.mark.parametrize("axis", [0, 1, 2])
def test_touching_is_no_distance_along_any_axis_of_any_spacing(spacing: tuple[float, float, float], axis: int) -> None:
    """Axes x y z; a plate on the field's first layer, one that touches it, and one behind a gap of two layers."""
    values, mask = np.full((40, 40, 40), 100, np.uint8), np.zeros((40, 40, 40), np.uint8)
    values[0] = 0  # for there is air
    for number, layers in ((1, slice(1, 9)), (2, slice(9, 12)), (3, slice(14, 16))):
        mask[layers, 14:20, 14:20] = number
    image, coded = (
        sitk.GetImageFromArray(np.moveaxis(sitk_image, 0, 2 - axis).copy()) for sitk_image in (values, mask)
    )
    for sitk_image in (image, coded):
        sitk_image.SetSpacing(spacing)
    features = frame_features(image, coded, LABELS | {"o": 3})
    width = spacing[0] * (39 if axis == 0 else 40)
    assert features["m.place_edge"] == features["m.place_near"] == features["n.place_near"] == 0
    assert features["o.place_near"] == pytest.approx(2 * spacing[axis] / width)
    ways = [layer * step for layer, step in zip((14, 14, 14), spacing, strict=True)]
    ways[axis] = 13 * spacing[axis]
    assert features["o.place_edge"] == pytest.approx(min(ways) / width)


@pytest.mark.parametrize("axes", ["RAS", "LPI", "PIR"])
def test_how_a_file_stores_its_axes_does_not_matter(axes: str) -> None:
    image, mask = volume()
    turned = frame_features(sitk.DICOMOrient(image, axes), sitk.DICOMOrient(mask, axes), LABELS)
    assert turned == pytest.approx(frame_features(image, mask, LABELS))


def test_a_large_volume_is_thinned_out_and_tells_the_same() -> None:
    image, mask = volume()
    fine = [sitk.Expand(sitk_image, [8, 8, 4], sitk.sitkNearestNeighbor) for sitk_image in (image, mask)]
    coarse, features = frame_features(image, mask, LABELS), frame_features(*fine, LABELS)
    for key in ("m.place_near", "m.place_edge", "n.place_edge"):
        assert features[key] == pytest.approx(coarse[key], abs=0.06)
    assert features["m.place_x"] == pytest.approx(coarse["m.place_x"], abs=0.02)


def test_a_label_of_one_voxel_is_not_lost_where_a_volume_is_thinned_out() -> None:
    values, mask = np.zeros((3, 400, 640), np.float32), np.zeros((3, 400, 640), np.uint8)
    values[:, 10:390, 20:620] = 1
    mask[1, 201, 319] = 1
    features = frame_features(sitk.GetImageFromArray(values), sitk.GetImageFromArray(mask), {"m": 1})
    assert features["m.place_edge"] == pytest.approx(0, abs=0.01)  # one slice from the end
    assert features["m.place_x"] == pytest.approx(299 / 600)


def test_a_picture_has_no_height_and_colour_is_taken_as_grey() -> None:
    mask = np.zeros((50, 100), np.uint8)
    mask[10:20, 70:80] = 1
    picture = np.full((50, 100, 3), 90, np.uint8)
    picture[:, :20] = 0
    features = frame_features(sitk.GetImageFromArray(picture, isVector=True), sitk.GetImageFromArray(mask), {"m": 1})
    assert set(features) == {f"m.{key}" for key in FLAT if key != "place_near"}
    assert features["m.place_x"] == pytest.approx((74.5 - 20) / 80)
    assert features["m.place_depth"] == pytest.approx(14.5 / 50)
    assert features["m.place_edge"] == pytest.approx(10 / 80)


def test_what_is_absent_or_in_the_dark_has_names_and_no_numbers() -> None:
    image, mask = volume()
    for case in ((image, mask * 0), (image * 0, mask)):
        features = frame_features(*case, LABELS)
        assert set(features) == {f"{name}.{key}" for name in LABELS for key in UNITS}
        assert all(np.isnan(value) for value in features.values())


def test_a_label_inside_another_is_as_near_as_can_be() -> None:
    image, mask = volume()
    nested = Labels(LABELS, exclusive=False)  # bits: value 3 is both
    both = sitk.GetArrayFromImage(mask) > 0
    coded = both.astype(np.uint8) * 1
    coded[4:6, 26:30, 22:26] = 3
    again = sitk.GetImageFromArray(coded)
    again.CopyInformation(mask)
    features = frame_features(image, again, nested)
    assert features["n.place_near"] == 0
    assert features["m.place_near"] == 0


def test_another_grid_is_an_error() -> None:
    image, mask = volume()
    mask.SetOrigin((5.0, 0.0, 0.0))
    with pytest.raises(ImageError, match="resample"):
        frame_features(image, mask, LABELS)


def test_air_is_no_field_whatever_its_value() -> None:
    values = np.full((4, 20, 20), -1000.0)
    values[:, 5:15, 5:15] = 40
    values[:, 8:10, 8:10] = -900  # a lung
    assert lit(values).sum() == 400
    assert not lit(np.zeros((4, 20, 20))).any()
