"""A table whose classes follow one feature and one slice: training, saving and use, and chance with shuffled labels."""

import json
import re
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from typer.testing import CliRunner

from medseg.cli.app import app
from medseg.config.components import build
from medseg.config.compose import compose
from medseg.diagnosis.clinical_rules import ScoreThreshold, VolumeSlope
from medseg.errors import DataError
from medseg.evaluation.predictions import to_table
from medseg.features.tables import read_tables
from medseg.inference.diagnosis_scores import evaluate_predictions
from medseg.inference.feature_inputs import build_rule
from medseg.inference.feature_rows import Rows
from medseg.inference.stack_members import StackMembers
from medseg.inference.stacked_classifier import StackedClassifier
from medseg.runs.run import open_run
from medseg.training.dataset import read_dataset
from medseg.training.stacked_classifier import patient_folds
from medseg.training.train import train
from medseg.typing import FloatArray

QUICK = [
    "organ=skin",
    "task=diagnosis",
    "classifier=stacking",
    "classifier.ensemble.n_trees=30",
    "classifier.n_folds=3",
]
QUICK += [
    "classifier.max_samples=1920",
    "compute.accelerator=cpu",
    "compute.num_threads=1",
    "classifier.network.hidden=8",
]

MEANT = "mm: how much it tells"


def write_table(folder: Path, shuffled: bool = False, count: int = 90, seed: int = 0) -> Path:
    """features.csv and features_steps.csv of cases, two per patient; feature `tells` and step 2 depend on the class."""
    rng = np.random.default_rng(seed)
    malignant = np.repeat(rng.random(count // 2) < 0.4, 2)
    frames = pd.DataFrame({"case": [f"c{n:03d}" for n in range(count)], "patient": np.repeat(np.arange(count // 2), 2)})
    frames["frame"] = 0
    is_malignant = rng.permutation(malignant) if shuffled else malignant
    frames["label"] = np.where(is_malignant, "malignant", "benign")
    frames["tells"] = malignant * 1.5 + rng.normal(0, 1, count)
    for n in range(6):
        frames[f"noise{n}"] = rng.normal(0, 1, count)
    steps = frames[["case", "frame"]].merge(pd.DataFrame({"step": range(4)}), how="cross")
    steps["position_mm"] = steps["step"] * 90.0
    shifted = np.repeat(malignant, 4) & (steps["step"] == 2)
    steps["ray"] = shifted * 2 + rng.normal(0, 1, len(steps))
    folder.mkdir(parents=True)
    frames.to_csv(folder / "features.csv", index=False)
    steps.to_csv(folder / "features_steps.csv", index=False)
    (folder / "features_units.json").write_text(json.dumps({"tells": MEANT}))
    return folder


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("classifier")
    data = write_table(folder / "data", count=160)
    train(
        compose(
            [
                *QUICK,
                f"data.root={data}",
                f"run_dir={folder / 'run'}",
                "data.test_fraction=0.4",
                "classifier.profile_length=4",
            ]
        )
    )
    return folder / "run"


def test_train_stacked_classifier_evaluates_all_models(finished: Path) -> None:
    summary = open_run(finished).read_json("metrics.json")
    assert set(summary["models"]) == {"stack", "logistic", "ensemble", "lstm"}
    assert summary["masks"] == "given, origin unknown: features read from features.csv"
    assert f"Masks: {summary['masks']}." in (finished / "card.md").read_text()
    for scores in summary["models"].values():
        assert scores["auc_positive"]["mean"] > 0.65
        assert {"nll", "nll_before", "brier", "ece", "set_coverage", "sensitivity"} <= set(scores)
        assert scores["auc_positive"]["n"] == summary["n_cases"]
    assert summary["models"]["stack"]["auc_positive"]["mean"] > 0.75
    assert 0.75 <= summary["models"]["stack"]["set_coverage"]["mean"] <= 1


def test_splits_share_no_patient(finished: Path) -> None:
    split = pd.read_csv(finished / "split.csv", dtype=str)
    assert split.groupby("patient")["split"].nunique().max() == 1
    diagnoses = pd.read_csv(finished / "predictions.csv", dtype={"case": str})
    assert set(diagnoses["case"]) == set(split.loc[split["split"] == "test", "case"])


def test_diagnose_equals_training_predictions_with_explanations(finished: Path, tmp_path: Path) -> None:
    out = tmp_path / "diagnosis.csv"
    arguments = [str(finished / "features.csv"), str(out), "--model", str(finished), "--quiet"]
    result = CliRunner().invoke(app, ["diagnose", *arguments])
    assert result.exit_code == 0, result.output
    diagnoses = pd.read_csv(out).set_index("case")
    measured = pd.read_csv(finished / "predictions.csv").set_index("case")
    assert diagnoses.loc[measured.index, "p_malignant"].to_numpy() == pytest.approx(measured["p_malignant"].to_numpy())
    assert (diagnoses["p_malignant"] + diagnoses["p_benign"]).to_numpy() == pytest.approx(np.ones(len(diagnoses)))
    sure = diagnoses[diagnoses["probability"] > 0.9]
    assert sure["explanation"].str.contains("tells|step 3 of 4|ray").mean() > 0.8
    assert (diagnoses["prediction_set"].str.contains("|", regex=False) == diagnoses["abstain"]).all()


def test_diagnose_of_labelled_cases_has_training_metrics(finished: Path, tmp_path: Path) -> None:
    split = pd.read_csv(finished / "split.csv").set_index("case")["split"]
    for name in ("features.csv", "features_steps.csv"):
        table = pd.read_csv(finished / name)
        table[table["case"].map(split) == "test"].to_csv(tmp_path / name, index=False)
    arguments = [str(tmp_path / "features.csv"), str(tmp_path / "d.csv"), "--model", str(finished)]
    result = CliRunner().invoke(app, ["diagnose", *arguments])
    assert result.exit_code == 0, result.output
    judged = json.loads((tmp_path / "d_metrics.json").read_text())
    assert judged["models"] == open_run(finished).read_json("metrics.json")["models"]


def test_prediction_set_metrics_match_written_sets(finished: Path) -> None:
    """Includes cases with undefined features, whose sets contain every class."""
    classifier = StackedClassifier.from_run(open_run(finished))
    tables = read_tables(finished / "features.csv")
    measures = [name for name in tables.frames if name.startswith("noise")]
    tables.frames.loc[:29, [*measures, "tells"]] = np.nan
    predictions = classifier.predict(tables)
    diagnoses = to_table(predictions)
    scores = evaluate_predictions(predictions, ["malignant"])["models"]["stack"]
    assert diagnoses["abstain"][:30].all()
    assert scores["set_abstains"]["mean"] == pytest.approx(diagnoses["abstain"].mean())


def test_class_without_training_cases_is_never_predicted(finished: Path, tmp_path: Path, capsys) -> None:
    words = [f"data.root={finished}", f"run_dir={tmp_path / 'run'}", "organ.classes=[healthy,benign,malignant]"]
    done = train(compose([*QUICK, *words, "data.test_fraction=0.4", "classifier.max_samples=320"]))
    assert "no training case is healthy" in capsys.readouterr().err
    diagnoses = pd.read_csv(done.run.file("predictions.csv"))
    assert not diagnoses["prediction_set"].str.contains("healthy").any()
    assert (diagnoses["prediction_set"].isin(["benign", "malignant"])).any()


@pytest.mark.parametrize(
    ("organ", "kind", "fits"),
    [("lung", VolumeSlope, True), ("skin", ScoreThreshold, True), ("lung", ScoreThreshold, False)],
)
def test_clinical_rule_of_other_kind_is_not_used(organ: str, kind: type, fits: bool) -> None:
    """So that organ=lung classifier=stacking and organ=skin classifier=sequence_lstm train, without it."""
    config = compose([f"organ={organ}", "task=diagnosis"])
    reads = build(config.organ.clinical_rule).reads
    assert (build_rule(config, reads, (kind,)) is not None) == fits


def test_case_with_undefined_features_needs_review(finished: Path, tmp_path: Path) -> None:
    table = pd.read_csv(finished / "features.csv")
    measures = [name for name in table if name not in ("case", "patient", "frame", "label")]
    table.loc[0, measures[:-1]] = np.nan
    table.to_csv(tmp_path / "f.csv", index=False)
    pd.read_csv(finished / "features_steps.csv").to_csv(tmp_path / "f_steps.csv", index=False)
    out = tmp_path / "d.csv"
    result = CliRunner().invoke(app, ["diagnose", str(tmp_path / "f.csv"), str(out), "--model", str(finished)])
    assert result.exit_code == 0, result.output
    diagnoses = pd.read_csv(out).set_index("case")
    assert "undefined" in diagnoses.loc[table["case"][0], "review"]
    assert diagnoses["review"].notna().sum() == 1
    columns = ["predicted", "probability", "p_benign", "p_malignant"]
    assert diagnoses.loc[table["case"][0], columns].isna().all()
    assert diagnoses.drop(index=table["case"][0])[columns].notna().all(axis=None)
    records = {case["case"]: case for case in json.loads(out.with_suffix(".json").read_text())["cases"]}
    lost = records[table["case"][0]]
    assert lost["diagnosis"] is None
    assert lost["abstain"]
    assert {chance for model in lost["models"].values() for chance in model.values()} == {None}
    report = CliRunner().invoke(app, ["report", str(out.with_suffix(".json"))])
    assert report.exit_code == 0, report.output
    log = pd.read_csv(tmp_path / "d_cases.csv").set_index("case")
    assert log["status"].value_counts().to_dict() == {"ok": len(diagnoses) - 1, "review": 1}


def test_shuffled_labels_score_at_chance(tmp_path: Path) -> None:
    data = write_table(tmp_path / "data", shuffled=True, count=160)
    done = train(compose([*QUICK, f"data.root={data}", f"run_dir={tmp_path / 'run'}", "data.test_fraction=0.5"]))
    models = done.run.read_json("metrics.json")["models"]
    for scores in models.values():
        assert scores["auc_positive"]["mean"] == pytest.approx(0.5, abs=0.15)


def test_folds_need_two_patients_of_each_class() -> None:
    patients = np.array(["a", "a", "b", "c"])
    with pytest.raises(DataError, match="two training patients of each class"):
        patient_folds(np.array([0, 0, 1, 1]), patients, 5, 0)
    folds = patient_folds(np.array([0, 1, 0, 1]), np.array(["a", "a", "b", "b"]), 5, 0)
    assert sorted(len(fold) for fold in folds) == [2, 2]


def test_diagnose_json_table_and_report_agree(finished: Path, tmp_path: Path) -> None:
    out = tmp_path / "diagnosis.csv"
    arguments = [str(finished / "features.csv"), str(out), "--model", str(finished), "--format", "json"]
    result = CliRunner().invoke(app, ["diagnose", *arguments])
    assert result.exit_code == 0, result.output
    content = json.loads(result.stdout)
    assert content == json.loads(out.with_suffix(".json").read_text())
    diagnoses = pd.read_csv(out).set_index("case")
    for case in content["cases"]:
        row = diagnoses.loc[case["case"]]
        assert case["diagnosis"] == row["predicted"]
        assert case["models"]["stack"]["malignant"] == pytest.approx(row["p_malignant"])
        assert (len(case["prediction_set"]) != 1) == row["abstain"]
        assert {m["name"] for m in case["features"]} <= {"tells", *(f"noise{n}" for n in range(6))}
    page = Path(CliRunner().invoke(app, ["report", str(out.with_suffix(".json"))]).stdout.strip()).read_text()
    assert content["units"]["tells"] == MEANT
    assert page.count(MEANT) == 1
    assert "<th>noise0</th><td>" not in page  # it has no unit and definition
    listed = re.findall(r'data-of="(c\d+)\.stack\.malignant">([\d.]+)<', page)
    assert len(listed) == 40
    chances = {case["case"]: case["models"]["stack"]["malignant"] for case in content["cases"]}
    assert all(float(text) == pytest.approx(chances[case], abs=5e-4) for case, text in listed)


def test_report_of_run_lists_its_cases(finished: Path, tmp_path: Path) -> None:
    from medseg.reports.report import write_report

    page = write_report([finished], tmp_path / "r.html").read_text()
    cases = json.loads((finished / "diagnoses.json").read_text())["cases"]
    assert f"<td>{MEANT}</td>" in page
    counts = pd.read_csv(finished / "features.csv").merge(pd.read_csv(finished / "split.csv"), on="case")
    taught = counts[counts["split"] == "train"]["label_x" if "label_x" in counts else "label"].value_counts()
    assert (
        f"Training rows: {taught.iloc[0]} {taught.index[0]}, {taught.iloc[1]} {taught.index[1]};"
        in (finished / "card.md").read_text()
    )
    assert page.count('<details class="case"') == min(40, len(cases))


def without_lesion(folder: Path, classes: tuple[str, str]) -> Path:
    """Cases of two classes; those of the first have no lesion."""
    rng = np.random.default_rng(3)
    frames = pd.DataFrame({"case": [f"c{n:03d}" for n in range(80)], "patient": range(80), "frame": 0})
    gone = frames.index % 2 == 0
    frames["label"] = np.where(gone, *classes)
    frames["lesion.area"] = np.where(gone, 0.0, rng.uniform(5, 9, 80))
    for n in range(5):
        frames[f"lesion.m{n}"] = np.where(gone, np.nan, rng.normal(0, 1, 80))
    folder.mkdir()
    frames.to_csv(folder / "features.csv", index=False)
    return folder


def test_absent_label_is_informative_if_a_class_lacks_it(tmp_path: Path) -> None:
    data = without_lesion(tmp_path / "data", ("normal", "benign"))
    words = ["organ=breast", *QUICK[1:], "organ.classes=[normal,benign]", f"data.root={data}", "data.test_fraction=0.4"]
    done = train(compose([*words, f"run_dir={tmp_path / 'run'}", "classifier.max_samples=320"]))
    assert done.run.read_json("feature_schema.json")["telling"] == ["lesion"]
    out = tmp_path / "d.csv"
    arguments = [str(data / "features.csv"), str(out), "--model", str(done.run.path), "--quiet"]
    assert CliRunner().invoke(app, ["diagnose", *arguments]).exit_code == 0
    diagnoses = pd.read_csv(out)
    assert diagnoses["review"].isna().all()
    assert (diagnoses["predicted"] == diagnoses["label"]).mean() > 0.95


def test_diagnose_with_unknown_label_excludes_it_from_metrics(finished: Path, tmp_path: Path) -> None:
    table = pd.read_csv(finished / "features.csv")
    table.loc[0, "label"] = "normal"
    table.to_csv(tmp_path / "f.csv", index=False)
    pd.read_csv(finished / "features_steps.csv").to_csv(tmp_path / "f_steps.csv", index=False)
    arguments = [str(tmp_path / "f.csv"), str(tmp_path / "d.csv"), "--model", str(finished)]
    result = CliRunner().invoke(app, ["diagnose", *arguments])
    assert result.exit_code == 0, result.output
    assert "not evaluated: normal" in result.stderr
    judged = json.loads((tmp_path / "d_metrics.json").read_text())
    assert judged["models"]["stack"]["nll"]["n"] == len(table) - 1
    assert len(json.loads((tmp_path / "d.json").read_text())["cases"]) == len(table)


def test_explanations_include_the_network(finished: Path) -> None:
    classifier = replace(StackedClassifier.from_run(open_run(finished)), final_model="lstm")
    table = to_table(classifier.predict(read_tables(finished / "features.csv")))
    assert table["explanation"].str.contains("tells").mean() > 0.3


def test_frames_of_a_sequence_get_predictions_of_all_models(classifier_run: Path, tmp_path: Path) -> None:
    words = [
        "organ=lung",
        *QUICK[1:],
        "classifier=stacking_frames",
        "classifier.n_folds=2",
        f"data.root={classifier_run}",
    ]
    done = train(compose([*words, f"run_dir={tmp_path / 'run'}", "classifier.max_samples=640"]))
    scores = done.run.read_json("metrics.json")["models"]
    assert set(scores) == {"stack", "logistic", "ensemble", "lstm"}
    assert scores["stack"]["accuracy"]["mean"] > 0.75
    diagnoses = pd.read_csv(done.run.file("predictions.csv"))
    assert diagnoses["explanation"].str.contains(".slope").any()
    assert set(diagnoses["prediction_set"]) <= {"exhale", "inhale", "exhale | inhale"}


def test_check_labels_of_misspelt_label_suggests_class(tmp_path: Path) -> None:
    data = write_table(tmp_path / "data")
    table = pd.read_csv(data / "features.csv")
    table.loc[4, "label"] = "malignat"
    table.to_csv(data / "features.csv", index=False)
    with pytest.raises(DataError, match=r"c004: label 'malignat' is not one of .*, did you mean malignant"):
        train(compose([*QUICK, f"data.root={data}", f"run_dir={tmp_path / 'run'}", "data.test_fraction=0.4"]))


def test_read_dataset_takes_splits_of_cases_csv_for_features(tmp_path: Path) -> None:
    data = write_table(tmp_path / "data")
    table = pd.read_csv(data / "features.csv")
    held = table["patient"] % 4 == 1
    table.assign(split=np.where(held, "valid", "train"))[["case", "split"]].to_csv(data / "cases.csv", index=False)
    splits = {case.id: case.split for case in read_dataset(compose([*QUICK, f"data.root={data}"]), data)}
    assert splits == dict(zip(table["case"], np.where(held, "valid", "train"), strict=True))
    drawn = read_dataset(compose([*QUICK, f"data.root={data}", "data.split_column=none"]), data)
    assert {case.split for case in drawn} == {None}


def test_diagnose_of_a_labelled_table_asks_the_members_once(
    finished: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    calls: list[int] = []
    predict = StackMembers.predict

    def counted(self: StackMembers, rows: Rows) -> dict[str, FloatArray]:
        calls.append(len(rows.x))
        return predict(self, rows)

    monkeypatch.setattr(StackMembers, "predict", counted)
    arguments = [str(finished / "features.csv"), str(tmp_path / "d.csv"), "--model", str(finished), "--quiet"]
    assert CliRunner().invoke(app, ["diagnose", *arguments]).exit_code == 0
    assert (tmp_path / "d_metrics.json").is_file()
    assert calls == [len(pd.read_csv(finished / "features.csv"))]
