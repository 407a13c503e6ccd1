"""On real data, where they are there: anatomy, a short training, breathing. All numbers: scripts/lung_accuracy.sh."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from medseg.data.readers import read_cases
from medseg.features import position
from medseg.features import size as shape
from medseg.features.respiration import air
from medseg.io.geometry import grid_difference
from medseg.io.image import read_image, read_mask
from tests.conftest import ROOT

Command = Callable[..., Any]
pytestmark = pytest.mark.real
LUNGS = {"right_lung": 1, "left_lung": 2}


def test_expert_masks_fit_and_measure_as_anatomy_says(real: Path) -> None:
    cases = read_cases(real / "lung" / "lctsc", ["ct"])
    assert len(cases) >= 5
    for case in cases:
        assert case.mask is not None
        image, mask = read_image(case.image), read_mask(case.mask)
        assert grid_difference(image, mask) is None
        found = shape.frame_features(image, mask, LUNGS) | air.frame_features(image, mask, LUNGS)
        found |= position.frame_features(image, mask, LUNGS)
        right, left = found["right_lung.volume_ml"], found["left_lung.volume_ml"]
        assert 1500 < right + left < 8000
        assert right > left
        assert -950 < found["right_lung.mean_hu"] < -500
        assert found["right_lung.centroid_x_mm"] < found["left_lung.centroid_x_mm"]  # the patient's right


def test_a_short_training_finds_both_lungs_of_unseen_patients(medseg: Command, real: Path, tmp_path: Path) -> None:
    data = [f"data.root={real / 'lung' / 'lctsc'}", "data.split_column=split_in_repo", f"data.cache={tmp_path / 'c'}"]
    assert medseg("train", "organ=lung", *data, f"run_dir={tmp_path / 'run'}", "segmenter.max_samples=1200").status == 0
    metrics = json.loads((tmp_path / "run" / "metrics.json").read_text())
    assert metrics["report_split"] == "valid"
    for name in LUNGS:
        assert metrics["labels"][name]["dice"]["mean"] > 0.9
        assert metrics["labels"][name]["dice"]["n"] == 2


def test_breathing_of_a_held_out_subject_is_told_from_cine_mri(medseg: Command, real: Path, tmp_path: Path) -> None:
    import runpy

    module = runpy.run_path(str(ROOT / "scripts" / "cine_mri.py"))
    module["main"](
        [*map(str, sorted((real / "lung").glob("cine_mri_*"))), "--out", str(tmp_path), "--hold-out", "ovgu_QN76"]
    )
    words = ["organ=lung", "features=motion", "task=diagnosis", f"data.root={tmp_path}", "data.time_axis=2"]
    words += ["classifier.n_folds=0"]
    assert medseg("train", *words, f"run_dir={tmp_path / 'run'}").status == 0
    models = json.loads((tmp_path / "run" / "metrics.json").read_text())["models"]
    assert models["lstm"]["accuracy"]["mean"] > 0.85
    assert models["lstm"]["signal_correlation"]["mean"] > 0.9
