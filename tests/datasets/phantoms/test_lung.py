"""Synthetic chests: known properties must be in the files."""

from __future__ import annotations

import csv
import json

import numpy as np
import pytest
import SimpleITK as sitk
from scipy.ndimage import binary_dilation, binary_fill_holes

from medseg.datasets.phantoms.breathing import harden
from medseg.datasets.phantoms.canvas import Canvas
from medseg.datasets.phantoms.lung import COLUMNS, lung_phantom, make_cohort, static_phantom
from medseg.datasets.phantoms.lung_anatomy import sample_anatomy
from medseg.datasets.phantoms.vessels import grow_tree, radii


def volumes_ml(mask):
    array = sitk.GetArrayFromImage(mask)
    return [float((array == label).sum() * np.prod(mask.GetSpacing()) / 1000) for label in (1, 2)]


def rows_of(folder):
    with (folder / "cases.csv").open(encoding="utf-8") as file:
        return list(csv.DictReader(file))


@pytest.fixture(scope="module")
def cohort(tmp_path_factory):
    return make_cohort(tmp_path_factory.mktemp("cohort"), patients=2, seed=3, frames=6, size="tiny")


@pytest.mark.parametrize("seed", range(4))
def test_lung_phantom_has_adult_volumes_on_the_patients_sides(seed):
    rng = np.random.default_rng(seed)
    image, mask = lung_phantom(rng, 0.0, size="tiny")
    assert image.GetPixelID() == sitk.sitkInt16
    assert mask.GetPixelID() == sitk.sitkUInt8
    assert image.GetSize() == mask.GetSize() == (40, 40, 20)
    right, left = volumes_ml(mask)
    assert 2000 < right + left < 7000
    assert 1.0 < right / left < 1.3  # 1.07 to 1.18 and what voxels of 10 x 10 x 15 mm add
    x = [np.argwhere(sitk.GetArrayFromImage(mask) == label)[:, 2].mean() for label in (1, 2)]
    assert x[0] < x[1]  # LPS: the patient's left is +x


def test_lung_phantom_volumes_do_not_depend_on_voxel_size():
    """The same patient on two grids holds the same millilitres, with right over left as the anatomy asks."""
    anatomy = sample_anatomy(np.random.default_rng(8))
    pairs = [
        volumes_ml(harden(static_phantom(anatomy, np.random.default_rng(0), size)[1])) for size in ("tiny", "small")
    ]
    np.testing.assert_allclose(pairs[0], pairs[1], rtol=0.06)
    assert 1.05 < pairs[1][0] / pairs[1][1] < 1.2


def test_lung_phantom_has_air_outside_the_lungs():
    """Windpipe and stomach bubble are as dark as lung, and not in the mask."""
    anatomy = sample_anatomy(np.random.default_rng(2))
    image, shares = static_phantom(anatomy, np.random.default_rng(0), "small")
    hu, labels = sitk.GetArrayFromImage(image), sitk.GetArrayFromImage(harden(shares))
    body = binary_fill_holes(hu > -300, structure=np.ones((1, 3, 3)))  # slice by slice
    # the rim of the lungs is partial volume, so it is left out
    trap = body & (hu < -700) & ~binary_dilation(labels > 0)
    z = np.argwhere(labels > 0)[:, 0]
    assert anatomy.stomach > 0
    assert trap[int(z.mean()) :].sum() > 10  # the windpipe
    assert trap[: int(z.mean())].sum() > 30  # the stomach
    assert (hu[labels > 0] < -500).mean() > 0.85


def test_make_cohort_static_scans_have_no_phase(tmp_path):
    rows = rows_of(make_cohort(tmp_path, patients=2, seed=0, frames=1, size="tiny"))
    assert [row["image"] for row in rows] == ["images/lung000.nii.gz", "images/lung001.nii.gz"]
    assert {row[key] for row in rows for key in ("label", "frame", "time", "signal")} == {""}
    assert all((tmp_path / row[key]).is_file() for row in rows for key in ("image", "mask"))


def test_make_cohort_table_is_complete_and_synthetic(cohort):
    rows = rows_of(cohort)
    assert tuple(rows[0]) == COLUMNS
    assert [(row["case"], int(row["frame"])) for row in rows] == [
        (f"lung{p:03d}", f) for p in range(2) for f in range(6)
    ]
    assert all((cohort / row[key]).is_file() for row in rows for key in ("image", "mask"))
    assert {row["label"] for row in rows} == {"inhale", "exhale"}
    facts = json.loads((cohort / "phantom.json").read_text(encoding="utf-8"))
    assert facts["synthetic"] is True
    assert facts["organ"] == "lung"


def test_make_cohort_signal_follows_lung_volume(cohort):
    rows = [row for row in rows_of(cohort) if row["case"] == "lung000"]
    volumes = [sum(volumes_ml(sitk.ReadImage(cohort / row["mask"]))) for row in rows]
    signal = [float(row["signal"]) for row in rows]
    assert np.corrcoef(volumes, signal)[0, 1] > 0.97


def test_make_cohort_same_seed_gives_same_cohort(cohort, tmp_path):
    again = make_cohort(tmp_path, patients=1, seed=3, frames=6, size="tiny")
    name = "images/lung000/frame_003.nii.gz"
    first, second = (sitk.GetArrayFromImage(sitk.ReadImage(folder / name)) for folder in (cohort, again))
    np.testing.assert_array_equal(first, second)
    other = sitk.GetArrayFromImage(sitk.ReadImage(cohort / name.replace("lung000", "lung001")))
    assert np.abs(first.astype(float) - other).mean() > 50


def test_canvas_half_covered_voxels_get_half_the_value():
    canvas = Canvas((9, 9, 9), (2.0, 2.0, 2.0), (0, 0, 0), 0.0, 1.0)
    canvas.paint(canvas.body.x, 1000.0)  # the plane x = 0 runs through the middle voxels
    np.testing.assert_allclose(canvas.hu[4, 4], [1000] * 4 + [0] + [-1000] * 4)


def test_radii_follow_murrays_law():
    ends = np.random.default_rng(0).uniform(0, 60, (25, 3))
    points, parents = grow_tree(np.zeros(3), ends, np.random.default_rng(1))
    width = [0.0, *radii(parents)]
    assert all(parent < child for child, parent in enumerate(parents[1:], start=1))
    assert {tuple(end) for end in ends} <= {tuple(point) for point in points}
    for i in range(1, len(points)):
        children = [width[j] ** 2.7 for j in range(1, len(points)) if parents[j] == i]
        if children:
            assert width[i] ** 2.7 == pytest.approx(sum(children))
