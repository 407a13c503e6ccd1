"""The Python face gives what the command line gives, and helps where it is misused."""

import doctest
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import SimpleITK as sitk

import medseg as package
from medseg import api
from medseg.errors import ConfigError, ImageError

Command = Callable[..., Any]


@pytest.fixture(scope="module")
def scan(cohort: Path) -> Path:
    return sorted((cohort / "images").glob("*"))[0]


def test_api_import_is_lazy_and_complete() -> None:
    code = "import sys, medseg; assert 'torch' not in sys.modules; print(medseg.segment.__module__)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "medseg.api"
    for name in package.__all__:
        assert getattr(package, name)
    with pytest.raises(AttributeError, match="nothing"):
        package.nothing  # noqa: B018


def test_api_docstrings_run() -> None:
    result = doctest.testmod(api)
    assert result.attempted > 2
    assert result.failed == 0


def test_api_segment_path_image_and_array_equal_the_command(
    medseg: Command, segmenter: Path, scan: Path, tmp_path: Path
) -> None:
    assert medseg("segment", scan, tmp_path / "out", "--model", segmenter).status == 0
    wanted = sitk.ReadImage(str(next((tmp_path / "out").glob("*.nii.gz"))))
    model = package.load_model(segmenter, device="cpu")
    assert model.labels == {"right_lung": 1, "left_lung": 2}
    image = sitk.ReadImage(str(scan))
    masks = [package.segment(given, model) for given in (scan, str(scan), image, {"ct": image})]
    for mask in masks:
        assert mask.GetSpacing() == pytest.approx(wanted.GetSpacing())
        assert (sitk.GetArrayFromImage(mask) == sitk.GetArrayFromImage(wanted)).all()
    assert sitk.GetArrayFromImage(wanted).any()
    array = sitk.GetArrayFromImage(sitk.DICOMOrient(image, "LPS"))
    from_array = sitk.GetArrayFromImage(package.segment(array, model, spacing=image.GetSpacing()))
    assert from_array.shape == array.shape
    assert (from_array > 0).sum() == pytest.approx((sitk.GetArrayFromImage(wanted) > 0).sum(), rel=0.1)


def test_api_features_equal_the_command(medseg: Command, cohort: Path, scan: Path, tmp_path: Path) -> None:
    assert (
        medseg(
            "extract-features", cohort / "images", cohort / "masks", tmp_path / "f.csv", "--features", "breathing"
        ).status
        == 0
    )
    table = pd.read_csv(tmp_path / "f.csv")
    mask = cohort / "masks" / scan.name
    found = package.extract_features(scan, mask, {"label_1": 1, "label_2": 2}, features="breathing")
    row = table[table["case"] == scan.name.split(".")[0]].iloc[0]
    names = [name for name in found if "." in name]
    assert len(names) > 5
    for name in names:
        assert found[name].iloc[0] == pytest.approx(row[name], nan_ok=True)


def test_api_diagnose_sequence_gives_probabilities(breathing: Path, classifier_run: Path, segmenter: Path) -> None:
    model = package.load_model(classifier_run, device="cpu")
    cases = pd.read_csv(breathing / "cases.csv")
    image = sitk.ReadImage(str(breathing / cases["image"].iloc[0]))
    mask = sitk.ReadImage(str(breathing / cases["mask"].iloc[0]))
    found = package.diagnose(image, model, mask=mask)
    assert len(found) == 1
    assert found[["p_exhale", "p_inhale"]].sum(axis=1).iloc[0] == pytest.approx(1)
    made = package.diagnose(image, model, segmenter=package.load_model(segmenter, device="cpu"))
    assert list(made.columns) == list(found.columns)


def test_api_evaluate_counts_a_missed_label_as_zero() -> None:
    truth = np.zeros((3, 8, 8), np.uint8)
    truth[:, 1:4, 1:4], truth[:, 5:7, 5:7] = 1, 2
    mask = np.where(truth == 1, truth, 0)
    scores = package.evaluate(mask, truth, {"a": 1, "b": 2}, spacing=(1, 1, 3))
    assert scores.loc["a", "dice"] == 1
    assert scores.loc["b", "dice"] == 0
    assert scores.loc["b", "status"] == "missed"


def test_api_misuse_is_one_helpful_message(segmenter: Path, classifier_run: Path, scan: Path) -> None:
    model, classifier = package.load_model(segmenter, device="cpu"), package.load_model(classifier_run, device="cpu")
    volume = np.zeros((4, 16, 16), np.float32)
    with pytest.raises(ImageError, match=r"no spacing: give spacing=\(x, y, z\) in mm"):
        package.segment(volume, model)
    with pytest.raises(ImageError, match=r"spacing=\(1\.0, 1\.0\) does not fit an image of 3 axes"):
        package.segment(volume, model, spacing=(1, 1))
    with pytest.raises(ConfigError, match=r"takes the channels ct, not t1"):
        package.segment({"t1": scan}, model)
    with pytest.raises(ConfigError, match=r"for a diagnosis.*segment\(\) takes"):
        package.segment(scan, classifier)
    with pytest.raises(ConfigError, match=r"for segmentation.*diagnose\(\) takes"):
        package.diagnose(scan, model)
    with pytest.raises(ConfigError, match=r"give mask=… or segmenter=…"):
        package.diagnose(scan, classifier)
    with pytest.raises(ImageError, match="does not lie on the grid"):
        package.extract_features(scan, np.zeros((2, 3, 4), np.uint8), model)


def test_evaluate_of_one_label_takes_255_and_refuses_other_numbers() -> None:
    square = np.zeros((8, 8), np.uint8)
    square[2:6, 2:6] = 1
    assert package.evaluate(square, square * 255, {"lesion": 1}).loc["lesion", "dice"] == 1
    assert package.evaluate(square, square * 255).loc["255", "dice"] == 1
    square[0, 0] = 7
    with pytest.raises(ImageError, match=r"the mask holds \[7\]"):
        package.evaluate(square, np.minimum(square, 1), {"lesion": 1})
