"""A dataset with one of each fault: all are said at once, none stops the others."""

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from PIL import Image

from medseg.data.image import read_mask, write_image

Command = Callable[..., Any]


def picture(file: Path, seed: int, size: tuple[int, int] = (40, 48), grey: bool = True) -> None:
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
        picture(root / "images" / f"{name}.png", number)
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
    picture(root / "images" / "c07.png", 7, grey=False)
    picture(root / "images" / "c08.png", 8, size=(400, 480))
    mask(root / "masks" / "c08.png", size=(400, 480))
    table.loc["c09", "mask"] = ""
    Image.new("L", (48, 40), 9).save(root / "images" / "c10.png")
    table.to_csv(root / "cases.csv")
    return root


def test_everything_is_said_at_once(medseg: Command, dataset: Path) -> None:
    result = medseg("data", "check", dataset, "organ=breast")
    assert result.status == 3
    found = pd.read_csv("data_check.csv").set_index("case")
    assert set(found.index[found["status"] == "failed"]) == {"c01", "c02", "c03"}
    wanted = {
        "c01": "c01.png", "c02": "30", "c03": "7", "c04": "blank", "c05": "exact duplicate of c12", "c07": "3 colour",
        "c08": "median", "c09": "no mask", "c10": "every pixel is 9", "c12": "in split train",
    }  # fmt: skip
    for case, words in wanted.items():
        assert words in found.loc[case, "message"], case
        assert words in result.err or len(words) < 3
    whole = " ".join(found.loc[["(dataset)"], "message"])
    assert "patient p6 is in test and train" in whole
    assert "every case is benign" in whole
    assert set(found.index[found["status"] == "ok"]) == {"c00", "c06", "c11", "c13"}


def test_a_sound_dataset_is_ok(medseg: Command, dataset: Path) -> None:
    table = pd.read_csv(dataset / "cases.csv")
    table = table[table["case"].isin(["c00", "c06", "c11"])]
    table["split"] = ["train", "train", "test"]
    table["label"] = ["benign", "malignant", "normal"]
    table.to_csv(dataset / "cases.csv", index=False)
    assert medseg("data", "check", dataset, "organ=breast").status == 0
    assert set(pd.read_csv("data_check.csv")["status"]) == {"ok"}


def test_noise_in_a_header_is_tolerated_and_told(medseg: Command, cohort: Path, tmp_path: Path) -> None:
    root = tmp_path / "noisy"
    shutil.copytree(cohort, root)
    first, second = sorted((root / "masks").iterdir())[:2]
    for file, voxels in ((first, 3e-4), (second, 3e-3)):
        image = read_mask(file)
        image.SetOrigin([image.GetOrigin()[0] + voxels * image.GetSpacing()[0], *image.GetOrigin()[1:]])
        write_image(image, file)
    assert medseg("data", "check", root, "organ=lung", "--out", tmp_path / "c.csv").status == 3
    found = pd.read_csv(tmp_path / "c.csv", keep_default_na=False)
    told = found[found["message"].str.contains("tolerated")]
    assert len(told) == 1
    assert "0.0003 of a voxel" in told["message"].iloc[0]
    assert told["status"].iloc[0] == "review"
    assert found.loc[found["status"] == "failed", "code"].tolist() == ["mask-grid"]
