import numpy as np
import SimpleITK as sitk

from medseg.inference.segmenter import postprocess
from medseg.io.labels import Labels
from medseg.preprocess.field_of_view import Body
from medseg.segmentation.postprocessing import KeepLargest
from medseg.segmentation.within_field import WithinField

MASK = np.zeros((1, 4, 6), np.uint8)
MASK[0, :, :3] = 1  # outside: twelve voxels
MASK[0, 1:3, 4:] = 2
MASK[0, 3, 4] = 1  # the only voxel of label 1 inside
RIGHT = np.zeros(MASK.shape, np.float32)
RIGHT[..., 3:] = 1.0


def bright(image: sitk.Image) -> sitk.Image:
    return image > 0.5


def image(array: np.ndarray) -> sitk.Image:
    made = sitk.GetImageFromArray(array)
    made.SetSpacing((2.0, 2.0, 5.0))
    return made


def test_within_field_removes_labels_outside() -> None:
    result = WithinField(bright)(image(MASK), image(RIGHT))
    assert result.GetSpacing() == (2.0, 2.0, 5.0)
    assert np.array_equal(sitk.GetArrayFromImage(result), np.where(RIGHT > 0, MASK, 0))


def test_within_field_empty_field_removes_nothing() -> None:
    result = WithinField(bright)(image(MASK), image(np.zeros_like(RIGHT)))
    assert np.array_equal(sitk.GetArrayFromImage(result), MASK)


def test_postprocess_field_before_largest_keeps_the_true_structure() -> None:
    labels = Labels({"a": 1, "b": 2}, True)
    rules = [WithinField(bright), KeepLargest()]
    kept = sitk.GetArrayFromImage(postprocess(image(MASK), rules, labels, image(RIGHT)))
    assert kept[0, 3, 4] == 1
    assert (kept == 1).sum() == 1
    assert (kept == 2).sum() == 4


def test_postprocess_field_of_overlapping_labels_cuts_each() -> None:
    coded = np.zeros((1, 4, 6), np.uint8)
    coded[0, :, 1:5] = 1
    coded[0, 0] |= 2  # bits of two labels
    kept = sitk.GetArrayFromImage(
        postprocess(image(coded), [WithinField(bright)], Labels({"a": 1, "b": 2}, False), image(RIGHT))
    )
    assert np.array_equal(kept, np.where(RIGHT > 0, coded, 0))


def test_within_field_of_a_chest_removes_the_air_around_it() -> None:
    _, y, x = np.indices((4, 96, 96)).astype(np.float32)
    inside = np.hypot((y - 48) / 30, (x - 48) / 40) < 1
    lungs = (np.hypot((y - 48) / 20, (x - 28) / 12) < 1) | (np.hypot((y - 48) / 20, (x - 68) / 12) < 1)
    hu = np.where(lungs, -850.0, np.where(inside, 40.0, -1000.0)).astype(np.float32)
    wrong = (lungs | ~inside).astype(np.uint8)  # takes the air for lung
    assert np.array_equal(sitk.GetArrayFromImage(WithinField(Body())(image(wrong), image(hu))) > 0, lungs)
