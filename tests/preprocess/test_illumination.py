import cv2
import numpy as np
import pytest
import SimpleITK as sitk
from scipy.ndimage import gaussian_filter

from medseg.errors import ImageError
from medseg.preprocess.colour import to_lab
from medseg.preprocess.illumination import Background, Clahe, Graham, Homomorphic

Y, X = np.indices((240, 320)).astype(np.float32)
DISC = np.hypot(Y - 120, X - 160) < 110
GAIN = 0.6 + 0.5 * X / 320 - 0.2 * (Y / 240) ** 2


def field(image: sitk.Image) -> sitk.Image:
    assert image.GetSize() == (320, 240)
    return sitk.GetImageFromArray(DISC.astype(np.uint8))


def photo(colours: tuple[float, ...] = (0.7, 0.4, 0.2)) -> sitk.Image:
    """A flat scene under uneven light in a black surround."""
    noise = np.random.default_rng(0).normal(0, 0.0005, (*Y.shape, len(colours)))
    values = (np.array(colours) * GAIN[..., None] + noise) * DISC[..., None]
    vector = len(colours) > 1
    return sitk.GetImageFromArray((values if vector else values[..., 0]).clip(0, 1).astype(np.float32), isVector=vector)


def variation(image: sitk.Image) -> float:
    inside = sitk.GetArrayFromImage(image)[np.hypot(Y - 120, X - 160) < 100]
    return float((inside.std(axis=0) / inside.mean(axis=0)).max())


@pytest.mark.parametrize("colours", [(0.7, 0.4, 0.2), (0.5,)])
@pytest.mark.parametrize("kind", ["gaussian", "median"])
def test_background_divide_removes_a_smooth_gain(colours: tuple[float, ...], kind: str) -> None:
    image = photo(colours)
    flat = Background("divide", kind, 0.15, field)(image)
    assert variation(flat) < 0.1 * variation(image)
    before, after = (sitk.GetArrayFromImage(volume)[DISC].mean(axis=0) for volume in (image, flat))
    assert after == pytest.approx(before, rel=0.03)
    assert not sitk.GetArrayFromImage(flat)[~DISC].any()


def test_background_subtract_removes_an_additive_glow() -> None:
    values = np.clip((0.3 + 0.3 * X / 320) * DISC, 0, 1).astype(np.float32)
    flat = Background("subtract", "gaussian", 0.1, field)(sitk.GetImageFromArray(values))
    assert variation(flat) < 0.1 * variation(sitk.GetImageFromArray(values))


def test_graham_amplifies_small_spots() -> None:
    spot = np.hypot(Y - 100, X - 180) < 2
    values = (np.where(spot, 0.3, 0.4) * GAIN * DISC).astype(np.float32)
    for step, least in ((Background(field=field), 0.05), (Graham(field), 0.15)):
        result = sitk.GetArrayFromImage(step(sitk.GetImageFromArray(values)))
        ring = (np.hypot(Y - 100, X - 180) < 8) & (np.hypot(Y - 100, X - 180) > 5)
        assert result[ring].mean() - result[spot].mean() > least


def test_graham_makes_every_illumination_middle_grey() -> None:
    result = sitk.GetArrayFromImage(Graham(field)(photo()))
    assert result[np.hypot(Y - 120, X - 160) < 100].mean() == pytest.approx(0.5, abs=0.01)


def test_homomorphic_halves_low_frequencies_of_the_logarithm() -> None:
    image = photo((0.5,))
    assert variation(Homomorphic(0.5, 1.0, 0.1, field)(image)) == pytest.approx(0.5 * variation(image), rel=0.15)


def test_clahe_raises_contrast_and_keeps_hue() -> None:
    texture = 0.4 + 0.03 * np.sin(X / 3)
    values = (np.array((0.8, 0.5, 0.3)) * texture[..., None]).astype(np.float32)
    image = sitk.GetImageFromArray(values, isVector=True)
    result = sitk.GetArrayFromImage(Clahe()(image))
    assert result[..., 1].std() > 1.5 * values[..., 1].std()
    assert (result[..., 0] > result[..., 1]).mean() > 0.99
    assert (result[..., 1] > result[..., 2]).mean() > 0.99


@pytest.mark.parametrize("wrong", [{"mode": "times"}, {"kind": "mean"}])
def test_illumination_invalid_settings_raise(wrong: dict[str, str]) -> None:
    with pytest.raises(ValueError, match="must be"):
        Background(**wrong)  # type: ignore[arg-type]


@pytest.mark.parametrize("kind", ["gaussian", "median"])
@pytest.mark.parametrize("light", [0.3 + 0.7 * X / 320, 1 - 0.6 * ((Y - 120) ** 2 + (X - 160) ** 2) / 110**2])
def test_background_corrects_the_rim_like_the_middle(kind: str, light: np.ndarray) -> None:
    image = sitk.GetImageFromArray((0.6 * light * DISC).clip(0, 1).astype(np.float32))
    flat, before = (
        sitk.GetArrayFromImage(volume)[DISC] for volume in (Background("divide", kind, 0.15, field)(image), image)
    )
    assert flat.std() / flat.mean() < 0.1 * before.std() / before.mean()
    assert flat.mean() == pytest.approx(before.mean(), rel=1e-3)


def test_illumination_ignores_the_surround() -> None:
    dark = sitk.GetArrayFromImage(photo((0.5,)))
    result = [
        sitk.GetArrayFromImage(step(sitk.GetImageFromArray(np.where(DISC, dark, surround).astype(np.float32))))
        for surround in (0.0, 0.9)
        for step in (Background(field=field), Graham(field), Homomorphic(field=field), Clahe(field=field))
    ]
    for black, bright in zip(result[:4], result[4:], strict=True):
        assert black == pytest.approx(bright, abs=1e-5)


def test_illumination_does_not_depend_on_image_size() -> None:
    y, x = np.indices((480, 640)).astype(np.float32) / 2
    large = (0.3 + 0.2 * np.sin(x / 40) + 0.1 * y / 240).astype(np.float32)
    for step in (Background(), Graham(), Clahe()):
        small = sitk.GetArrayFromImage(step(sitk.GetImageFromArray(large[::2, ::2])))
        result = sitk.GetArrayFromImage(step(sitk.GetImageFromArray(large)))[::2, ::2]
        assert np.abs(small - result)[8:-8, 8:-8].max() < 0.03


def test_graham_subtracts_a_mean_of_a_thirtieth_of_the_radius() -> None:
    """Against the formula itself, in the middle of a disc of radius 110, where no rim is near."""
    noise = gaussian_filter(np.random.default_rng(3).normal(0, 1, Y.shape), 1.5).astype(np.float32)
    values = 0.5 + 0.02 * noise / noise.std()
    expected = 4 * values - 4 * gaussian_filter(values, 110 / 30) + 0.5
    result = sitk.GetArrayFromImage(Graham(field)(sitk.GetImageFromArray(values)))
    middle = np.hypot(Y - 120, X - 160) < 80
    assert np.corrcoef(result[middle], expected[middle])[0, 1] > 0.99
    assert result[middle].std() == pytest.approx(expected[middle].std(), rel=0.05)


def test_illumination_of_lightness_keeps_hue() -> None:
    image = photo((0.6, 0.45, 0.35))
    for step in (Background(field=field, channels="lightness"), Clahe(1.5, 4, field)):
        before, after = (to_lab(sitk.GetArrayFromImage(volume)) for volume in (image, step(image)))
        assert np.abs(after[..., 1:] - before[..., 1:])[DISC].max() < 0.5  # of about 200
        assert np.abs(after[..., 0] - before[..., 0])[DISC].max() > 2
    assert variation(Background(field=field, channels="lightness")(image)) < 0.5 * variation(image)


@pytest.mark.parametrize("clip", [1.5, 4.0])
def test_clahe_agrees_with_an_independent_implementation(clip: float) -> None:
    texture = gaussian_filter(np.random.default_rng(0).normal(size=(320, 480)), 3)
    levels = np.round(60 + 120 * (texture - texture.min()) / np.ptp(texture)).astype(np.uint8)
    expected = cv2.createCLAHE(clip, (8, 8)).apply(levels) / 255
    result = sitk.GetArrayFromImage(Clahe(clip, 8)(sitk.GetImageFromArray((levels / 255).astype(np.float32))))
    assert np.corrcoef(result.ravel(), expected.ravel())[0, 1] > 0.998
    assert np.abs(result - expected).mean() < 0.02  # that one rounds its limit and its levels


@pytest.mark.parametrize("size", [40, 160, 640])
def test_clahe_noise_gain_does_not_depend_on_size(size: int) -> None:
    values = np.random.default_rng(0).normal(0.5, 0.005, (size, size)).astype(np.float32)
    result = sitk.GetArrayFromImage(Clahe(2.0, 4)(sitk.GetImageFromArray(values)))
    assert result.std() < 3.05 * values.std()  # what is clipped is spread over all levels, which adds 1 at most


def test_illumination_slices_are_independent() -> None:
    planes = np.stack([sitk.GetArrayFromImage(photo((level,))) for level in (0.3, 0.5)])
    volume = sitk.GetImageFromArray(planes)
    volume.SetSpacing((1.0, 2.0, 3.0))
    inside = sitk.GetImageFromArray(np.stack([DISC, DISC]).astype(np.uint8))
    for make in (Background, Graham, Homomorphic, Clahe):
        result = make(field=lambda _: inside)(volume)
        assert result.GetSpacing() == volume.GetSpacing()
        for plane, filtered in zip(planes, sitk.GetArrayFromImage(result), strict=True):
            alone = sitk.GetArrayFromImage(make(field=field)(sitk.GetImageFromArray(plane)))
            assert filtered == pytest.approx(alone, abs=1e-6)


@pytest.mark.parametrize("size", [(1, 1), (3, 40), (9, 2)])
@pytest.mark.parametrize("components", [1, 3])
def test_illumination_tiny_and_black_images_pass(size: tuple[int, int], components: int) -> None:
    image = sitk.Image(size, sitk.sitkVectorFloat32 if components > 1 else sitk.sitkFloat32, components)
    for step in (Background(), Background(kind="median"), Graham(), Homomorphic(), Clahe()):
        result = step(image)
        assert result.GetSize() == size
        assert np.isfinite(sitk.GetArrayFromImage(result)).all()


def test_illumination_values_outside_0_1_raise() -> None:
    with pytest.raises(ImageError, match=r"0\.\.200"):
        Clahe()(sitk.GetImageFromArray(np.array([[0, 200]], np.float32)))
    with pytest.raises(ImageError, match="2 channels"):
        Graham()(sitk.Image([4, 4], sitk.sitkVectorFloat32, 2))
    with pytest.raises(ValueError, match="each or lightness"):
        Background(channels="hue")
    with pytest.raises(ValueError, match="at least 1"):
        Clahe(0.5)
