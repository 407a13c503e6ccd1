import numpy as np
import pytest
import SimpleITK as sitk
from scipy import stats

from medseg.features.radiomics import first_order

PUBLISHED = {
    "mean": 2.15,
    "variance": 3.05,
    "skewness": 1.08,
    "kurtosis": -0.355,
    "median": 1,
    "minimum": 1,
    "percentile_10": 1,
    "percentile_90": 4,
    "maximum": 6,
    "interquartile_range": 3,
    "range": 5,
    "mean_deviation": 1.55,
    "robust_deviation": 1.11,
    "energy": 567,
    "root_mean_square": 2.77,
    "entropy": 1.27,
    "uniformity": 0.512,
}


@pytest.mark.parametrize("width", [None, 1.0])
def test_the_phantom_has_its_published_statistics(phantom, agree, width):
    """IBSI reference manual, sections 3.3 and 3.4.18 and 3.4.19."""
    features = first_order.frame_features(*phantom, {"a": 1}, bin_width=width)
    agree(features, {f"a.firstorder_{name}": value for name, value in PUBLISHED.items()})
    assert {key.split(".")[1] for key in features} == set(first_order.UNITS)


def test_moments_are_those_of_scipy():
    values = np.random.default_rng(0).gamma(2.0, 3.0, 500)
    features = first_order.statistics(values)
    assert features["firstorder_sd"] == pytest.approx(values.std())
    assert features["firstorder_skewness"] == pytest.approx(stats.skew(values))
    assert features["firstorder_kurtosis"] == pytest.approx(stats.kurtosis(values))


@pytest.mark.parametrize("shape", [(60, 60), (40, 40, 40)])
def test_contrast_is_to_the_ring_and_not_to_what_lies_farther_off(shape):
    distance = np.linalg.norm(np.indices(shape) - 20.0 * np.ones((len(shape),) + (1,) * len(shape)), axis=0)
    values = np.select([distance <= 8, distance <= 12], [50.0, 20.0], 1000.0)
    values[distance <= 12] += np.indices(shape).sum(axis=0)[distance <= 12] % 2 - 0.5
    images = sitk.GetImageFromArray(values), sitk.GetImageFromArray(np.uint8(distance <= 8))
    features = first_order.frame_features(*images, {"a": 1})
    assert features["a.firstorder_contrast"] == pytest.approx(30, abs=0.1)
    assert features["a.firstorder_contrast_to_noise"] == pytest.approx(60, rel=0.01)


@pytest.mark.parametrize("dimension", [2, 3])
def test_a_label_too_small_or_flat_gives_no_number(dimension):
    mask = np.zeros((4,) * dimension, np.uint8)
    mask[(0,) * dimension] = 1
    mask[(slice(2, 4),) * dimension] = 3
    images = sitk.GetImageFromArray(np.full(mask.shape, 0.1)), sitk.GetImageFromArray(mask)
    features = first_order.frame_features(*images, {"one": 1, "absent": 2, "flat": 3})
    assert np.isnan([features[f"{name}.{key}"] for name in ("one", "absent") for key in first_order.UNITS]).all()
    undefined = ("skewness", "kurtosis", "contrast_to_noise")
    assert {key for key in first_order.UNITS if np.isnan(features[f"flat.{key}"])} == {
        f"firstorder_{n}" for n in undefined
    }
    assert features["flat.firstorder_variance"] == features["flat.firstorder_entropy"] == 0


def test_a_label_that_fills_the_image_has_no_contrast():
    whole = sitk.GetImageFromArray(np.arange(12, dtype=np.uint8).reshape(3, 4))
    features = first_order.frame_features(whole, sitk.GetImageFromArray(np.ones((3, 4), np.uint8)), {"a": 1})
    assert features["a.firstorder_mean"] == pytest.approx(5.5)
    assert np.isnan(features["a.firstorder_contrast"])
