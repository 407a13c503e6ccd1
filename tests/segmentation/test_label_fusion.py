import numpy as np
import pytest
import SimpleITK as sitk

from medseg.errors import ImageError
from medseg.segmentation.label_fusion import merge_maps


def row(*values: int) -> sitk.Image:
    return sitk.GetImageFromArray(np.array([values], np.uint8))


def test_the_first_map_has_priority_and_labels_are_numbered_anew() -> None:
    merged, names = merge_maps([(row(0, 1, 0, 1), {"tumour": 1}), (row(1, 1, 2, 0), {"gm": 1, "wm": 2})])
    assert names == {"tumour": 1, "gm": 2, "wm": 3}
    assert sitk.GetArrayFromImage(merged)[0].tolist() == [2, 1, 3, 1]


def test_equal_names_share_a_number() -> None:
    merged, names = merge_maps([(row(1, 0), {"a": 1}), (row(0, 2), {"b": 1, "a": 2})])
    assert names == {"a": 1, "b": 2}
    assert sitk.GetArrayFromImage(merged)[0].tolist() == [1, 1]


def test_maps_of_other_sizes_are_an_error() -> None:
    with pytest.raises(ImageError, match="cannot be merged"):
        merge_maps([(row(1), {"a": 1}), (row(1, 1), {"b": 1})])
