"""Fundus phantoms: grade of the lesions, typical colours, round field."""

import csv
from pathlib import Path

import numpy as np
import pytest
from scipy import ndimage

from medseg.datasets.phantoms import retina
from medseg.datasets.phantoms.retina import LESIONS, SEVERE, Plan, Spot, icdr, plan_lesions
from medseg.datasets.phantoms.retina_anatomy import Eye, sample_eye

EYE = Eye(1, (0.35, 0.0), (0.0, 0.0))


def spots(*centres: tuple[float, float]) -> list[Spot]:
    return [Spot(centre, (0.01, 0.01), 0.0, 0.0) for centre in centres]


def test_icdr_grades_by_rule() -> None:
    none: dict[str, list[Spot]] = {name: [] for name in LESIONS}
    corners = ((0.1, 0.1), (0.1, -0.1), (-0.1, 0.1), (-0.1, -0.1))
    dots = none | {"microaneurysms": spots((0.1, 0.1))}
    severe = dots | {"haemorrhages": spots(*corners * (SEVERE + 1))}
    one_less = dots | {"haemorrhages": spots(*corners * (SEVERE + 1))[1:]}
    assert icdr(Plan(none), EYE) == 0
    assert icdr(Plan(dots), EYE) == 1
    assert icdr(Plan(dots | {"hard_exudates": spots((0.1, 0.1))}), EYE) == 2
    assert icdr(Plan(one_less), EYE) == 2
    assert icdr(Plan(severe), EYE) == 3
    assert icdr(Plan(severe, new_vessels=True), EYE) == 4


@pytest.mark.parametrize("grade", range(5))
def test_plan_lesions_has_the_given_grade(grade: int) -> None:
    for seed in range(30):
        rng = np.random.default_rng([seed, grade])
        eye = sample_eye(rng)
        assert icdr(plan_lesions(rng, eye, grade), eye) == grade


@pytest.mark.parametrize("grade", range(5))
def test_retina_phantom_masks_match_the_grade(grade: int) -> None:
    image, masks = retina.retina_phantom(np.random.default_rng(grade), grade, "small")
    counts = {name: ndimage.label(masks[name], np.ones((3, 3)))[1] for name in LESIONS}
    assert (counts["microaneurysms"] > 0) == (grade > 0)
    assert (counts["haemorrhages"] > 0) == (grade > 1)
    assert any(counts.values()) == (grade > 0)
    if grade > 2:
        assert counts["haemorrhages"] > 2 * SEVERE  # some may touch
    assert image[0, 0].max() < 12  # the surround is black
    assert masks["optic_disc"].any()


def test_retina_phantom_lesions_have_typical_colours() -> None:
    looks: dict[str, list[float]] = {name: [] for name in LESIONS}
    for seed in range(4):
        image, masks = retina.retina_phantom(np.random.default_rng([1, seed]), 3, "small")
        green = image[..., 1].astype(float)
        every = np.any(list(masks.values()), axis=0)
        for name in LESIONS:
            around = ndimage.binary_dilation(masks[name], iterations=6) & ~every
            if masks[name].any():
                looks[name].append(green[masks[name]].mean() / green[around].mean())
    assert np.mean(looks["haemorrhages"]) < 0.7
    assert np.mean(looks["microaneurysms"]) < 0.8
    assert np.mean(looks["hard_exudates"]) > 1.5
    assert 1.15 < np.mean(looks["soft_exudates"]) < np.mean(looks["hard_exudates"])


def test_plan_lesions_flames_follow_nerve_fibres() -> None:
    above = retina._along((0.1, -0.15), EYE)  # between disc and fovea, above: fibres run towards the temporal side
    assert abs(np.cos(above)) > 0.7
    nasal = retina._along((0.42, 0.0), EYE)
    assert abs(np.sin(nasal)) < 0.3


def test_make_cohort_is_balanced_and_marks_absent_lesions(tmp_path: Path) -> None:
    retina.make_cohort(tmp_path, patients=10, seed=2, size="tiny")
    with (tmp_path / "cases.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert sorted(row["label"] for row in rows) == sorted("0123401234")
    for row in rows:
        for name in LESIONS:
            assert (row[f"mask_{name}"] == "absent") or (tmp_path / row[f"mask_{name}"]).is_file()
        if row["label"] == "0":
            assert all(row[f"mask_{name}"] == "absent" for name in LESIONS)
        assert (tmp_path / row["mask_optic_disc"]).is_file()
