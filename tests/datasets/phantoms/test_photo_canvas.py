"""Shared code of 2D phantoms: datasets are readable and reproducible, shapes are drawn at the right position."""

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from medseg.data.ground_truth import read_ground_truth
from medseg.data.readers import read_cases
from medseg.datasets.phantoms import breast, retina, skin
from medseg.datasets.phantoms.photo_canvas import Stroke, as_bytes, blob, cells, cloud, pixel_centres, strokes, wavy
from medseg.errors import DataError
from medseg.io.image import read_image
from medseg.io.labels import Labels

MAKERS = {"breast": breast.make_cohort, "retina": retina.make_cohort, "skin": skin.make_cohort}
LABELS = {
    "breast": Labels({"tumour": 1}),
    "retina": Labels({name: n for n, name in enumerate([*retina.LESIONS, "optic_disc"], start=1)}, exclusive=False),
    "skin": Labels({"lesion": 1}),
}
CLASSES = {"breast": set(breast.CLASSES), "retina": set("01234"), "skin": {"benign", "malignant"}}


@pytest.mark.parametrize("organ", MAKERS)
def test_make_cohort_is_readable_and_marked_synthetic(organ: str, tmp_path: Path) -> None:
    assert MAKERS[organ](tmp_path, patients=5, seed=1, size="tiny") == tmp_path
    facts = {"synthetic": True, "organ": organ, "seed": 1, "patients": 5, "frames": 1, "size": "tiny"}
    assert json.loads((tmp_path / "phantom.json").read_text()) == facts
    cases = read_cases(tmp_path, ["photo"])
    assert len({case.patient for case in cases}) == 5
    assert {case.label for case in cases} == CLASSES[organ]
    for case in cases:
        image = read_image(case.image)
        truth = read_ground_truth(case, image, LABELS[organ])
        assert truth.known == tuple(LABELS[organ].numbers)
        assert image.GetNumberOfComponentsPerPixel() == (1 if organ == "breast" else 3)


@pytest.mark.parametrize("organ", MAKERS)
def test_make_cohort_patient_depends_on_seed_and_number(organ: str, tmp_path: Path) -> None:
    for name, patients, seed in (("a", 2, 5), ("b", 3, 5), ("c", 2, 6)):
        MAKERS[organ](tmp_path / name, patients=patients, seed=seed, size="tiny")
    for kind in ("images", "masks"):
        made = {name: {p.name: p.read_bytes() for p in (tmp_path / name / kind).iterdir()} for name in "abc"}
        assert made["a"].items() <= made["b"].items()
        assert len(made["a"]) < len(made["b"])
        assert made["a"] != made["c"]


@pytest.mark.parametrize("make", MAKERS.values())
def test_make_cohort_unknown_settings_raise(make: Callable[..., Path], tmp_path: Path) -> None:
    with pytest.raises(DataError, match="no size=huge; choose tiny, small, medium") as refused:
        make(tmp_path, patients=1, seed=0, size="huge")
    assert refused.value.code == "phantom-settings"
    with pytest.raises(DataError, match="no frames=2; choose 1"):
        make(tmp_path, patients=1, seed=0, frames=2)


def test_pixel_centres_are_in_widths_from_the_middle() -> None:
    x, y = pixel_centres(4, 2)
    assert x[0].tolist() == [-0.375, -0.125, 0.125, 0.375]
    assert y[:, 0].tolist() == [-0.125, 0.125]


@pytest.mark.parametrize("stretch", [1.0, 4.0])
def test_cloud_has_the_given_scale(stretch: float) -> None:
    made = cloud(np.random.default_rng(0), (200, 300), 0.04, stretch)
    assert made.shape == (200, 300)
    assert abs(made.mean()) < 1e-4
    assert made.std() == pytest.approx(1, abs=1e-4)
    across, down = np.diff(made, axis=1).std(), np.diff(made, axis=0).std()
    # filtered with a Gaussian of s pixels, neighbours differ by 1 / (s sqrt 2)
    assert across == pytest.approx(1 / (12 * np.sqrt(2)), rel=0.2)
    assert down == pytest.approx(stretch / (12 * np.sqrt(2)), rel=0.2)


def test_cells_have_the_given_size() -> None:
    net = cells(np.random.default_rng(0), pixel_centres(300, 300), 0.1)
    assert net.min() < 0.02
    inside = net > 0.15
    crossings = (np.diff(inside.astype(int), axis=1) == 1).sum(axis=1)
    assert crossings.mean() == pytest.approx(10, abs=4)  # ten cells across the image


def test_blob_has_the_area_of_its_ellipse() -> None:
    cover = blob(pixel_centres(400, 300), (0.1, -0.05), (0.2, 0.1, 0.6), wavy(np.random.default_rng(0), 0.0), 0.004)
    assert cover.sum() / 400**2 == pytest.approx(np.pi * 0.2 * 0.1, rel=0.02)
    rows, columns = np.nonzero(cover > 0.5)
    assert columns.mean() == pytest.approx(0.6 * 400, abs=1)
    assert rows.mean() == pytest.approx(150 - 0.05 * 400, abs=1)


def test_strokes_are_at_their_points_and_thin_ones_faint() -> None:
    across = np.array([(-0.5, 0.1), (0.5, 0.1)])
    made = strokes((60, 100), [Stroke(across, 0.05), Stroke(np.array([(0.0, -0.3), (0.0, 0.3)]), 0.001)])
    assert np.argmax(made[:, 20]) in range(37, 43)  # 0.1 widths below the middle
    assert made[:, 20].sum() == pytest.approx(5, abs=0.5)
    assert 0 < made[10].max() < 0.2
    assert made[40, 50] == 1  # the faint one does not cut the other


def test_as_bytes_converts_values() -> None:
    assert as_bytes(np.array([-1, 0, 0.5, 2], np.float32)).tolist() == [0, 0, 128, 255]
