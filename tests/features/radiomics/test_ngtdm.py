import numpy as np
import pytest

from medseg.features.radiomics.discretization import GrayLevels
from medseg.features.radiomics.ngtdm import UNITS, dependences, differences, ngtdm_features

CROSS = np.array([[0, 1, 0], [1, 3, 1], [0, 1, 0]], np.uint8)


def test_differences_are_to_the_mean_of_the_neighbours_in_the_label():
    level, number, difference = differences(GrayLevels(CROSS, 3))
    # each 1 has the 3 and two ones beside it, the 3 has four ones
    assert level.tolist() == [1, 3]
    assert number.tolist() == [4, 1]
    assert difference == pytest.approx([4 * (5 / 3 - 1), 2])


def test_dependences_count_like_neighbours_and_the_voxel_itself():
    found = dependences(CROSS)
    assert sorted(zip(found.level.tolist(), found.size.tolist(), strict=True)) == [(1, 3)] * 4 + [(3, 1)]


def test_a_lone_voxel_has_no_tone_difference():
    features = ngtdm_features(GrayLevels(np.array([[1, 0, 2]], np.uint8), 2))
    assert np.isnan([features[f"ngtdm_{name}"] for name in ("coarseness", "contrast", "complexity")]).all()
    assert features["ngldm_small_emphasis"] == 1
    assert set(features) == set(UNITS)
