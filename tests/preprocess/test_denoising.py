from collections.abc import Callable

import numpy as np
import numpy.typing as npt
import pytest
import SimpleITK as sitk
from scipy import ndimage

from medseg.errors import ImageError
from medseg.preprocess.denoising import Lee, Median, NonLocalMeans, Srad, noise_level
from medseg.typing import FloatArray

Step = Callable[[sitk.Image], sitk.Image]
STEPS: list[Step] = [Median(), NonLocalMeans(distance=2), Lee(), Srad(steps=5)]
LOOKS = 16.0
TISSUE = np.where(np.arange(96) < 48, 0.2, 0.6) * np.ones((96, 1))  # an edge between columns 47 and 48
SIDES = (np.s_[8:-8, 8:40], np.s_[8:-8, 56:-8])


def image(array: npt.NDArray[np.generic], vector: bool = False) -> sitk.Image:
    return sitk.GetImageFromArray(array.astype(np.float32), isVector=vector)


def values(of: sitk.Image) -> FloatArray:
    return np.asarray(sitk.GetArrayFromImage(of), np.float64)


def speckled(seed: int = 0) -> FloatArray:
    """Two tissues under speckle of 16 looks: its standard deviation is a quarter of the mean."""
    return np.asarray(TISSUE * np.random.default_rng(seed).gamma(LOOKS, 1 / LOOKS, TISSUE.shape))


def variation(plane: FloatArray, side: tuple[slice, slice]) -> float:
    return float(plane[side].std() / plane[side].mean())


def test_median_removes_impulses_and_keeps_an_edge() -> None:
    noisy = TISSUE.copy()
    noisy[10::9, 5::9] = 1.0
    assert np.array_equal(values(Median()(image(noisy))), values(image(TISSUE)))


def test_median_is_in_plane_or_3d() -> None:
    volume = np.random.default_rng(0).integers(0, 200, (5, 9, 8)).astype(np.uint8)
    flat, cube = (sitk.GetArrayFromImage(Median(1, across)(sitk.GetImageFromArray(volume))) for across in (False, True))
    assert flat.dtype == np.uint8
    assert np.array_equal(flat, ndimage.median_filter(volume, (1, 3, 3), mode="nearest"))
    assert np.array_equal(cube, ndimage.median_filter(volume, 3, mode="nearest"))


@pytest.mark.parametrize(
    ("step", "factor"), [(Lee(2), 3.0), (Lee(3, LOOKS), 3.0), (Srad(), 3.0), (Srad(steps=120, speckle=0.25), 5.0)]
)
def test_speckle_filters_reduce_speckle_and_keep_edges(step: Step, factor: float) -> None:
    noisy = speckled()
    result = values(step(image(noisy)))
    for side in SIDES:
        assert variation(result, side) < variation(noisy, side) / factor
        assert result[side].mean() == pytest.approx(noisy[side].mean(), rel=0.03)
    profile = result[8:-8].mean(axis=0)
    assert profile[50:54].mean() - profile[42:46].mean() > 0.9 * 0.4  # the contrast
    assert int(np.argmax(np.diff(profile))) == 47  # the place
    assert profile[48] - profile[47] > 0.7 * 0.4  # most of it from one pixel to the next; a Gaussian leaves 0.4


def test_srad_without_speckle_estimates_it() -> None:
    result, fixed = (values(Srad(speckle=speckle)(image(speckled()))) for speckle in (None, 0.25))
    assert np.sqrt(((result - fixed) ** 2).mean()) < 0.01


def test_lee_agrees_with_its_formula_at_one_pixel() -> None:
    noisy = speckled()
    square = noisy[18:23, 28:33].astype(np.float32).astype(np.float64)
    mean, speckle = square.mean(), 1 / LOOKS
    signal = max((square.var() + mean**2) / (1 + speckle) - mean**2, 0)
    expected = mean + signal / (signal + mean**2 * speckle) * (square[2, 2] - mean)
    assert values(Lee(2, LOOKS)(image(noisy)))[20, 30] == pytest.approx(expected, rel=1e-5)


def test_srad_agrees_with_its_formula_at_one_pixel() -> None:
    plane = np.full((5, 5), 0.5)
    plane[2, 2] = 0.9
    plane = plane.astype(np.float32).astype(np.float64)
    shifted = plane + 1e-3 * plane.mean()

    def c(y: int, x: int) -> float:
        here = shifted[y, x]
        d = np.array([shifted[y - 1, x], shifted[y + 1, x], shifted[y, x - 1], shifted[y, x + 1]]) - here
        g, el = (d**2).sum() / here**2, d.sum() / here
        q2 = (g / 2 - el**2 / 16) / (1 + el / 4) ** 2
        return float(min(1.0, 1 / (1 + (q2 - 0.09) / (0.09 * 1.09))))

    drop = shifted[1, 2] - shifted[2, 2]
    expected = plane[2, 2] + 0.2 / 4 * drop * (c(2, 2) + c(3, 2) + c(2, 2) + c(2, 3))
    result = values(Srad(steps=1, rate=0.2, speckle=0.3)(image(plane)))
    assert result[2, 2] == pytest.approx(expected, rel=1e-5)


@pytest.mark.parametrize("gain", [0.01, 255.0])
@pytest.mark.parametrize("step", STEPS)
def test_denoising_does_not_depend_on_gain(step: Step, gain: float) -> None:
    noisy = speckled()[:32, 32:64]
    assert values(step(image(gain * noisy))) == pytest.approx(gain * values(step(image(noisy))), rel=1e-3)


@pytest.mark.parametrize("colours", [1, 3])
def test_non_local_means_reduces_the_error_of_a_phantom(colours: int) -> None:
    y, x = np.indices((80, 80))
    clean = 0.3 + 0.4 * (np.hypot(y - 40, x - 40) < 25) + 0.1 * (x // 20 % 2)
    clean = clean[..., None] * np.linspace(1, 0.6, colours)
    noisy = clean + np.random.default_rng(1).normal(0, 0.05, clean.shape)
    phantom = image(noisy, True) if colours > 1 else image(noisy[..., 0])
    result = values(NonLocalMeans()(phantom)).reshape(clean.shape)

    def psnr(array: FloatArray) -> float:
        return float(-10 * np.log10(((array - clean) ** 2).mean()))

    assert psnr(result) > psnr(noisy) + 8
    assert noise_level(noisy) == pytest.approx(0.05, rel=0.1)


def test_noise_level_of_a_mostly_black_image() -> None:
    plane = np.zeros((100, 100, 1))
    plane[:30] = 0.5 + np.random.default_rng(0).normal(0, 0.02, (30, 100, 1))
    assert noise_level(plane) == pytest.approx(0.02, rel=0.1)


@pytest.mark.parametrize("step", STEPS)
@pytest.mark.parametrize("level", [0.0, 0.1, 200.0])
def test_denoising_constant_image_is_unchanged(step: Step, level: float) -> None:
    for phantom in (image(np.full((9, 7), level)), image(np.full((9, 7, 3), level), True)):
        assert values(step(phantom)) == pytest.approx(values(phantom), rel=1e-6)


@pytest.mark.parametrize("step", STEPS)
@pytest.mark.parametrize("shape", [(1, 1), (1, 7), (6, 5), (3, 6, 5)])
@pytest.mark.parametrize("colour", [False, True])
def test_denoising_keeps_geometry_and_input_and_is_finite(step: Step, shape: tuple[int, ...], colour: bool) -> None:
    array = np.random.default_rng(2).random((*shape, 3) if colour else shape)
    array[array < 0.3] = 0
    phantom = image(array, colour)
    phantom.SetSpacing([0.5, 2.0, 3.0][: len(shape)])
    phantom.SetOrigin([1.0, -2.0, 5.0][: len(shape)])
    before = values(phantom)
    result = step(phantom)
    assert np.array_equal(values(phantom), before)
    assert np.isfinite(values(result)).all()
    assert (result.GetSize(), result.GetSpacing(), result.GetOrigin(), result.GetDirection()) == (
        phantom.GetSize(), phantom.GetSpacing(), phantom.GetOrigin(), phantom.GetDirection(),
    )  # fmt: skip
    assert result.GetPixelID() == phantom.GetPixelID()


@pytest.mark.parametrize("step", STEPS)
def test_denoising_slices_and_colours_are_independent(step: Step) -> None:
    planes = np.random.default_rng(3).random((3, 12, 10))
    alone = np.stack([values(step(image(plane))) for plane in planes])
    assert values(step(image(planes))) == pytest.approx(alone)
    if not isinstance(step, NonLocalMeans):  # it compares colours together
        assert np.moveaxis(values(step(image(np.moveaxis(planes, 0, -1), True))), -1, 0) == pytest.approx(alone)


@pytest.mark.parametrize("step", [Lee(), Srad()])
def test_speckle_filters_negative_values_raise(step: Step) -> None:
    with pytest.raises(ImageError, match=r"negative values .-3.*Photo or Percentiles"):
        step(image(np.array([[-3.0, 4.0]])))


@pytest.mark.parametrize(
    ("make", "wrong"),
    [
        (Median, {"radius": 0}),
        (NonLocalMeans, {"strength": 0.0}),
        (NonLocalMeans, {"patch": 4}),
        (NonLocalMeans, {"distance": 0}),
        (Lee, {"radius": 0}),
        (Lee, {"looks": 0.0}),
        (Srad, {"steps": 0}),
        (Srad, {"rate": 1.5}),
        (Srad, {"speckle": -1.0}),
    ],
)
def test_wrong_settings_are_refused(make: Callable[..., Step], wrong: dict[str, float]) -> None:
    with pytest.raises(ValueError, match="must be"):
        make(**wrong)
