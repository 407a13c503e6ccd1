"""Thresholds on values whose classes are known; the four ways without training are compared in test_classical."""

import numpy as np
import pytest

from medseg.segmentation.classical.base import Scene
from medseg.segmentation.classical.otsu import Otsu, threshold


def scene(values: np.ndarray, field: np.ndarray | None = None) -> Scene:
    values = np.asarray(values, np.float32)
    return Scene(values, values[..., None], np.ones(values.shape, bool) if field is None else field)


def test_the_threshold_lies_between_two_levels_and_sees_the_field_alone() -> None:
    values = np.full((1, 20, 20), 0.8)
    values[0, 5:15, 5:15] = 0.2
    assert 0.2 <= threshold(scene(values)) < 0.8
    values[0, :, :3] = 0.0  # dark corners outside the field
    values[0, :, 17:] = 5.0
    field = np.ones(values.shape, bool)
    field[0, :, :3] = field[0, :, 17:] = False
    assert 0.2 <= threshold(scene(values, field)) < 0.8


def test_a_constant_scene_has_nothing_below() -> None:
    values = np.full((1, 9, 9), 0.4, np.float32)
    assert not (values < threshold(scene(values))).any()


def test_several_thresholds_give_ranks_and_nothing_outside_the_field() -> None:
    truth = np.repeat(np.array([1, 2, 3]), 100).reshape(1, 15, 20)
    field = np.ones(truth.shape, bool)
    field[0, 0] = False
    ranks = Otsu({"a": 1, "b": 2, "c": 3}).tissues(scene(truth * 0.3, field), 3)
    assert ranks[field].tolist() == truth[field].tolist()
    assert (ranks[~field] == 0).all()


def test_specks_go_and_the_piece_near_the_middle_stays() -> None:
    values = np.full((1, 100, 100), 0.9)
    values[0, 35:65, 35:65] = 0.2
    values[0, ::25, ::25] = 0.1  # single dark pixels
    values[0, 2:20, 2:20] = 0.1  # a dark corner
    region = Otsu({"m": "dark"}, grow=0.0).region(scene(values))
    assert region[0, 50, 50]
    assert region.sum() == pytest.approx(900, abs=40)
