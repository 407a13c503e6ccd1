from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import SimpleITK as sitk

from medseg.commands.evaluate import evaluate_and_write, evaluate_folders, write_evaluation
from medseg.errors import DataError, MedsegError
from medseg.io.image import write_image


def mask(*boxes: tuple[int, int], spacing: float = 2.0, shape: tuple[int, ...] = (6, 8, 10)) -> sitk.Image:
    """Each (value, first column) is a block of four columns."""
    array = np.zeros(shape, dtype=np.uint8)
    for value, start in boxes:
        array[..., 2:5, start : start + 4] = value
    image = sitk.GetImageFromArray(array)
    image.SetSpacing([spacing] * len(shape))
    return image


def test_evaluate_folders_pairs_files_by_name_in_any_format(tmp_path: Path) -> None:
    write_image(mask((1, 2)), tmp_path / "pred/site/a.nii.gz")
    write_image(mask((1, 3)), tmp_path / "truth/site/a.nrrd")
    (tmp_path / "pred/labels.json").write_text('{"organ": 1}')
    rows, summary, problems = evaluate_folders(tmp_path / "pred", tmp_path / "truth", None, 1.0)
    assert rows[["case", "patient", "label", "status"]].to_numpy().tolist() == [["site/a", "site/a", "organ", "ok"]]
    assert rows["dice"].item() == pytest.approx(0.75)
    assert summary["labels"]["organ"]["dice"]["mean"] == pytest.approx(0.75)
    assert "Each case counts as a patient" in summary["note"]
    assert problems == []


def test_evaluate_folders_counts_missing_masks_and_skips_unmatched(tmp_path: Path) -> None:
    for name in ("a", "b"):
        write_image(mask((1, 2), (2, 6)), tmp_path / f"truth/{name}.nii.gz")
    write_image(mask((1, 2), (2, 6)), tmp_path / "pred/a.nii.gz")
    write_image(mask((1, 2)), tmp_path / "pred/c.nii.gz")
    rows, summary, problems = evaluate_folders(tmp_path / "pred", tmp_path / "truth", None, 1.0)
    assert list(summary["labels"]) == ["label_1", "label_2"]  # no names given: one label for each value
    assert summary["macro"]["dice"]["mean"] == pytest.approx(0.5)
    assert rows.loc[rows["case"] == "b", "status"].unique().tolist() == ["missed"]
    assert [(problem.case, problem.status, problem.code) for problem in problems] == [
        ("b", "failed", "no-prediction"),
        ("c", "skipped", "no-truth"),
    ]
    assert summary["n_failed"] == 0


def test_evaluate_folders_with_faulty_pair_fails_only_that_case(tmp_path: Path) -> None:
    for name in ("good", "moved", "torn"):
        write_image(mask((1, 2)), tmp_path / f"truth/{name}.nii.gz")
        write_image(mask((1, 2), spacing=3.0 if name == "moved" else 2.0), tmp_path / f"pred/{name}.nii.gz")
    torn = tmp_path / "pred/torn.nii.gz"
    torn.write_bytes(torn.read_bytes()[:-20])
    rows, summary, problems = evaluate_folders(tmp_path / "pred", tmp_path / "truth", {"organ": 1}, 1.0)
    assert rows["case"].tolist() == ["good"]
    assert summary["n_failed"] == 2
    assert {problem.case: problem.code for problem in problems} == {
        "moved": "image-geometry",
        "torn": "image-truncated",
    }
    assert "3" in problems[0].message
    assert "spacing" in problems[0].message

    (tmp_path / "pred/good.nii.gz").unlink()
    (tmp_path / "truth/good.nii.gz").unlink()
    with pytest.raises(MedsegError, match="no pair could be compared") as caught:
        evaluate_folders(tmp_path / "pred", tmp_path / "truth", {"organ": 1}, 1.0)
    assert caught.value.exit_status == 1


def test_evaluate_folders_without_shared_names_is_an_error(tmp_path: Path) -> None:
    write_image(mask((1, 2)), tmp_path / "truth/a.nii.gz")
    write_image(mask((1, 2)), tmp_path / "pred/a_mask.nii.gz")
    with pytest.raises(DataError, match=r"'a_mask'.*'a'"):
        evaluate_folders(tmp_path / "pred", tmp_path / "truth", None, 1.0)
    # two files are one pair, whatever their names
    rows, _, _ = evaluate_folders(tmp_path / "pred/a_mask.nii.gz", tmp_path / "truth/a.nii.gz", None, 1.0)
    assert rows["dice"].tolist() == [1.0]


def test_evaluate_folders_reads_binary_masks_of_2d_images(tmp_path: Path) -> None:
    write_image(mask((255, 2), spacing=1.0, shape=(8, 10)), tmp_path / "truth/a.png")
    write_image(mask((1, 2), spacing=1.0, shape=(8, 10)), tmp_path / "pred/a.png")
    rows, _, _ = evaluate_folders(tmp_path / "pred", tmp_path / "truth", {"lesion": 1}, 1.0)
    assert rows["dice"].tolist() == [1.0]


def test_evaluate_folders_of_4d_masks_has_rows_by_frame(tmp_path: Path) -> None:
    write_image(sitk.JoinSeries([mask((1, 2)), mask((1, 3))]), tmp_path / "truth/masks/a.nii.gz")
    write_image(sitk.JoinSeries([mask((1, 2)), mask((1, 2))]), tmp_path / "pred/a.nii.gz")
    pd.DataFrame({"case": ["a"], "patient": ["p7"], "mask": ["masks/a.nii.gz"]}).to_csv(
        tmp_path / "truth/cases.csv", index=False
    )
    rows, summary, _ = evaluate_folders(tmp_path / "pred", tmp_path / "truth/masks", {"organ": 1}, 1.0)
    assert rows[["case", "patient"]].to_numpy().tolist() == [["a_frame000", "p7"], ["a_frame001", "p7"]]
    assert rows["dice"].tolist() == [1.0, pytest.approx(0.75)]
    assert summary["labels"]["organ"]["dice"]["ci95"] is None
    assert "note" not in summary


def test_write_evaluation_files_equal_the_summary(tmp_path: Path) -> None:
    write_image(mask((1, 2)), tmp_path / "truth/a.nii.gz")
    write_image(mask((1, 3)), tmp_path / "pred/a.nii.gz")
    rows, summary, _ = evaluate_folders(tmp_path / "pred", tmp_path / "truth", {"organ": 1, "other": 2}, 1.0)
    write_evaluation(rows, summary, tmp_path / "out")
    assert json.loads((tmp_path / "out/metrics.json").read_text()) == summary
    table = pd.read_csv(tmp_path / "out/evaluation.csv")
    assert table["dice"].tolist() == [pytest.approx(0.75), pytest.approx(float("nan"), nan_ok=True)]


@pytest.mark.parametrize("text", ["[1, 2]", '{"organ": "one"}', "{"])
def test_evaluate_folders_with_invalid_label_names_is_an_error(tmp_path: Path, text: str) -> None:
    for folder in ("truth", "pred"):
        write_image(mask((1, 2)), tmp_path / folder / "a.nii.gz")
    (tmp_path / "pred/labels.json").write_text(text)
    with pytest.raises(DataError, match=r"labels\.json: must hold names"):
        evaluate_folders(tmp_path / "pred", tmp_path / "truth", None, 1.0)


def test_evaluate_folders_of_empty_masks_is_an_error(tmp_path: Path) -> None:
    for folder in ("truth", "pred"):
        write_image(mask(), tmp_path / folder / "a.nii.gz")
    with pytest.raises(DataError, match="no mask with a label"):
        evaluate_folders(tmp_path / "pred", tmp_path / "truth", None, 1.0)


def test_evaluate_and_write_reports_missed_masks_and_exit_status(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for name in ("a", "b"):
        write_image(mask((1, 2)), tmp_path / f"truth/{name}.nii.gz")
    write_image(mask((1, 2)), tmp_path / "pred/a.nii.gz")
    summary, status = evaluate_and_write(tmp_path / "pred", tmp_path / "truth", tmp_path / "out", 1.0)
    assert status == 3
    assert summary["problems"][0]["code"] == "no-prediction"
    assert "counted as missed" in capsys.readouterr().err.replace("\n", " ")
    assert (tmp_path / "out/evaluation.csv").is_file()
    (tmp_path / "truth/b.nii.gz").unlink()
    assert evaluate_and_write(tmp_path / "pred", tmp_path / "truth", None, 1.0)[1] == 0


def test_evaluate_folders_joins_one_file_per_label(tmp_path: Path) -> None:
    (tmp_path / "pred").mkdir()
    (tmp_path / "pred/labels.json").write_text('{"dark": 1, "bright": 2}')
    for folder, start in (("pred", 2), ("truth", 3)):
        write_image(mask((1, start)), tmp_path / f"{folder}/eye_dark.nii.gz")
        write_image(mask((1, 2)), tmp_path / f"{folder}/eye_bright.nii.gz")
    rows, summary, _ = evaluate_folders(tmp_path / "pred", tmp_path / "truth", None, 1.0)
    assert summary["n_cases"] == 1
    assert rows.set_index("label")["dice"].to_dict() == pytest.approx({"bright": 1.0, "dark": 0.75})


def test_evaluate_with_broken_mask_logs_it_and_continues(medseg: Callable[..., Any], tmp_path: Path) -> None:
    for name in ("a", "b", "c"):
        write_image(mask((1, 2)), tmp_path / f"truth/{name}.nii.gz")
        write_image(mask((1, 2)), tmp_path / f"pred/{name}.nii.gz")
    write_image(mask((1, 2)), tmp_path / "pred/d.nii.gz")
    torn, out = tmp_path / "pred/b.nii.gz", tmp_path / "out"
    torn.write_bytes(torn.read_bytes()[:-20])
    command = ["evaluate", tmp_path / "pred", tmp_path / "truth", "--out", out]
    result = medseg(*command)
    assert result.status == 3
    assert str(torn) in result.err
    log = pd.read_csv(out / "evaluation_cases.csv", keep_default_na=False).set_index("case")
    assert log["status"].to_dict() == {"a": "ok", "b": "failed", "c": "ok", "d": "skipped"}
    assert log["code"].to_dict() == {"a": "", "b": "image-truncated", "c": "", "d": "no-truth"}
    assert str(torn) in log.loc["b", "message"]
    content = json.loads((out / "evaluation_cases.json").read_text())
    assert content["counts"] == {"ok": 2, "failed": 1, "skipped": 1}
    assert json.loads((out / "metrics.json").read_text())["n_failed"] == 1
    for name in ("a", "c"):
        (tmp_path / f"pred/{name}.nii.gz").write_bytes(b"broken")
    (tmp_path / "pred/labels.json").write_text('{"organ": 1}')
    assert medseg(*command).status == 1
    assert not (out / "metrics.json").exists()  # it would tell of masks that are no more
    (out / "manifest.json").write_text("{}")
    assert medseg(*command).status == 2
