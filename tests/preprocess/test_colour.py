import numpy as np
import pytest
import SimpleITK as sitk
from skimage.color import rgb2lab

from medseg.errors import ImageError
from medseg.preprocess.colour import Channel, ShadesOfGrey, ToGrey, from_lab, to_lab


def rgb_image(values: np.ndarray) -> sitk.Image:
    image = sitk.GetImageFromArray(np.asarray(values, np.float32), isVector=True)
    image.SetSpacing((0.5, 2.0))
    image.SetOrigin((3.0, -4.0))
    return image


def greys() -> np.ndarray:
    return np.random.default_rng(0).uniform(0.2, 0.7, (30, 40, 1))


@pytest.mark.parametrize("p", [1, 6, 20])
def test_shades_of_grey_neutralises_coloured_light(p: int) -> None:
    cast = rgb_image(greys() * (1.0, 0.8, 0.6))
    result = sitk.GetArrayFromImage(ShadesOfGrey(p)(cast))
    assert np.ptp(result, axis=-1).max() < 1e-5
    assert result.mean() == pytest.approx(0.8 * greys().mean(), rel=1e-5)  # the mean of the three gains


def test_shades_of_grey_ignores_the_surround() -> None:
    values = greys() * (1.0, 0.8, 0.6)
    values[:, :15] = (0.1, 0.1, 0.9)  # a blue surround
    inside = np.zeros((30, 40), np.uint8)
    inside[:, 15:] = 1
    result = sitk.GetArrayFromImage(ShadesOfGrey(6, lambda _: sitk.GetImageFromArray(inside))(rgb_image(values)))
    assert np.ptp(result[:, 15:], axis=-1).max() < 1e-5
    assert not np.allclose(sitk.GetArrayFromImage(ShadesOfGrey(6)(rgb_image(values))), result)


def test_shades_of_grey_neutral_or_missing_channel_is_unchanged() -> None:
    for values in (np.repeat(greys(), 3, -1), greys() * (1.0, 0.5, 0.0), np.zeros((4, 5, 3))):
        assert sitk.GetArrayFromImage(ShadesOfGrey()(rgb_image(values))) == pytest.approx(values, abs=1e-6)


def test_channel_by_name_and_index() -> None:
    image = rgb_image(np.arange(60).reshape(4, 5, 3) / 60)
    for channel, index in (("red", 0), ("green", 1), ("blue", 2), (0, 0), (2, 2)):
        result = Channel(channel)(image)
        assert result.GetNumberOfComponentsPerPixel() == 1
        assert result.GetSpacing() == image.GetSpacing()
        assert np.array_equal(sitk.GetArrayFromImage(result), sitk.GetArrayFromImage(image)[..., index])


def test_to_grey_has_luma_weights_and_keeps_geometry() -> None:
    image = rgb_image(np.eye(3)[None])  # a red, a green and a blue pixel
    result = ToGrey()(image)
    assert sitk.GetArrayFromImage(result)[0] == pytest.approx([0.299, 0.587, 0.114])
    assert result.GetOrigin() == image.GetOrigin()
    assert sitk.GetArrayFromImage(ToGrey()(result))[0] == pytest.approx([0.299, 0.587, 0.114])


def test_to_lab_agrees_with_an_independent_implementation() -> None:
    values = np.random.default_rng(1).uniform(0, 1, (20, 30, 3)).astype(np.float32)
    assert np.abs(to_lab(values) - rgb2lab(values)).max() < 0.3
    assert from_lab(to_lab(values)) == pytest.approx(values, abs=0.003)


def test_colour_steps_of_grey_images_raise() -> None:
    grey = sitk.Image([4, 5], sitk.sitkFloat32)
    for step in (ShadesOfGrey(), Channel("green")):
        with pytest.raises(ImageError, match="in colour"):
            step(grey)
    with pytest.raises(ImageError, match="has 3 channels"):
        Channel(3)(rgb_image(np.zeros((2, 2, 3))))


def test_wrong_settings_are_refused() -> None:
    with pytest.raises(ValueError, match="at least 1"):
        ShadesOfGrey(0.5)
    for channel in ("yellow", -1):
        with pytest.raises(ValueError, match="red, green, blue"):
            Channel(channel)
