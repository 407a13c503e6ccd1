import numpy as np
import pytest

from medseg.features.radiomics.discretization import GrayLevels
from medseg.features.radiomics.glszm import UNITS, glszm_features


def test_zones_hang_together_by_corners_and_end_at_another_level():
    features = glszm_features(GrayLevels(np.array([[1, 2, 2], [2, 1, 2], [0, 0, 1]], np.uint8), 2))
    # two zones: the three ones on the diagonal, and the four twos around them
    assert features["glszm_percentage"] == pytest.approx(2 / 7)
    assert features["glszm_large_emphasis"] == pytest.approx((9 + 16) / 2)
    assert set(features) == set(UNITS)


def test_a_zones_distance_is_that_of_its_voxel_nearest_to_outside():
    array = np.ones((7, 7), np.uint8)
    array[2:5, 2:5] = 2
    array[3, 3] = 3
    features = glszm_features(GrayLevels(array, 3))
    assert features["gldzm_large_emphasis"] == pytest.approx((1 + 9 + 16) / 3)
    assert features["gldzm_grey_variance"] == pytest.approx(2 / 3)
