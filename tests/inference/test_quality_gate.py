"""What a run remembers of its training images reaches every command that reads images with it."""

import json
import re
import shutil
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
import SimpleITK as sitk

from medseg.config.compose import compose
from medseg.config.load import load, to_yaml, with_values
from medseg.errors import ModelError
from medseg.inference.quality_gate import QualityGate
from medseg.io.image import read_image, write_image
from medseg.runs.run import open_run

Command = Callable[..., Any]


@pytest.fixture(scope="module")
def odd(cohort: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A phantom as it is, one whose spacing was read in another unit, and one in HU + 1000."""
    folder = tmp_path_factory.mktemp("odd")
    image = read_image(sorted((cohort / "images").iterdir())[0])
    write_image(image, folder / "good.nii.gz")
    write_image(image + 1000, folder / "shifted.nii.gz")
    image.SetSpacing([side * 10 for side in image.GetSpacing()])
    write_image(image, folder / "unit.nii.gz")
    return folder


def read_log(file: Path) -> pd.DataFrame:
    return pd.read_csv(file, keep_default_na=False).set_index("case")


def test_segment_of_unusual_image_needs_review_or_fails(
    medseg: Command, segmenter: Path, odd: Path, tmp_path: Path
) -> None:
    stats = open_run(segmenter).read_json("fingerprint.json")["image_stats"]["ct"]
    assert stats["cases"] == 4
    assert medseg("segment", odd, tmp_path / "out", "--model", segmenter).status == 0
    log = read_log(tmp_path / "out" / "cases.csv")
    assert dict(log["status"]) == {"good": "ok", "shifted": "review", "unit": "review"}
    spacing = max(read_image(odd / "unit.nii.gz").GetSpacing())
    low, high = stats["ranges"]["spacing_coarsest"]
    assert f"coarsest spacing {spacing:.0f} mm, trained on {low:.3g}–{high:.3g}" in log.loc["unit", "message"]
    assert "of its values" in log.loc["shifted", "message"]
    assert medseg("segment", odd, tmp_path / "strict", "--model", segmenter, "--fail-on-quality").status == 3
    log = read_log(tmp_path / "strict" / "cases.csv")
    assert dict(log["status"]) == {"good": "ok", "shifted": "failed", "unit": "failed"}
    assert set(log.loc[["shifted", "unit"], "code"]) == {"quality"}


def test_quality_warnings_of_several_models_name_the_model(
    medseg: Command, segmenter: Path, odd: Path, tmp_path: Path
) -> None:
    other_run = tmp_path / "other"
    shutil.copytree(segmenter, other_run)
    run = open_run(other_run)
    content = run.read_json("fingerprint.json")
    content["image_stats"]["ct"]["ranges"]["spacing_coarsest"] = [0.5, 0.6]
    run.file("fingerprint.json").write_text(json.dumps(content))
    run.seal(datetime.now(UTC))
    models = ["--model", segmenter, "--model", other_run]
    assert medseg("segment", odd / "good.nii.gz", tmp_path / "out", *models).status == 0
    message = read_log(tmp_path / "out" / "cases.csv").loc["good", "message"]
    assert message.startswith("other: ct: coarsest spacing ")
    assert message.endswith("trained on 0.5–0.6")


def test_diagnose_checks_both_models_image_statistics(
    medseg: Command, classifier_run: Path, segmenter: Path, odd: Path, tmp_path: Path
) -> None:
    assert open_run(classifier_run).read_json("fingerprint.json")["image_stats"]["ct"]["cases"] == 4 * 8
    arguments = [odd, tmp_path / "out.csv", "--model", classifier_run, "--segmenter", segmenter]
    assert medseg("diagnose", *arguments).status == 0
    log = read_log(tmp_path / "out_cases.csv")
    assert log.loc["good", "message"].startswith("single frame")  # nothing against the image itself
    assert dict(log["status"]) == {"good": "review", "shifted": "review", "unit": "review"}
    assert "spacing" in log.loc["unit", "message"]
    arguments[1] = tmp_path / "strict.csv"
    assert medseg("diagnose", *arguments, "--fail-on-quality").status == 3
    log = read_log(tmp_path / "strict_cases.csv")
    assert dict(log["code"]) == {"good": "review", "shifted": "quality", "unit": "quality"}
    assert log.loc["shifted", "message"].count("look like HU + 1000") == 1  # both gates say so


def test_quality_gate_without_statistics_warns_once(
    medseg: Command, segmenter: Path, odd: Path, tmp_path: Path
) -> None:
    old = tmp_path / "old"
    shutil.copytree(segmenter, old)
    run = open_run(old)
    content = run.read_json("fingerprint.json")
    del content["image_stats"]
    run.file("fingerprint.json").write_text(json.dumps(content))
    settings = run.file("config.yaml")  # a phantom's lungs are small; nothing but the image is judged here
    settings.write_text(to_yaml(with_values(load(settings), {"organ.plausibility": {}})))
    run.seal(datetime.now(UTC))
    result = medseg("segment", odd, tmp_path / "out", "--model", old)
    assert result.err.count("has no statistics of its training images") == 1
    assert read_log(tmp_path / "out" / "cases.csv").loc["unit", "status"] == "ok"


def test_quality_gate_without_ood_check_skips_it(cohort: Path) -> None:
    image = read_image(sorted((cohort / "images").iterdir())[0])
    far = {"ct": {"cases": 9, "contrast": 1.0, "ranges": {"axes": (2, 2), "components": (3, 3)}}}
    with_it = QualityGate(compose(["organ=lung"]), far)
    assert with_it({"ct": image}) == [
        "ct: is a volume, trained on 2D images",
        "ct: is grey, trained on colour images",
    ]
    assert QualityGate(compose(["organ=lung", "~quality.out_of_distribution"]), far)({"ct": image}) == []
    assert QualityGate(compose(["organ=lung", "quality=none"]), far)({"ct": image}) == []
    assert with_it({"another": image}) == []
    assert QualityGate(compose(["organ=lung"]))({"ct": image}) == []
    assert with_it.of("ct")(sitk.JoinSeries([image, image, image])) == [
        d.removeprefix("ct: ") for d in with_it({"ct": image})
    ]


@pytest.mark.parametrize("stats", [[], {"ct": {}}, {"ct": {"cases": 1, "contrast": 1, "ranges": {"axes": [2]}}}, {
    "ct": {"cases": 1, "contrast": "x", "ranges": {"axes": [2, 2], "components": [1, 1]}}}])  # fmt: skip
def test_quality_gate_with_invalid_statistics_is_model_error(
    medseg: Command, segmenter: Path, odd: Path, tmp_path: Path, stats: Any
) -> None:
    broken = tmp_path / "broken"
    shutil.copytree(segmenter, broken)
    run = open_run(broken)
    run.file("fingerprint.json").write_text(json.dumps({"synthetic": True, "image_stats": stats}))
    run.seal(datetime.now(UTC))
    if not stats:
        assert QualityGate.of_run(run, compose(["organ=lung"])).stats == {}
        return
    result = medseg("segment", odd, tmp_path / "out", "--model", broken)
    assert result.status == ModelError.exit_status
    assert "do not fit together" in result.err


def test_segment_of_implausible_mask_needs_review(medseg: Command, segmenter: Path, odd: Path, tmp_path: Path) -> None:
    strict = tmp_path / "strict"
    shutil.copytree(segmenter, strict)
    run = open_run(strict)
    config = run.file("config.yaml")
    text = config.read_text()
    assert "- 6000" in text
    config.write_text(text.replace("- 6000", "- 201"))  # mL: every lung is too large
    run.seal(datetime.now(UTC))
    assert medseg("segment", odd / "good.nii.gz", tmp_path / "out", "--model", strict).status == 0
    entry = read_log(tmp_path / "out" / "cases.csv").loc["good"]
    assert (entry["status"], entry["code"]) == ("review", "implausible")
    assert re.match(r"right_lung has \d+ mL; usual: 200 to 201 mL; left_lung has \d+ mL", entry["message"])
