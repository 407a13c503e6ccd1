"""An ellipse of known size with a bright lesion on a known side."""

import numpy as np
import pytest
import SimpleITK as sitk

from medseg.errors import ImageError
from medseg.features.tissues import frame_features

LABELS = {"lesion": 1}


def head(lesion: tuple[int, int] | None = None, spacing: float = 1.0) -> tuple[sitk.Image, sitk.Image]:
    """A slice 100 × 80: an ellipse of value 100, semi-axes 40 and 30, and a lesion of radius 6 and value 250."""
    y, x = np.mgrid[:100, :80].astype(np.float64)
    values = np.where(((y - 49.5) / 40) ** 2 + ((x - 39.5) / 30) ** 2 <= 1, 100.0, 0.0)
    values += np.where(values > 0, 10 * np.cos((x - 39.5) / 8), 0)
    mask = np.zeros(values.shape, np.uint8)
    if lesion is not None:
        mask[np.hypot(y - lesion[0], x - lesion[1]) <= 6] = 1
        values[mask > 0] = 250
    image, inside = (sitk.GetImageFromArray(a) for a in (values, mask))
    for sitk_image in (image, inside):
        sitk_image.SetSpacing([spacing, spacing])
    return image, inside


def test_size_share_place_and_brightness() -> None:
    features = frame_features(*head((30, 55), spacing=2.0), LABELS)
    pixels = sum(np.hypot(dy, dx) <= 6 for dy in range(-6, 7) for dx in range(-6, 7))
    assert features["lesion.size"] == pytest.approx(pixels * 4)
    assert features["field.field_size"] == pytest.approx(np.pi * 40 * 30 * 4, rel=0.01)
    assert features["lesion.share"] == pytest.approx(pixels / (np.pi * 1200), rel=0.01)
    assert features["lesion.lateral"] == pytest.approx((55 - 39.5) / 30, abs=0.03)
    assert features["lesion.anterior"] == pytest.approx((49.5 - 30) / 40, abs=0.03)
    assert features["lesion.pieces"] == 1
    assert features["lesion.brightness"] > 3
    assert features["field.field_bright_share"] == pytest.approx(features["lesion.share"], rel=0.1)


def test_a_lesion_makes_a_symmetric_head_asymmetric() -> None:
    calm = frame_features(*head(), LABELS)
    ill = frame_features(*head((30, 55)), LABELS)
    assert calm["field.field_asymmetry"] == pytest.approx(0, abs=0.01)
    assert ill["field.field_asymmetry"] > 0.1
    assert calm["field.midline_shift_mm"] == 0
    assert ill["field.field_skewness"] > calm["field.field_skewness"] + 1


def test_a_shifted_middle_is_measured_in_millimetres_towards_the_left() -> None:
    image, mask = head(spacing=1.5)
    values = sitk.GetArrayFromImage(image)
    inner = values[20:80, 25:55].copy()
    inner[:, 15] = 0
    values[20:80, 25:55] = inner
    values[20:80, 43:45] = 220  # a bright line, 4 columns to the left of the middle (39.5)
    moved = sitk.GetImageFromArray(values)
    moved.SetSpacing([1.5, 1.5])
    assert frame_features(moved, mask, LABELS)["field.midline_shift_mm"] == pytest.approx(4 * 1.5, abs=1.5)


def test_a_volume_is_measured_in_millilitres_whatever_its_axes() -> None:
    image, mask = head((30, 55))
    volume, inside = (sitk.JoinSeries([sitk_image] * 5) for sitk_image in (image, mask))
    straight = frame_features(volume, inside, LABELS)
    turned = frame_features(sitk.DICOMOrient(volume, "PSR"), sitk.DICOMOrient(inside, "PSR"), LABELS)
    assert turned == pytest.approx(straight)
    assert straight["lesion.size"] == pytest.approx(frame_features(image, mask, LABELS)["lesion.size"] * 5 / 1000)


def test_an_absent_label_has_size_0_and_no_place_and_black_is_no_error() -> None:
    features = frame_features(*head(), LABELS)
    assert features["lesion.size"] == 0
    assert np.isnan(features["lesion.brightness"])
    black = sitk.Image([20, 20], sitk.sitkFloat32)
    features = frame_features(black, sitk.Image([20, 20], sitk.sitkUInt8), LABELS)
    assert features["field.field_size"] == 0
    assert np.isnan(features["field.field_asymmetry"])


def test_colour_is_refused() -> None:
    with pytest.raises(ImageError, match="grey image, got 3"):
        frame_features(sitk.Image([4, 4], sitk.sitkVectorUInt8, 3), sitk.Image([4, 4], sitk.sitkUInt8), LABELS)
