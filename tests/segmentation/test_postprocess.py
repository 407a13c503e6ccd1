import numpy as np
import SimpleITK as sitk

from medseg.segmentation.postprocess import FillHoles, KeepLargest


def mask(array: np.ndarray) -> sitk.Image:
    image = sitk.GetImageFromArray(array)
    image.SetSpacing([0.5, 2.0, 3.0][: array.ndim])
    image.SetOrigin([7.0, -3.0, 1.0][: array.ndim])
    return image


def test_only_the_largest_piece_of_each_label_stays() -> None:
    array = np.zeros((4, 8, 8), np.uint8)
    array[:3, :3, :3], array[3, 7, 7] = 1, 1
    array[:2, 5:7, 5:7], array[0, 7, 0] = 2, 2
    result = KeepLargest()(mask(array))
    wanted = array.copy()
    wanted[3, 7, 7] = wanted[0, 7, 0] = 0
    assert np.array_equal(sitk.GetArrayFromImage(result), wanted)
    assert result.GetOrigin() == (7.0, -3.0, 1.0)
    only_one = sitk.GetArrayFromImage(KeepLargest([1])(mask(array)))
    assert only_one[0, 7, 0] == 2
    assert only_one[3, 7, 7] == 0


def test_a_piece_that_touches_by_a_corner_is_another_piece() -> None:
    array = np.zeros((4, 4), np.uint8)
    array[0, :3], array[1, 3] = 1, 1
    assert sitk.GetArrayFromImage(KeepLargest()(mask(array))).sum() == 3


def test_holes_are_filled_and_other_labels_kept() -> None:
    array = np.ones((5, 5, 5), np.uint8)
    array[2, 2, 2] = 0
    array[2, 2, 3] = 2
    array[0, 0, 0] = 0  # open to the outside: no hole
    result = sitk.GetArrayFromImage(FillHoles()(mask(array)))
    assert result[2, 2, 2] == 1
    assert result[2, 2, 3] == 2
    assert result[0, 0, 0] == 0


def test_a_blank_mask_stays_blank_and_the_input_unchanged() -> None:
    blank = mask(np.zeros((3, 3, 3), np.uint8))
    assert not sitk.GetArrayFromImage(KeepLargest()(FillHoles()(blank))).any()
    array = np.zeros((1, 4, 4), np.uint8)
    array[0, 0, 0] = array[0, 2, 2] = array[0, 2, 3] = 1
    given = mask(array)
    KeepLargest()(given)
    assert np.array_equal(sitk.GetArrayFromImage(given), array)
