import csv
import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import SimpleITK as sitk

from medseg.inference.multi_model import inter_model_dice
from medseg.io.labels import Labels
from tests.conftest import TINY, TINY_UNET

Command = Callable[..., Any]


def test_agreement_is_the_dice_of_each_pair_and_nothing_where_both_are_empty() -> None:
    a, b = (sitk.GetImageFromArray(np.array([row], np.uint8)) for row in ([1, 1, 0, 0], [1, 0, 0, 0]))
    rows = inter_model_dice({"x": a, "y": b}, Labels({"one": 1, "two": 2}))
    assert rows == [
        {"label": "one", "model_a": "x", "model_b": "y", "dice": pytest.approx(2 / 3)},
        {"label": "two", "model_a": "x", "model_b": "y", "dice": None},
    ]


def test_models_of_the_same_labels_are_compared(medseg: Command, cohort: Path, segmenter: Path, tmp_path: Path) -> None:
    twin = tmp_path / "twin"
    shutil.copytree(segmenter, twin)
    out = tmp_path / "out"
    result = medseg("segment", cohort / "images", out, "--model", segmenter, "--model", twin)
    assert result.status == 0, result.err
    assert len(list((out / "run").glob("*.nii.gz"))) == len(list((out / "twin").glob("*.nii.gz"))) == 5
    with (out / "agreement.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == 10
    assert {float(row["dice"]) for row in rows} == {1.0}
    assert medseg("segment", cohort / "images", out, "--model", segmenter).status == 0
    assert not (out / "agreement.csv").exists()  # of masks that are no more
    assert not list((out / "twin").glob("*.nii.gz"))


def test_models_of_other_labels_make_one_map(medseg: Command, cohort: Path, segmenter: Path, tmp_path: Path) -> None:
    settings = ["organ.labels={lungs: 1}", "organ.lateral_pairs=[]", "data.mask_values={lungs: [1, 2]}"]
    settings += ["~organ.labels.right_lung", "~organ.labels.left_lung", "segmenter.max_samples=200"]
    places = [f"data.root={cohort}", f"data.cache={tmp_path / 'cache'}", f"run_dir={tmp_path / 'both'}"]
    result = medseg("train", *TINY, *TINY_UNET, *places, "+organ.labels.lungs=1", *settings[1:])
    assert result.status == 0, result.err
    out = tmp_path / "out"
    assert medseg("segment", cohort / "images", out, "--model", segmenter, "--model", tmp_path / "both").status == 0
    names = json.loads((out / "labels.json").read_text())
    assert names == {"right_lung": 1, "left_lung": 2, "lungs": 3}
    assert len(list(out.glob("*.nii.gz"))) == 5
