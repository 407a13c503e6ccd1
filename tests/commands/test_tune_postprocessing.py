from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import SimpleITK as sitk
import yaml

from medseg.commands.tune_postprocessing import improvements, scores, tune_postprocessing
from medseg.config.compose import compose
from medseg.config.load import to_yaml
from medseg.io.image import write_image
from medseg.io.labels import Labels
from medseg.runs.run import Run
from medseg.segmentation.postprocessing import KeepLargest
from medseg.utils.files import write_json
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
def test_improvements_need_no_worse_label(before: list[float], after: list[float], verdict: bool) -> None:
    assert improvements(before, after) is verdict


@pytest.mark.parametrize("exclusive", [True, False])
def test_scores_fall_with_stray_components(exclusive: bool) -> None:
    labels = Labels({"one": 1}, exclusive)
    stray = [(image([1, 1, 1, 0, 1]), image([1, 1, 1, 0, 0]))]
    assert scores(stray, [], labels)[0] < scores(stray, [KeepLargest()], labels)[0] == 1.0
    both = [(image([1, 1, 1, 0, 1]), image([1, 1, 1, 0, 1]))]
    assert scores(both, [], labels)[0] == 1.0 > scores(both, [KeepLargest()], labels)[0]


Boxes = list[tuple[int, ...]]  # first corner, then edge, then label
BODY, SECOND = (5, 5, 20, 1), (40, 40, 10, 1)  # 400 and 100 pixels
SPECKS: Boxes = [(2, 50, 1, 1), (58, 3, 2, 1)]  # 1 and 4
SMALL = (50, 5, 5, 1)  # 25


def drawn(boxes: Boxes, spacing: tuple[float, ...]) -> sitk.Image:
    array = np.zeros([64] * len(spacing), np.uint8)
    for *corner, edge, label in boxes:
        array[tuple(slice(first, first + edge) for first in corner)] = label
    mask = sitk.GetImageFromArray(array)
    mask.SetSpacing(spacing)
    return mask


def evaluated_run(
    folder: Path, organ: str, cases: list[tuple[Boxes, Boxes]], sizes: dict[str, int], spacing: tuple[float, ...]
) -> Run:
    """A run with predictions and truths; `sizes`: voxels of each label in a training case."""
    folder.mkdir()
    run = Run(folder)
    run.file("config.yaml").write_text(to_yaml(compose([f"organ={organ}", "postprocess=none"])))
    facts = {"spacing_mm": spacing, "voxels": {name: 3 * size for name, size in sizes.items()}}
    write_json(run.file("fingerprint.json"), facts | {"annotated": dict.fromkeys(sizes, 3)})
    run.file("evaluation.csv").write_text("\n".join(["case", *(f"c{number}" for number in range(len(cases)))]))
    for number, pair in enumerate(cases):
        for folder_name, boxes in zip(("predictions", "truth"), pair, strict=True):
            write_image(drawn(boxes, spacing), run.file(folder_name) / f"c{number}.nii.gz")
    return run


PLAIN: Boxes = [BODY, SECOND]


@pytest.mark.parametrize(
    ("cases", "selected"),
    [
        ([([*PLAIN, *SPECKS], PLAIN)] * 2, {"remove_small_components.small_lesion_10": 50}),
        # a true small lesion forbids the greater minimum
        ([([*PLAIN, *SPECKS, SMALL], [*PLAIN, SMALL])] * 2, {"remove_small_components.small_lesion_1": 5}),
        # specks that are true forbid both
        ([([*PLAIN, *SPECKS], [*PLAIN, *SPECKS])] * 2, {}),
    ],
    ids=["specks", "small", "true"],
)
def test_tune_postprocessing_selects_minimum_size_for_false_specks(
    tmp_path: Path, cases: list[tuple[Boxes, Boxes]], selected: dict[str, float]
) -> None:
    run = evaluated_run(tmp_path / "run", "skin", cases, {"lesion": 500}, (1.0, 1.0))
    assert tune_postprocessing([run], tmp_path / "chosen.yaml") == list(selected)
    written = yaml.safe_load((tmp_path / "chosen.yaml").read_text())
    assert [rule["mm2"] for rule in written.values()] == list(selected.values())
    assert all(rule["labels"] == [1] for rule in written.values())


def test_tune_postprocessing_of_volumes_uses_mm3_by_label(tmp_path: Path) -> None:
    right: Boxes = [(5, 5, 5, 10, 1), (30, 30, 5, 10, 1)]
    left: Boxes = [(5, 5, 40, 10, 2), (30, 30, 40, 3, 2)]
    cases = [([*right, *left, (50, 50, 5, 3, 1)], [*right, *left])]
    run = evaluated_run(tmp_path / "run", "lung", cases, {"right_lung": 2000, "left_lung": 1027}, (1.0, 1.0, 2.0))
    assert tune_postprocessing([run], tmp_path / "chosen.yaml") == ["remove_small_components.small_right_lung_10"]
    (rule,) = yaml.safe_load((tmp_path / "chosen.yaml").read_text()).values()
    assert (rule["mm3"], rule["labels"]) == (400, [1])


def test_tune_postprocessing_selects_fill_holes_once(tmp_path: Path) -> None:
    cases: list[tuple[Boxes, Boxes]] = [([*PLAIN, (10, 10, 3, 0)], PLAIN)]
    run = evaluated_run(tmp_path / "run", "skin", cases, {"lesion": 500}, (1.0, 1.0))
    assert tune_postprocessing([run], tmp_path / "chosen.yaml") == ["fill_holes.holes"]


def test_tune_postprocessing_command_uses_held_out_predictions(medseg: Command, cohort: Path, tmp_path: Path) -> None:
    places = [f"data.root={cohort}", f"data.cache={tmp_path / 'cache'}", "segmenter.max_samples=400"]
    plain = [*TINY, *TINY_UNET, *places]
    assert medseg("train", *plain, "postprocess=none", f"run_dir={tmp_path / 'raw'}").status == 0
    result = medseg("tune-postprocessing", tmp_path / "raw", "--out", tmp_path / "mine" / "postprocess" / "chosen.yaml")
    assert result.status == 0, result.err
    chosen = yaml.safe_load((tmp_path / "mine" / "postprocess" / "chosen.yaml").read_text())
    assert all(rule["_target_"].startswith("medseg.segmentation.postprocessing.") for rule in chosen.values())
    more = ["postprocess=chosen", "--config-dir", str(tmp_path / "mine"), f"run_dir={tmp_path / 'ruled'}"]
    assert medseg("train", *plain, *more).status == 0
    result = medseg("tune-postprocessing", tmp_path / "ruled", "--out", tmp_path / "x.yaml")
    assert result.status == (2 if chosen else 0)
