"""Synthetic heads: known properties must be in the files."""

from __future__ import annotations

import json

import numpy as np
import pytest
import SimpleITK as sitk
from scipy.ndimage import binary_dilation

from medseg.data.ground_truth import read_ground_truth
from medseg.data.readers import read_cases
from medseg.datasets.phantoms.brain import brain_phantom, make_cohort
from medseg.datasets.phantoms.brain_anatomy import Tissues, sample_anatomy, tube
from medseg.datasets.phantoms.canvas import Grid
from medseg.errors import DataError
from medseg.io.geometry import grid_difference
from medseg.io.image import read_image, read_mask
from medseg.io.labels import Labels

CSF, GM, WM = 1, 2, 3
OEDEMA, CORE, ENHANCING = 1, 2, 3


@pytest.fixture(scope="module")
def tissue(tmp_path_factory):
    return make_cohort(tmp_path_factory.mktemp("tissue"), patients=3, seed=1, size="tiny")


@pytest.fixture(scope="module")
def tumour(tmp_path_factory):
    return make_cohort(tmp_path_factory.mktemp("tumour"), patients=6, seed=1, size="tiny", target="tumour")


@pytest.fixture(scope="module")
def head():
    images, mask = brain_phantom(np.random.default_rng(3))
    return sitk.GetArrayFromImage(images["t1"]).astype(float), sitk.GetArrayFromImage(mask), mask


def grown(array):
    return binary_dilation(array, np.ones((3, 3, 3)))


def millilitres(mask, label):
    return float((sitk.GetArrayFromImage(mask) == label).sum() * np.prod(mask.GetSpacing()) / 1000)


@pytest.mark.parametrize("seed", range(4))
def test_brain_phantom_tissues_have_adult_volumes(seed):
    images, mask = brain_phantom(np.random.default_rng(seed))
    assert images["t1"].GetPixelID() == sitk.sitkInt16
    assert mask.GetPixelID() == sitk.sitkUInt8
    assert grid_difference(images["t1"], mask) is None
    x, y, z = mask.GetSize()
    assert (x, y) == (96, 112)
    assert 24 <= z <= 64
    csf, gm, wm = (millilitres(mask, label) for label in (CSF, GM, WM))
    assert 900 < gm + wm < 1500
    assert 80 < csf < 450
    assert 0.5 < gm / wm < 1.8


def test_brain_phantom_t1_has_dark_fluid_and_bright_white_matter(head):
    image, mask, _ = head
    csf, gm, wm = (np.median(image[mask == label]) for label in (CSF, GM, WM))
    assert csf < 0.75 * gm < 0.9 * wm
    assert np.median(image[mask == 0]) < 0.3 * wm  # air
    spread = image[mask == WM].std() / image[mask == WM].mean()
    assert 0.05 < spread < 0.35  # coil field and noise


def test_brain_phantom_grey_matter_is_between_fluid_and_white_matter(head):
    _, mask, _ = head
    white = mask == WM
    assert (grown(mask == 0) & white)[1:-1].sum() < 0.01 * white.sum()  # but for the scan's ends
    gm = mask == GM
    assert (gm & grown(mask != GM)).sum() > 0.8 * gm.sum()  # a ribbon, not a block


def test_brain_phantom_cortex_is_folded(head):
    _, mask, _ = head
    brain = (mask == GM) | (mask == WM)
    surface = (grown(~brain) & brain)[1:-1].sum()
    radius = (3 * brain.sum() / (4 * np.pi)) ** (1 / 3)
    assert surface > 1.8 * 4 * np.pi * radius**2  # more than a smooth ball of that volume shows


def test_brain_phantom_has_both_sides_in_random_poses():
    middles, tops = [], []
    for seed in range(3):
        _, mask = brain_phantom(np.random.default_rng(seed), size="tiny")
        array = sitk.GetArrayFromImage(mask) > 0
        middles.append(np.argwhere(array)[:, 2].mean())
        tops.append(sum(millilitres(mask, label) for label in (CSF, GM, WM)))
        assert array[:, :, :20].sum() == pytest.approx(array[:, :, 20:].sum(), rel=0.3)
    assert np.ptp(middles) > 0.2
    assert np.ptp(tops) > 20


def test_read_cases_of_tissue_cohort(tissue):
    cases = read_cases(tissue, ["t1"])
    assert [case.id for case in cases] == ["brain000", "brain001", "brain002"]
    assert {case.label for case in cases} == {"healthy"}
    labels = Labels({"csf": 1, "gm": 2, "wm": 3})
    for case in cases:
        image = read_image(case.images["t1"])
        assert image.GetSize() == (40, 40, 16)
        reference = read_ground_truth(case, image, labels)
        assert set(np.unique(sitk.GetArrayFromImage(reference.mask))) == {0, 1, 2, 3}
    facts = json.loads((tissue / "phantom.json").read_text())
    assert facts["synthetic"] is True
    assert (facts["organ"], facts["target"]) == ("brain", "tissue")


def test_make_cohort_two_of_three_patients_have_a_tumour(tumour):
    cases = read_cases(tumour, ["flair", "t1c"])
    assert [case.label for case in cases].count("tumour") == 4
    for case in cases:
        label_values = set(np.unique(sitk.GetArrayFromImage(read_mask(case.mask)))) - {0}
        assert label_values == ({OEDEMA, CORE, ENHANCING} if case.label == "tumour" else set())


def test_read_ground_truth_of_nested_tumour_labels(tumour):
    labels = Labels({"whole_tumour": 1, "tumour_core": 2, "enhancing": 3}, exclusive=False)
    case = next(case for case in read_cases(tumour, ["flair", "t1c"]) if case.label == "tumour")
    reference = read_ground_truth(case, read_image(case.images["flair"]), labels)
    label_map = sitk.GetArrayFromImage(read_mask(case.mask))
    layers = [labels.layer(sitk.GetArrayFromImage(reference.mask), name) for name in labels.numbers]
    for layer, values in zip(layers, ((1, 2, 3), (2, 3), (3,)), strict=True):
        assert np.array_equal(layer, np.isin(label_map, values))


@pytest.mark.parametrize("seed", range(3))
def test_brain_phantom_tumour_has_typical_contrast(seed):
    images, mask = brain_phantom(np.random.default_rng(seed), "tumour", tumour=True)
    label = sitk.GetArrayFromImage(mask)
    flair, t1c = (sitk.GetArrayFromImage(images[name]).astype(float) for name in ("flair", "t1c"))
    near = grown(grown(grown(label > 0))) & (label == 0)
    assert np.median(flair[label == OEDEMA]) > 1.25 * np.median(flair[near])
    assert np.median(t1c[label == ENHANCING]) > 1.25 * np.median(t1c[near])
    assert np.median(t1c[label == CORE]) < 0.9 * np.median(t1c[near])
    around = grown(label == CORE) & (label != CORE)
    assert (label[around] == ENHANCING).mean() > 0.35  # the rim is thinner than a voxel in places
    positions = [np.argwhere(label == n) * mask.GetSpacing()[::-1] for n in (CORE, ENHANCING, OEDEMA)]
    middle = np.concatenate(positions[:2]).mean(axis=0)
    far = [np.median(np.linalg.norm(points - middle, axis=1)) for points in positions]
    assert far == sorted(far)
    volumes = [millilitres(mask, n) for n in (OEDEMA, CORE, ENHANCING)]
    assert 3 < sum(volumes) < 250
    assert min(volumes) > 0.3


def test_make_cohort_same_seed_gives_same_cohort(tissue, tmp_path):
    again = make_cohort(tmp_path, patients=1, seed=1, size="tiny")
    first, second = (sitk.GetArrayFromImage(read_image(root / "images/brain000.nii.gz")) for root in (tissue, again))
    np.testing.assert_array_equal(first, second)
    other = sitk.GetArrayFromImage(read_image(tissue / "images/brain001.nii.gz"))
    assert np.corrcoef(first.ravel(), other.ravel())[0, 1] < 0.95


@pytest.mark.parametrize("wrong", [{"frames": 2}, {"target": "stroke"}, {"size": "huge"}])
def test_make_cohort_unknown_settings_raise(wrong, tmp_path):
    with pytest.raises(DataError, match="; choose") as error:
        make_cohort(tmp_path, patients=1, seed=0, **wrong)
    assert error.value.code == "phantom-settings"
    assert not list(tmp_path.iterdir())


def test_tissues_shares_sum_to_one():
    tissues = Tissues((2, 3, 4), blur=1.0)
    tissues.paint("csf", np.full((2, 3, 4), 0.5, np.float32))
    tissues.paint("wm", tissues.coverage(np.full((2, 3, 4), 0.25, np.float32)), over=("csf",))
    shares = {name: float(share[0, 0, 0]) for name, share in tissues.shares.items() if share.any()}
    assert shares == pytest.approx({"air": 0.5, "csf": 0.375, "wm": 0.125})


def test_tube_has_the_given_radius():
    x = np.linspace(-10, 10, 21, dtype=np.float32)
    grid = Grid(x[None, None, :], x[None, :, None], x[:, None, None])
    distance = tube(grid, [(-5, 0, 0), (5, 0, 0), (5, 8, 0)], [1, 3, 3])
    at = {(0, 4, 0): 2.0, (-5, 0, 5): 4.0, (5, 8, 2): -1.0, (10, 0, 0): 2.0}
    for (px, py, pz), expected in at.items():
        assert distance[pz + 10, py + 10, px + 10] == pytest.approx(expected, abs=1e-5)


def test_sample_anatomy_tumours_are_inside_a_hemisphere():
    for seed in range(50):
        anatomy = sample_anatomy(np.random.default_rng(seed), tumour=True)
        assert anatomy.tumour is not None
        x, y, z = anatomy.tumour.centre
        reach = np.hypot(np.hypot(x / anatomy.width, y / anatomy.length), z / anatomy.height)
        assert reach < 0.8
        assert abs(x) > 10
