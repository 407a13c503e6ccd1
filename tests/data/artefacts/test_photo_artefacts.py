"""Artefacts of photographs and ultrasound on flat patches: where they draw, and that labels stay visible."""

import numpy as np
import pytest

from medseg.data.artefacts.callipers import Callipers
from medseg.data.artefacts.letterbox import Letterbox
from medseg.data.artefacts.ruler import Ruler
from medseg.data.artefacts.sticker import Sticker
from medseg.data.artefacts.vignette import Vignette

MASK = np.zeros((80, 100), np.uint8)
MASK[30:50, 40:70] = 1
GREY = np.full((1, 80, 100), 0.5, np.float32)
SKIN = np.full((3, 80, 100), 0.5, np.float32)


def changed(artefact: object, image: np.ndarray, seed: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    varied, mask = artefact(image, MASK, np.random.default_rng(seed))  # type: ignore[operator]
    assert varied.dtype == np.float32
    assert varied.shape == image.shape
    return varied, mask, (varied != image).any(0)


def test_vignette_darkens_corners_more_than_the_middle() -> None:
    varied, _, _ = changed(Vignette(strength=(0.5, 0.5), frames=0.0, p=1.0), SKIN, 0)
    assert varied[0, 40, 50] == pytest.approx(0.5, abs=0.01)
    assert varied[0, [0, 0, -1, -1], [0, -1, 0, -1]].max() < 0.33
    assert np.array_equal(varied[0], varied[2])


def test_vignette_frame_is_black_outside_a_circle_and_spares_labels() -> None:
    varied, _, where = changed(Vignette(frames=1.0, radius=(0.5, 0.5), p=1.0), SKIN, 0)
    assert varied[:, where].max() <= 0.05
    assert where[[0, 0, -1, -1], [0, -1, 0, -1]].all()
    assert not where[MASK > 0].any()
    assert not where[40, 50]


def test_sticker_is_one_colour_over_an_edge() -> None:
    for seed in range(12):
        varied, _, where = changed(Sticker(radius=(0.3, 0.3), p=1.0), SKIN, seed)
        assert where.any()
        assert where[0].any() or where[-1].any() or where[:, 0].any() or where[:, -1].any()
        assert not where[MASK > 0].any()
        assert (varied[:, where] == varied[:, where][:, :1]).all()
        assert varied[:, where].max() >= 0.6


def test_sticker_of_a_grey_image_is_not_drawn() -> None:
    assert Sticker(p=1.0)(GREY, MASK, np.random.default_rng(0))[0] is GREY


def test_ruler_has_even_ticks_at_one_edge() -> None:
    sides = set()
    for seed in range(24):
        _, _, where = changed(Ruler(step=(0.05, 0.05), value=(0.0, 0.0), p=1.0), GREY, seed)
        lines = {"top": where[0], "bottom": where[-1], "left": where[:, 0], "right": where[:, -1]}
        side = max(lines, key=lambda name: lines[name].sum())
        ticks = np.flatnonzero(lines[side])
        assert len(set(np.diff(ticks))) == 1
        assert where.sum() < 0.1 * where.size
        sides.add(side)
    assert len(sides) == 4


def test_callipers_are_at_the_ends_of_the_label_or_elsewhere() -> None:
    near, far = [], []
    for seed in range(12):
        for elsewhere, ends in ((0.0, near), (1.0, far)):
            varied, _, where = changed(Callipers(value=(0.9, 0.9), elsewhere=elsewhere, p=1.0), GREY, seed)
            assert varied[0][where] == pytest.approx(0.9)
            ends.append(where[26:54, 36:74].sum() / where.sum())
    assert np.mean(near) > 2 * np.mean(far)


def test_letterbox_squeezes_image_and_mask_between_black_bars() -> None:
    axes = set()
    for seed in range(12):
        varied, mask, _ = changed(Letterbox(bar=(0.1, 0.1), p=1.0), GREY, seed)
        empty_rows, empty_columns = (varied[0] == 0).all(1).sum(), (varied[0] == 0).all(0).sum()
        assert (empty_rows, empty_columns) in ((16, 0), (0, 20))
        assert varied[0][varied[0] > 0] == pytest.approx(0.5)
        assert not mask[varied[0] == 0].any()
        assert mask.sum() == pytest.approx(0.8 * MASK.sum(), rel=0.05)
        axes.add(empty_rows > 0)
    assert len(axes) == 2


@pytest.mark.parametrize("kind", [Vignette, Sticker, Ruler, Callipers, Letterbox])
def test_photo_artefact_repeats_with_the_seed_and_keeps_its_input(kind: type) -> None:
    image = SKIN.copy()
    first, second = (kind(p=1.0)(image, MASK, np.random.default_rng(5)) for _ in range(2))
    assert np.array_equal(first[0], second[0])
    assert np.array_equal(image, SKIN)
    assert kind(p=0.0)(image, MASK, np.random.default_rng(5))[0] is image
