import numpy as np
import pytest
import SimpleITK as sitk
from skimage import color

from medseg.features.radiomics import colour

LABELS = {"a": 1, "b": 2}
BROWN, PINK = (120, 70, 40), (230, 180, 160)


def lesion(inside=BROWN, around=PINK, kind=np.uint8):
    """A disc of radius 12 on skin of one colour."""
    y, x = np.ogrid[:60, :60]
    disc = (y - 30) ** 2 + (x - 30) ** 2 <= 144
    picture = np.where(disc[..., None], inside, around).astype(kind)
    return sitk.GetImageFromArray(picture, isVector=True), sitk.GetImageFromArray(np.uint8(disc))


def test_colours_are_those_of_scikit_image():
    features = colour.frame_features(*lesion(), LABELS)
    one, other = (np.float64(part)[None, None] / 255 for part in (BROWN, PINK))
    inside, around = (np.concatenate([part, color.rgb2lab(part)], axis=2).ravel() for part in (one, other))
    for name, value, ring in zip(("red", "green", "blue", "lightness", "a", "b"), inside, around, strict=True):
        near = 1e-5 if name in colour.RGB else 0.3  # of Lab, OpenCV interpolates a table
        assert features[f"a.colour_{name}_mean"] == pytest.approx(value, abs=near)
        assert features[f"a.colour_{name}_difference"] == pytest.approx(value - ring, abs=near)
        assert features[f"a.colour_{name}_sd"] == pytest.approx(0, abs=1e-4)
    hue, saturation, value = color.rgb2hsv(one).ravel()
    assert features["a.colour_hue_mean"] == pytest.approx(360 * hue, abs=0.01)
    assert features["a.colour_saturation_mean"] == pytest.approx(saturation, abs=1e-5)
    assert features["a.colour_value_mean"] == pytest.approx(value, abs=1e-5)
    assert features["a.colour_red_relative"] == pytest.approx(120 / 230, abs=1e-5)
    assert features["a.colour_distance"] == pytest.approx(np.linalg.norm(inside[3:] - around[3:]), abs=0.3)
    assert {key.split(".")[1] for key in features} == set(colour.UNITS)


def test_the_pixel_type_does_not_matter():
    image, mask = lesion()
    floats = sitk.GetImageFromArray(sitk.GetArrayFromImage(image) / np.float32(255), isVector=True)
    expected = colour.frame_features(image, mask, LABELS)
    assert colour.frame_features(floats, mask, LABELS) == pytest.approx(expected, nan_ok=True, abs=1e-3)


def test_red_hues_on_both_sides_of_0_are_red():
    image, mask = lesion(inside=(200, 0, 20), around=(200, 20, 0))
    features = colour.frame_features(image, mask, LABELS)
    assert features["a.colour_hue_difference"] == pytest.approx(-12, abs=0.1)
    values = sitk.GetArrayFromImage(image)
    values[::2, :] = (200, 20, 0)
    mixed = sitk.GetImageFromArray(values, isVector=True)
    hue = colour.frame_features(mixed, mask, LABELS)["a.colour_hue_mean"]
    assert min(hue, 360 - hue) < 1


def test_grey_has_no_hue_and_a_grey_image_no_colour():
    image, mask = lesion(inside=(90, 90, 90), around=(200, 200, 200))
    features = colour.frame_features(image, mask, LABELS)
    assert np.isnan([features["a.colour_hue_mean"], features["a.colour_hue_difference"]]).all()
    assert features["a.colour_saturation_mean"] == 0
    assert colour.frame_features(sitk.VectorIndexSelectionCast(image, 0), mask, LABELS) == {}


def test_a_label_too_small_or_alone_gives_no_number():
    image, mask = lesion()
    assert np.isnan([colour.frame_features(image, mask, LABELS)[f"b.{key}"] for key in colour.UNITS]).all()
    whole = colour.frame_features(image, mask * 0 + 1, LABELS)
    assert np.isnan(whole["a.colour_distance"])
    assert whole["a.colour_red_mean"] > 0
    single = sitk.GetImageFromArray(np.uint8(np.arange(3600).reshape(60, 60) == 5))
    assert np.isnan(list(colour.frame_features(image, single, {"a": 1}).values())).all()
