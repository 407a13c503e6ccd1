"""Every organ from phantom to mask through the command line, in a training far too short to be of use."""

import csv
import importlib.util
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from medseg.config.compose import compose, group_choices

Command = Callable[..., Any]
ORGANS = [
    organ
    for organ in group_choices()["organ"]
    if importlib.util.find_spec(compose([f"organ={organ}"]).organ.phantom["_target_"].rpartition(".")[0])
]  # those whose phantom is made already
SMALL = [
    "organ.phantom.size=tiny", "data.phantom_patients=4", "segmenter.network.width=4",
    "segmenter.batch_size=2", "segmenter.max_samples=8", "trainer.n_validations=1", "compute=cpu",
    "compute.num_threads=1",
]  # fmt: skip

# a grid as coarse as a tiny phantom; a fact that no group reads is refused
COARSE = {
    "retina": ["organ.field_of_view_px=96"],
    "skin": ["organ.image_size=[64,64]"],
    "breast": ["organ.image_size=[64,64]"],
}


def small_network(organ: str) -> list[str]:
    """A shallow network on small patches; a pretrained encoder has its own depth."""
    if compose([f"organ={organ}"]).unet().network.encoder != "none":
        return ["segmenter.patch_size=[64,64]"]
    patch = 64 if "image_size" in " ".join(COARSE.get(organ, [])) else 32
    return ["segmenter.network.depth=2", f"segmenter.patch_size=[{patch},{patch}]"]


@pytest.mark.parametrize("organ", ORGANS)
def test_every_organ_trains_on_its_phantoms_and_segments_a_folder(
    medseg: Command, organ: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    small = [*SMALL, *small_network(organ), *COARSE.get(organ, [])]
    result = medseg("train", f"organ={organ}", *small, "run_dir=run")
    assert result.status == 0, result.err
    metrics = json.loads((tmp_path / "run" / "metrics.json").read_text())
    assert metrics["n_cases"] == 1
    assert set(metrics["labels"]) == set(compose([f"organ={organ}"]).organ.labels)
    root = next((tmp_path / "runs" / ".cache" / "phantoms").iterdir())
    result = medseg("segment", root, "masks", "--model", "run")
    assert result.status == 0, result.err
    with (tmp_path / "masks" / "cases.csv").open(newline="") as file:
        assert {row["status"] for row in csv.DictReader(file)} <= {"ok", "review"}


@pytest.mark.parametrize("organ", ORGANS)
@pytest.mark.parametrize("segmenter", ["otsu", "watershed", "em", "superpixels"])
def test_segmenters_without_training_run_or_say_why_not(
    medseg: Command, organ: str, segmenter: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    settings = ["organ.phantom.size=tiny", "data.phantom_patients=3", f"segmenter={segmenter}", "run_dir=run"]
    result = medseg("train", f"organ={organ}", *settings, *COARSE.get(organ, []))
    facts = compose([f"organ={organ}"]).organ
    if facts.intensity_rank is None:
        assert result.status == 2
        assert facts.classical_unsupported_reason[:40] in result.err
    else:
        assert result.status == 0, result.err
        assert json.loads((tmp_path / "run" / "metrics.json").read_text())["n_cases"] == 1


LIVER = """# @package _global_
# Liver in CT.
defaults:
  - override /quality: ct
  - override /preprocess: ct
  - override /postprocess: keep_largest_component
organ:
  name: liver
  channels: [ct]
  labels: {liver: 1}
  spacing_mm: [8.0, 8.0, null]
  window_hu: [-150.0, 250.0]
  field_of_view: {_target_: medseg.preprocess.field_of_view.Body}
"""


def test_own_organ_one_yaml_without_phantom_trains_and_segments(medseg: Command, cohort: Path, tmp_path: Path) -> None:
    (tmp_path / "mine" / "organ").mkdir(parents=True)
    (tmp_path / "mine" / "organ" / "liver.yaml").write_text(LIVER)
    words = ["organ=liver", f"data.root={cohort}", "data.mask_values={liver: [1, 2]}", f"run_dir={tmp_path / 'run'}"]
    words += ["trainer=quick", "segmenter.patch_size=[32,32]", *SMALL[2:], f"data.cache={tmp_path / 'cache'}"]
    result = medseg("train", *words, "--config-dir", tmp_path / "mine")
    assert result.status == 0, result.err
    assert set(json.loads((tmp_path / "run" / "metrics.json").read_text())["labels"]) == {"liver"}
    result = medseg("segment", cohort / "images", tmp_path / "masks", "--model", tmp_path / "run")
    assert result.status == 0, result.err
    assert json.loads((tmp_path / "masks" / "labels.json").read_text()) == {"liver": 1}
