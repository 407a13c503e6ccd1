"""Contrasts: means in the order of their kind, one intensity for both sides, texture."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from medseg.datasets.synthesis.contrast import MIN_DIFFERENCE, SHARES, sample_contrast
from medseg.datasets.synthesis.label_maps import read_label_table

ORDERS = {"t1": ("csf", "gm", "wm"), "t2": ("wm", "gm", "csf"), "flair": ("csf", "wm", "gm")}
VALUES = {"csf": 24, "gm": 3, "wm": 2}


@pytest.mark.parametrize("name", ORDERS)
def test_sample_contrast_of_a_kind_orders_tissues(make_maps: Callable[..., Path], name: str) -> None:
    labels = read_label_table(make_maps(1, scale=1))
    index = {s.value: i for i, s in enumerate(labels.structures)}
    for seed in range(50):
        contrast = sample_contrast(labels, np.random.default_rng(seed), name)
        means = [float(contrast.means[index[VALUES[tissue]]]) for tissue in ORDERS[name]]
        assert means == sorted(means)


def test_sample_contrast_both_sides_share_an_intensity(make_maps: Callable[..., Path]) -> None:
    labels = read_label_table(make_maps(1, scale=1))
    contrast = sample_contrast(labels, np.random.default_rng(1))
    np.testing.assert_array_equal(contrast.means, contrast.means[labels.swapped])
    np.testing.assert_array_equal(contrast.sds, contrast.sds[labels.swapped])


def test_sample_contrast_thalamus_of_t1_lies_between_grey_and_white(make_maps: Callable[..., Path]) -> None:
    labels = read_label_table(make_maps(1, scale=1))
    index = {s.value: i for i, s in enumerate(labels.structures)}
    for seed in range(50):
        means = sample_contrast(labels, np.random.default_rng(seed), "t1").means
        assert means[index[3]] * 0.95 < means[index[10]] < means[index[2]]


def test_sample_contrast_random_kind_shows_every_order_and_no_equal_tissues(make_maps: Callable[..., Path]) -> None:
    labels = read_label_table(make_maps(1, scale=1))
    index = {s.value: i for i, s in enumerate(labels.structures)}
    orders = set()
    for seed in range(100):
        means = sample_contrast(labels, np.random.default_rng(seed), "random").means
        three = [float(means[index[value]]) for value in VALUES.values()]
        # each structure is within 4 % of its tissue
        assert np.diff(sorted(three)).min() > MIN_DIFFERENCE - 0.1
        orders.add(tuple(np.argsort(three).tolist()))
    assert len(orders) == 6


def test_sample_contrast_without_name_draws_every_kind(make_maps: Callable[..., Path]) -> None:
    labels = read_label_table(make_maps(1, scale=1))
    names = {sample_contrast(labels, np.random.default_rng(seed)).name for seed in range(60)}
    assert names == set(SHARES)
