"""Synthetic cases: the same seed, the same case; tissues where the map has them; blank outside a bare brain."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import SimpleITK as sitk
from scipy import ndimage

from medseg.datasets.synthesis import generator
from medseg.datasets.synthesis.contrast import sample_contrast
from medseg.datasets.synthesis.generator import paint, synthesize
from medseg.datasets.synthesis.label_maps import LabelMap, LabelTable, map_files, read_label_map, read_label_table
from medseg.io.geometry import grid_difference

CSF, GM, WM = 1, 2, 3


@pytest.fixture
def head(make_maps: Callable[..., Path]) -> tuple[LabelMap, LabelTable]:
    folder = make_maps(1)
    labels = read_label_table(folder)
    return read_label_map(map_files(folder)[0], labels), labels


def only(monkeypatch: pytest.MonkeyPatch, view: str) -> None:
    monkeypatch.setattr(generator, "VIEWS", {view: 1.0})


def test_synthesize_same_seed_gives_same_case(head: tuple[LabelMap, LabelTable]) -> None:
    first, again, other = (synthesize(*head, np.random.default_rng(seed)) for seed in (4, 4, 5))
    for one, two in ((first.image, again.image), (first.mask, again.mask)):
        np.testing.assert_array_equal(sitk.GetArrayViewFromImage(one), sitk.GetArrayViewFromImage(two))
    assert first.image.GetSize() != other.image.GetSize()


def test_synthesize_mask_has_tissues_on_the_grid_of_the_image(head: tuple[LabelMap, LabelTable]) -> None:
    seen = set()
    for seed in range(6):
        case = synthesize(*head, np.random.default_rng(seed))
        assert grid_difference(case.image, case.mask) is None
        seen |= set(np.unique(sitk.GetArrayViewFromImage(case.mask)).tolist())
    assert seen == {0, CSF, GM, WM}


def test_synthesize_brain_is_blank_and_unlabelled_outside(
    head: tuple[LabelMap, LabelTable], monkeypatch: pytest.MonkeyPatch
) -> None:
    only(monkeypatch, "brain")
    case = synthesize(*head, np.random.default_rng(2))
    image, mask = (sitk.GetArrayFromImage(item) for item in (case.image, case.mask))
    assert (image == 0).mean() > 0.3
    assert not mask[image == 0].any()
    assert (image[mask > 0] > 0).all()
    # the closing fills no more than narrow sulci: the CSF around this convex brain is gone
    assert (mask == CSF).sum() < 0.1 * (mask == GM).sum()


@pytest.mark.parametrize(("view", "visible"), [("head_blank_air", True), ("brain", False)])
def test_synthesize_view_shows_or_hides_what_is_around_the_brain(
    head: tuple[LabelMap, LabelTable], monkeypatch: pytest.MonkeyPatch, view: str, visible: bool
) -> None:
    only(monkeypatch, view)
    case = synthesize(*head, np.random.default_rng(2))
    image, mask = (sitk.GetArrayFromImage(item) for item in (case.image, case.mask))
    rim = ndimage.binary_dilation(mask > 0) & (mask == 0)
    assert ((image[rim] > 0).mean() > 0.6) == visible


def test_synthesize_t1_has_darker_csf_than_grey_than_white(
    head: tuple[LabelMap, LabelTable], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(generator, "sample_contrast", lambda labels, rng: sample_contrast(labels, rng, "t1"))
    only(monkeypatch, "head")
    for seed in (1, 2, 3):
        case = synthesize(*head, np.random.default_rng(seed))
        image, mask = (sitk.GetArrayFromImage(item) for item in (case.image, case.mask))
        medians = [float(np.median(image[mask == number])) for number in (CSF, GM, WM)]
        assert medians == sorted(medians)


def test_paint_gives_each_structure_its_mean(head: tuple[LabelMap, LabelTable]) -> None:
    source, labels = head
    rng = np.random.default_rng(1)
    contrast = sample_contrast(labels, rng, "t1")
    painted = paint(source.structures, contrast, rng)
    for index, structure in enumerate(labels.structures):
        if structure.tissue:
            inside = painted[source.structures == index]
            assert inside.mean() == pytest.approx(float(contrast.means[index]), abs=3 * float(contrast.sds[index]))


def test_sampled_positions_agree_with_scipy_and_are_zero_outside() -> None:
    rng = np.random.default_rng(0)
    values = rng.random((6, 7, 8, 2)).astype(np.float32)
    positions = rng.uniform(-3, 10, (3, 4, 5, 6)).astype(np.float32)
    ours = generator._sampled(values, positions)
    for channel in range(2):
        expected = ndimage.map_coordinates(values[..., channel], positions, order=1, mode="grid-constant")
        np.testing.assert_allclose(ours[channel], expected, atol=1e-6)


def test_closed_gap_is_filled_up_to_twice_the_radius() -> None:
    inside = np.zeros((40, 40, 40), bool)
    inside[8:32, 8:32, 8:18] = inside[8:32, 8:32, 22:32] = True  # a gap of 4 mm
    spacing = np.ones(3)
    assert generator._closed(inside, 4.0, spacing)[20, 20, 19:21].all()
    assert not generator._closed(inside, 1.0, spacing)[20, 20, 19:21].any()
    assert not generator._closed(inside, 4.0, spacing)[20, 20, 36:].any()
