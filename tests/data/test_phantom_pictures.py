"""Phantoms of photographs and ultrasound: repeatable, told apart by what they claim, and known in every pixel."""

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import SimpleITK as sitk
from scipy import ndimage

from medseg.data.folders import read_cases
from medseg.data.image import read_image
from medseg.data.labels import Labels
from medseg.data.phantoms import breast, retina, skin
from medseg.data.truth import read_truth
from medseg.errors import DataError
from medseg.features.landmarks import find_landmarks

MAKERS = {"breast": breast.make_cohort, "retina": retina.make_cohort, "skin": skin.make_cohort}
LABELS = {
    "breast": Labels({"tumour": 1}),
    "retina": Labels({name: n for n, name in enumerate([*retina.LESIONS, "optic_disc"], start=1)}, exclusive=False),
    "skin": Labels({"lesion": 1}),
}


@pytest.mark.parametrize("organ", MAKERS)
def test_a_dataset_that_can_be_read_and_says_it_is_synthetic(organ: str, tmp_path: Path) -> None:
    MAKERS[organ](tmp_path, patients=5, seed=1, size="tiny")
    assert json.loads((tmp_path / "phantom.json").read_text())["synthetic"] is True
    cases = read_cases(tmp_path, ["photo"])
    assert len({case.patient for case in cases}) == 5
    assert len({case.label for case in cases}) > 1
    for case in cases:
        image = read_image(case.image)
        truth = read_truth(case, image, LABELS[organ])
        assert truth.known == tuple(LABELS[organ].numbers)
        assert image.GetNumberOfComponentsPerPixel() == (1 if organ == "breast" else 3)


@pytest.mark.parametrize("organ", MAKERS)
def test_a_patient_depends_on_seed_and_number_alone(organ: str, tmp_path: Path) -> None:
    for name, patients, seed in (("a", 2, 5), ("b", 3, 5), ("c", 2, 6)):
        MAKERS[organ](tmp_path / name, patients=patients, seed=seed, size="tiny")
    first = {name: sorted((tmp_path / name / "images").iterdir())[1].read_bytes() for name in "abc"}
    assert first["a"] == first["b"]
    assert first["a"] != first["c"]


@pytest.mark.parametrize("make", MAKERS.values())
def test_what_there_is_not_is_refused(make: Callable[..., Path], tmp_path: Path) -> None:
    with pytest.raises(DataError, match="no size=huge; choose tiny"):
        make(tmp_path, patients=1, seed=0, size="huge")
    with pytest.raises(DataError, match="no frames=2"):
        make(tmp_path, patients=1, seed=0, frames=2)


@pytest.mark.parametrize("grade", range(5))
def test_the_grade_follows_from_the_lesions(grade: int) -> None:
    image, masks = retina.retina_phantom(np.random.default_rng(grade), grade, "small")
    counts = {name: ndimage.label(masks[name], np.ones((3, 3)))[1] for name in retina.LESIONS}
    assert (counts["microaneurysms"] > 0) == (grade > 0)
    assert (counts["haemorrhages"] > 0) == (grade > 1)
    if grade == 0:
        assert not any(counts.values())
    if grade > 2:
        assert counts["haemorrhages"] > 2 * retina.SEVERE
    assert image[0, 0].max() < 12  # the surround is black


def test_disc_and_fovea_lie_where_an_eye_has_them_and_are_found() -> None:
    found = 0
    for seed in range(6):
        image, masks = retina.retina_phantom(np.random.default_rng([8, seed]), 2, "small")
        place = find_landmarks(sitk.GetImageFromArray(image, isVector=True))
        assert place is not None
        y, x = ndimage.center_of_mass(masks["optic_disc"])
        found += np.hypot(place.disc[0] - x, place.disc[1] - y) < 0.3 * place.diameter
    assert found >= 5


def test_lesions_look_as_they_should() -> None:
    image, masks = retina.retina_phantom(np.random.default_rng(3), 3, "small")
    ground = ndimage.binary_dilation(masks["haemorrhages"], iterations=6) & ~masks["haemorrhages"]
    green = image[..., 1].astype(float)
    assert green[masks["haemorrhages"]].mean() < 0.75 * green[ground].mean()
    assert green[masks["hard_exudates"]].mean() > 1.3 * green[ground].mean()


def test_hair_is_the_only_difference_between_the_twins() -> None:
    scene = skin.skin_phantom(np.random.default_rng(4), malignant=True, size="small", hairs=40)
    changed = np.abs(scene.picture.astype(int) - scene.hairless).max(axis=-1) > 3
    assert not (changed & (scene.hair < 0.01)).any()
    assert changed[scene.hair > 0.5].mean() > 0.95
    bare = skin.skin_phantom(np.random.default_rng(4), malignant=True, size="small", hairs=0)
    assert (bare.picture == bare.hairless).all()


def test_malignant_lesions_are_rougher_on_average() -> None:
    def roughness(malignant: bool) -> float:
        found = []
        for seed in range(12):
            lesion = skin.skin_phantom(np.random.default_rng([seed, malignant]), malignant, "small", hairs=0).lesion
            border = lesion ^ ndimage.binary_erosion(lesion)
            found.append(border.sum() ** 2 / lesion.sum())
        return float(np.mean(found))

    assert roughness(True) > 1.2 * roughness(False)


def test_a_tumour_and_its_look_alikes_differ_in_place_alone() -> None:
    for seed in range(20):
        masses = breast.place_masses(np.random.default_rng(seed), "benign", 4)
        tumour, *others = masses
        assert len(others) == 4
        assert all(other.radii == tumour.radii for other in others)
        assert abs(tumour.centre[0]) <= 0.15
        assert breast.FAT < tumour.centre[1] < breast.GLAND
        for x, depth in (other.centre for other in others):
            assert abs(x) > 0.3 or depth < breast.FAT or depth > breast.GLAND


def test_normal_ultrasound_has_no_tumour_and_a_tumour_is_dark() -> None:
    rng = np.random.default_rng(0)
    assert not breast.breast_phantom(rng, "normal", 3, "small")[1].any()
    for label in ("benign", "malignant"):
        image, mask = breast.breast_phantom(rng, label, 3, "small")
        around = ndimage.binary_dilation(mask, iterations=6) & ~mask
        assert image[mask].mean() < 0.75 * image[around].mean()
