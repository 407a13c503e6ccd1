import numpy as np
import pytest
import SimpleITK as sitk

from medseg.features.respiration import air


def volume(values, mask):
    return [sitk.GetImageFromArray(np.asarray(array)) for array in (np.asarray(values, np.int16), np.uint8(mask))]


def test_air_is_the_clipped_negative_of_hu():
    image, mask = volume([[[-1000, -500, 0, 100, -1100, -300]]], [[[1, 1, 1, 1, 1, 0]]])
    features = air.frame_features(image, mask, {"a": 1})
    assert features["a.mean_hu"] == pytest.approx(-500)
    assert features["a.air_fraction"] == pytest.approx((1 + 0.5 + 0 + 0 + 1) / 5)
    assert features["a.air_ml"] == pytest.approx(2.5 / 1000)


def test_air_of_the_slices_adds_up_to_that_of_the_frame():
    random = np.random.default_rng(0)
    image, mask = volume(random.integers(-1000, 100, (6, 5, 4)), random.integers(0, 3, (6, 5, 4)))
    image.SetSpacing((2, 3, 4))
    mask.SetSpacing((2, 3, 4))
    labels = {"a": 1, "b": 2}
    frame, steps = air.frame_features(image, mask, labels), air.step_features(image, mask, labels)
    for name in labels:
        assert steps[f"{name}.air_ml"].sum() == pytest.approx(frame[f"{name}.air_ml"])


def test_where_the_label_is_absent_nothing_is_invented():
    image, mask = volume(np.zeros((2, 2, 2)), [[[1, 0], [0, 0]], [[0, 0], [0, 0]]])
    frame, steps = air.frame_features(image, mask, {"b": 2}), air.step_features(image, mask, {"a": 1})
    assert np.isnan(frame["b.mean_hu"])
    assert np.isnan(frame["b.air_fraction"])
    assert frame["b.air_ml"] == 0
    assert list(steps["a.mean_hu"].isna()) == [False, True]
