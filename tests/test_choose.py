from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import SimpleITK as sitk
import yaml

from medseg.choose import helpful, scores
from medseg.data.labels import Labels
from medseg.segmentation.postprocess import KeepLargest
from tests.conftest import TINY, TINY_UNET

Command = Callable[..., Any]


def image(*rows: list[int]) -> sitk.Image:
    return sitk.GetImageFromArray(np.array(rows, np.uint8))


@pytest.mark.parametrize(
    ("before", "after", "verdict"),
    [
        ([0.5, 0.5], [0.5, 0.6], True),
        ([0.5, 0.5], [0.4, 0.9], False),
        ([0.5, 0.5], [0.5, 0.5], False),
        ([0.5, float("nan")], [0.6, float("nan")], True),
    ],
)
def test_a_rule_helps_where_no_label_gets_worse(before: list[float], after: list[float], verdict: bool) -> None:
    assert helpful(before, after) is verdict


@pytest.mark.parametrize("exclusive", [True, False])
def test_a_stray_piece_costs_dice_and_a_second_true_piece_saves_it(exclusive: bool) -> None:
    labels = Labels({"one": 1}, exclusive)
    stray = [(image([1, 1, 1, 0, 1]), image([1, 1, 1, 0, 0]))]
    assert scores(stray, [], labels)[0] < scores(stray, [KeepLargest()], labels)[0] == 1.0
    both = [(image([1, 1, 1, 0, 1]), image([1, 1, 1, 0, 1]))]
    assert scores(both, [], labels)[0] == 1.0 > scores(both, [KeepLargest()], labels)[0]


def test_rules_are_chosen_on_held_out_predictions(medseg: Command, cohort: Path, tmp_path: Path) -> None:
    places = [f"data.root={cohort}", f"data.cache={tmp_path / 'cache'}", "segmenter.passes=400"]
    plain = [*TINY, *TINY_UNET, *places]
    assert medseg("train", *plain, "postprocess=none", f"run_dir={tmp_path / 'raw'}").status == 0
    result = medseg("choose", tmp_path / "raw", "--out", tmp_path / "mine" / "postprocess" / "chosen.yaml")
    assert result.status == 0, result.err
    chosen = yaml.safe_load((tmp_path / "mine" / "postprocess" / "chosen.yaml").read_text())
    assert all(rule["_target_"].startswith("medseg.segmentation.postprocess.") for rule in chosen.values())
    more = ["postprocess=chosen", "--config-dir", str(tmp_path / "mine"), f"run_dir={tmp_path / 'ruled'}"]
    assert medseg("train", *plain, *more).status == 0
    result = medseg("choose", tmp_path / "ruled", "--out", tmp_path / "x.yaml")
    assert result.status == (2 if chosen else 0)
