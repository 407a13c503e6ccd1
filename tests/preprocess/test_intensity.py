import json

import numpy as np
import pytest
import SimpleITK as sitk

from medseg.errors import ImageError, MedsegError
from medseg.preprocess.intensity import Nyul, Percentiles, Photo, Window, ZScore


def test_a_window_maps_hounsfield_units_to_0_1() -> None:
    image = sitk.GetImageFromArray(np.array([[-2000, -1000, -300, 400, 3000]], np.int16))
    assert sitk.GetArrayFromImage(Window(-1000, 400)(image)).ravel() == pytest.approx([0, 0, 0.5, 1, 1])


def test_percentiles_ignore_outliers_and_survive_constants() -> None:
    values = np.append(np.linspace(10, 20, 999), 1e6).astype(np.float32)
    result = sitk.GetArrayFromImage(Percentiles(0.5, 99.5)(sitk.GetImageFromArray(values[None])))
    assert (result.min(), result.max()) == (0, 1)
    assert np.median(result) == pytest.approx(0.5, abs=0.01)
    assert not sitk.GetArrayFromImage(Percentiles()(sitk.GetImageFromArray(np.full((3, 3), 5.0)))).any()


@pytest.mark.parametrize("make", [lambda: Window(1, 1), lambda: Percentiles(60, 40), lambda: Percentiles(0, 101)])
def test_an_empty_range_is_refused(make: object) -> None:
    with pytest.raises(ValueError, match=r"low must be below high|need 0 <= low"):
        make()  # type: ignore[operator]


def picture(array: np.ndarray) -> sitk.Image:
    return sitk.GetImageFromArray(array, isVector=array.ndim == 3)


@pytest.mark.parametrize(
    ("array", "wanted"),
    [
        (np.array([[0, 255]], np.uint8), [0.0, 1.0]),
        (np.array([[0, 51]], np.uint8), [0.0, 0.2]),
        (np.array([[0, 65535]], np.uint16), [0.0, 1.0]),
        (np.array([[0, 4095]], np.uint16), [0.0, 1.0]),  # 12 bits in 16
        (np.array([[0.25, 0.5]], np.float32), [0.25, 0.5]),
        (np.array([[-10.0, 30.0]], np.float32), [0.0, 1.0]),
    ],
)
def test_a_grey_picture_is_scaled_by_its_type(array: np.ndarray, wanted: list[float]) -> None:
    assert sitk.GetArrayFromImage(Photo(colour=False)(picture(array)))[0] == pytest.approx(wanted)


def test_colour_and_grey_and_transparency_become_three_components() -> None:
    grey = Photo(colour=True)(picture(np.array([[51, 255]], np.uint8)))
    assert grey.GetNumberOfComponentsPerPixel() == 3
    assert sitk.GetArrayFromImage(grey)[0, 0] == pytest.approx([0.2] * 3)
    clear = Photo(colour=True)(picture(np.array([[[255, 51, 0, 0], [255, 51, 0, 255]]], np.uint8)))
    assert sitk.GetArrayFromImage(clear)[0, 0].tolist() == [0, 0, 0]
    assert sitk.GetArrayFromImage(clear)[0, 1] == pytest.approx([1.0, 0.2, 0.0])


def test_grey_in_three_components_is_grey_and_colour_is_not() -> None:
    same = Photo(colour=False)(picture(np.full((2, 2, 3), 51, np.uint8)))
    assert same.GetNumberOfComponentsPerPixel() == 1
    with pytest.raises(ImageError, match="grey is wanted"):
        Photo(colour=False)(picture(np.array([[[255, 51, 0]]], np.uint8)))


def half(image: sitk.Image) -> sitk.Image:
    mask = np.zeros(sitk.GetArrayViewFromImage(image).shape, np.uint8)
    mask[:, 2:] = 1
    return sitk.GetImageFromArray(mask)


def test_the_z_score_counts_inside_the_field_only() -> None:
    image = picture(np.array([[900.0, 900.0, 10.0, 30.0]], np.float32))
    found = sitk.GetArrayFromImage(ZScore(half, clip=4.0)(image))[0]
    assert found == pytest.approx([0.0, 0.0, 0.5 - 1 / 8, 0.5 + 1 / 8])
    assert sitk.GetArrayFromImage(ZScore()(picture(np.full((2, 2), 7.0, np.float32)))) == pytest.approx(0.5)


def test_nyul_undoes_gain_and_offset_of_a_scanner() -> None:
    rng = np.random.default_rng(0)
    tissue = rng.gamma(3.0, 1.0, (3, 40, 40)).astype(np.float32)
    scans = [picture(part * gain + shift) for part, gain, shift in zip(tissue, (1, 40, 7), (0, 100, -3), strict=True)]
    step = Nyul()
    with pytest.raises(MedsegError, match="fit it"):
        step(scans[0])
    state = step.fit(scans)
    step.restore(state)
    medians = [float(np.median(sitk.GetArrayFromImage(step(scan)))) for scan in scans]
    assert max(medians) - min(medians) < 0.005
    again = Nyul()
    again.restore(json.loads(json.dumps(state)))
    assert np.array_equal(sitk.GetArrayFromImage(again(scans[1])), sitk.GetArrayFromImage(step(scans[1])))
    assert sitk.GetArrayFromImage(step(scans[2])).min() >= 0
    assert sitk.GetArrayFromImage(step(scans[2])).max() <= 1
