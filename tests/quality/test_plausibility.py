import numpy as np
import pytest
import SimpleITK as sitk

from medseg.errors import ConfigError
from medseg.io.labels import Labels
from medseg.quality.plausibility import AreaFraction, Paired, VolumeRange

LABELS = Labels({"right": 1, "left": 2}, True)
PAIR = Paired(["right", "left"], ratio=[0.6, 2.0], ml=500, area=0.04)
VOLUME = VolumeRange(["right", "left"], ml=[200, 6000])


def lungs(right: int, left: int, start: int = 1) -> sitk.Image:
    """Two boxes of `right` and `left` litres, 1 L a slice, from slice `start` of twelve."""
    array = np.zeros((12, 12, 24), np.uint8)
    array[start : start + right, 1:11, 1:11] = 1  # 100 × 100 × 100 mm
    array[start : start + left, 1:11, 13:23] = 2
    mask = sitk.GetImageFromArray(array)
    mask.SetSpacing((10.0, 10.0, 100.0))
    return mask


def test_usual_lungs_pass() -> None:
    assert VOLUME(lungs(3, 2), LABELS) == []
    assert PAIR(lungs(3, 2), LABELS) == []


def test_volume_range_names_label_value_and_range() -> None:
    assert VOLUME(lungs(9, 3), LABELS) == ["right has 9000 mL; usual: 200 to 6000 mL"]


def test_volume_range_small_structure_counts_only_if_whole() -> None:
    small = VolumeRange(["right"], ml=[2500, 6000])
    assert len(small(lungs(2, 2), LABELS)) == 1
    assert small(lungs(2, 2, start=0), LABELS) == []  # cut by the first slice
    assert small(lungs(0, 2), LABELS) == []  # absent: another check


def test_paired_missing_one_is_reported_unless_the_other_is_small() -> None:
    assert PAIR(lungs(0, 2), LABELS) == ["right is absent, while left has 2000 mL; usual: both"]
    assert PAIR(lungs(2, 0), LABELS) == ["left is absent, while right has 2000 mL; usual: both"]
    assert Paired(["right", "left"], ratio=[0.6, 2.0], ml=5000, area=0.04)(lungs(0, 2), LABELS) == []
    assert PAIR(lungs(0, 0), LABELS) == []


def test_paired_ratio_is_of_whole_structures_alone() -> None:
    assert PAIR(lungs(9, 3), LABELS) == ["right to left is 3 in volume; usual: 0.6 to 2"]
    assert PAIR(lungs(9, 3, start=0), LABELS) == []


@pytest.mark.parametrize("dimension", [2, 3])
def test_single_slices_are_judged_by_area(dimension: int) -> None:
    mask = lungs(3, 0)[:, :, 1] if dimension == 2 else lungs(3, 0)[:, :, 1:2]
    share = 100 / (12 * 24)
    assert VOLUME(mask, LABELS) == []
    assert PAIR(mask, LABELS) == [f"left is absent, while right has {100 * share:.3g} % of the image; usual: both"]
    assert AreaFraction(["right"], 0.3)(mask, LABELS) == ["right covers 35% of the image; usual: at most 30%"]
    assert AreaFraction(["right"], 0.4)(mask, LABELS) == []


def test_area_fraction_of_a_volume_gives_nothing() -> None:
    assert AreaFraction(["right"], 0.01)(lungs(9, 3), LABELS) == []


def test_overlapping_labels_are_judged_each() -> None:
    mask = sitk.GetImageFromArray(np.full((8, 8), 3, np.uint8))  # both bits everywhere
    assert len(AreaFraction(["right", "left"], 0.9)(mask, Labels({"right": 1, "left": 2}, False))) == 2


def test_invalid_limits_raise() -> None:
    with pytest.raises(ConfigError, match="ml="):
        VolumeRange(["right"], ml=[5, 2])
    with pytest.raises(ConfigError, match="maximum"):
        AreaFraction(["right"], 1.5)
    with pytest.raises(ConfigError, match="two labels"):
        Paired(["right"], [0.5, 2], 1, 0.1)
