"""Painted reference colours, each counted once."""

import numpy as np
import pytest

from medseg.features.dermoscopy.colours import LEAST_SHARE, REFERENCES, UNITS, nearest_colour, references, six_colours
from tests.features.dermoscopy.drawn import ANGLE, DISC, RADIUS, R, X, Y, colours, view

NAMES = list(REFERENCES)


def measured(*patches):
    return six_colours(view(colours(DISC, *patches)))


@pytest.mark.parametrize("name", NAMES)
def test_a_lesion_of_one_reference_has_one_colour(name):
    features = measured((DISC, REFERENCES[name]))
    assert features["c"] == 1
    if name != "white":  # as light as skin: white needs to be lighter
        assert features[f"share_{name}"] > 0.9
    assert set(features) == set(UNITS)


def test_six_sectors_of_six_references_are_six_colours():
    turn = np.floor((ANGLE + np.pi) / (2 * np.pi) * 6)
    values = colours(DISC, *[(turn == k, REFERENCES[name]) for k, name in enumerate(NAMES)])
    values[~DISC] = (150, 120, 110)  # darker skin, so that white stands out
    features = six_colours(view(values))
    assert features["c"] == 6
    assert [features[f"share_{name}"] for name in NAMES] == pytest.approx([1 / 6] * 6, abs=0.05)
    assert features["colour_entropy"] == pytest.approx(np.log2(6), abs=0.1)


def test_shades_of_one_colour_are_counted_once():
    """A threshold on the distance would count red and dark brown as well as light brown."""
    shades = [(155, 78, 16), (163, 82, 16), (170, 88, 22), (158, 84, 20)]
    turn = np.floor((ANGLE + np.pi) / (2 * np.pi) * 4)
    features = measured(*[(turn == k, shade) for k, shade in enumerate(shades)])
    assert features["c"] == 1
    assert features["share_light_brown"] > 0.95


@pytest.mark.parametrize(("share", "count"), [(0.03, 1), (0.09, 2)])
def test_a_colour_counts_from_a_twentieth_of_the_lesion(share, count):
    spot = np.hypot(X, Y) < RADIUS * np.sqrt(share)
    features = measured((spot, REFERENCES["black"]))
    assert features["c"] == count
    assert (features["share_black"] >= LEAST_SHARE) is (count == 2)


def test_what_is_like_no_reference_has_no_colour_and_counts_as_one():
    features = measured((DISC, (40, 200, 40)))
    assert sum(features[f"share_{name}"] for name in NAMES) < 0.01
    assert features["c"] == 1


def test_white_is_lighter_and_blue_grey_bluer_than_the_skin_around():
    patch = (R < 40, REFERENCES["white"])
    for skin, there in (((120, 100, 90), True), ((235, 220, 215), False)):
        values = colours(DISC, patch)
        values[~DISC] = skin
        assert (six_colours(view(values))["share_white"] > 0.2) is there
    patch = (R < 40, REFERENCES["blue_grey"])
    for skin, there in (((224, 186, 164), True), ((110, 105, 150), False)):
        values = colours(DISC, patch)
        values[~DISC] = skin
        assert (six_colours(view(values))["share_blue_grey"] > 0.2) is there


def test_the_nearest_reference_is_the_nearest_in_lab():
    lesion = view(colours(DISC))
    assert nearest_colour(lesion)[120, 120] == NAMES.index("light_brown")
    assert references().shape == (6, 3)
    distance = np.linalg.norm(references()[:, None] - references()[None], axis=-1)
    assert distance[~np.eye(6, dtype=bool)].min() > 10


def test_differences_to_skin_and_spread_are_known():
    lesion = view(colours(DISC))
    features = six_colours(lesion)
    expected = lesion.lab[120, 120] - lesion.around
    assert [features[f"skin_d{axis}"] for axis in "Lab"] == pytest.approx(expected.tolist(), abs=1.5)
    assert features["skin_contrast"] == pytest.approx(np.linalg.norm(expected), abs=1.5)
    assert features["colour_spread"] < 5 < measured((X > 0, REFERENCES["black"]))["colour_spread"]
    half = measured((X > 0, REFERENCES["black"]))
    step = abs(lesion.lab[120, 120, 0] - view(colours(DISC, (DISC, REFERENCES["black"]))).lab[120, 120, 0])
    assert half["lightness_range"] == pytest.approx(step, rel=0.2)


def test_skin_that_is_not_seen_gives_no_differences():
    lesion = view(colours(DISC))._replace(around=np.full(3, np.nan, np.float32))
    features = six_colours(lesion)
    assert np.isnan(features["skin_dL"])
    assert features["share_light_brown"] > 0.9
