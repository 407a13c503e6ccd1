"""A dataset with one of each fault: all are reported, none stops the others."""

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import SimpleITK as sitk
from PIL import Image

from medseg.io.image import read_mask, write_image

Command = Callable[..., Any]


def write_image_2d(file: Path, seed: int, size: tuple[int, int] = (40, 48), grey: bool = True) -> None:
    rng = np.random.default_rng(seed)
    coarse = Image.fromarray(rng.integers(0, 255, (6, 8) if grey else (6, 8, 3)).astype(np.uint8))
    file.parent.mkdir(parents=True, exist_ok=True)
    coarse.resize(size[::-1], Image.Resampling.BILINEAR).save(file)


def mask(file: Path, value: int = 255, size: tuple[int, int] = (40, 48)) -> None:
    array = np.zeros(size, np.uint8)
    array[5:15, 5:15] = value
    file.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(array).save(file)


@pytest.fixture
def dataset(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    root = tmp_path / "data"
    rows = []
    for number in range(14):
        name = f"c{number:02d}"
        write_image_2d(root / "images" / f"{name}.png", number)
        mask(root / "masks" / f"{name}.png")
        rows.append({"case": name, "patient": f"p{number}", "split": "train" if number < 9 else "test"})
        rows[-1] |= {"image": f"images/{name}.png", "mask": f"masks/{name}.png", "label": "benign"}
    table = pd.DataFrame(rows).set_index("case")
    (root / "images" / "c01.png").write_bytes(b"\x89PNG\r\n\x1a\nbroken")
    mask(root / "masks" / "c02.png", size=(30, 30))
    array = np.zeros((40, 48), np.uint8)
    array[:4], array[8:12] = 255, 7
    Image.fromarray(array).save(root / "masks" / "c03.png")
    mask(root / "masks" / "c04.png", value=0)
    shutil.copy(root / "images" / "c05.png", root / "images" / "c12.png")
    table.loc["c13", "patient"] = "p6"
    write_image_2d(root / "images" / "c07.png", 7, grey=False)
    write_image_2d(root / "images" / "c08.png", 8, size=(400, 480))
    mask(root / "masks" / "c08.png", size=(400, 480))
    table.loc["c09", "mask"] = ""
    Image.new("L", (48, 40), 9).save(root / "images" / "c10.png")
    table.to_csv(root / "cases.csv")
    return root


def test_check_dataset_with_faults_reports_all_of_them(medseg: Command, dataset: Path) -> None:
    result = medseg("data", "check", dataset, "organ=breast")
    assert result.status == 3
    log = pd.read_csv("data_check.csv").set_index("case")
    assert set(log.index[log["status"] == "failed"]) == {"c01", "c02", "c03"}
    expected = {
        "c01": "c01.png", "c02": "30", "c03": "7", "c04": "blank", "c05": "exact duplicate of c12", "c07": "3 colour",
        "c08": "median", "c09": "no mask", "c10": "every pixel is 9", "c12": "in split train",
    }  # fmt: skip
    for case, words in expected.items():
        assert words in log.loc[case, "message"], case
        assert words in result.err or len(words) < 3
    whole = " ".join(log.loc[["(dataset)"], "message"])
    assert "patient p6 is in test and train" in whole
    assert "every case is benign" in whole
    assert set(log.index[log["status"] == "ok"]) == {"c00", "c06", "c11", "c13"}


def test_check_dataset_of_valid_data_is_ok(medseg: Command, dataset: Path) -> None:
    table = pd.read_csv(dataset / "cases.csv")
    table = table[table["case"].isin(["c00", "c06", "c11"])]
    table["split"] = ["train", "train", "test"]
    table["label"] = ["benign", "malignant", "normal"]
    table.to_csv(dataset / "cases.csv", index=False)
    assert medseg("data", "check", dataset, "organ=breast").status == 0
    assert set(pd.read_csv("data_check.csv")["status"]) == {"ok"}


def test_check_dataset_with_small_grid_offset_needs_review(medseg: Command, cohort: Path, tmp_path: Path) -> None:
    root = tmp_path / "noisy"
    shutil.copytree(cohort, root)
    first, second = sorted((root / "masks").iterdir())[:2]
    for file, voxels in ((first, 3e-4), (second, 3e-3)):
        image = read_mask(file)
        image.SetOrigin([image.GetOrigin()[0] + voxels * image.GetSpacing()[0], *image.GetOrigin()[1:]])
        write_image(image, file)
    assert medseg("data", "check", root, "organ=lung", "--out", tmp_path / "c.csv").status == 3
    log = pd.read_csv(tmp_path / "c.csv", keep_default_na=False)
    tolerated = log[log["message"].str.contains("tolerated")]
    assert len(tolerated) == 1
    assert "0.0003 of a voxel" in tolerated["message"].iloc[0]
    assert tolerated["status"].iloc[0] == "review"
    assert log.loc[log["status"] == "failed", "code"].tolist() == ["mask-grid"]


def failed(file: Path) -> "pd.Series[str]":
    log = pd.read_csv(file, keep_default_na=False)
    return log[log["status"] == "failed"].set_index("case")["message"]


def test_check_dataset_with_several_faults_of_a_case_reports_each(medseg: Command, dataset: Path) -> None:
    array = np.zeros((30, 30), np.uint8)
    array[:4], array[8:12] = 1, 7
    Image.fromarray(array).save(dataset / "masks" / "c00.png")  # another size, and a value that no label has
    Image.fromarray(array * np.uint8(5)).save(dataset / "masks" / "c01.png")  # the same, and its image cannot be read
    wide = np.zeros((30, 30), np.uint16)
    wide[:3] = 777
    Image.fromarray(wide).save(dataset / "masks" / "c06.png")  # another size, and no label numbers
    assert medseg("data", "check", dataset, "organ=breast").status == 3
    messages = failed(Path("data_check.csv"))
    for case, words in {
        "c00": ["c00.png: is not on the grid", "(30, 30) and (48, 40)", "holds [7]"],
        "c01": ["c01.png: the file is truncated", "c01.png: holds [5, 35]"],
        "c06": ["c06.png: is not on the grid", "this one has 777"],
    }.items():
        for word in words:
            assert messages[case].count(word) == 1, messages[case]


def test_check_dataset_reads_every_channel_and_mask(medseg: Command, tmp_path: Path) -> None:
    root = tmp_path / "data"
    grid, other_grid = sitk.Image(8, 8, 8, sitk.sitkInt16), sitk.Image(8, 8, 9, sitk.sitkInt16)
    grid[2, 2, 2] = other_grid[2, 2, 2] = 9
    for file, image in {"a_flair": grid, "a_t1c": other_grid, "b_flair": grid, "b_t1c": grid}.items():
        write_image(image, root / f"{file}.nii.gz")
    (root / "b_flair.nii.gz").write_bytes(b"broken")
    write_image(sitk.Cast(other_grid, sitk.sitkUInt8) * 100, root / "far.nii.gz")
    write_image(sitk.Cast(grid, sitk.sitkFloat32) / 2, root / "half.nii.gz")
    head = "case,image_flair,image_t1c,mask_whole_tumour,mask_tumour_core,mask_enhancing"
    rows = [f"{c},{c}_flair.nii.gz,{c}_t1c.nii.gz,far.nii.gz,half.nii.gz,gone.nii.gz" for c in "ab"]
    (root / "cases.csv").write_text("\n".join([head, *rows]))
    assert medseg("data", "check", root, "organ=brain_tumour", "--out", tmp_path / "c.csv").status == 1
    messages = failed(tmp_path / "c.csv")
    everywhere = ["far.nii.gz: is not on the grid", "half.nii.gz: a mask must have", "gone.nii.gz: no such file"]
    for case, words in {"a": ["a_t1c.nii.gz: is not on the grid"], "b": ["b_flair.nii.gz: "]}.items():
        for word in [*words, *everywhere]:
            assert word in messages[case], messages[case]


def test_check_dataset_with_orphan_masks_and_rows_reports_them(medseg: Command, dataset: Path) -> None:
    (dataset / "cases.csv").unlink()
    for name in ("c01", "c02", "c03"):
        (dataset / "images" / f"{name}.png").unlink()
    for name in ("c02", "c03"):
        (dataset / "masks" / f"{name}.png").unlink()
    (dataset / "masks" / "deep").mkdir()
    mask(dataset / "masks" / "deep" / "c00.png")
    rows = ["name,label", "c00.png,benign", "c06,malignant", "c07.png,normal", "lost.png,benign"]
    (dataset / "labels.csv").write_text("\n".join(rows))
    result = medseg("data", "check", dataset, "organ=breast", "data.exclude_classes=[normal]")
    assert result.status == 0
    log = pd.read_csv("data_check.csv").set_index("case")
    assert "failed" not in set(log["status"])
    messages = [text for text in log.loc[["(dataset)"], "message"] if "named like" in text]
    assert [text.split(":")[0] for text in messages] == [
        *(str(dataset / "masks" / name) for name in ("c01.png", "deep/c00.png")),
        str(dataset / "labels.csv"),
    ]
    assert "row lost.png" in messages[-1]
    assert "c01.png: no image is named like this mask" in result.err
