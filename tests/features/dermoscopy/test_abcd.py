"""Painted lesions whose score is known."""

import numpy as np
import pytest
import SimpleITK as sitk

from medseg.errors import ImageError
from medseg.features.dermoscopy.abcd import OF_CASE, SECTOR_UNITS, frame_features, step_features
from medseg.features.dermoscopy.colours import REFERENCES
from tests.features.dermoscopy.drawn import ANGLE, BROWN, DISC, SKIN, R, X, Y, colours, mask_of, picture


def lesion(inside: np.ndarray, *patches: tuple[np.ndarray, tuple[int, int, int]], blur: float = 0) -> sitk.Image:
    """A little grain, so that nothing is exactly flat."""
    from scipy.ndimage import gaussian_filter

    values = colours(inside, *patches)
    return picture(gaussian_filter(values, (blur, blur, 0)) if blur else values, noise=1)


def measured(image: sitk.Image, inside: np.ndarray) -> dict[str, float]:
    features = frame_features(image, mask_of(inside), {"m": 1})
    return {name.removeprefix("m."): value for name, value in features.items()}


def test_a_plain_round_spot_with_a_soft_edge_has_the_lowest_score() -> None:
    features = measured(lesion(DISC, blur=14), DISC)
    assert (features["a"], features["b"], features["c"]) == (0, 0, 1)
    assert features["tds"] == pytest.approx(0.5 + 0.5 * features["d"])
    assert features["compactness"] == pytest.approx(1, abs=0.05)


def test_a_sharp_edge_counts_in_every_sector_and_a_half_sharp_one_in_half() -> None:
    assert measured(lesion(DISC), DISC)["b"] == 8
    values = np.array(SKIN) + np.where(DISC, 1.0, 0.0)[..., None] * (np.array(BROWN) - np.array(SKIN))
    fading = np.clip((110 - R) / 80, 0, 1)[..., None]  # from the middle far into the skin
    soft = np.array(SKIN) + fading * (np.array(BROWN) - np.array(SKIN))
    half = measured(picture(np.where((X > 0)[..., None], values, soft), noise=1), DISC)
    assert 3 <= half["b"] <= 5


@pytest.mark.parametrize("side", ["contour", "colour"])
def test_asymmetry_is_told_from_contour_and_from_colour(side: str) -> None:
    if side == "contour":
        inside = (R < 70) & ~((X > 10) & (Y > 0))  # a quarter is missing
        features = measured(lesion(inside), inside)
        assert features["contour_asymmetry_high"] > 0.05
    else:
        features = measured(lesion(DISC, (X > 0, REFERENCES["black"])), DISC)
        assert features["colour_asymmetry_high"] > 5 * features["colour_asymmetry_low"]
    assert features["a"] >= 1
    assert measured(lesion(DISC), DISC)["a"] == 0


@pytest.mark.parametrize("names", [["light_brown"], ["light_brown", "black"], ["black", "dark_brown", "light_brown"]])
def test_colours_are_counted(names: list[str]) -> None:
    parts = [(np.floor((ANGLE + np.pi) / (2 * np.pi) * len(names)) == k) for k in range(len(names))]
    image = lesion(DISC, *[(where, REFERENCES[name]) for where, name in zip(parts, names, strict=True)])
    features = measured(image, DISC)
    assert features["c"] == len(names)
    for name in names:
        assert features[f"share_{name}"] == pytest.approx(1 / len(names), abs=0.12)


def test_white_counts_only_where_it_is_lighter_than_skin() -> None:
    spot = (np.abs(X) < 30) & (np.abs(Y) < 30)
    bright = lesion(DISC, (spot, (240, 235, 245)))
    assert measured(bright, DISC)["share_white"] > 0.1
    pale = lesion(DISC, (spot, REFERENCES["white"]))
    values = sitk.GetArrayFromImage(pale)
    values[~DISC] = 250  # the skin is lighter still
    assert measured(picture(values.astype(float), noise=1), DISC)["share_white"] == 0


def test_dots_are_counted_and_their_absence_too() -> None:
    spots = np.zeros_like(DISC)
    for k in range(6):
        spots |= np.hypot(Y - 40 * np.sin(k), X - 40 * np.cos(k)) < 6
    features = measured(lesion(DISC, (spots, REFERENCES["black"])), DISC)
    assert features["globules"] == 6
    assert measured(lesion(DISC), DISC)["globules"] == 0


def test_the_diameter_needs_a_scale() -> None:
    image = lesion(DISC)
    assert np.isnan(measured(image, DISC)["diameter_mm"])
    mask = sitk.GetImageFromArray(DISC.astype(np.uint8))
    for sitk_image in (image, mask):
        sitk_image.SetSpacing((0.05, 0.05))
    features = frame_features(image, mask, {"m": 1}, d_mode="diameter")
    assert features["m.diameter_mm"] == pytest.approx(141 * 0.05, rel=0.02)
    assert features["m.d_diameter"] == 5  # capped
    other = frame_features(image, mask, {"m": 1})
    assert features["m.d"] == 5  # which the rule and its sheet read
    assert features["m.tds"] - other["m.tds"] == pytest.approx(0.5 * (5 - other["m.d"]))
    unscaled = frame_features(lesion(DISC), mask_of(DISC), {"m": 1}, d_mode="diameter")
    assert np.isnan(unscaled["m.d_diameter"])
    assert unscaled["m.tds"] == pytest.approx(other["m.tds"])  # structures, where the diameter is unknown


def test_turning_by_a_right_angle_changes_no_score() -> None:
    inside = (R < 70) & ~((X > 10) & (Y > 0))
    image = lesion(inside, (X > 0, REFERENCES["black"]))
    one = measured(image, inside)
    turned = sitk.GetImageFromArray(np.rot90(sitk.GetArrayFromImage(image)).copy(), isVector=True)
    other = measured(turned, np.rot90(inside))
    for name in ("a", "b", "c", "d"):
        assert one[name] == other[name]
    assert one["contour_asymmetry_high"] == pytest.approx(other["contour_asymmetry_high"], abs=0.01)


def test_no_lesion_gives_no_numbers_but_every_name() -> None:
    features = measured(lesion(DISC), np.zeros_like(DISC))
    assert set(features) == set(OF_CASE)
    assert all(np.isnan(value) for value in features.values())


def test_a_half_that_is_not_imaged_leaves_no_score() -> None:
    values = colours(DISC, (Y > 0, REFERENCES["black"]))
    whole = measured(picture(values, noise=1), DISC)
    assert whole["tds"] == pytest.approx(1.3 * 1 + 0.1 * whole["b"] + 0.5 * whole["c"] + 0.5 * whole["d"])
    values[X > 0] = 0  # beyond the field
    features = measured(picture(values, noise=1), DISC)
    assert np.isnan(features["a"])
    assert np.isnan(features["tds"])
    assert np.isfinite([features["b"], features["c"], features["d"]]).all()


def test_sectors_are_the_steps_of_a_sequence() -> None:
    image = lesion(DISC, ((X > 0) & (np.abs(Y) < X * np.tan(np.pi / 8)), REFERENCES["black"]))
    table = step_features(image, sitk.GetImageFromArray(DISC.astype(np.uint8)), {"m": 1})
    assert len(table) == 8
    assert {f"m.{name}" for name in SECTOR_UNITS} <= set(table)
    black = table["m.sector_black"].to_numpy()
    assert np.sort(black)[-1] > 0.5
    assert np.sort(black)[:5].max() < 0.1
    assert table["m.radius"].to_numpy() == pytest.approx(np.ones(8), abs=0.05)


def test_a_volume_is_refused() -> None:
    volume = sitk.Image(8, 8, 8, sitk.sitkUInt8)
    with pytest.raises(ImageError, match="photograph"):
        frame_features(volume, volume, {"m": 1})
