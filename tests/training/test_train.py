import csv
import json
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import SimpleITK as sitk
import torch
from PIL import Image
from safetensors.torch import load_file

from medseg.config.compose import compose
from medseg.data.cases import Case
from medseg.errors import ConfigError
from medseg.training.dataset import assign_splits
from medseg.training.train import train
from tests.conftest import TINY, TINY_UNET

Command = Callable[..., Any]


def read_csv(path: Path) -> list[dict[str, str]]:
    with path.open(newline="") as file:
        return list(csv.DictReader(file))


def test_the_run_folder_is_the_model(segmenter: Path) -> None:
    names = {path.name for path in segmenter.iterdir()}
    assert {"config.yaml", "model.safetensors", "labels.json", "fingerprint.json", "split.csv", "metrics.json"} <= names
    assert {"history.csv", "curves.png", "card.md", "manifest.json", "evaluation.csv", "predictions"} <= names
    manifest = json.loads((segmenter / "manifest.json").read_text())
    assert set(manifest["sha256"]) >= {"model.safetensors", "config.yaml"}
    assert manifest["versions"]["torch"] == torch.__version__
    card = (segmenter / "card.md").read_text()
    assert "Research use only" in card
    assert "SYNTHETIC PHANTOMS" in card


def test_patients_are_split_and_numbers_carry_their_n(segmenter: Path) -> None:
    rows = read_csv(segmenter / "split.csv")
    assert sorted(row["split"] for row in rows) == ["test", "train", "train", "train", "train"]
    assert len({(row["patient"], row["split"]) for row in rows}) == len({row["patient"] for row in rows})
    metrics = json.loads((segmenter / "metrics.json").read_text())
    held = [row["case"] for row in rows if row["split"] == "test"]
    assert metrics["n_cases"] == len(held) == len({row["case"] for row in read_csv(segmenter / "evaluation.csv")})
    assert metrics["labels"]["left_lung"]["dice"]["n"] == len(held)


def test_history_counts_samples(segmenter: Path) -> None:
    rows = read_csv(segmenter / "history.csv")
    assert int(rows[-1]["samples"]) == 600  # 2 % of 30,000
    first, last = float(rows[0]["train_loss"]), float([row["train_loss"] for row in rows if row["train_loss"]][-1])
    assert last < first


@pytest.fixture
def settings(cohort: Path, tmp_path: Path) -> Callable[..., list[str]]:
    def make(name: str, *more: str) -> list[str]:
        places = [f"data.root={cohort}", f"data.cache={tmp_path / 'cache'}", f"run_dir={tmp_path / name}"]
        return [*TINY, *TINY_UNET, *places, "segmenter.max_samples=600", *more]

    return make


def test_the_same_seed_gives_the_same_weights(settings: Callable[..., list[str]], tmp_path: Path) -> None:
    for name in ("one", "two"):
        train(compose(settings(name)))
    train(compose(settings("three", "seed=2")))
    first, two, three = (load_file(tmp_path / name / "model.safetensors") for name in ("one", "two", "three"))
    assert all(torch.equal(first[key], two[key]) for key in first)
    assert not all(torch.equal(first[key], three[key]) for key in first)


def test_an_interrupted_training_resumes_to_the_same_weights(
    settings: Callable[..., list[str]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    more = ["segmenter.max_samples=2000", "trainer.checkpoint_every_n_steps=2"]
    train(compose(settings("whole", *more)))
    from medseg.segmentation.lightning_module import SegmentationModule

    step = SegmentationModule.training_step

    def stop_after_five(self: SegmentationModule, batch: Any, index: int) -> Any:
        if self.trainer.global_step == 5:
            raise SystemExit(130)
        return step(self, batch, index)

    monkeypatch.setattr(SegmentationModule, "training_step", stop_after_five)
    with pytest.raises(SystemExit):
        train(compose(settings("cut", *more)))
    assert not (tmp_path / "cut" / "manifest.json").exists()
    monkeypatch.undo()
    for wrong in ("organ=brain", "task=diagnosis", "run_dir=other"):
        with pytest.raises(ConfigError, match=r"the run .* is|do not set run_dir"):
            compose([f"resume={tmp_path / 'cut'}", wrong])
    train(compose([f"resume={tmp_path / 'cut'}", "compute.num_threads=1"]))
    whole, cut = (load_file(tmp_path / name / "model.safetensors") for name in ("whole", "cut"))
    assert all(torch.equal(whole[key], cut[key]) for key in whole)
    steps = [row["step"] for row in read_csv(tmp_path / "cut" / "history.csv") if row["train_loss"]]
    assert steps == [row["step"] for row in read_csv(tmp_path / "whole" / "history.csv") if row["train_loss"]]


def test_a_broken_case_is_left_out_and_named(
    medseg: Command, cohort: Path, tmp_path: Path, settings: Callable[..., list[str]]
) -> None:
    copy = tmp_path / "data"
    shutil.copytree(cohort, copy)
    split = read_csv(copy / "cases.csv")
    broken = copy / split[0]["image"]
    broken.write_bytes(broken.read_bytes()[:500])
    result = medseg("train", *settings("run", f"data.root={copy}", "data.test_fraction=0"))
    assert result.status == 3
    assert broken.name in result.err
    log = {row["case"]: row["status"] for row in read_csv(tmp_path / "run" / "cases.csv")}
    assert sorted(log.values()) == ["failed"] + ["ok"] * 4
    assert (tmp_path / "run" / "manifest.json").exists()


def test_unknown_label_values_are_an_error_with_the_way_out(
    medseg: Command, cohort: Path, tmp_path: Path, settings: Callable[..., list[str]]
) -> None:
    copy = tmp_path / "data"
    shutil.copytree(cohort, copy)
    for path in (copy / "masks").glob("*.nii.gz"):
        sitk.WriteImage(sitk.ReadImage(str(path)) * 2, str(path))
    result = medseg("train", *settings("run", f"data.root={copy}"))
    assert result.status == 2
    assert "background: [4]" in result.err


def test_train_without_data_warns_of_phantoms(medseg: Command, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    tiny = ["organ.phantom.size=tiny", "data.phantom_patients=2", "segmenter.max_samples=200"]
    result = medseg("train", *TINY, *TINY_UNET, *tiny)
    assert result.status == 0
    assert "SYNTHETIC PHANTOMS" in result.err
    assert (tmp_path / "runs" / "lung" / "1" / "manifest.json").exists()


def test_multirun_runs_every_combination_by_hydra(
    medseg: Command, cohort: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    result = medseg("train", "-m", *TINY, *TINY_UNET, f"data.root={cohort}", "segmenter.max_samples=200", "seed=1,2")
    assert result.status == 0
    assert [(tmp_path / "runs" / "lung" / n / "metrics.json").exists() for n in "12"] == [True, True]


def test_train_of_3d_network_works(settings: Callable[..., list[str]], tmp_path: Path) -> None:
    more = [
        "segmenter=unet3d",
        "segmenter.patch_size=[32,32,16]",
        "segmenter.network.depth=2",
        "segmenter.network.width=4",
        "segmenter.max_samples=200",
    ]
    run = train(compose(settings("deep", *more, "segmenter.network.deep_supervision=true"))).run
    assert run.read_json("metrics.json")["labels"]["right_lung"]["dice"]["n"] == 1


def test_train_with_max_time_stops(settings: Callable[..., list[str]]) -> None:
    run = train(compose(settings("short", "segmenter.max_samples=100000000", "trainer.max_time=00:00:00:02"))).run
    rows = read_csv(run.path / "history.csv")
    assert float(rows[-1]["lr"]) < 0.003


@pytest.mark.parametrize(
    ("more", "words"),
    [
        (["resume=nowhere"], "not a run folder"),
        (["data.root=nowhere"], "nowhere: no such folder"),
        (["task=diagnosis", "organ.classes=[a,b]"], "label 'exhale' is not one of organ.classes"),
    ],
)
def test_train_with_invalid_settings_is_status_2(
    medseg: Command, breathing: Path, tmp_path: Path, more: list[str], words: str
) -> None:
    places = [f"data.root={breathing}"] + ([] if "resume=nowhere" in more else [f"run_dir={tmp_path / 'run'}"])
    result = medseg("train", *TINY, *places, *more)
    assert result.status == 2
    assert words in result.err


def test_train_with_other_spacing_prepares_again(settings: Callable[..., list[str]], tmp_path: Path) -> None:
    train(compose(settings("coarse")))
    before = len(list((tmp_path / "cache").iterdir()))
    train(compose(settings("fine", "organ.spacing_mm=[7,7,null]")))
    assert len(list((tmp_path / "cache").iterdir())) == 2 * before


def test_a_resume_keeps_the_split_and_refuses_other_cases(
    medseg: Command, cohort: Path, settings: Callable[..., list[str]], tmp_path: Path
) -> None:
    data = tmp_path / "data"
    shutil.copytree(cohort, data)
    run = train(compose(settings("run", f"data.root={data}"))).run
    before = run.file("split.csv").read_text()
    assert medseg("train", f"resume={run.path}").status == 0
    assert run.file("split.csv").read_text() == before
    table = (data / "cases.csv").read_text().splitlines()
    (data / "cases.csv").write_text("\n".join(table[:-1]) + "\n")
    result = medseg("train", f"resume={run.path}")
    assert result.status == 2
    assert "the dataset's cases differ" in result.err


def test_resuming_a_finished_training_changes_no_weight(settings: Callable[..., list[str]], tmp_path: Path) -> None:
    train(compose(settings("run")))
    before = load_file(tmp_path / "run" / "model.safetensors")
    train(compose([f"resume={tmp_path / 'run'}", "compute.num_threads=1"]))
    after = load_file(tmp_path / "run" / "model.safetensors")
    assert all(torch.equal(before[key], after[key]) for key in before)


def photographs(folder: Path, rows: list[tuple[str, str, int]]) -> Path:
    """A dataset of case, split, and the value of a disc in its mask, on dark discs."""
    y, x = np.mgrid[:64, :64]
    inside = np.hypot(y - 32, x - 32) < 14
    table = ["case,image,mask,split"]
    folder.mkdir()
    for name, split, value in rows:
        for kind, values in ((".jpg", np.where(inside, 60, 200)), ("_mask.png", inside * value)):
            sitk.WriteImage(sitk.GetImageFromArray(values.astype(np.uint8)), str(folder / f"{name}{kind}"))
        table.append(f"{name},{name}.jpg,{name}_mask.png,{split}")
    (folder / "cases.csv").write_text("\n".join(table))
    return folder


def test_train_of_classical_segmenter_evaluates_held_out_cases(medseg: Callable[..., Any], tmp_path: Path) -> None:
    words = [
        "train",
        "organ=skin",
        "organ.colour_channels=1",
        "segmenter=otsu",
        "preprocess=none",
        "compute.num_threads=1",
    ]

    def trained(data: Path, *more: str) -> Any:
        return medseg(*words, f"data.root={data}", f"data.cache={tmp_path / 'cache'}", *more)

    alone = photographs(tmp_path / "alone", [("a", "train", 255), ("b", "train", 255)])
    result = trained(alone, f"run_dir={tmp_path / 'none'}")
    assert result.status == 2
    assert "no held-out case has a mask" in result.err
    assert "data.test_fraction=1" in result.err
    assert "no training mask" not in result.err
    assert trained(alone, f"run_dir={tmp_path / 'all'}", "data.test_fraction=1").status == 0
    Image.open(alone / "a_mask.png").save(alone / "a_mask.jpg", quality=80)
    (alone / "cases.csv").write_text("case,image,mask\na,a.jpg,a_mask.jpg")
    result = trained(alone, f"run_dir={tmp_path / 'blurred'}", "data.test_fraction=1")
    assert result.status == 0, result.err
    assert "thresholded at 128 of 255: 1 files" in result.err
    healthy = photographs(tmp_path / "healthy", [("a", "train", 255), ("b", "test", 0)])
    result = trained(healthy, f"run_dir={tmp_path / 'healthy_run'}")
    assert result.status == 0, result.err
    assert json.loads((tmp_path / "healthy_run" / "fingerprint.json").read_text())["voxels"] == {"lesion": 0}


def test_train_with_unexpected_error_fails_one_case(
    medseg: Callable[..., Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    from medseg.training import segmenter

    whole = segmenter.load_or_prepare

    def some(case: Any, *rest: Any) -> Any:
        if case.name == "b":
            raise ValueError("zero-size array to reduction operation")
        return whole(case, *rest)

    monkeypatch.setattr(segmenter, "load_or_prepare", some)
    data = photographs(
        tmp_path / "data", [("a", "test", 255), ("b", "test", 255), ("c", "test", 255), ("d", "train", 255)]
    )
    words = [
        "train",
        "organ=skin",
        "organ.colour_channels=1",
        "segmenter=otsu",
        "preprocess=none",
        "compute.num_threads=1",
    ]
    result = medseg(*words, f"data.root={data}", f"data.cache={tmp_path / 'cache'}", f"run_dir={tmp_path / 'run'}")
    assert result.status == 3, result.err
    rows = read_csv(tmp_path / "run" / "cases.csv")
    assert [(row["case"], row["status"]) for row in rows] == [("a", "ok"), ("b", "failed"), ("c", "ok")]
    assert "zero-size array" in rows[1]["message"]
    assert "b.jpg" in rows[1]["message"]


def test_a_held_out_case_that_cannot_be_segmented_counts_as_an_empty_mask(
    medseg: Callable[..., Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from medseg.errors import ImageError
    from medseg.inference.segmenter import Segmenter

    whole = Segmenter.scored

    def some(self: Segmenter, images: Any, *rest: Any, **more: Any) -> Any:
        if sitk.GetArrayViewFromImage(images["photo"])[0, 0] == 120:
            raise ImageError("shows too few levels", code="image-levels")
        return whole(self, images, *rest, **more)

    monkeypatch.setattr(Segmenter, "scored", some)
    data = photographs(tmp_path / "data", [(name, "train" if name == "d" else "test", 255) for name in "abcd"])
    values = np.array(Image.open(data / "b.jpg")).clip(0, 120)
    values[:8] = 120
    Image.fromarray(values).save(data / "b.png")
    (data / "cases.csv").write_text((data / "cases.csv").read_text().replace("b.jpg", "b.png"))
    words = [
        "train",
        "organ=skin",
        "organ.colour_channels=1",
        "segmenter=otsu",
        "preprocess=none",
        "compute.num_threads=1",
    ]
    result = medseg(*words, f"data.root={data}", f"data.cache={tmp_path / 'cache'}", f"run_dir={tmp_path / 'run'}")
    assert result.status == 3, result.err
    assert "b could not be segmented" in result.err
    rows = {row["case"]: row for row in read_csv(tmp_path / "run" / "cases.csv")}
    assert (rows["b"]["status"], rows["b"]["code"]) == ("failed", "image-levels")
    assert "b.png: shows too few levels; it counts as an empty mask" in rows["b"]["message"]
    score = json.loads((tmp_path / "run" / "metrics.json").read_text())["labels"]["lesion"]
    assert score["dice"]["n"] == 3
    scores = {row["case"]: float(row["dice"]) for row in read_csv(tmp_path / "run" / "evaluation.csv")}
    assert scores["b"] == 0
    assert min(scores["a"], scores["c"]) > 0.8


def test_assign_splits_where_nobody_is_held_out_names_the_column(caplog: pytest.LogCaptureFixture) -> None:
    cases = [Case(f"c{n}", f"p{n}", {"ct": Path("a.png")}, Path("m.png"), split="train") for n in range(6)]
    assigned = assign_splits(compose(["organ=lung"]), cases)
    assert {case.split for case in assigned} == {"train"}
    assert "nothing is evaluated: column 'split' says train for every case" in caplog.text
    caplog.clear()
    drawn = assign_splits(compose(["organ=lung"]), [replace(case, split=None) for case in cases])
    assert "test" in {case.split for case in drawn}
    assert not caplog.text
