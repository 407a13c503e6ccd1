import csv
import json
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import fields
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import SimpleITK as sitk

from medseg.batch.entry import Entry
from medseg.data.ground_truth import read_case_mask
from medseg.diagnosis.lstm import SequenceLSTM
from medseg.evaluation.predictions import to_table
from medseg.features.tables import read_tables
from medseg.inference.extractor import Extractor
from medseg.inference.sequence_classifier import SequenceClassifier
from medseg.io.labels import Labels
from medseg.runs.run import open_run
from tests.conftest import TINY, posix

Command = Callable[..., Any]


@pytest.fixture
def features(medseg: Command, breathing: Path, segmenter: Path, tmp_path: Path) -> Path:
    (tmp_path / "labels.json").write_text((segmenter / "labels.json").read_text())
    masks = tmp_path / "masks"
    masks.symlink_to(breathing / "masks")
    (tmp_path / "phantom.json").write_text("{}")
    out = tmp_path / "features.csv"
    from medseg.batch.case_log import CaseLog
    from medseg.config.compose import compose
    from medseg.data.readers import read_cases
    from medseg.features.tables import write_tables
    from medseg.inference.extractor import extract_cases

    extractor = Extractor(compose(["organ=lung"]).features, Labels({"right_lung": 1, "left_lung": 2}))
    write_tables(
        extract_cases(read_cases(breathing, ["ct"]), extractor, read_case_mask, CaseLog(tmp_path / "l.csv")),
        out,
    )
    return out


def test_diagnose_of_features_table_writes_results(
    medseg: Command, features: Path, classifier_run: Path, tmp_path: Path
) -> None:
    out = tmp_path / "diagnosis.csv"
    result = medseg("diagnose", features, out, "--model", classifier_run, "--json")
    assert result.status == 0
    table = pd.read_csv(out)
    assert len(table) == 40
    assert table[["p_exhale", "p_inhale"]].sum(axis=1).to_numpy() == pytest.approx(np.ones(40), abs=1e-5)
    assert set(table["predicted"]) <= {"exhale", "inhale"}
    winner = np.where(table["p_inhale"] > table["p_exhale"], "inhale", "exhale")
    assert (table["predicted"] == winner).all()
    assert table["probability"].to_numpy() == pytest.approx(table[["p_exhale", "p_inhale"]].max(axis=1).to_numpy())
    metrics = json.loads((tmp_path / "diagnosis_metrics.json").read_text())
    right = (table["predicted"] == table["label"]).groupby(table["case"]).mean().mean()
    assert metrics["models"]["lstm"]["accuracy"]["mean"] == pytest.approx(right)


def test_diagnose_of_images_with_masks_equals_diagnose_of_their_table(
    medseg: Command, features: Path, breathing: Path, classifier_run: Path, tmp_path: Path
) -> None:
    medseg("diagnose", features, tmp_path / "a.csv", "--model", classifier_run, "-q")
    assert medseg("diagnose", breathing, tmp_path / "b.csv", "--model", classifier_run, "-q").status == 0
    masks = ["--masks", breathing / "masks"]
    assert medseg("diagnose", breathing / "images", tmp_path / "c.csv", "--model", classifier_run, *masks).status == 0
    a, b, c = (pd.read_csv(tmp_path / f"{name}.csv") for name in "abc")
    assert b["p_inhale"].tolist() == pytest.approx(a["p_inhale"].tolist(), abs=1e-4)
    assert "label" not in c  # a bare folder knows none, nor the times
    assert c["case"].tolist() == a["case"].tolist()


def test_diagnose_with_segmenter_makes_masks(
    medseg: Command, breathing: Path, classifier_run: Path, segmenter: Path, tmp_path: Path
) -> None:
    sequence_folder = breathing / "images" / "lung000"
    result = medseg(
        "diagnose", sequence_folder, tmp_path / "d.csv", "--model", classifier_run, "--segmenter", segmenter
    )
    assert result.status == 0
    assert len(pd.read_csv(tmp_path / "d.csv")) == 8


@pytest.mark.parametrize("what", ["no masks", "wrong model", "missing column", "no file", "text in a number"])
def test_diagnose_with_missing_input_is_an_error(
    medseg: Command, breathing: Path, features: Path, classifier_run: Path, segmenter: Path, tmp_path: Path, what: str
) -> None:
    model, source, words = classifier_run, features, ""
    if what == "no masks":
        source, words = breathing / "images", "--masks FOLDER, --segmenter RUN"
    if what == "wrong model":
        model, words = segmenter, "task=diagnosis"
    if what == "missing column":
        pd.read_csv(features).drop(columns="left_lung.volume_ml").to_csv(features, index=False)
        words = "left_lung.volume_ml"
    if what == "no file":
        source, words = tmp_path / "none.csv", "none.csv"
    if what == "text in a number":
        table = pd.read_csv(features).astype({"left_lung.volume_ml": object})
        table.loc[3, "left_lung.volume_ml"] = "large"
        table.to_csv(features, index=False)
        words = "left_lung.volume_ml"
    result = medseg("diagnose", source, tmp_path / "out.csv", "--model", model)
    assert result.status == 2
    assert words in result.err
    assert not (tmp_path / "out.csv").exists()


def test_diagnose_with_saved_classifier_repeats_training_predictions(classifier_run: Path) -> None:
    run = open_run(classifier_run)
    then = pd.read_csv(classifier_run / "predictions.csv")
    tables = read_tables(classifier_run / "features.csv")
    now = to_table(SequenceClassifier.from_run(run).predict(tables), others=True)
    now = now[now["case"].isin(then["case"])].reset_index(drop=True)
    for column in ("p_inhale", "signal_predicted", "p_inhale_linear", "signal_linear"):
        assert now[column].tolist() == pytest.approx(then[column].tolist(), abs=1e-5)


def test_train_classifier_learns_states_and_evaluates_a_baseline(classifier_run: Path) -> None:
    metrics = json.loads((classifier_run / "metrics.json").read_text())
    assert set(metrics["models"]) == {"lstm", "linear", "rule"}
    assert metrics["models"]["lstm"]["signal_correlation"]["mean"] > 0.8
    assert metrics["never_predicted"]["lstm"] == []
    assert metrics["masks"] == "the dataset's own outlines"
    assert "Masks: the dataset's own outlines." in (classifier_run / "card.md").read_text()


def entries(out: Path) -> list[dict[str, str]]:
    log_file = out.with_name(f"{out.stem}_cases.csv")
    return list(csv.DictReader(log_file.read_text().splitlines())) if log_file.is_file() else []


def test_diagnose_repeated_extracts_changed_cases_only(
    medseg: Command, breathing: Path, classifier_run: Path, tmp_path: Path, extracted: list[str]
) -> None:
    data, out = tmp_path / "data", tmp_path / "d.csv"
    shutil.copytree(breathing, data)
    names = [f"lung00{number}" for number in range(5)]
    for frame in range(8):  # an empty mask is for a person
        file = data / "masks" / "lung003" / f"frame_{frame:03d}.nii.gz"
        sitk.WriteImage(sitk.ReadImage(str(file)) * 0, str(file))
    assert medseg("diagnose", data, out, "--model", classifier_run, "-q").status == 0
    assert extracted == names
    results = ["d.csv", "d.json", "d_features.csv", "d_features_steps.csv", "d_metrics.json", "d_signal.csv"]
    results.append("d_features_units.json")
    before = {name: (tmp_path / name).read_bytes() for name in results}
    log = entries(out)
    assert [entry["status"] for entry in log] == ["ok", "ok", "ok", "review", "ok"]
    assert "mask is empty" in log[3]["message"]
    assert medseg("diagnose", data, out, "--model", classifier_run, "-q").status == 0
    assert extracted == names
    assert {name: (tmp_path / name).read_bytes() for name in results} == before
    assert entries(out) == log
    (tmp_path / "d_pictures" / "lung001.png").unlink()
    first = data / "masks" / "lung002" / "frame_000.nii.gz"
    shutil.copy(data / "masks" / "lung002" / "frame_001.nii.gz", first)
    table = pd.read_csv(data / "cases.csv")
    table.loc[table["case"] == "lung004", "label"] = "exhale"
    table.to_csv(data / "cases.csv", index=False)
    assert medseg("diagnose", data, out, "--model", classifier_run, "-q").status == 0
    assert extracted[5:] == ["lung001", "lung002", "lung004"]  # image, mask, row of cases.csv
    assert (tmp_path / "d_pictures" / "lung001.png").is_file()
    assert set(pd.read_csv(out).set_index("case").loc["lung004", "label"]) == {"exhale"}


def test_diagnose_of_other_patients_is_refused_with_exit_status(
    medseg: Command, breathing: Path, features: Path, classifier_run: Path, tmp_path: Path, extracted: list[str]
) -> None:
    data, out = tmp_path / "data", tmp_path / "d.csv"
    shutil.copytree(breathing, data)
    arguments = ["--masks", data / "masks", "--model", classifier_run, "-q"]
    assert medseg("diagnose", data / "images", out, *arguments).status == 0
    answers = out.read_bytes()
    broken = data / "images" / "lung001" / "frame_004.nii.gz"
    broken.write_bytes(broken.read_bytes()[:-50])
    assert medseg("diagnose", data / "images", out, *arguments).status == 3
    assert extracted[5:] == ["lung001"]
    assert {entry["case"]: entry["code"] for entry in entries(out) if entry["status"] == "failed"} == {
        "lung001": "image-truncated"
    }
    assert "lung001" not in set(pd.read_csv(out)["case"])
    lost = json.loads(out.with_suffix(".json").read_text())["not_diagnosed"]
    assert [entry["case"] for entry in lost] == ["lung001"]
    assert medseg("report", out.with_suffix(".json")).status == 0
    page = out.with_suffix(".html").read_text()
    assert "Not diagnosed" in page
    assert "4, and 1 not diagnosed" in page
    assert f"<b>lung001</b>: {lost[0]['reason'][:9]}" in page
    assert medseg("report", out).status == 2  # the table
    assert not (tmp_path / "d_pictures" / "lung001.png").exists()
    assert medseg("diagnose", data / "images" / "lung001", tmp_path / "e.csv", *arguments).status == 1
    shutil.copytree(data / "images" / "lung002", tmp_path / "one" / "other")
    before = out.read_bytes()
    assert before != answers
    result = medseg("diagnose", tmp_path / "one", out, *arguments)
    assert result.status == 2
    assert "5 other cases" in result.err
    assert out.read_bytes() == before
    assert (tmp_path / "d_pictures" / "lung000.png").is_file()
    shutil.copytree(data / "masks" / "lung002", data / "masks" / "other")
    assert medseg("diagnose", tmp_path / "one", out, *arguments, "--overwrite").status == 0
    assert set(pd.read_csv(out)["case"]) == {"other"}
    assert [path.name for path in (tmp_path / "d_pictures").iterdir()] == ["other.png"]
    assert medseg("diagnose", features, features, "--model", classifier_run).status == 2  # onto what is read
    assert len(pd.read_csv(features)) == 40


def test_diagnose_of_table_logs_hashes(medseg: Command, features: Path, classifier_run: Path, tmp_path: Path) -> None:
    out = tmp_path / "d.csv"
    assert medseg("diagnose", features, out, "--model", classifier_run, "-q").status == 0
    before = entries(out)
    table = pd.read_csv(features)
    table.loc[table["case"] == "lung002", "left_lung.volume_ml"] *= 1.5
    table.to_csv(features, index=False)
    assert medseg("diagnose", features, out, "--model", classifier_run, "-q").status == 0
    now = entries(out)
    assert [e["case"] for e, f in zip(before, now, strict=True) if e["input_hash"] != f["input_hash"]] == ["lung002"]
    assert {len(entry[name]) for entry in now for name in ("input_hash", "output_hash", "key")} == {64}


def test_batch_commands_write_the_same_case_log_columns(
    medseg: Command,
    cohort: Path,
    breathing: Path,
    segmenter: Path,
    classifier_run: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.chdir(tmp_path)
    commands = {
        "m/cases.csv": ["segment", cohort / "images", "m", "--model", segmenter],
        "f_cases.csv": ["extract-features", cohort, cohort / "masks", "f.csv", "--features", "breathing"],
        "d_cases.csv": ["diagnose", breathing, "d.csv", "--model", classifier_run],
        "e/evaluation_cases.csv": ["evaluate", cohort / "masks", cohort / "masks", "--out", "e"],
        "data_check.csv": ["data", "check", cohort, "organ=lung"],
    }
    columns = [field.name for field in fields(Entry)]
    for log_file, command in commands.items():
        assert medseg(*command).status == 0
        with Path(log_file).open(newline="") as file:
            rows = list(csv.reader(file))
        assert rows[0] == columns, log_file
        content = json.loads(Path(log_file).with_suffix(".json").read_text())
        assert content["finished"]
        assert [[str(value) for value in entry.values()] for entry in content["entries"]] == rows[1:]
        for entry in content["entries"]:
            assert entry["status"] in ("ok", "review")
            assert entry["seconds"] >= 0
            assert len(entry["input_hash"]) == len(entry["key"]) == 64
            assert log_file == "data_check.csv" or len(entry["output_hash"]) == 64


@posix
@pytest.mark.parametrize("kills", [1, pytest.param(8, marks=pytest.mark.torture)])
def test_diagnose_killed_at_random_resumes_to_the_same_results(
    medseg: Command, breathing: Path, classifier_run: Path, tmp_path: Path, kills: int
) -> None:
    out, journal = tmp_path / "killed" / "d.csv", tmp_path / "killed" / ".d.rows.jsonl"
    command = ["diagnose", str(breathing), str(out), "--model", str(classifier_run), "-q"]
    for number in range(kills):
        if number % 4 == 0:
            shutil.rmtree(out.parent, ignore_errors=True)
        done = journal.read_text().count("\n") if journal.is_file() else 0
        process = subprocess.Popen([sys.executable, "-m", "medseg", *command], stderr=subprocess.DEVNULL)
        while process.poll() is None and (not journal.is_file() or journal.read_text().count("\n") <= done):
            time.sleep(0.005)
        process.send_signal(signal.SIGKILL)
        process.wait()
        assert {entry["status"] for entry in entries(out)} <= {"ok"}
    assert medseg(*command).status == 0
    assert medseg("diagnose", breathing, tmp_path / "whole" / "d.csv", "--model", classifier_run, "-q").status == 0
    names = {path.relative_to(tmp_path / "whole") for path in (tmp_path / "whole").rglob("*")}
    assert {path.relative_to(out.parent) for path in out.parent.rglob("*")} == names
    for name in names:
        if name.suffix in (".csv", ".json", ".png") and "_cases" not in name.name:
            assert (out.parent / name).read_bytes() == (tmp_path / "whole" / name).read_bytes(), name


def test_diagnose_without_masks_fails_before_writing(
    medseg: Command, breathing: Path, classifier_run: Path, tmp_path: Path
) -> None:
    arguments = ["diagnose", breathing / "images", tmp_path / "d.csv", "--model", classifier_run]
    for words, message in (([], "--masks FOLDER"), (["--segmenter", classifier_run], "segmenting needs one trained")):
        result = medseg(*arguments, *words)
        assert result.status == 2
        assert message in result.err
        assert not list(tmp_path.iterdir())


@pytest.fixture(scope="module")
def without_masks(breathing: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run folder of a classifier that looks inside no mask."""
    from medseg.config.compose import compose
    from medseg.training.train import train

    folder = tmp_path_factory.mktemp("motion") / "run"
    words = [*TINY, "task=diagnosis", "features=motion", "classifier.n_folds=0", "trainer.fraction=0.01"]
    train(compose([*words, f"data.root={breathing}", f"run_dir={folder}"]))
    return folder


def test_training_without_masks_keeps_image_statistics_and_pictures(without_masks: Path) -> None:
    assert open_run(without_masks).read_json("fingerprint.json")["image_stats"]["ct"]["cases"] == 4 * 8
    held = pd.read_csv(without_masks / "predictions.csv")["case"].unique()
    assert [path.stem for path in (without_masks / "pictures").iterdir()] == list(held)


def test_diagnose_without_masks_checks_and_draws_each_image(
    medseg: Command, breathing: Path, without_masks: Path, tmp_path: Path
) -> None:
    images = tmp_path / "images"
    for name in ("lung000", "lung001"):
        shutil.copytree(breathing / "images" / name, images / name)
    for file in (images / "lung001").iterdir():  # as if HU + 1000
        sitk.WriteImage(sitk.ReadImage(str(file)) + 1000, str(file))
    assert medseg("diagnose", images, tmp_path / "d.csv", "--model", without_masks).status == 0
    log = {entry["case"]: entry for entry in entries(tmp_path / "d.csv")}
    assert {name: entry["status"] for name, entry in log.items()} == {"lung000": "ok", "lung001": "review"}
    assert "HU + 1000" in log["lung001"]["message"]
    review = pd.read_csv(tmp_path / "d.csv").set_index("case")["review"]
    assert review["lung001"].str.contains("HU", regex=False).all()
    assert review["lung000"].isna().all()
    assert sorted(path.stem for path in (tmp_path / "d_pictures").iterdir()) == ["lung000", "lung001"]
    assert log["lung000"]["outputs"] == "d_pictures/lung000.png"
    assert medseg("diagnose", images, tmp_path / "s.csv", "--model", without_masks, "--fail-on-quality").status == 3
    codes = {entry["case"]: entry["code"] for entry in entries(tmp_path / "s.csv")}
    assert codes == {"lung000": "", "lung001": "quality"}
    assert sorted(path.stem for path in (tmp_path / "s_pictures").iterdir()) == ["lung000"]


def test_diagnose_of_a_labelled_table_predicts_each_case_once(
    medseg: Command, features: Path, classifier_run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """For the table, its scores, its records and the screen; an explanation asks of changed sequences alone."""
    sequences = SequenceClassifier.from_run(open_run(classifier_run)).schema.prepare(read_tables(features))
    inputs: list[bytes] = []
    predict = SequenceLSTM.predict_all

    def counted(self: SequenceLSTM, items: Any) -> Any:
        inputs.extend(np.asarray(item.x).tobytes() + np.asarray(item.steps).tobytes() for item in items)
        return predict(self, items)

    calls: list[int] = []
    whole = SequenceClassifier.predict

    def called(self: SequenceClassifier, tables: Any) -> Any:
        calls.append(len(tables.frames))
        return whole(self, tables)

    monkeypatch.setattr(SequenceLSTM, "predict_all", counted)
    monkeypatch.setattr(SequenceClassifier, "explain", lambda _self, _sequence, _probabilities: "")
    monkeypatch.setattr(SequenceClassifier, "predict", called)
    assert medseg("diagnose", features, tmp_path / "d.csv", "--model", classifier_run, "-q").status == 0
    assert calls == [40]
    assert (tmp_path / "d_metrics.json").is_file()
    assert [inputs.count(sequence.x.tobytes() + np.asarray(sequence.steps).tobytes()) for sequence in sequences] == [
        1
    ] * 5


def test_diagnose_with_retrospective_features_says_so(
    medseg: Command, breathing: Path, classifier_run: Path, without_masks: Path, tmp_path: Path
) -> None:
    for name, model, sees in (("a", classifier_run, False), ("b", without_masks, True)):
        assert SequenceClassifier.from_run(open_run(model)).schema.sees_the_future == sees
        assert medseg("diagnose", breathing, tmp_path / f"{name}.csv", "--model", model, "-q").status == 0
        file = tmp_path / f"{name}_features_retrospective.json"
        assert file.is_file() == sees
        assert bool(read_tables(tmp_path / f"{name}_features.csv").retrospective) == sees
    assert json.loads(file.read_text()) == ["motion.displacement_mm", "motion.pc1"]
