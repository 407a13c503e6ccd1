"""CT artefacts on a chest phantom in 0..1: what changes, what stays, and the same seed gives the same patch."""

import numpy as np
import pytest

from medseg.data.artefacts.base import outside_body
from medseg.data.artefacts.contrast_agent import ContrastAgent
from medseg.data.artefacts.couch import Couch
from medseg.data.artefacts.cut_field import CutField
from medseg.data.artefacts.surroundings import Surroundings
from medseg.data.augmentation import Augment
from medseg.errors import ConfigError

Y, X = np.indices((96, 96)).astype(np.float32)
CHEST = np.hypot((Y - 48) / 28, (X - 48) / 40) < 1
LUNGS = (np.hypot((Y - 48) / 20, (X - 30) / 12) < 1) | (np.hypot((Y - 48) / 20, (X - 66) / 12) < 1)
COUCH = (np.abs(Y - 84) < 1.5) & (np.abs(X - 48) < 40)
MASK = np.where(LUNGS, 1 + (X > 48), 0).astype(np.uint8)
ALL = [Surroundings(p=1.0), Couch(p=1.0), ContrastAgent(p=1.0), CutField(p=1.0)]


def chest() -> np.ndarray:
    """(1, Y, X): air 0, lungs .12, tissue .74, couch .7."""
    return np.where(LUNGS, 0.12, np.where(CHEST, 0.74, np.where(COUCH, 0.7, 0.0)))[None].astype(np.float32)


def seeds(count: int = 30) -> list[np.random.Generator]:
    return [np.random.default_rng(seed) for seed in range(count)]


def test_outside_body_is_the_air_and_the_couch_is_a_thing_in_it() -> None:
    air, things = outside_body(chest(), MASK, 0.35)
    assert np.array_equal(air, ~CHEST & ~COUCH)
    assert np.array_equal(things, COUCH)


def test_outside_body_of_a_crop_leaves_the_open_lung() -> None:
    window = np.s_[:, 28:]  # cuts the first lung
    air, _ = outside_body(chest()[:, *window], MASK[window], 0.35)
    assert not (air & LUNGS[window]).any()


def test_surroundings_change_the_air_alone() -> None:
    levels = []
    for rng in seeds():
        varied, mask = Surroundings(level=(0.05, 0.1), noise=(0.0, 0.0), clear=0.0, p=1.0)(chest(), MASK, rng)
        assert mask is MASK
        assert np.array_equal(varied[0, CHEST | COUCH], chest()[0, CHEST | COUCH])
        assert varied[0, ~CHEST & ~COUCH].max() <= 0.1
        levels.append((varied[0, 0, 0], varied[0, 3, 48]))
    assert any(corner == 0 and top >= 0.05 for corner, top in levels)  # a circle of padding
    assert any(corner >= 0.05 for corner, _ in levels)  # air everywhere
    assert any(top == 0 for _, top in levels)  # padding everywhere


def test_surroundings_clear_removes_the_couch() -> None:
    for rng in seeds(5):
        varied, _ = Surroundings(level=(0.0, 0.0), noise=(0.0, 0.0), clear=1.0, p=1.0)(chest(), MASK, rng)
        assert not varied[0, ~CHEST].any()


def test_couch_is_drawn_below_the_body_in_air_alone() -> None:
    image = np.where(COUCH, 0, chest()).astype(np.float32)
    drawn = 0
    for rng in seeds():
        varied, _ = Couch(foam=(0.1, 0.1), p=1.0)(image, MASK, rng)
        changed = varied[0] != image[0]
        assert not (changed & CHEST).any()
        drawn += bool(changed.any())
        assert not changed[:48, 40:56].any()  # nothing in front of the patient
    assert drawn == 30


def test_couch_without_room_changes_nothing() -> None:
    cut, mask = chest()[:, :60], MASK[:60]  # the body reaches the lower edge
    assert Couch(p=1.0)(cut, mask, np.random.default_rng(0))[0] is cut


def test_contrast_agent_brightens_some_soft_tissue_alone() -> None:
    for rng in seeds(10):
        varied, _ = ContrastAgent(gain=(0.2, 0.2), share=(0.1, 0.1), p=1.0)(chest(), MASK, rng)
        changed = varied[0] != chest()[0]
        assert 0 < changed.sum() < 0.4 * CHEST.sum()
        assert not (changed & (LUNGS | ~CHEST) & ~COUCH).any()
        assert np.allclose((varied - chest())[0][changed], 0.2, atol=0.06)  # .74 + .2, or the couch's .7 + .2


def test_cut_field_empties_image_and_mask_alike() -> None:
    fractions = []
    for rng in seeds():
        varied, mask = CutField(cut=(0.2, 0.3), circles=0.5, fill=0.0, p=1.0)(chest() + 0.01, MASK, rng)
        gone = varied[0] == 0
        assert not mask[gone].any()
        assert np.array_equal(mask[~gone], MASK[~gone])
        assert np.array_equal(varied[0][~gone], (chest() + 0.01)[0][~gone])
        fractions.append(gone.mean())
    assert max(fractions) > 0.3
    assert min(fractions) == 0  # a box that keeps all four sides


@pytest.mark.parametrize("artefact", ALL, ids=lambda artefact: type(artefact).__name__)
def test_artefact_keeps_inputs_and_repeats_with_the_seed(artefact: object) -> None:
    image, mask = chest(), MASK.copy()
    results = [artefact(image, mask, np.random.default_rng(4)) for _ in range(2)]  # type: ignore[operator]
    assert np.array_equal(image, chest())
    assert np.array_equal(mask, MASK)
    assert np.array_equal(results[0][0], results[1][0])
    assert results[0][0].dtype == np.float32
    assert results[0][1].dtype == np.uint8


@pytest.mark.parametrize("artefact", ALL, ids=lambda artefact: type(artefact).__name__)
def test_artefact_of_a_volume_has_its_shape(artefact: object) -> None:
    volume, mask = np.repeat(chest()[:, None], 5, 1), np.repeat(MASK[None], 5, 0)
    varied, labels = artefact(volume, mask, np.random.default_rng(1))  # type: ignore[operator]
    assert varied.shape == volume.shape
    assert labels.shape == mask.shape
    assert not np.array_equal(varied, volume)


@pytest.mark.parametrize("kind", [Surroundings, Couch, ContrastAgent, CutField])
def test_artefact_with_probability_0_returns_its_inputs(kind: type) -> None:
    image = chest()
    assert kind(p=0.0)(image, MASK, np.random.default_rng(0))[0] is image


def test_artefacts_with_invalid_ranges_raise() -> None:
    with pytest.raises(ConfigError, match="level"):
        Surroundings(level=(0.2, 0.1))
    with pytest.raises(ConfigError, match="p=2"):
        Couch(p=2)
    with pytest.raises(ConfigError, match="cut"):
        CutField(cut=(0.0, 0.9))


def test_augment_applies_artefacts_before_flips() -> None:
    augment = Augment({"x": 1.0}, {}, [(1, 2)], [], [CutField(cut=(0.3, 0.3), circles=1.0, p=1.0)])
    image, mask = augment(chest(), MASK, np.random.default_rng(0))
    straight, labels = CutField(cut=(0.3, 0.3), circles=1.0, p=1.0)(chest(), MASK, np.random.default_rng(0))
    assert np.array_equal(image, straight[..., ::-1])
    assert np.array_equal(mask > 0, labels[:, ::-1] > 0)
    assert np.array_equal(mask == 1, labels[:, ::-1] == 2)
