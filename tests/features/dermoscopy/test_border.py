"""Borders whose step, slope and shape are known."""

import numpy as np
import pytest

from medseg.features.dermoscopy.border import (
    ABRUPT,
    BAND,
    SECTORS,
    UNITS,
    border,
    border_profile,
    sector_cutoffs,
    sectors,
)
from medseg.preprocess.colour import to_lab
from tests.features.dermoscopy.drawn import ANGLE, BROWN, DISC, RADIUS, SIZE, SKIN, R, X, Y, colours, view


def lightness(colour):
    return float(to_lab(np.array([[colour]], np.float32) / np.float32(255))[0, 0, 0])


STEP = lightness(SKIN) - lightness(BROWN)  # 34 units of L


def ramp(width, where=DISC | True):
    """Brown turns to skin, evenly in lightness, over `width` of the radius about the border; elsewhere at once."""
    share = np.clip((R / RADIUS - 1) / width + 0.5, 0, 1)
    share = np.where(where, share, R >= RADIUS)
    # evenly in L: grey levels whose L lies on a line
    table = np.array([lightness((level,) * 3) for level in range(256)])
    dark, light = lightness((90,) * 3), lightness((90,) * 3) + STEP
    level = np.interp(dark + share * (light - dark), table, np.arange(256))
    return np.repeat(level[..., None], 3, axis=2)


def test_a_bare_step_is_read_nearly_whole_in_every_sector():
    features = border(view(colours(DISC)))
    assert features["b"] == features["b_judged"] == SECTORS
    for name in ("cutoff_mean", "cutoff_max", *(f"cutoff_{k}" for k in range(SECTORS))):
        assert 0.88 * STEP < features[name] <= STEP  # the bands hold the pixels that the border crosses
    assert features["cutoff_sd"] < 0.05 * STEP
    assert 0.9 < features["abruptness"] <= 1
    assert set(features) == set(UNITS)


@pytest.mark.parametrize("width", [0.2, 0.3, 0.4])
def test_a_slope_gives_its_rise_from_band_to_band(width):
    """Between the means of two bands that touch at the middle of a slope."""
    expected = STEP * (1 - width / (4 * BAND)) if width <= 2 * BAND else STEP * BAND / width
    features = border(view(ramp(width)))
    assert features["cutoff_mean"] == pytest.approx(expected, rel=0.06)
    assert features["b"] == (SECTORS if expected > ABRUPT else 0)
    assert features["abruptness"] == pytest.approx(expected / STEP, rel=0.1)


def test_a_lesion_half_sharp_and_half_fading():
    features = border(view(ramp(0.6, X > 0)))
    assert 3 <= features["b"] <= 5
    assert features["b_judged"] == SECTORS
    assert features["cutoff_max"] > 0.88 * STEP
    assert features["cutoff_sd"] > 0.3 * STEP


def test_no_pigment_has_no_border():
    features = border(view(np.ones((*DISC.shape, 3)) * SKIN))
    assert features["b"] == 0
    assert features["cutoff_mean"] == pytest.approx(0, abs=0.1)
    assert np.isnan(features["abruptness"])


def test_a_border_outside_the_picture_is_not_judged():
    half = slice(SIZE // 2, None)  # the other half of the disc lies beyond the picture's left edge
    features = border(view(colours(DISC)[:, half], DISC[:, half]))
    assert features["b"] == features["b_judged"] == 5  # of the eight about the half disc's centroid
    assert features["cutoff_mean"] == pytest.approx(STEP, rel=0.12)  # the picture's edge is no fading border


def test_sectors_are_centred_on_the_axis():
    degrees = np.array([0.0, 22.0, 23.0, 90.0, 337.0, 338.0])
    assert sectors(np.radians(degrees)).tolist() == [0, 0, 1, 2, 7, 0]
    profile = border_profile(view(colours(DISC)))
    assert np.bincount(profile.sector).tolist() == pytest.approx([len(profile.angle) / SECTORS] * SECTORS, abs=2)
    assert profile.distance == pytest.approx(np.ones(len(profile.distance)), abs=0.03)
    assert np.isfinite(sector_cutoffs(profile)).all()


SQUARE = np.maximum(np.abs(X), np.abs(Y)) < 60
ELLIPSE = np.hypot(X / 90, Y / 45) < 1
CORNER = (np.maximum(np.abs(X), np.abs(Y)) < 70) & ~((X > 0) & (Y > 0))  # an L of three squares
STAR = 70 * (1 + 0.3 * np.sin(9 * ANGLE)) > R


@pytest.mark.parametrize(
    ("shape", "compactness", "solidity", "eccentricity"),
    [
        (DISC, 1, 1, 0),
        (SQUARE, 4 / np.pi, 1, 0),
        (ELLIPSE, None, 1, np.sqrt(0.75)),
        (CORNER, 8**2 / (4 * np.pi * 3), 3 / 3.5, None),
    ],
    ids=["disc", "square", "ellipse", "L"],
)
def test_shapes_have_their_known_measures(shape, compactness, solidity, eccentricity):
    features = border(view(colours(shape), shape))
    if shape is ELLIPSE:  # Ramanujan's perimeter
        h = ((90 - 45) / (90 + 45)) ** 2
        perimeter = np.pi * (90 + 45) * (1 + 3 * h / (10 + np.sqrt(4 - 3 * h)))
        compactness = perimeter**2 / (4 * np.pi * np.pi * 90 * 45)
    assert features["compactness"] == pytest.approx(compactness, rel=0.04)
    assert features["solidity"] == pytest.approx(solidity, abs=0.02)
    if eccentricity is not None:
        assert features["eccentricity"] == pytest.approx(eccentricity, abs=0.03)


def test_a_ragged_outline_is_longer_less_solid_and_fills_more():
    plain, ragged = border(view(colours(DISC))), border(view(colours(STAR), STAR))
    assert plain["radius_variation"] < 0.01
    assert ragged["radius_variation"] == pytest.approx(0.3 / np.sqrt(2), abs=0.03)  # of a sine: its amplitude over √2
    assert ragged["compactness"] > 2 * plain["compactness"]
    assert ragged["solidity"] < 0.85
    assert 1 <= plain["fractal_dimension"] < ragged["fractal_dimension"] < 1.5
