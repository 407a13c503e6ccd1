"""Lesions folded about axes whose asymmetry is known."""

import numpy as np
import pytest

from medseg.features.dermoscopy.asymmetry import LIMITS, UNITS, asymmetry
from medseg.features.dermoscopy.colours import REFERENCES
from medseg.preprocess.colour import to_lab
from tests.features.dermoscopy.drawn import ANGLE, BROWN, DISC, RADIUS, R, X, Y, colours, spots, view

BLACK = REFERENCES["black"]
ELLIPSE = np.hypot(X / 90, Y / 45) < 1
CORNER = (np.maximum(np.abs(X), np.abs(Y)) < 70) & ~((X > 0) & (Y > 0))  # an L of three squares


def measured(inside, *patches):
    return asymmetry(view(colours(inside, *patches), inside))


@pytest.mark.parametrize("shape", [DISC, ELLIPSE], ids=["disc", "ellipse"])
def test_an_even_symmetric_shape_has_no_asymmetry(shape):
    features = measured(shape)
    assert features["a"] == 0
    assert set(features) == set(UNITS)
    for part in ("contour", "colour", "texture"):
        assert features[f"{part}_asymmetry_high"] < 0.15 * LIMITS[("contour", "colour", "texture").index(part)] + 0.02


def test_a_turned_ellipse_is_as_symmetric_as_an_upright_one():
    turned = np.hypot((X + Y) / np.sqrt(2) / 90, (X - Y) / np.sqrt(2) / 45) < 1
    assert measured(turned)["a"] == 0
    assert measured(turned)["contour_asymmetry_high"] < 0.03


def test_an_l_is_symmetric_about_its_diagonal_alone():
    """About the other axis, through the centroid: of three unit squares the part without a partner is known."""
    features = measured(CORNER)
    assert features["contour_asymmetry_low"] < 0.03
    assert features["contour_asymmetry_high"] == pytest.approx(fold_by_pixels(CORNER), abs=0.02)
    assert features["a"] == 1


def fold_by_pixels(inside):
    """Share of an L's pixels without a partner beyond the axis across its diagonal, through its centroid."""
    y, x = (where[inside] for where in (Y, X))
    points = np.stack([x, y], axis=1)
    centre = points.mean(axis=0)
    across = np.array([1.0, 1.0]) / np.sqrt(2)  # at right angles to the axis
    mirrored = points - 2 * ((points - centre) @ across)[:, None] * across
    rows, columns = np.rint(mirrored[:, ::-1] + (inside.shape[0] - 1) / 2).astype(int).T
    within = (rows >= 0) & (rows < inside.shape[0]) & (columns >= 0) & (columns < inside.shape[1])
    there = np.zeros(len(rows), bool)
    there[within] = inside[rows[within], columns[within]]
    return 1 - there.mean()


def test_one_dark_half_is_asymmetric_about_one_axis():
    features = measured(DISC, (X > 0, BLACK))
    assert features["a"] == 1
    brown, black = (to_lab(np.array([[c]], np.float32) / np.float32(255))[0, 0] for c in (BROWN, BLACK))
    distance = float(np.linalg.norm(brown - black))
    assert (
        0.75 * distance < features["colour_asymmetry_high"] < distance
    )  # less where halves, and lesion and skin, blend
    assert features["colour_asymmetry_low"] < 1
    assert features["contour_asymmetry_high"] < 0.02


def test_one_dark_quarter_is_symmetric_about_its_own_bisector():
    features = measured(DISC, ((X > 0) & (Y > 0), BLACK))
    assert features["colour_asymmetry_low"] < 1 < features["colour_asymmetry_high"]
    assert features["a"] == 1


def test_no_axis_through_a_spiral_of_colours():
    dark = (np.sin(ANGLE + 3 * R / RADIUS) > 0) & (R > 10)
    features = measured(DISC, (dark, BLACK))
    assert features["a"] == 2
    assert features["colour_asymmetry_low"] > LIMITS[1]


def test_texture_on_one_half_is_texture_asymmetry():
    stripes = (np.sin(Y * 1.2) > 0) & (X > 0)
    features = measured(DISC, (stripes, (150, 72, 14)))
    assert features["texture_asymmetry_high"] > LIMITS[2] > features["texture_asymmetry_low"]
    assert features["colour_asymmetry_high"] < LIMITS[1]
    assert features["a"] == 1


def test_turned_and_mirrored_it_is_the_same():
    patch = (np.hypot(X - 25, Y - 10) < 25, BLACK)
    values = colours(CORNER, patch)
    one = asymmetry(view(values, CORNER))
    for turned in (lambda a: np.rot90(a).copy(), lambda a: a[:, ::-1].copy()):
        other = asymmetry(view(turned(values), turned(CORNER)))
        assert other["a"] == one["a"]
        for name in ("contour_asymmetry_high", "colour_asymmetry_high"):
            assert other[name] == pytest.approx(one[name], rel=0.1, abs=0.01)


def test_what_is_not_seen_has_no_colour_to_compare():
    lesion = view(colours(DISC, (spots(1, 0.4), BLACK)))
    seen = lesion.seen & ~spots(1, 0.5)
    hidden = asymmetry(lesion._replace(seen=seen))
    assert hidden["colour_asymmetry_high"] < 0.3 * asymmetry(lesion)["colour_asymmetry_high"]
    blind = asymmetry(lesion._replace(seen=np.zeros_like(seen)))
    assert np.isnan(blind["a"])
    assert np.isnan(blind["colour_asymmetry_high"])
    assert blind["contour_asymmetry_high"] < 0.02


@pytest.mark.parametrize("dark", [np.zeros_like(DISC), X > 0, (X > 0) & (Y > 0)], ids=["plain", "half", "quarter"])
def test_a_hidden_half_is_not_symmetric_but_unknown(dark):
    lesion = view(colours(DISC, (dark, BLACK)))
    for hidden in (X > 0, X > 5):
        features = asymmetry(lesion._replace(seen=lesion.seen & ~hidden))
        unknown = {name for name, value in features.items() if np.isnan(value)}
        assert unknown == {name for name in UNITS if not name.startswith("contour")}


def test_axes_about_which_little_is_in_sight_do_not_win():
    """Of the spiral a strip along the edge of what is hidden has little colour to differ by; other axes have."""
    dark = (np.sin(ANGLE + 3 * R / RADIUS) > 0) & (R > 10)
    lesion = view(colours(DISC, (dark, BLACK)))
    assert asymmetry(lesion._replace(seen=lesion.seen & (X < 10)))["a"] == asymmetry(lesion)["a"] == 2


def test_a_hidden_quarter_leaves_enough_to_compare():
    lesion = view(colours(DISC, (Y > 0, BLACK)))
    assert asymmetry(lesion._replace(seen=lesion.seen & ~((X > 0) & (Y > 0))))["a"] == 1


def test_parts_that_no_axis_pairs_are_asymmetric_though_nothing_is_hidden():
    """Three small discs at the corners of a triangle: about the axis across, none has a partner."""
    corners = [(0, -80), (-69.3, 40), (69.3, 40)]
    inside = np.any([np.hypot(X - x, Y - y) < 12 for x, y in corners], axis=0)
    assert measured(inside)["a"] >= 1
