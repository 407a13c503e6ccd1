"""Structures drawn by hand: how many there are is known."""

import numpy as np
import pytest

from medseg.features.axial import diameter
from medseg.features.dermoscopy.colours import REFERENCES
from medseg.features.dermoscopy.structures import UNITS, structures
from tests.features.dermoscopy.drawn import ANGLE, DISC, RADIUS, R, X, Y, colours, meshes, picture, spokes, spots, view

BLACK, DARK = REFERENCES["black"], REFERENCES["dark_brown"]


def measured(*patches, scale=None):
    return structures(view(colours(DISC, *patches)), scale)


def counts(found):
    return {name: found[name] for name in ("streaks", "dots", "globules")}


def test_a_plain_disc_is_without_structure_up_to_its_border():
    features = measured()
    assert features["structureless_share"] == 1
    assert features["network_share"] == features["streaks"] == features["dots"] == features["globules"] == 0
    assert features["d"] == 1
    assert set(features) == set(UNITS)


@pytest.mark.parametrize("wide", [1, 2, 3, 5])
@pytest.mark.parametrize("count", [3, 8])
def test_streaks_of_any_width_are_counted_one_by_one(count, wide):
    features = measured((spokes(count, wide), BLACK))
    assert counts(features) == {"streaks": count, "dots": 0, "globules": 0}  # their ends are no dots
    assert features["network_share"] < 0.005


def test_streaks_lie_in_the_outer_third_are_long_and_run_outwards():
    assert measured((spokes(8, 2, 0.2, 0.5), BLACK))["streaks"] == 0
    assert measured((spokes(8, 2, 0.88, 1.0), BLACK))["streaks"] == 0
    around = (np.abs(R - 0.85 * RADIUS) < 1.5) & (np.sin(4 * ANGLE) > 0)
    assert measured((around, BLACK))["streaks"] == 0


@pytest.mark.parametrize(("across", "kind"), [(0.03, "dots"), (0.04, "dots"), (0.08, "globules"), (0.15, "globules")])
def test_round_spots_are_dots_or_globules_by_their_width(across, kind):
    features = measured((spots(6, across), BLACK))
    assert counts(features) == {"streaks": 0, "dots": 0, "globules": 0} | {kind: 6}
    assert features["network_share"] < 0.005


def test_light_and_long_spots_are_none():
    assert counts(measured((spots(6, 0.1), (240, 200, 180)))) == {"streaks": 0, "dots": 0, "globules": 0}
    bars = (np.abs(X) < 0.3 * RADIUS) & (np.abs(np.abs(Y) - 20) < 2)
    assert counts(measured((bars, BLACK))) == {"streaks": 0, "dots": 0, "globules": 0}


def test_a_network_is_seen_where_it_is():
    features = measured((meshes(), DARK))
    assert features["network_share"] > 0.5
    assert features["structureless_share"] == 0
    assert counts(features) == {"streaks": 0, "dots": 0, "globules": 0}  # its crossings are no dots
    half = measured((meshes() & (X > 0), DARK))
    assert half["network_share"] == pytest.approx(features["network_share"] / 2, rel=0.25)
    assert half["structureless_share"] == pytest.approx(0.45, abs=0.1)


def test_points_are_structures_that_are_there():
    assert measured((spots(6, 0.1), BLACK))["d"] == 2  # globules and structureless parts
    both = (spots(6, 0.1, 0.3), BLACK), (spokes(8, 2), BLACK)
    assert measured(*both)["d"] == 3
    assert measured((meshes(), DARK))["d"] == 1


def test_grain_is_not_the_border():
    plain, grained = measured()["grain"], structures(view_of_noise(4.0), None)["grain"]
    assert plain == pytest.approx(0, abs=0.01)
    assert grained > 1


def view_of_noise(noise):
    from medseg.features.dermoscopy.lesion import lesions
    from tests.features.dermoscopy.drawn import mask_of

    return next(lesion for _, lesion in lesions(picture(colours(DISC), noise), mask_of(DISC), {"m": 1}))


def test_the_diameter_is_that_of_the_longest_chord():
    box = np.zeros((40, 60), bool)
    box[5:15, 10:50] = True
    assert diameter(box) == pytest.approx(np.hypot(9, 39) + 1)
    features = measured()
    assert features["diameter_px"] == pytest.approx(2 * RADIUS, abs=1)
    assert np.isnan(features["diameter_mm"])
    assert np.isnan(features["d_diameter"])  # unknown without a scale, never invented
    small, large = measured(scale=0.02), measured(scale=0.1)
    assert small["d_diameter"] == small["diameter_mm"] == pytest.approx(features["diameter_px"] * 0.02)
    assert (large["diameter_mm"], large["d_diameter"]) == (pytest.approx(features["diameter_px"] * 0.1), 5)
