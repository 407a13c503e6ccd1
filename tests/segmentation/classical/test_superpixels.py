import numpy as np

from medseg.segmentation.classical.base import Scene
from medseg.segmentation.classical.superpixels import Superpixels


def scene(values: np.ndarray, field: np.ndarray | None = None) -> Scene:
    values = np.asarray(values, np.float32)
    return Scene(values, values[..., None], np.ones(values.shape, bool) if field is None else field)


def test_specks_within_a_superpixel_change_nothing() -> None:
    y, x = np.indices((120, 120))
    lesion = np.hypot(y - 60, x - 60) < 30
    values = np.where(lesion, 0.3, 0.8)
    rng = np.random.default_rng(0)
    specks = rng.random(values.shape) < 0.02
    region = Superpixels({"m": "dark"}, grow=0.0).region(scene(np.where(specks, 0.0, values)[None]))[0]
    assert (region & lesion).sum() / (region | lesion).sum() > 0.85
    assert not region[:15].any()


def test_every_pixel_of_a_superpixel_has_one_rank() -> None:
    values = np.repeat(np.array([0.2, 0.5, 0.8]), 30)[None, None, :].repeat(60, axis=1)
    values = values + np.random.default_rng(0).normal(0, 0.03, values.shape)
    field = np.ones(values.shape, bool)
    field[0, :5] = False
    ranks = Superpixels({"a": 1, "b": 2, "c": 3}).tissues(scene(values, field), 3)
    assert (ranks[~field] == 0).all()
    assert (ranks[0, 10:, 10] == 1).all()
    assert (ranks[0, 10:, 45] == 2).all()
    assert (ranks[0, 10:, 80] == 3).all()


def test_a_constant_picture_has_no_region() -> None:
    assert not Superpixels({"m": "dark"}).region(scene(np.full((1, 40, 40), 0.6))).any()


def test_what_lies_outside_the_field_moves_no_threshold() -> None:
    """A body with lungs in a third of its slices; most of each picture is outside, as in CT."""
    y, x = np.indices((200, 200))
    body = np.hypot(y - 100, x - 100) < 60
    lungs = np.zeros((12, 200, 200), bool)
    lungs[4:8] = body & (np.abs(np.abs(x - 100) - 28) < 12) & (np.abs(y - 100) < 20)
    values = np.where(lungs, 0.15, np.where(body, 0.74, 0.0))
    values[:, 95:101, 97:103] = 1.0  # bone
    seen = scene(values, np.broadcast_to(body, values.shape))
    dark = Superpixels({"r": "dark", "l": "dark"}).region(seen)
    assert (dark & lungs).sum() / (dark | lungs).sum() > 0.8
    ranks = Superpixels({"a": 1, "b": 2}).tissues(seen, 2)
    assert (ranks[lungs] == 1).mean() > 0.8
    assert (ranks[body & ~lungs] == 2).mean() > 0.9


def test_without_a_field_there_is_nothing() -> None:
    nowhere = np.zeros((1, 40, 40), bool)
    values = np.random.default_rng(0).random((1, 40, 40))
    assert not Superpixels({"m": "dark"}).region(scene(values, nowhere)).any()
