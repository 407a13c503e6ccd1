"""Two models of two halves: each case goes to the one that held it out, by its content, whatever it is called."""

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from medseg.config import compose
from medseg.data.image import write_image
from medseg.folds import provenance_of
from medseg.train import train
from tests.conftest import picture

Command = Callable[..., Any]


@pytest.fixture(scope="module")
def folds(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """images/, masks/ and a run of each of two folds (rules without training: they are judged alike)."""
    folder = tmp_path_factory.mktemp("folds")
    for number in range(6):
        image, mask = picture(number)
        write_image(image, folder / "images" / f"p{number}.png")
        write_image(mask, folder / "masks" / f"p{number}.png")
    for fold in range(2):
        given = ["organ=breast", "segmenter=otsu", f"data.root={folder}", "data.folds=2", f"data.fold={fold}"]
        train(compose([*given, f"run_dir={folder / f'fold{fold}'}", f"data.cache={folder / 'c'}"]))
    return folder


def test_each_case_is_segmented_by_the_model_that_never_saw_it(medseg: Command, folds: Path, tmp_path: Path) -> None:
    shutil.copytree(folds / "images", tmp_path / "in")
    (tmp_path / "in" / "p0.png").rename(tmp_path / "in" / "another_name.png")
    write_image(picture(99)[0], tmp_path / "in" / "new.png")
    models = ["--model", folds / "fold0", "--model", folds / "fold1"]
    assert medseg("segment", tmp_path / "in", tmp_path / "out", *models, "--out-of-fold").status == 0
    told = pd.read_csv(tmp_path / "out" / "provenance.csv").set_index("case")
    assert told["out_of_fold"].all()
    for fold in range(2):
        split = pd.read_csv(folds / f"fold{fold}" / "split.csv").set_index("case")["split"]
        for case, side in split.items():
            name = "another_name" if case == "p0" else case
            if side == "test":
                assert told.loc[name, "model"].endswith(f"fold{fold}")
    assert told.loc["new", "why"] == "not in the model's dataset"
    assert (tmp_path / "out" / "p3.png").is_file()


def test_masks_say_whether_they_are_out_of_fold(medseg: Command, folds: Path, tmp_path: Path) -> None:
    models = ["--model", folds / "fold0", "--model", folds / "fold1"]
    assert medseg("segment", folds / "images", tmp_path / "out", *models, "--out-of-fold").status == 0
    found = provenance_of(tmp_path / "out")
    assert (found["out_of_fold"], found["masks"], found["models"]) == (True, 6, ["fold0", "fold1"])
    table = pd.read_csv(tmp_path / "out" / "provenance.csv")
    for case, model in zip(
        table["case"], table["model"], strict=True
    ):  # no patient of a mask is one its model learnt from
        split = pd.read_csv(Path(model) / "split.csv").astype(str)
        patient = split.loc[split["case"] == case, "patient"].item()
        assert patient not in set(split.loc[split["split"] == "train", "patient"])
    table.assign(out_of_fold=[True] * 5 + [False]).to_csv(tmp_path / "out" / "provenance.csv", index=False)
    assert provenance_of(tmp_path / "out")["out_of_fold"] is False
    assert provenance_of(folds / "masks")["out_of_fold"] is None


def test_a_case_that_every_model_saw_fails_by_name_and_the_others_go_on(
    medseg: Command, folds: Path, tmp_path: Path
) -> None:
    result = medseg("segment", folds / "images", tmp_path, "--model", folds / "fold0", "--out-of-fold")
    assert result.status == 3
    split = pd.read_csv(folds / "fold0" / "split.csv").set_index("case")["split"]
    ledger = pd.read_csv(tmp_path / "cases.csv").set_index("case")
    for case, side in split.items():
        assert ledger.loc[case, "status"] == ("ok" if side == "test" else "failed")
    assert set(ledger.loc[ledger["status"] == "failed", "code"]) == {"seen"}


def test_models_of_other_labels_are_no_folds_of_one_recipe(medseg: Command, folds: Path, tmp_path: Path) -> None:
    other = tmp_path / "other"
    given = ["organ=skin", "organ.components=1", "preprocess=ultrasound", "segmenter=otsu", f"data.root={folds}"]
    given += ["data.holdout=1.0", f"run_dir={other}", f"data.cache={tmp_path / 'c'}"]
    done = medseg("train", *given)
    assert done.status == 0, done.err
    models = ["--model", folds / "fold0", "--model", other]
    result = medseg("segment", folds / "images", tmp_path / "out", *models, "--out-of-fold")
    assert result.status == 2
    assert "other labels" in result.err
