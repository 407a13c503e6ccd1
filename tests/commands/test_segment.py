import csv
import json
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import SimpleITK as sitk

from medseg.inference.segmenter import Segmenter
from medseg.io.geometry import grid_difference
from medseg.io.image import read_image
from medseg.io.labels import Labels
from medseg.runs.run import open_run
from medseg.segmentation.resampling import OutputLabels, resample_to_input

Command = Callable[..., Any]


def label_map(probability: Any, grid: sitk.Image, reference: sitk.Image, numbers: list[int]) -> Any:
    """Labels on the voxels of `reference`."""
    labels = Labels({f"label_{number}": number for number in numbers})
    return resample_to_input(iter(probability.transpose(1, 0, 2, 3)), grid, reference, OutputLabels(labels, 0.5))[0]


@pytest.fixture
def scans(cohort: Path, tmp_path: Path) -> Path:
    """Three scans in a tree of folders, with a blank and an accent in the names, and one of them is truncated."""
    folder = tmp_path / "my scans"
    (folder / "site é").mkdir(parents=True)
    image_files = sorted((cohort / "images").glob("*.nii.gz"))
    shutil.copy(image_files[0], folder / "a.nii.gz")
    shutil.copy(image_files[1], folder / "site é" / "b.nii.gz")
    (folder / "broken.nii.gz").write_bytes(image_files[2].read_bytes()[:-2000])
    return folder


def test_broken_file_is_logged_and_others_continue(
    medseg: Command, scans: Path, segmenter: Path, tmp_path: Path
) -> None:
    out = tmp_path / "out"
    result = medseg("segment", scans, out, "--model", segmenter, "--json")
    assert result.status == 3
    assert "broken.nii.gz" in result.err
    assert "Traceback" not in result.err
    assert sorted(str(p.relative_to(out)) for p in out.rglob("*.nii.gz")) == ["a.nii.gz", "site é/b.nii.gz"]
    summary = json.loads(result.out)
    assert (summary["counts"], summary["exit_status"]) == ({"ok": 2, "failed": 1}, 3)
    with (out / "cases.csv").open(newline="") as file:
        rows = {row["case"]: row for row in csv.DictReader(file)}
    assert rows["broken"]["code"] == "image-truncated"
    assert rows["site é/b"]["status"] == "ok"
    assert json.loads((out / "labels.json").read_text()) == {"right_lung": 1, "left_lung": 2}


def test_segment_masks_have_the_grid_of_their_images(
    medseg: Command, scans: Path, segmenter: Path, tmp_path: Path
) -> None:
    image = sitk.DICOMOrient(read_image(scans / "a.nii.gz"), "ASR")
    image.SetOrigin((12.5, -300.0, 77.0))
    turned = tmp_path / "turned" / "t.mha"
    turned.parent.mkdir()
    sitk.WriteImage(image, str(turned))
    assert (
        medseg("segment", turned.parent, tmp_path / "out", "--model", segmenter, "--output-format", ".nrrd").status == 0
    )
    mask = sitk.ReadImage(str(tmp_path / "out" / "t.nrrd"))
    assert grid_difference(mask, image) is None
    assert mask.GetPixelID() == sitk.sitkUInt8


def test_segmenter_of_flipped_volume_keeps_sides(segmenter: Path, cohort: Path) -> None:
    model = Segmenter.from_run(open_run(segmenter), "cpu")
    image = read_image(sorted((cohort / "images").glob("*.nii.gz"))[0])
    straight = sitk.GetArrayFromImage(model({"ct": image}))
    assert set(np.unique(straight)) == {0, 1, 2}
    for orientation in ("RAS", "LAI", "PIR"):
        mask = sitk.DICOMOrient(model({"ct": sitk.DICOMOrient(image, orientation)}), "LPS")
        assert (sitk.GetArrayFromImage(mask) == straight).mean() > 0.999


def test_train_segmenter_learns_lungs(segmenter: Path) -> None:
    metrics = json.loads((segmenter / "metrics.json").read_text())
    assert metrics["labels"]["right_lung"]["dice"]["mean"] > 0.6
    assert metrics["labels"]["left_lung"]["dice"]["mean"] > 0.6
    assert metrics["labels"]["left_lung"]["expected_dice"]["n"] == metrics["n_cases"]
    assert set(json.loads((segmenter / "expected_dice.json").read_text())) == {"right_lung", "left_lung"}
    assert "expected_dice.json" in json.loads((segmenter / "manifest.json").read_text())["sha256"]
    with (segmenter / "evaluation.csv").open(newline="") as file:
        assert all(0 < float(row["expected_dice"]) <= 1 for row in csv.DictReader(file))


def test_segment_of_4d_sequence_gives_4d_mask(segmenter: Path, breathing: Path, tmp_path: Path) -> None:
    files = sorted((breathing / "images").glob("*/*.nii.gz"))[:3]
    sequence = sitk.JoinSeries([sitk.ReadImage(str(file)) for file in files])
    mask = Segmenter.from_run(open_run(segmenter), "cpu")({"ct": sequence})
    assert mask.GetSize() == sequence.GetSize()
    assert mask.GetSpacing() == sequence.GetSpacing()


@pytest.mark.parametrize(
    ("arguments", "status", "words"),
    [
        (["nowhere", "out"], 2, ["nowhere", "no such"]),
        (["empty", "out"], 2, ["no case found"]),
        (["scans", "out", "--glob", "*.png"], 2, ["matches *.png"]),
        (["scans", "out", "--output-format", ".doc"], 2, ["--output-format .doc", ".nrrd"]),
        (["scans", "out", "--glob", "broken*"], 1, ["broken.nii.gz"]),
        (["scans", "out", "--glob", "a*"], 0, []),
    ],
)
def test_segment_errors_have_exit_status_and_message(
    medseg: Command, scans: Path, segmenter: Path, tmp_path: Path, arguments: list[str], status: int, words: list[str]
) -> None:
    (tmp_path / "empty").mkdir()
    places = {"scans": scans, "out": tmp_path / "out", "empty": tmp_path / "empty", "nowhere": tmp_path / "nowhere"}
    result = medseg("segment", *(places.get(word, word) for word in arguments), "--model", segmenter)
    assert result.status == status
    for word in words:
        assert word in result.err


def test_segment_folder_where_the_folder_is_mistyped_loads_no_model(
    medseg: Command, segmenter: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Segmenter, "from_run", lambda *_: pytest.fail("a model was loaded"))
    for workers in (1, 2):
        result = medseg("segment", tmp_path / "nowhere", tmp_path / "out", "--model", segmenter, "--workers", workers)
        assert result.status == 2
        assert "no such" in result.err
    assert not (tmp_path / "out").exists()


def test_segment_folder_until_there_are_cases_does_without_torch(segmenter: Path, tmp_path: Path) -> None:
    code = (
        "import sys; from medseg.cli.app import main\n"
        "try: main()\n"
        "except SystemExit as end: print(end.code, 'torch' in sys.modules)"
    )
    words = ["segment", str(tmp_path / "nowhere"), str(tmp_path / "out"), "--model", str(segmenter)]
    done = subprocess.run([sys.executable, "-c", code, *words], capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["2", "False"]


def test_segment_with_synthetic_model_warns(
    medseg: Command, scans: Path, segmenter: Path, cohort: Path, tmp_path: Path
) -> None:
    warned = medseg("segment", scans, tmp_path / "o1", "--model", segmenter, "--glob", "a*", "--quiet")
    assert "SYNTHETIC PHANTOMS" in warned.err
    calm = medseg("segment", cohort / "images", tmp_path / "o2", "--model", segmenter, "--glob", "*0.nii.gz", "--quiet")
    assert calm.err == ""


def test_segment_with_classifier_is_refused(medseg: Command, scans: Path, classifier_run: Path, tmp_path: Path) -> None:
    result = medseg("segment", scans, tmp_path / "out", "--model", classifier_run)
    assert result.status == 2
    assert "task=segmentation" in result.err
    assert medseg("segment", scans, tmp_path / "out", "--model", tmp_path).status == 2


def test_the_most_probable_label_wins_on_the_inputs_grid() -> None:
    """Two labels and background, side by side, seen at half the resolution."""
    probability = np.zeros((3, 1, 4, 6), np.float32)
    probability[1, ..., :2] = probability[2, ..., 2:4] = probability[0, ..., 4:] = 1
    grid = sitk.Image([6, 4, 1], sitk.sitkUInt8)
    grid.SetSpacing((2.0, 2.0, 2.0))
    reference = sitk.Image([12, 8, 2], sitk.sitkInt16)
    reference.SetOrigin((-0.5, -0.5, -0.5))
    mask = label_map(probability, grid, reference, [1, 2])
    assert mask[0, 4].tolist() == [1] * 4 + [2] * 4 + [0] * 4


def test_segment_into_its_input_is_refused(medseg: Command, scans: Path, segmenter: Path) -> None:
    before = (scans / "a.nii.gz").read_bytes()
    result = medseg("segment", scans, scans, "--model", segmenter)
    assert result.status == 2
    assert "overwrite" in result.err
    assert (scans / "a.nii.gz").read_bytes() == before


def test_label_numbers_and_not_their_order_decide() -> None:
    """labels {b: 2, a: 1} in any order: channel 2 of the network is label 2."""
    probability = np.zeros((3, 1, 2, 4), np.float32)
    probability[1, ..., :2] = probability[2, ..., 2:] = 1
    grid = sitk.Image([4, 2, 1], sitk.sitkUInt8)
    for order in ([1, 2], [2, 1]):
        assert (label_map(probability, grid, grid, order))[0, 0].tolist() == [1, 1, 2, 2]


def test_a_label_reaches_the_images_border() -> None:
    """Ten pixels seen on a grid of two, whose voxels end before the image does."""
    probability = np.ones((2, 1, 1, 2), np.float32)
    probability[0] = 0
    grid = sitk.Image([2, 1, 1], sitk.sitkUInt8)
    grid.SetSpacing((4.0, 1.0, 1.0))
    grid.SetOrigin((1.5, 0.0, 0.0))
    reference = sitk.Image([10, 1, 1], sitk.sitkUInt8)
    assert (label_map(probability, grid, reference, [1])).all()


def test_beyond_a_crop_there_is_background() -> None:
    probability = np.ones((2, 1, 4, 4), np.float32)
    probability[0] = 0
    grid = sitk.Image([4, 4, 1], sitk.sitkUInt8)
    grid.SetOrigin((4.0, 4.0, 0.0))
    mask = label_map(probability, grid, sitk.Image([12, 12, 1], sitk.sitkUInt8), [1])
    assert mask[0, 4:8, 4:8].all()
    assert not mask[0, :3].any()
    assert not mask[0, :, 9:].any()


@pytest.mark.parametrize(("device", "words"), [("gpuu", "must be one of auto, cpu, cuda"), ("cuda", "no GPU")])
def test_segment_on_missing_device_is_an_error(
    medseg: Command, scans: Path, segmenter: Path, tmp_path: Path, device: str, words: str
) -> None:
    import torch

    if device == "cuda" and torch.cuda.is_available():
        pytest.skip("there is a GPU")
    result = medseg("segment", scans, tmp_path / "o", "--model", segmenter, "--device", device)
    assert result.status == 2
    assert words in result.err
