"""Models of two halves: each case goes to the one that held it or its patient out, whatever the image is called."""

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from medseg.commands.model_package import export_model
from medseg.config.compose import compose
from medseg.data.cases import Case
from medseg.inference.out_of_fold import OutOfFoldPredictor, describe_mask_source, provenance_of
from medseg.io.image import read_image, write_image
from medseg.runs.run import Run, open_run
from medseg.training.train import train
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
        overrides = ["organ=breast", "segmenter=otsu", f"data.root={folder}", "data.n_folds=2", f"data.fold={fold}"]
        train(compose([*overrides, f"run_dir={folder / f'fold{fold}'}", f"data.cache={folder / 'c'}"]))
    return folder


def test_out_of_fold_uses_the_model_that_held_the_case_out(medseg: Command, folds: Path, tmp_path: Path) -> None:
    shutil.copytree(folds / "images", tmp_path / "in")
    (tmp_path / "in" / "p0.png").rename(tmp_path / "in" / "another_name.png")
    write_image(picture(99)[0], tmp_path / "in" / "new.png")
    models = ["--model", folds / "fold0", "--model", folds / "fold1"]
    assert medseg("segment", tmp_path / "in", tmp_path / "out", *models, "--out-of-fold").status == 0
    provenance = pd.read_csv(tmp_path / "out" / "provenance.csv").set_index("case")
    assert provenance["out_of_fold"].all()
    for fold in range(2):
        split = pd.read_csv(folds / f"fold{fold}" / "split.csv").set_index("case")["split"]
        for case, side in split.items():
            name = "another_name" if case == "p0" else case
            if side == "test":
                assert provenance.loc[name, "model"].endswith(f"fold{fold}")
    assert provenance.loc["new", "reason"] == "not in the model's dataset"
    assert (tmp_path / "out" / "p3.png").is_file()


def test_segment_out_of_fold_uses_the_batchs_digest(
    medseg: Command, folds: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("medseg.inference.out_of_fold.hash_run_input", lambda path: pytest.fail(f"{path} read again"))
    models = ["--model", folds / "fold0", "--model", folds / "fold1"]
    assert medseg("segment", folds / "images", tmp_path / "out", *models, "--out-of-fold").status == 0
    assert set(pd.read_csv(tmp_path / "out" / "provenance.csv")["reason"]) == {"held out in training"}


def test_provenance_of_masks_tells_out_of_fold(medseg: Command, folds: Path, tmp_path: Path) -> None:
    models = ["--model", folds / "fold0", "--model", folds / "fold1"]
    assert medseg("segment", folds / "images", tmp_path / "out", *models, "--out-of-fold").status == 0
    provenance = provenance_of(tmp_path / "out")
    assert (provenance["out_of_fold"], provenance["masks"], provenance["models"]) == (True, 6, ["fold0", "fold1"])
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


def test_out_of_fold_with_training_case_fails_it_and_continues(medseg: Command, folds: Path, tmp_path: Path) -> None:
    result = medseg("segment", folds / "images", tmp_path, "--model", folds / "fold0", "--out-of-fold")
    assert result.status == 3
    split = pd.read_csv(folds / "fold0" / "split.csv").set_index("case")["split"]
    log = pd.read_csv(tmp_path / "cases.csv").set_index("case")
    for case, side in split.items():
        assert log.loc[case, "status"] == ("ok" if side == "test" else "failed")
    assert set(log.loc[log["status"] == "failed", "code"]) == {"in-training-set"}


def test_out_of_fold_with_other_labels_is_refused(medseg: Command, folds: Path, tmp_path: Path) -> None:
    run_folder = tmp_path / "other"
    overrides = [
        "organ=skin",
        "organ.colour_channels=1",
        "preprocess=ultrasound",
        "segmenter=otsu",
        f"data.root={folds}",
    ]
    overrides += ["data.test_fraction=1.0", f"run_dir={run_folder}", f"data.cache={tmp_path / 'c'}"]
    done = medseg("train", *overrides)
    assert done.status == 0, done.err
    models = ["--model", folds / "fold0", "--model", run_folder]
    result = medseg("segment", folds / "images", tmp_path / "out", *models, "--out-of-fold")
    assert result.status == 2
    assert "other labels" in result.err


@pytest.fixture(scope="module")
def pairs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Eight images of four patients A to D (e0 and e1 are A's), and a run of each of two folds; column `who`."""
    folder = tmp_path_factory.mktemp("pairs")
    for number in range(8):
        image, mask = picture(number)
        write_image(image, folder / "images" / f"e{number}.png")
        write_image(mask, folder / "masks" / f"e{number}.png")
    rows = {"image": [f"e{n}.png" for n in range(8)], "who": [f"{'ABCD'[n // 2]}" for n in range(8)]}
    pd.DataFrame(rows).to_csv(folder / "labels.csv", index=False)
    for fold in range(2):
        overrides = ["organ=breast", "segmenter=otsu", f"data.root={folder}", "data.n_folds=2", f"data.fold={fold}"]
        overrides += ["data.patient_column=who", f"run_dir={folder / f'fold{fold}'}", f"data.cache={folder / 'c'}"]
        train(compose(overrides))
    return folder


def sides(run: Path) -> dict[str, str]:
    """Side of each patient."""
    table = pd.read_csv(run / "split.csv").astype(str)
    return dict(zip(table["patient"], table["split"], strict=True))


def dataset(folder: Path, patients: dict[str, str]) -> Path:
    """New images, each of a stated patient."""
    for number, name in enumerate(patients, start=50):
        write_image(picture(number)[0], folder / "images" / f"{name}.png")
    rows = {"image": [f"{name}.png" for name in patients], "who": list(patients.values())}
    pd.DataFrame(rows).to_csv(folder / "labels.csv", index=False)
    return folder


def segment_provenance(medseg: Command, source: Path, out: Path, *models: Path) -> pd.DataFrame:
    """provenance.csv of masks out of fold, by case; blanks are blank."""
    words = [word for model in models for word in ("--model", model)]
    medseg("segment", source, out, *words, "--out-of-fold")
    if not (out / "provenance.csv").is_file():
        return pd.DataFrame(columns=["model", "out_of_fold", "reason"])
    return pd.read_csv(out / "provenance.csv", keep_default_na=False, dtype=str).set_index("case")


def test_out_of_fold_of_new_image_uses_model_that_held_patient_out(
    medseg: Command, pairs: Path, tmp_path: Path
) -> None:
    new = dataset(tmp_path / "in", {"x0": "A", "x1": "B", "x2": "C", "x3": "D", "e0": "Z"})
    provenance = segment_provenance(medseg, new, tmp_path / "out", pairs / "fold1", pairs / "fold0")
    for name, patient in {"x0": "A", "x1": "B", "x2": "C", "x3": "D"}.items():
        assert sides(Path(provenance.loc[name, "model"]))[patient] == "test"
        assert provenance.loc[name, "reason"] == "its patient was held out in training"
    assert provenance.loc["e0", "reason"] == "not in the model's dataset"  # of a stated patient, whatever its name
    assert set(provenance["out_of_fold"]) == {"True"}


def test_out_of_fold_of_new_image_of_training_patient_fails(medseg: Command, pairs: Path, tmp_path: Path) -> None:
    learnt = [name for name, side in sides(pairs / "fold0").items() if side == "train"]
    new = dataset(tmp_path / "in", {f"x{name}": name for name in "ABCD"})
    provenance = segment_provenance(medseg, new, tmp_path / "out", pairs / "fold0")
    assert sorted(provenance.index) == sorted(f"x{name}" for name in "ABCD" if name not in learnt)
    log = pd.read_csv(tmp_path / "out" / "cases.csv").set_index("case")
    for name in learnt:
        assert log.loc[f"x{name}", "code"] == "in-training-set"
        assert f"its patient '{name}'" in log.loc[f"x{name}", "message"]


def test_out_of_fold_of_resaved_image_uses_its_name(medseg: Command, pairs: Path, tmp_path: Path) -> None:
    for number in range(8):
        write_image(read_image(pairs / "images" / f"e{number}.png"), tmp_path / "in" / f"e{number}.tif")
    provenance = segment_provenance(medseg, tmp_path / "in", tmp_path / "out", pairs / "fold1", pairs / "fold0")
    assert len(provenance) == 8
    for name, model in provenance["model"].items():
        assert sides(Path(model))["ABCD"[int(str(name)[1]) // 2]] == "test"


def test_out_of_fold_of_known_image_uses_split_table(medseg: Command, pairs: Path, tmp_path: Path) -> None:
    table = pd.read_csv(pairs / "fold0" / "split.csv").set_index("split")["case"]
    (tmp_path / "in").mkdir()
    shutil.copy(pairs / "images" / f"{table['test'].iloc[0]}.png", tmp_path / "in" / f"{table['train'].iloc[0]}.png")
    provenance = segment_provenance(medseg, tmp_path / "in", tmp_path / "out", pairs / "fold0")
    assert list(provenance["reason"]) == ["held out in training"]
    stated = dataset(tmp_path / "stated", {"x": sorted(set(sides(pairs / "fold0")))[0]})
    for name, side in sides(pairs / "fold0").items():
        shutil.copy(pairs / "images" / f"{table['test'].iloc[0]}.png", stated / "images" / "x.png")
        pd.DataFrame({"image": ["x.png"], "who": [name]}).to_csv(stated / "labels.csv", index=False)
        provenance = segment_provenance(medseg, stated, tmp_path / f"of_{name}", pairs / "fold0")
        assert len(provenance) == (side == "test")  # a stated patient counts beside the image


def test_out_of_fold_of_unknown_image_with_package_is_unsure(medseg: Command, pairs: Path, tmp_path: Path) -> None:
    packed = export_model(open_run(pairs / "fold0"), tmp_path / "model.zip")
    new = dataset(tmp_path / "in", {"x0": "A", "x1": "Z"})
    held = pd.read_csv(pairs / "fold0" / "split.csv").set_index("split").loc["test", "image"].iloc[0]
    shutil.copy(held, tmp_path / "in/images/held.png")
    provenance = segment_provenance(medseg, new, tmp_path / "out", packed)
    assert (provenance.loc["held", "out_of_fold"], provenance.loc["held", "reason"]) == ("True", "held out in training")
    for name in ("x0", "x1"):
        assert provenance.loc[name, "out_of_fold"] == ""
        assert "has no patients" in provenance.loc[name, "reason"]
    assert provenance_of(tmp_path / "out")["out_of_fold"] is None
    whole = segment_provenance(medseg, new, tmp_path / "both", packed, pairs / "fold1")
    assert Path(whole.loc["x1", "model"]).name == "fold1"  # it can tell


def test_out_of_fold_with_missing_training_images_is_unsure(medseg: Command, pairs: Path, tmp_path: Path) -> None:
    run = shutil.copytree(pairs / "fold0", tmp_path / "run")
    table = pd.read_csv(run / "split.csv")
    gone = table.index[table["split"] == "train"][0]
    table.loc[gone, "image"] = "/nowhere/x.png"
    table.to_csv(run / "split.csv", index=False)
    model, sure, reason = OutOfFoldPredictor([Run(run)], "cpu").model_for(Case("x", "Z", {"grey": tmp_path / "x.png"}))
    assert (model, sure, reason) == (str(run), None, "not among the model's images, of which 1 are missing")


def test_split_of_image_in_two_splits_is_training(pairs: Path, tmp_path: Path) -> None:
    run = shutil.copytree(pairs / "fold0", tmp_path / "run")
    table = pd.read_csv(run / "split.csv")
    both = table.drop_duplicates("split")
    assert len(both) == 2
    for rows in (both, both[::-1]):
        rows.assign(image=both["image"].iloc[0]).to_csv(run / "split.csv", index=False)
        assert set(Run(run).sides().values()) == {"train"}


def test_describe_mask_source_names_origin(pairs: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    drawn, bare = Case("x", "A", {"grey": pairs}, mask=pairs), Case("x", "A", {"grey": pairs})
    masks, data = tmp_path / "masks", tmp_path / "data"
    for folder in (masks, data):
        folder.mkdir()
    config = compose(["organ=breast", "task=diagnosis", f"data.root={data}", f"data.masks={masks}"])
    assert describe_mask_source(config, [drawn]) == "given, origin unknown"
    assert "masks: given, origin unknown." in capsys.readouterr().err
    for out_of_fold, words in {
        "True,": "origin unknown",
        "True,False": "of a model trained on some of these patients",
        "True,True": "out of fold",
    }.items():
        table = pd.DataFrame({"case": ["x", "y"], "model": "m", "out_of_fold": out_of_fold.split(",")})
        table.to_csv(masks / "provenance.csv", index=False)
        assert describe_mask_source(config, [drawn]) == f"given, {words}"
        assert (f"masks: given, {words}" in " ".join(capsys.readouterr().err.split())) is (words != "out of fold")
    own_config = compose(["organ=breast", "task=diagnosis", f"data.root={data}"])
    assert describe_mask_source(own_config, [drawn, bare]) == "the dataset's own outlines"
    assert "the dataset's own outlines" in " ".join(capsys.readouterr().err.split())
    assert describe_mask_source(own_config, [bare]) == "none: whole images"
    assert not capsys.readouterr().err
    (data / "features.csv").write_text("case\nx\n")
    assert "features read from" in describe_mask_source(config, [bare])
    (data / "fingerprint.json").write_text('{"masks": {"out_of_fold": true}}')  # a run's, whose table is read again
    assert describe_mask_source(config, [bare]) == "given, out of fold"
