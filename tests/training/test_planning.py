import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml

from medseg.config.compose import compose
from medseg.config.load import auto_keys
from medseg.data.readers import read_cases
from medseg.data.splits import split_cases
from medseg.errors import ConfigError
from medseg.training.planning import resolve_plan
from tests.conftest import TINY

Command = Callable[..., Any]
AUTO = ["segmenter=auto", "preprocess=auto", "compute=cpu", "compute.num_threads=1"]


def test_a_plan_is_written_with_reasons_and_estimates(medseg: Command, cohort: Path, tmp_path: Path) -> None:
    result = medseg("plan", "organ=lung", f"data.root={cohort}", "compute=cpu", "--out", tmp_path)
    assert result.status == 0, result.err
    facts = json.loads((tmp_path / "fingerprint.json").read_text())
    assert facts["cases"] == 4
    assert set(facts["diameter_mm"]) == {"right_lung", "left_lung"}
    text = (tmp_path / "plan.yaml").read_text()
    plan = yaml.safe_load(text)
    assert plan["segmenter.network.dimensions"] == 2
    assert plan["estimate.memory_gb"] > 0
    assert plan["estimate.minutes"] > 0
    assert text.count("# ") >= len(plan)


def test_auto_values_come_from_the_plan_that_a_user_edited(cohort: Path, tmp_path: Path) -> None:
    cases = split_cases(read_cases(cohort, ["ct"]), 0.2, 1)
    config = compose(["organ=lung", *AUTO, f"data.root={cohort}"])
    assert set(auto_keys(config)) >= {"segmenter.patch_size", "segmenter.batch_size", "preprocess.intensity"}
    planned = resolve_plan(config, cases)
    assert auto_keys(planned) == []
    assert planned.preprocess["intensity"]["_target_"].endswith("Window")
    (tmp_path / "plan.yaml").write_text(
        "segmenter.patch_size: [32, 32]\nsegmenter.batch_size: 3\nsegmenter.network.depth: 2\n"
        "segmenter.network.dimensions: 2\nsegmenter.network.encoder: none\nsegmenter.network.norm: batch\n"
        "preprocess.intensity: null\npreprocess.grid: null\n"
    )
    edited = resolve_plan(compose(["organ=lung", *AUTO, f"plan={tmp_path / 'plan.yaml'}"]), cases)
    assert edited.unet().planned() == ((32, 32), 3, 2, 2)
    (tmp_path / "plan.yaml").write_text("segmenter.patch_size: [32, 32]\n")
    with pytest.raises(ConfigError, match="the plan has no value for it"):
        resolve_plan(compose(["organ=lung", *AUTO, f"plan={tmp_path / 'plan.yaml'}"]), cases)


def test_what_is_planned_is_trained(medseg: Command, cohort: Path, tmp_path: Path) -> None:
    places = [f"data.root={cohort}", f"data.cache={tmp_path / 'cache'}", f"run_dir={tmp_path / 'run'}"]
    more = ["segmenter=auto", "preprocess=auto", "segmenter.network.width=4", "segmenter.max_samples=200"]
    result = medseg("train", *TINY, *places, *more)
    assert result.status == 0, result.err
    saved = yaml.safe_load((tmp_path / "run" / "config.yaml").read_text())
    assert isinstance(saved["segmenter"]["patch_size"], list)
    assert medseg("segment", cohort / "images", tmp_path / "out", "--model", tmp_path / "run").status == 0
