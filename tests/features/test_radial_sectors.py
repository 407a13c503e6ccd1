"""A painted disc whose place, rim and shadow are known."""

import numpy as np
import pytest
import SimpleITK as sitk

from medseg.errors import ImageError
from medseg.features.radial_sectors import SECTORS, frame_features, step_features

Y, X = np.mgrid[:200, :160]
CENTRE = (80, 100)  # y, x
DISC = np.hypot(Y - CENTRE[0], X - CENTRE[1]) < 30


def scene(inside: float = 20, outside: float = 100) -> np.ndarray:
    return np.where(DISC, inside, outside).astype(float)


def as_image(values: np.ndarray) -> sitk.Image:
    return sitk.GetImageFromArray(values.astype(np.float32))


MASK = sitk.GetImageFromArray(DISC.astype(np.uint8))


def place(values: np.ndarray, mask: sitk.Image = MASK) -> dict[str, float]:
    return {name[2:]: value for name, value in frame_features(as_image(values), mask, {"m": 1}).items()}


def test_where_a_disc_lies() -> None:
    features = place(scene())
    assert features["place_x"] == pytest.approx(100 / 160)
    assert features["place_side"] == pytest.approx(0.25)
    assert features["place_depth"] == pytest.approx(80 / 200)
    assert features["place_top"] == pytest.approx(51 / 200)
    assert features["place_edge"] == pytest.approx(30 / 160, abs=0.01)
    assert features["place_share"] == pytest.approx(np.pi * 900 / 32000, rel=0.01)


def test_black_edges_are_no_field() -> None:
    framed = np.pad(scene(), ((40, 0), (0, 60)))
    mask = sitk.GetImageFromArray(np.pad(DISC, ((40, 0), (0, 60))).astype(np.uint8))
    inner, outer = place(scene()), place(framed, mask)
    assert outer == pytest.approx(inner)


@pytest.mark.parametrize(("echo", "sign"), [(30.0, -1), (100.0, 0), (170.0, 1)])
def test_shadow_and_enhancement(echo: float, sign: int) -> None:
    values = scene()
    values[111:, 71:130] = echo
    features = place(values)["behind"]
    assert np.sign(round(features, 3)) == sign


def test_a_disc_is_alike_all_around_and_a_blurred_side_is_found() -> None:
    table = step_features(as_image(scene()), MASK, {"m": 1})
    assert len(table) == SECTORS
    assert table["m.radius"].to_numpy() == pytest.approx(np.ones(SECTORS), abs=0.03)
    level = scene().mean()
    assert table["m.rim_step"].to_numpy() == pytest.approx(np.full(SECTORS, 80 / level), rel=0.02)
    assert table["m.inside"].to_numpy() == pytest.approx(np.full(SECTORS, 20 / level))
    fading = np.clip((np.hypot(Y - CENTRE[0], X - CENTRE[1]) - 15) / 30, 0, 1) * 80 + 20
    half = np.where(CENTRE[1] < X, fading, scene())
    sharp = step_features(as_image(half), MASK, {"m": 1})["m.rim_sharpness"].to_numpy()
    assert sharp[[7, 0, 1]].max() < 0.5 * sharp[[3, 4, 5]].min()


def test_an_absent_label_has_names_and_no_numbers() -> None:
    nothing = sitk.GetImageFromArray(np.zeros_like(DISC, np.uint8))
    assert all(np.isnan(value) for value in place(scene(), nothing).values())
    table = step_features(as_image(scene()), nothing, {"m": 1})
    assert table.drop(columns=["step", "position_mm"]).isna().all(axis=None)
    assert set(table) == set(step_features(as_image(scene()), MASK, {"m": 1}))


def test_a_volume_is_refused() -> None:
    volume = sitk.Image(8, 8, 8, sitk.sitkUInt8)
    with pytest.raises(ImageError, match="volume"):
        step_features(volume, volume, {"m": 1})
