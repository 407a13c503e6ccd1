import numpy as np
import pytest

from medseg.segmentation.classical.base import Scene
from medseg.segmentation.classical.gaussian_mixture import EM


def test_gaussians_of_unlike_spread_are_told_apart_where_a_threshold_is_not() -> None:
    """A wide class of few pixels beside a narrow one: Bayes' border is known, Otsu's lies elsewhere."""
    rng = np.random.default_rng(0)
    truth = np.zeros((1, 60, 120), bool)
    truth[0, :, :40] = True
    values = np.where(truth, rng.normal(0.3, 0.02, truth.shape), rng.normal(0.6, 0.12, truth.shape)).astype(np.float32)
    scene = Scene(values, values[..., None], np.ones(truth.shape, bool))
    ranks = EM({"a": 1, "b": 2}).tissues(scene, 2)
    assert ((ranks == 1) == truth).mean() > 0.97


def test_colour_tells_what_brightness_does_not() -> None:
    rng = np.random.default_rng(1)
    y, x = np.indices((80, 80))
    lesion = np.hypot(y - 40, x - 40) < 18
    colour = np.where(lesion[..., None], (0.62, 0.3, 0.36), (0.7, 0.6, 0.5)) + rng.normal(0, 0.02, (80, 80, 3))
    scene = Scene(colour[None, ..., 2].astype(np.float32), colour[None].astype(np.float32), np.ones((1, 80, 80), bool))
    region = EM({"m": "dark"}, grow=0.0).region(scene)[0]
    assert (region & lesion).sum() / (region | lesion).sum() > 0.9


def test_the_same_image_gives_the_same_answer() -> None:
    values = np.random.default_rng(2).random((1, 50, 50)).astype(np.float32)
    scene = Scene(values, values[..., None], np.ones(values.shape, bool))
    one, other = (EM({"a": 1, "b": 2}).tissues(scene, 2) for _ in range(2))
    assert one.tolist() == other.tolist()
    assert set(np.unique(one)) == {1, 2}
    assert np.mean(one == 1) == pytest.approx(0.5, abs=0.2)
