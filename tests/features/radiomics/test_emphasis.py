import numpy as np
import pytest

from medseg.features.radiomics.emphasis import Elements, emphasis, table


def test_two_elements_by_hand():
    features = emphasis("x", Elements(np.array([1, 2]), np.array([1, 4]), 5))
    assert features["x_small_emphasis"] == pytest.approx((1 + 1 / 16) / 2)
    assert features["x_large_low_grey_emphasis"] == pytest.approx((1 + 4) / 2)
    assert features["x_percentage"] == pytest.approx(2 / 5)
    assert features["x_variance"] == pytest.approx(1.5**2)
    assert features["x_entropy"] == pytest.approx(1)


def test_sizes_far_apart_are_counted_like_near_ones():
    level, size = np.array([1, 1, 3, 3]), np.array([2, 2, 2, 9_000_000])
    assert [part.tolist() for part in table(Elements(level, size, 4))] == [[1, 3, 3], [2, 2, 9_000_000], [2, 1, 1]]


def test_no_element_gives_no_number():
    empty = np.zeros(0, int)
    assert np.isnan(list(emphasis("x", Elements(empty, empty, 0)).values())).all()
