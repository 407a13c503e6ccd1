"""A run is reproduced with the same weights; differences are reported."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from medseg.commands.reproduce import compare, reproduce
from medseg.config.compose import compose
from medseg.errors import ConfigError
from medseg.runs.run import Run, open_run
from medseg.training.train import train
from tests.conftest import TINY, TINY_UNET
from tests.training.test_train import read_csv

Command = Callable[..., Any]


@pytest.fixture(scope="module")
def first(cohort: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("reproduce")
    places = [f"data.root={cohort}", f"data.cache={folder / 'cache'}", f"run_dir={folder / 'run'}"]
    train(compose([*TINY, *TINY_UNET, *places, "segmenter.max_samples=2000", "segmenter.network.dropout=0.1"]))
    return folder / "run"


def test_reproduce_repeats_settings_and_split(medseg: Command, first: Path, cohort: Path, tmp_path: Path) -> None:
    moved = tmp_path / "moved"
    shutil.copytree(cohort, moved)
    result = medseg("reproduce", first, f"data.root={moved}", "--out", tmp_path / "again")
    assert result.status == 0, result.err
    assert "weights and scores are equal to those of" in result.err
    outcome = json.loads((tmp_path / "again" / "reproduction.json").read_text())
    assert outcome == {"of": str(first), "equal": True, "weights": [], "metrics": [], "versions": [], "machine": []}
    splits = [
        [(row["case"], row["split"]) for row in read_csv(run / "split.csv")] for run in (first, tmp_path / "again")
    ]
    assert splits[0] == splits[1]
    open_run(tmp_path / "again")


def test_reproduce_lists_differences(medseg: Command, first: Path, cohort: Path, tmp_path: Path) -> None:
    old = tmp_path / "old"
    shutil.copytree(first, old)
    manifest = json.loads((old / "manifest.json").read_text())
    manifest["versions"]["numpy"] = "1.0"
    manifest["machine"]["device"] = "cpu of another kind"
    manifest["sha256"]["model.safetensors"] = "0" * 64
    (old / "manifest.json").write_text(json.dumps(manifest))
    differences = compare(Run(old), Run(first))
    assert [pair.what for pair in differences["weights"]] == ["model.safetensors"]
    assert [(pair.what, pair.before) for pair in differences["versions"]] == [("numpy", "1.0")]
    assert [(pair.what, pair.before) for pair in differences["machine"]] == [("device", "cpu of another kind")]
    assert differences["metrics"] == []
    images = tmp_path / "images"
    shutil.copytree(cohort, images)
    shutil.copyfile(images / "images" / "lung001.nii.gz", images / "images" / "lung000.nii.gz")
    result = medseg("reproduce", first, f"data.root={images}", "--out", tmp_path / "other")
    assert result.status == 3
    assert "model.safetensors" in result.err
    assert "the images or masks may have changed" in result.err
    assert not json.loads((tmp_path / "other" / "reproduction.json").read_text())["equal"]


def test_reproduce_refuses_other_overrides(first: Path, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"seed: only data.root, data.cache and compute"):
        reproduce(Run(first), tmp_path / "again", {"seed": 3})
