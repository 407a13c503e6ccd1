import numpy as np

from medseg.segmentation.classical import Scene
from medseg.segmentation.superpixels import Superpixels


def scene(values: np.ndarray, field: np.ndarray | None = None) -> Scene:
    values = np.asarray(values, np.float32)
    return Scene(values, values[..., None], np.ones(values.shape, bool) if field is None else field)


def test_specks_within_a_superpixel_change_nothing() -> None:
    y, x = np.indices((120, 120))
    lesion = np.hypot(y - 60, x - 60) < 30
    values = np.where(lesion, 0.3, 0.8)
    rng = np.random.default_rng(0)
    specks = rng.random(values.shape) < 0.02
    found = Superpixels({"m": "dark"}, grow=0.0).region(scene(np.where(specks, 0.0, values)[None]))[0]
    assert (found & lesion).sum() / (found | lesion).sum() > 0.85
    assert not found[:15].any()


def test_every_pixel_of_a_superpixel_has_one_rank() -> None:
    values = np.repeat(np.array([0.2, 0.5, 0.8]), 30)[None, None, :].repeat(60, axis=1)
    values = values + np.random.default_rng(0).normal(0, 0.03, values.shape)
    field = np.ones(values.shape, bool)
    field[0, :5] = False
    found = Superpixels({"a": 1, "b": 2, "c": 3}).tissues(scene(values, field), 3)
    assert (found[~field] == 0).all()
    assert (found[0, 10:, 10] == 1).all()
    assert (found[0, 10:, 45] == 2).all()
    assert (found[0, 10:, 80] == 3).all()


def test_a_constant_picture_has_no_region() -> None:
    assert not Superpixels({"m": "dark"}).region(scene(np.full((1, 40, 40), 0.6))).any()
