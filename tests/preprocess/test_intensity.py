import json

import numpy as np
import pytest
import SimpleITK as sitk

from medseg.errors import DataError, ImageError, MedsegError
from medseg.preprocess.intensity import Nyul, Percentiles, Photo, Window, ZScore


def photo(array: np.ndarray, colour: bool = False) -> sitk.Image:
    image = sitk.GetImageFromArray(array, isVector=colour)
    image.SetSpacing([0.5, 2.0, 3.0][: image.GetDimension()])
    image.SetOrigin([7.0, -3.0, 1.0][: image.GetDimension()])
    return image


def above_zero(image: sitk.Image) -> sitk.Image:
    return image > 0


def values(image: sitk.Image) -> np.ndarray:
    array: np.ndarray = sitk.GetArrayFromImage(image)
    return array


def test_window_maps_hounsfield_units_to_0_1() -> None:
    image = sitk.GetImageFromArray(np.array([[-2000, -1000, -300, 400, 3000]], np.int16))
    assert sitk.GetArrayFromImage(Window(-1000, 400)(image)).ravel() == pytest.approx([0, 0, 0.5, 1, 1])


def test_percentiles_ignore_outliers_and_survive_constants() -> None:
    values = np.append(np.linspace(10, 20, 999), 1e6).astype(np.float32)
    result = sitk.GetArrayFromImage(Percentiles(0.5, 99.5)(sitk.GetImageFromArray(values[None])))
    assert (result.min(), result.max()) == (0, 1)
    assert np.median(result) == pytest.approx(0.5, abs=0.01)
    assert not sitk.GetArrayFromImage(Percentiles()(sitk.GetImageFromArray(np.full((3, 3), 5.0)))).any()


@pytest.mark.parametrize("make", [lambda: Window(1, 1), lambda: Percentiles(60, 40), lambda: Percentiles(0, 101)])
def test_window_and_percentiles_empty_range_raises(make: object) -> None:
    with pytest.raises(ValueError, match=r"low must be below high|need 0 <= low"):
        make()  # type: ignore[operator]


def test_z_score_uses_the_field_and_is_0_outside() -> None:
    image = photo(np.array([[0, 0, 2, 4, 6]], np.int16))  # inside: mean 4, variance 8/3
    result = ZScore(above_zero, clip=5)(image)
    step = 2 / np.sqrt(8 / 3) / 10
    assert values(result).ravel() == pytest.approx([0, 0, 0.5 - step, 0.5, 0.5 + step])
    assert result.GetPixelID() == sitk.sitkFloat32
    assert result.GetOrigin() == image.GetOrigin()
    assert values(image).ravel().tolist() == [0, 0, 2, 4, 6]


def test_z_score_ignores_gain_and_offset() -> None:
    array = np.random.default_rng(0).normal(size=(4, 6, 8)).astype(np.float32)
    first, second = (values(ZScore()(photo(each))) for each in (array, 1000 + 50 * array))
    np.testing.assert_allclose(first, second, atol=1e-4)
    assert first.mean() == pytest.approx(0.5, abs=1e-5)
    assert first.std() == pytest.approx(0.1, abs=1e-5)


def test_z_score_clips_and_scales_components_separately() -> None:
    grey = np.append(np.zeros(999), 1.0).reshape(10, 100)
    image = photo(np.stack([grey, 7 - 3 * grey, np.full((10, 100), 0.1)], axis=-1), colour=True)
    result = values(ZScore(clip=2)(image))
    assert result.shape == (10, 100, 3)
    assert result[-1, -1].tolist() == [1, 0, 0.5]
    np.testing.assert_allclose(result[..., 0] + result[..., 1], 1, atol=1e-6)
    assert np.all(result[..., 2] == 0.5)


def test_inside_field_empty_or_on_another_grid_raises() -> None:
    image = photo(np.ones((4, 4), np.float32))
    with pytest.raises(ImageError, match="has no voxel") as blank:
        ZScore(lambda image: image < 0)(image)
    assert blank.value.code == "field-empty"
    with pytest.raises(ImageError, match="grid") as other:
        ZScore(lambda image: (image > 0)[1:])(image)
    assert other.value.code == "field-grid"
    with pytest.raises(ValueError, match="above 0"):
        ZScore(clip=0)


@pytest.mark.parametrize(
    ("array", "expected"),
    [
        (np.array([[0, 51, 102]], np.uint8), [0, 0.2, 0.4]),
        (np.array([[0, 819, 4095]], np.uint16), [0, 0.2, 1]),
        (np.array([[0, 13107, 65535]], np.uint16), [0, 0.2, 1]),
        (np.array([[0, 51, 255]], np.uint16), [0, 0.2, 1]),
        (np.array([[0, 819, 4095]], np.int16), [0, 0.2, 1]),
        (np.array([[-10, 0, 40]], np.int16), [0, 0.2, 1]),
        (np.array([[0.1, 0.2, 0.4]], np.float32), [0.1, 0.2, 0.4]),
        (np.array([[-10, 0, 40]], np.float64), [0, 0.2, 1]),
        (np.array([[9, 9, 9]], np.float32), [0, 0, 0]),
    ],
)
def test_photo_scales_every_type_to_0_1(array: np.ndarray, expected: list[float]) -> None:
    image = photo(array)
    grey, colour = Photo(colour=False)(image), Photo(colour=True)(image)
    assert values(grey).ravel() == pytest.approx(expected)
    assert grey.GetPixelID() == sitk.sitkFloat32
    assert colour.GetPixelID() == sitk.sitkVectorFloat32
    assert colour.GetNumberOfComponentsPerPixel() == 3
    assert colour.GetSpacing() == image.GetSpacing()
    assert all(values(colour)[..., c].ravel() == pytest.approx(expected) for c in range(3))


def test_photo_colours_have_one_range() -> None:
    array = np.array([[[0, 51, 255], [102, 0, 0]]], np.uint8)
    assert values(Photo(colour=True)(photo(array, True))) == pytest.approx(array / 255)
    other = values(Photo(colour=True)(photo(array.astype(np.float32) - 51, True)))
    assert other == pytest.approx(array / 255)  # the range of all components is -51 to 204


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16, np.float32])
def test_photo_alpha_is_blended_with_black(dtype: type) -> None:
    full = 65535 if dtype == np.uint16 else 255  # floats beyond 0..1 too
    share = [1.0, 0.4, 0.0]
    alpha = np.rint(np.array([share]) * full)
    grey = np.full((1, 3), full)
    grey[0, 2] = 0
    two = photo(np.stack([grey, alpha], axis=-1).astype(dtype), True)
    assert values(Photo(colour=False)(two)).ravel() == pytest.approx(share, abs=1e-4)
    four = photo(np.stack([grey, 0 * grey, grey, alpha], axis=-1).astype(dtype), True)
    result = values(Photo(colour=True)(four))
    assert result.shape == (1, 3, 3)
    assert result[0, :, 0] == pytest.approx(share, abs=1e-4)
    assert not result[..., 1].any()
    assert values(Photo(colour=True)(two)).shape == (1, 3, 3)


def test_photo_grey_in_three_components_passes_but_colour_raises() -> None:
    array = np.full((4, 4, 3), 100, np.uint8)
    array[0, 0] = 100, 101, 99  # what JPEG makes of grey
    result = values(Photo(colour=False)(photo(array, True)))
    assert result == pytest.approx(np.full((4, 4), 100 / 255))
    array[0, 0] = 200, 100, 100
    with pytest.raises(ImageError, match=r"colour image .*100 of 255.*organ.colour_channels=3") as error:
        Photo(colour=False)(photo(array, True))
    assert error.value.code == "image-channels"
    with pytest.raises(ImageError, match="5 channels") as error:
        Photo(colour=True)(photo(np.zeros((2, 2, 5), np.uint8), True))
    assert error.value.code == "image-channels"


def head(seed: int, gain: float = 1.0, gamma: float = 1.0) -> sitk.Image:
    """Background 0 and three tissues with noise, as another scanner would show them."""
    tissue = np.repeat([0.0, 0.3, 0.6, 0.8], [2000, 500, 1500, 1500])
    array = np.maximum(tissue + 0.02 * np.random.default_rng(seed).normal(size=tissue.shape) * (tissue > 0), 0)
    return photo((gain * array**gamma).reshape(50, 110).astype(np.float32))


def test_nyul_harmonises_scanners() -> None:
    images = [head(0), head(1, 300, 1.3), head(2, 5, 0.8)]
    step = Nyul(above_zero)
    state = json.loads(json.dumps(step.fit(iter(images))))
    step.restore(state)
    assert state["landmarks"][0] == pytest.approx(0.1)
    assert state["landmarks"][-1] == pytest.approx(0.9)
    flat = [values(step(image)).ravel() for image in [*images, head(3, 40, 1.1)]]
    for first, count in ((2500, 1500), (4000, 1500)):
        medians = [np.median(each[first : first + count]) for each in flat]
        assert np.ptp(medians) < 0.02
    assert not any(each[:2000].any() for each in flat)  # outside the field
    assert all(each.min() >= 0 and each.max() <= 1 for each in flat)


def test_nyul_average_landmarks_map_linearly() -> None:
    image = photo(np.linspace(0, 100, 1001, dtype=np.float32)[None])
    step = Nyul(percentiles=(10, 50, 90))
    step.restore(step.fit([image]))
    result = values(step(image)).ravel()
    assert result[[100, 500, 900]] == pytest.approx([0.1, 0.5, 0.9], abs=1e-5)
    np.testing.assert_allclose(result, np.linspace(0, 1, 1001), atol=1e-5)  # the tails go on


def test_nyul_repeated_values_and_constant_image() -> None:
    step = Nyul()
    state = step.fit([head(0), photo(np.full((3, 3), 4.0))])  # the constant one is passed over
    assert state == step.fit([head(0)])
    step.restore(state)
    result = values(step(head(0)))
    assert np.isfinite(result).all()
    assert np.all(np.diff(result.ravel()[np.argsort(values(head(0)).ravel())]) >= -1e-6)
    assert not values(step(photo(np.full((3, 3), 4.0)))).any()


def test_nyul_unfitted_or_invalid_landmarks_raise() -> None:
    with pytest.raises(MedsegError, match="fit it") as error:
        Nyul()(head(0))
    assert error.value.code == "step-unfitted"
    with pytest.raises(MedsegError, match="2 landmarks"):
        Nyul().restore({"landmarks": [0.1, 0.9]})
    with pytest.raises(DataError, match="all training images are constant"):
        Nyul().fit([photo(np.ones((2, 2)))])
    with pytest.raises(ImageError, match="3 channels"):
        Nyul().fit([photo(np.ones((2, 2, 3)), True)])
    with pytest.raises(ValueError, match="rising"):
        Nyul(percentiles=(10, 10, 90))
