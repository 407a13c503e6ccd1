"""What an LSTM says of patients it did not see makes its probabilities honest; where too few are there, it says so."""

import json
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from medseg.config.compose import compose
from medseg.diagnosis.sequence_dataset import UNKNOWN, Item
from medseg.features.tables import read_tables
from medseg.inference.sequence_classifier import SequenceClassifier
from medseg.runs.run import open_run
from medseg.training.lstm import split_in_folds

Items = dict[str, tuple[str, Item]]


def sequences(patients: int, each: int = 2, states: tuple[int, ...] = (0, 1, 0, UNKNOWN)) -> Items:
    x = np.zeros((len(states), 1))
    return {
        f"case{p}.{k}": (f"patient{p}", Item(x, None, np.array(states))) for p in range(patients) for k in range(each)
    }


def test_split_in_folds_holds_out_each_patient_once() -> None:
    items = sequences(7)
    folds = split_in_folds(compose(["organ=lung", "classifier.n_folds=3"]), items)
    assert len(folds) == 3
    assert sorted(case for fold in folds for case in fold) == sorted(items)
    owners = [{items[case][0] for case in fold} for fold in folds]
    assert sum(map(len, owners)) == 7


@pytest.mark.parametrize("what", ["one patient", "a class of one patient", "none asked for"])
def test_split_in_folds_without_folds_warns(what: str, capsys: pytest.CaptureFixture[str]) -> None:
    items = sequences(1 if what == "one patient" else 4, states=(0, 1) if what != "a class of one patient" else (0, 0))
    if what == "a class of one patient":
        items["case0.0"] = ("patient0", Item(np.zeros((2, 1)), None, np.array([0, 1])))
    folds = 0 if what == "none asked for" else 3
    assert split_in_folds(compose(["organ=lung", f"classifier.n_folds={folds}"]), items) == []
    printed = capsys.readouterr()
    assert ("no prediction sets" in printed.out + printed.err) == (what != "none asked for")


def test_trained_classifier_has_calibrated_scores(classifier_run: Path) -> None:
    run = open_run(classifier_run)
    calibration = run.read_json("calibration.json")
    assert set(calibration) == {"lstm", "linear", "rule"}
    assert all(len(one["limits"]) == 2 and 0.05 <= one["temperature"] <= 20 for one in calibration.values())
    metrics = run.read_json("metrics.json")
    assert metrics["alpha"] == 0.1
    predictions = pd.read_csv(classifier_run / "predictions.csv")
    made, tables = SequenceClassifier.from_run(run), read_tables(classifier_run / "features.csv")
    rows = tables.frames["case"].isin(predictions["case"]).to_numpy()
    y = (predictions["label"] == "inhale").to_numpy().astype(int)
    for model, raw in made.predict_proba(tables).items():
        scores, end = metrics["models"][model], "" if model == "lstm" else f"_{model}"
        after = predictions[[f"p_exhale{end}", f"p_inhale{end}"]].to_numpy()
        for chances, key in ((raw[rows], "nll_before"), (after, "nll")):
            assert scores[key]["mean"] == pytest.approx(-np.log(chances[range(len(y)), y]).mean(), abs=1e-4)
        assert (raw[rows].argmax(axis=1) == after.argmax(axis=1)).all()  # a temperature changes no answer
        bins = metrics["reliability"][model]
        assert sum(one["n"] for one in bins) == len(predictions)


def test_prediction_sets_follow_calibration_limits(classifier_run: Path) -> None:
    limits = np.array(json.loads((classifier_run / "calibration.json").read_text())["lstm"]["limits"])
    predictions = pd.read_csv(classifier_run / "predictions.csv")
    chances = predictions[["p_exhale", "p_inhale"]].to_numpy()
    allowed = 1 - chances <= limits
    allowed[np.arange(len(predictions)), chances.argmax(axis=1)] = True
    assert predictions["prediction_set"].tolist() == [
        " | ".join(np.array(["exhale", "inhale"])[row]) for row in allowed
    ]
    assert predictions["abstain"].tolist() == (allowed.sum(axis=1) != 1).tolist()
    metrics = json.loads((classifier_run / "metrics.json").read_text())["models"]["lstm"]
    held = [
        label in text.split(" | ")
        for label, text in zip(predictions["label"], predictions["prediction_set"], strict=True)
    ]
    assert metrics["set_coverage"]["mean"] == pytest.approx(np.mean(held))
