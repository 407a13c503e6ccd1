"""Measures whose worth is known by construction."""

import numpy as np
import pytest

from medseg.errors import DataError
from medseg.features.selection import select_features


def table(seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Column 0 tells the class, 1 repeats it, 2 tells a little, 3 is constant, 4 … 9 are noise."""
    rng = np.random.default_rng(seed)
    y = np.repeat([0, 1], 100)
    x = rng.normal(size=(200, 10))
    x[:, 0] += 3 * y
    x[:, 1] = 2 * x[:, 0] + 0.01 * rng.normal(size=200)
    x[:, 2] += y
    x[:, 3] = 7
    return x, y


@pytest.mark.parametrize("how", ["mutual_information", "rfe"])
def test_what_tells_stays_what_repeats_or_never_varies_goes(how: str) -> None:
    columns = select_features(*table(), method=how, count=2)
    assert len({0, 1} & set(columns)) == 1
    assert 2 in columns
    assert 3 not in columns


def test_all_keeps_noise_but_no_twin() -> None:
    columns = select_features(*table(), method="all")
    assert len(columns) == 8
    assert columns[0] in (0, 1)


def test_the_scale_of_a_measure_does_not_matter() -> None:
    x, y = table()
    scaled = x * np.logspace(-3, 3, 10) + 5
    assert select_features(scaled, y, "rfe", 3) == select_features(x, y, "rfe", 3)


def test_nothing_that_varies_is_an_error() -> None:
    with pytest.raises(DataError, match="none of 2 features varies"):
        select_features(np.ones((4, 2)), np.array([0, 1, 0, 1]))
    with pytest.raises(ValueError, match=r"feature_selection\.method='magic'"):
        select_features(*table(), method="magic")


def test_a_row_of_each_class_tells_nothing_and_is_no_error() -> None:
    x = np.random.default_rng(0).normal(size=(3, 4))
    assert sorted(select_features(x, np.arange(3), count=4, max_correlation=1.0)) == [0, 1, 2, 3]
