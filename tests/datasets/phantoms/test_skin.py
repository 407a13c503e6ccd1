"""Dermoscopy phantoms: a twin without hair, dark and light hair, lesions darker than the skin around them."""

import csv
from pathlib import Path

import numpy as np
import pytest
from scipy import ndimage

from medseg.datasets.phantoms import skin


def test_skin_phantom_differs_from_hairless_only_in_hair() -> None:
    for seed in range(4):
        scene = skin.skin_phantom(np.random.default_rng(seed), malignant=True, size="small", hairs=40)
        changed = np.abs(scene.image.astype(int) - scene.hairless).max(axis=-1)
        assert not changed[scene.hair == 0].any()
        assert (changed[scene.hair > 0.5] > 3).mean() > 0.85  # a strand may have the colour of what it lies on
        assert 0.02 < (scene.hair > 0.5).mean() < 0.4


def test_skin_phantom_zero_hairs_has_no_hair() -> None:
    bare = skin.skin_phantom(np.random.default_rng(4), malignant=True, size="tiny", hairs=0)
    assert (bare.image == bare.hairless).all()
    assert not bare.hair.any()


def test_skin_phantom_layers_compose_the_image() -> None:
    image, hairless, lesion, hair = skin.skin_phantom(np.random.default_rng(0), malignant=False, size="tiny")
    assert image.shape == hairless.shape == (72, 96, 3)
    assert lesion.shape == hair.shape == (72, 96)
    assert hair.max() <= 1


def test_skin_phantom_hair_is_dark_or_light_or_missing() -> None:
    darker, bare = [], 0
    for seed in range(30):
        scene = skin.skin_phantom(np.random.default_rng(seed), malignant=False, size="tiny")
        hair = (scene.hair > 0.25) & ~scene.lesion
        bare += not scene.hair.any()
        if hair.any():
            darker.append(bool(scene.image[hair].mean() < scene.hairless[hair].mean()))
    assert 5 < bare < 25
    assert set(darker) == {True, False}


@pytest.mark.parametrize("malignant", [False, True])
def test_skin_phantom_lesion_is_darker_than_skin(malignant: bool) -> None:
    for seed in range(5):
        scene = skin.skin_phantom(np.random.default_rng(seed), malignant, "small", hairs=0)
        around = ndimage.binary_dilation(scene.lesion, iterations=14) & ~ndimage.binary_dilation(
            scene.lesion, iterations=6
        )
        assert scene.image[scene.lesion].mean() < 0.85 * scene.image[around].mean()


def test_make_cohort_one_of_three_is_malignant(tmp_path: Path) -> None:
    skin.make_cohort(tmp_path, patients=6, seed=0, size="tiny")
    with (tmp_path / "cases.csv").open(newline="") as file:
        labels = [row["label"] for row in csv.DictReader(file)]
    assert labels == ["malignant", "benign", "benign"] * 2
