import numpy as np
import pytest
import SimpleITK as sitk

from medseg.preprocess.illumination import Background, Clahe, Graham, Homomorphic

Y, X = np.indices((240, 320)).astype(np.float32)
DISC = np.hypot(Y - 120, X - 160) < 110
GAIN = 0.6 + 0.5 * X / 320 - 0.2 * (Y / 240) ** 2


def field(image: sitk.Image) -> sitk.Image:
    assert image.GetSize() == (320, 240)
    return sitk.GetImageFromArray(DISC.astype(np.uint8))


def picture(colours: tuple[float, ...] = (0.7, 0.4, 0.2)) -> sitk.Image:
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
def test_division_takes_a_smooth_gain_out(colours: tuple[float, ...], kind: str) -> None:
    image = picture(colours)
    flat = Background("divide", kind, 0.15, field)(image)
    assert variation(flat) < 0.1 * variation(image)
    before, after = (sitk.GetArrayFromImage(part)[DISC].mean(axis=0) for part in (image, flat))
    assert after == pytest.approx(before, rel=0.03)
    assert not sitk.GetArrayFromImage(flat)[~DISC].any()


def test_subtraction_takes_an_additive_glow_out() -> None:
    values = np.clip((0.3 + 0.3 * X / 320) * DISC, 0, 1).astype(np.float32)
    flat = Background("subtract", "gaussian", 0.1, field)(sitk.GetImageFromArray(values))
    assert variation(flat) < 0.1 * variation(sitk.GetImageFromArray(values))


def test_small_spots_survive_and_graham_makes_them_stronger() -> None:
    spot = np.hypot(Y - 100, X - 180) < 2
    values = (np.where(spot, 0.3, 0.4) * GAIN * DISC).astype(np.float32)
    for step, least in ((Background(field=field), 0.05), (Graham(field), 0.15)):
        found = sitk.GetArrayFromImage(step(sitk.GetImageFromArray(values)))
        ring = (np.hypot(Y - 100, X - 180) < 8) & (np.hypot(Y - 100, X - 180) > 5)
        assert found[ring].mean() - found[spot].mean() > least


def test_graham_makes_every_light_a_middle_grey() -> None:
    found = sitk.GetArrayFromImage(Graham(field)(picture()))
    assert found[np.hypot(Y - 120, X - 160) < 100].mean() == pytest.approx(0.5, abs=0.01)


def test_the_homomorphic_filter_halves_slow_light_in_the_logarithm() -> None:
    image = picture((0.5,))
    assert variation(Homomorphic(0.5, 1.0, 0.1, field)(image)) == pytest.approx(0.5 * variation(image), rel=0.15)


def test_clahe_raises_contrast_and_leaves_the_hue() -> None:
    texture = 0.4 + 0.03 * np.sin(X / 3)
    values = (np.array((0.8, 0.5, 0.3)) * texture[..., None]).astype(np.float32)
    image = sitk.GetImageFromArray(values, isVector=True)
    found = sitk.GetArrayFromImage(Clahe()(image))
    assert found[..., 1].std() > 1.5 * values[..., 1].std()
    assert (found[..., 0] > found[..., 1]).mean() > 0.99
    assert (found[..., 1] > found[..., 2]).mean() > 0.99


@pytest.mark.parametrize("wrong", [{"mode": "times"}, {"kind": "mean"}])
def test_unknown_ways_are_refused(wrong: dict[str, str]) -> None:
    with pytest.raises(ValueError, match="must be"):
        Background(**wrong)  # type: ignore[arg-type]
