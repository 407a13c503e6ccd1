"""The mean of several models, maps of probabilities and uncertainty, and reviews of doubtful masks."""

import csv
import json
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import SimpleITK as sitk
import torch

from medseg.config.compose import compose
from medseg.config.load import to_yaml
from medseg.inference.segmenter import EXPECTED_DICE, Segmenter, make_network
from medseg.io.image import read_image
from medseg.runs.run import Run, create, open_run
from medseg.segmentation.uncertainty import entropy_plane
from medseg.utils.files import atomic_write_text, write_json

Command = Callable[..., Any]
SMALL = ["organ=skin", "segmenter=unet2d", "segmenter.network.width=4", "segmenter.network.depth=2"]
SMALL += ["segmenter.network.encoder=none", "segmenter.patch_size=[32,32]", "compute=cpu", "compute.num_threads=1"]


def curve(value: float, n: int = 10) -> dict[str, Any]:
    """A calibration that expects the same Dice of each mask."""
    return {"raw": [0.0, 1.0], "dice": [value, value], "n": n}


def random_run(path: Path, seed: int, calibration: dict[str, Any] | None = None, *overrides: str) -> Run:
    """A run folder of an untrained U-Net of two classes, sharp enough that its mask is not empty."""
    config = compose([*SMALL, *overrides])
    run = create(str(path), "skin")
    atomic_write_text(run.file("config.yaml"), to_yaml(config))
    torch.manual_seed(seed)
    network = make_network(config)
    with torch.no_grad():
        network.heads[0].weight *= 6
        network.heads[0].bias.zero_()
    run.save_weights(network.state_dict())
    for name in ("preprocess.json", "fingerprint.json"):
        write_json(run.file(name), {})
    if calibration is not None:
        write_json(run.file(EXPECTED_DICE), dict.fromkeys(config.organ.labels, calibration))
    run.seal(datetime.now(UTC))
    return open_run(run.path)


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    """Two photographs of noise in blobs."""
    folder = tmp_path / "photos"
    folder.mkdir()
    for number in range(2):
        blobs = np.random.default_rng(number).integers(0, 255, (6, 8, 3)).repeat(12, 0).repeat(12, 1)
        sitk.WriteImage(sitk.GetImageFromArray(blobs.astype(np.uint8), isVector=True), str(folder / f"p{number}.png"))
    return folder


def table(file: Path) -> list[dict[str, str]]:
    with file.open(newline="") as stream:
        return list(csv.DictReader(stream))


def label_of(run: Run) -> str:
    return next(iter(Segmenter.from_run(run, "cpu").labels.numbers))


def test_average_writes_one_mask_and_the_mean_probability(medseg: Command, photos: Path, tmp_path: Path) -> None:
    runs = [random_run(tmp_path / "a", 1), random_run(tmp_path / "b", 2)]
    models = [word for run in runs for word in ("--model", run.path)]
    out, label = tmp_path / "out", label_of(runs[0])
    result = medseg("segment", photos, out, *models, "--average", "--probabilities", "--uncertainty")
    assert result.status == 0, result.err
    segmenters = [Segmenter.from_run(run, "cpu") for run in runs]
    image = read_image(photos / "p0.png")
    single = [s.scored({s.channels[0]: image}, keep=True).probabilities[label] for s in segmenters]
    mean = np.mean(single, axis=0)
    stored = sitk.ReadImage(str(out / "probabilities" / f"p0_{label}.png"))
    assert stored.GetPixelID() == sitk.sitkUInt16
    assert sitk.GetArrayFromImage(stored) / 65535 == pytest.approx(mean, abs=1e-4)
    assert np.abs(single[0] - single[1]).max() > 0.05  # or the mean would be no test
    entropy = sitk.GetArrayFromImage(sitk.ReadImage(str(out / "uncertainty" / "p0.png"))) / 65535
    assert entropy == pytest.approx(entropy_plane([mean], exclusive=True), abs=1e-3)
    decided = (mean > 0.5).astype(np.uint8)
    coded = sitk.GetImageFromArray(decided)
    coded.CopyInformation(image)
    expected = segmenters[0].postprocess(coded, image)
    written = sitk.GetArrayFromImage(sitk.ReadImage(str(out / "p0.png")))
    assert ((written > 0) == (sitk.GetArrayFromImage(expected) > 0)).mean() > 0.999
    assert not (out / "agreement.csv").exists()
    rows = table(out / "uncertainty.csv")
    assert [(row["case"], row["model"], row["label"]) for row in rows] == [("p0", "mean", label), ("p1", "mean", label)]
    assert all(0 < float(row["disagreement"]) <= 1 and row["calibrated"] == "False" for row in rows)
    entries = json.loads((out / "cases.json").read_text())["entries"]
    assert entries[0]["outputs"].split("\n") == ["p0.png", "uncertainty/p0.png", f"probabilities/p0_{label}.png"]


def test_maps_count_for_resuming(medseg: Command, photos: Path, tmp_path: Path) -> None:
    run, out = random_run(tmp_path / "a", 1), tmp_path / "out"
    command = ("segment", photos, out, "--model", run.path)
    assert "reused" not in medseg(*command).err
    assert "results of another model, other settings" in medseg(*command, "--probabilities").err
    again = medseg(*command, "--probabilities")
    assert "(2 unchanged since an earlier run)" in again.err + again.out
    file = next((out / "probabilities").glob("p0_*.png"))
    file.unlink()
    again = medseg(*command, "--probabilities")
    assert "(1 unchanged since an earlier run)" in again.err + again.out
    assert file.is_file()
    medseg(*command)
    assert not file.exists()  # of another run of the command


@pytest.mark.parametrize(
    ("calibration", "overrides", "status"),
    [
        ({"mask": curve(0.2), "empty": curve(0.9)}, [], "review"),
        ({"mask": curve(0.8), "empty": curve(0.1)}, [], "ok"),
        ({"mask": curve(0.2, n=9), "empty": curve(0.2, n=9)}, [], "ok"),
        ({"mask": curve(0.2), "empty": curve(0.2)}, ["segmenter.predict.min_expected_dice=0"], "ok"),
        ({"mask": curve(0.6), "empty": curve(0.6)}, ["segmenter.predict.min_expected_dice=0.7"], "review"),
        (None, [], "ok"),
    ],
)
def test_low_expected_dice_needs_review(
    medseg: Command, photos: Path, tmp_path: Path, calibration: Any, overrides: list[str], status: str
) -> None:
    run = random_run(tmp_path / "a", 1, calibration, "quality=none", *overrides)
    result = medseg("segment", photos, tmp_path / "out", "--model", run.path)
    entries = json.loads((tmp_path / "out" / "cases.json").read_text())["entries"]
    assert {entry["status"] for entry in entries} == {status}, result.err
    if status == "review":
        value = calibration["mask"]["dice"][0]
        assert entries[0]["code"] == "expected-dice"
        assert f"{label_of(run)} {value:.2f}" in entries[0]["message"]
    if calibration and calibration["mask"]["n"] == 10:
        assert {float(row["expected_dice"]) for row in table(tmp_path / "out" / "uncertainty.csv")} == {
            calibration["mask"]["dice"][0]
        }


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (["--average", "--out-of-fold"], ["out of fold each case is segmented by one model", "--average"]),
        (["--probabilities"], ["maps of probabilities or uncertainty are of one mask", "--average"]),
        (["--uncertainty"], ["give one model, or average", "--average"]),
    ],
)
def test_options_that_exclude_each_other_are_refused(
    medseg: Command, photos: Path, rule: Path, tmp_path: Path, options: list[str], words: list[str]
) -> None:
    result = medseg("segment", photos, tmp_path / "out", "--model", rule, "--model", rule, *options)
    assert result.status == 2
    for word in words:
        assert word in result.err


def test_average_of_other_labels_is_refused(medseg: Command, photos: Path, rule: Path, tmp_path: Path) -> None:
    other = random_run(tmp_path / "b", 1, None, "organ=breast")
    result = medseg("segment", photos, tmp_path / "out", "--model", rule, "--model", other.path, "--average")
    assert result.status == 2
    assert "models of the same labels only" in result.err
    assert "without --average" in result.err
    assert not (tmp_path / "out").exists()


def test_average_mixes_classical_and_trained_models(medseg: Command, photos: Path, rule: Path, tmp_path: Path) -> None:
    run = random_run(tmp_path / "a", 1)
    result = medseg("segment", photos, tmp_path / "out", "--model", rule, "--model", run.path, "--average")
    assert result.status == 0, result.err
    assert len(list((tmp_path / "out").glob("*.png"))) == 2
