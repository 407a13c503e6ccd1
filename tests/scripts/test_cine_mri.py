"""Cine MRI as a dataset, from a made-up sequence of a disc that moves down and up."""

from __future__ import annotations

import importlib.util
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import SimpleITK as sitk

from medseg.data.cases import Case
from medseg.data.readers import read_cases


def load_script():
    path = Path(__file__).parents[2] / "scripts" / "cine_mri.py"
    spec = importlib.util.spec_from_file_location("cine_mri", path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


script = load_script()
SHIFT = 3 * np.sin(np.arange(12) * 2 * np.pi / 12)


@pytest.fixture
def folder(tmp_path):
    y, x = np.mgrid[:40, :30]
    movie = [200.0 / (1 + np.exp(np.hypot(y - 22 - shift, x - 15) - 8)) for shift in SHIFT]
    for case in ("one_x80", "one_x95", "two"):
        for part in ("images", "signals"):
            (tmp_path / part).mkdir(exist_ok=True)
        sitk.WriteImage(sitk.GetImageFromArray(np.float32(movie)), tmp_path / "images" / f"{case}.nii.gz")
        signals = {"frame": range(12), "time_s": np.arange(12) * 0.3, "displacement_smooth_px": SHIFT}
        signals["state"] = np.where(np.gradient(SHIFT) > 0, "inhale", "exhale")
        pd.DataFrame(signals).to_csv(tmp_path / "signals" / f"{case}.csv", index=False)
    return tmp_path


def test_a_dataset_is_written_whose_subjects_stay_whole(folder):
    script.main([str(folder), "--out", str(folder / "out"), "--hold-out", "one"])
    cases: list[Case] = read_cases(folder / "out", ["image"])
    assert [(case.id, case.patient, case.split) for case in cases] == [
        ("one_x80", "one", "valid"),
        ("one_x95", "one", "valid"),
        ("two", "two", "train"),
    ]
    table = pd.read_csv(folder / "out" / "features.csv")
    assert len(table) == 36
    assert np.corrcoef(table["signal"], table["motion.displacement_mm"])[0, 1] > 0.99


def test_an_unknown_subject_is_named(folder):
    with pytest.raises(SystemExit, match="no subject 'three'; there are one, two"):
        script.main([str(folder), "--out", str(folder / "out"), "--hold-out", "three"])
