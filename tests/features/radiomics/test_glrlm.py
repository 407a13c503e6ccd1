from collections import Counter
from itertools import product

import numpy as np
import pytest

from medseg.features.radiomics.discretization import GrayLevels, directions
from medseg.features.radiomics.glrlm import runs


def by_hand(array):
    """Runs voxel by voxel."""
    found = Counter()
    inside = [tuple(where) for where in product(*map(range, array.shape)) if array[where] > 0]
    levels = {where: int(array[where]) for where in inside}
    for step in directions(array.ndim):
        for where in inside:
            before = tuple(np.subtract(where, step))
            if levels.get(before) == levels[where]:
                continue
            length, at = 0, where
            while levels.get(at) == levels[where]:
                length, at = length + 1, tuple(np.add(at, step))
            found[levels[where], length] += 1
    return found


@pytest.mark.parametrize("shape", [(1, 7), (7, 1), (5, 9), (4, 5, 6), (6, 1, 5), (3, 7, 2)])
def test_runs_in_all_directions_are_those_found_voxel_by_voxel(shape):
    array = np.random.default_rng(1).integers(0, 3, shape).astype(np.uint8)
    found = runs(GrayLevels(array, 2))
    assert Counter(zip(found.level.tolist(), found.size.tolist(), strict=True)) == by_hand(array)
    assert found.possible == np.count_nonzero(array) * len(directions(len(shape)))
