import numpy as np
import pytest

from medseg.features.missing_labels import informative_absence, known_fraction, missing_labels

NAMES = ("field.size", "tumour.size", "tumour.pieces", "tumour.brightness", "tumour.contrast")
THERE = [9.0, 4.0, 1.0, 0.5, 0.1]
GONE = [9.0, 0.0, 0.0, np.nan, np.nan]
DARK = [9.0, 4.0, 1.0, np.nan, np.nan]  # there, but something could not be told
LOST = [np.nan] * 5


def test_a_label_is_absent_where_all_that_was_counted_of_it_is_nothing() -> None:
    missing = missing_labels(np.array([THERE, GONE, DARK, LOST]), NAMES)
    assert missing["tumour"].tolist() == [False, True, False, False]
    assert not missing["field"].any()


@pytest.mark.parametrize(("empty", "tells"), [(1, False), (4, False), (5, True), (20, True)])
def test_absence_tells_a_class_that_looks_so_and_not_what_a_segmenter_missed(empty: int, tells: bool) -> None:
    values = np.array([GONE] * empty + [THERE] * (20 - empty) + [THERE] * 20)
    classes = np.array(["healthy"] * 20 + ["ill"] * 20)
    assert informative_absence(values, NAMES, classes) == (("tumour",) if tells else ())


def test_measures_of_what_is_absent_are_no_gaps_where_that_tells_something() -> None:
    values = np.array([THERE, GONE, DARK, LOST])
    assert known_fraction(values, values, NAMES, ()).tolist() == [1.0, 0.6, 0.6, 0.0]
    assert known_fraction(values, values, NAMES, ("tumour",)).tolist() == [1.0, 1.0, 0.6, 0.0]
    filled = np.array([THERE, THERE, THERE, LOST])  # from the frames around
    assert known_fraction(values, filled, NAMES, ()).tolist() == [1.0, 1.0, 1.0, 0.0]


def test_known_fraction_counts_deep_features_only_alone() -> None:
    names = ("deep.rim_000", "lesion.area", "lesion.mean", "deep.image_000.slope")
    values = np.array([[np.nan, 4.0, 1.0, np.nan], [1.0, 4.0, np.nan, 1.0]])
    assert known_fraction(values, values, names, ()).tolist() == [1.0, 0.5]
    assert known_fraction(values[:, [0, 3]], values[:, [0, 3]], ("deep.a_0", "deep.b_0"), ()).tolist() == [0.0, 1.0]
