import numpy as np
import pytest

from medseg.errors import ImageError
from medseg.features.radiomics.discretization import GrayLevels, directions, discretize, pairs, planes

VALUES = np.array([[0.0, 1.0, 4.0], [9.0, 10.0, 99.0]])
INSIDE = np.array([[True, True, True], [True, True, False]])


def test_a_number_of_bins_spans_the_labels_values():
    levels = discretize(VALUES, INSIDE, bins=5)
    assert levels.array.tolist() == [[1, 1, 3], [5, 5, 0]]
    assert levels.number == 5


def test_bins_of_a_width_start_at_the_least_value():
    levels = discretize(VALUES - 3, INSIDE, width=4.0)
    assert levels.array.tolist() == [[1, 1, 2], [3, 3, 0]]
    assert levels.number == 3


def test_values_on_the_edge_of_a_bin_belong_to_the_upper_one():
    values = np.arange(97.0)  # 32 bins of 3
    levels = discretize(values, np.ones(97, bool))
    assert levels.array.tolist() == [min(int(value) // 3, 31) + 1 for value in values]


def test_one_value_is_one_level_and_too_many_levels_are_refused():
    assert (discretize(np.ones((2, 3)), INSIDE).array[INSIDE] == 1).all()
    with pytest.raises(ImageError, match="wider bin_width"):
        discretize(VALUES, INSIDE, width=1e-6)
    assert not discretize(VALUES, np.zeros_like(INSIDE)).array.any()


def test_directions_are_half_of_all_neighbours():
    for ndim, count in ((2, 4), (3, 13)):
        steps = directions(ndim)
        assert len({*steps, *(tuple(-d for d in step) for step in steps)}) == 2 * count == 3**ndim - 1


def test_pairs_lie_a_step_apart():
    array = np.arange(12).reshape(3, 4)
    near, neighbour = pairs(array, (1, -1))
    assert (neighbour - near == 4 - 1).all()
    assert near.shape == (2, 3)


def test_planes_without_the_label_are_left_out():
    array = np.zeros((4, 2, 3), np.uint8)
    array[:, 1, 0] = 2
    assert [plane.array.tolist() for plane in planes(GrayLevels(array, 2), 1)] == [[[2, 0, 0]] * 4]
