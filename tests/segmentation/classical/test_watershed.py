import numpy as np
from scipy import ndimage

from medseg.segmentation.classical.base import Scene
from medseg.segmentation.classical.watershed import Watershed


def scene(values: np.ndarray, field: np.ndarray | None = None) -> Scene:
    values = np.asarray(values, np.float32)
    return Scene(values, values[..., None], np.ones(values.shape, bool) if field is None else field)


def test_the_border_is_the_steepest_place_not_a_level() -> None:
    """Skin that darkens to one side: no threshold separates it, the edge does."""
    y, x = np.indices((100, 140))
    lesion = np.hypot(y - 50, x - 70) < 24
    values = 0.85 - 0.25 * x / 140 - 0.35 * lesion
    values = ndimage.gaussian_filter(values + np.random.default_rng(0).normal(0, 0.01, values.shape), 1)
    region = Watershed({"m": "dark"}, grow=0.0).region(scene(values[None]))[0]
    assert (region & lesion).sum() / (region | lesion).sum() > 0.9


def test_tissues_fill_the_field_and_nothing_else() -> None:
    truth = np.repeat(np.array([1, 2, 3]), 400)[None, :].repeat(20, axis=0).reshape(1, 20, 1200)[:, :, ::20]
    field = np.ones(truth.shape, bool)
    field[0, :3] = False
    noisy = truth * 0.3 + np.random.default_rng(0).normal(0, 0.03, truth.shape)
    ranks = Watershed({"a": 1, "b": 2, "c": 3}).tissues(scene(noisy, field), 3)
    assert (ranks[~field] == 0).all()
    assert (ranks[field] == truth[field]).mean() > 0.97


def test_nothing_dark_is_nothing() -> None:
    assert not Watershed({"m": "dark"}).region(scene(np.full((1, 30, 30), 0.5))).any()
