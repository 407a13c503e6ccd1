import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from medseg.data.labels import Labels
from medseg.data.truth import own_mask
from medseg.diagnoser import Diagnoser
from medseg.extract import read_tables
from medseg.runs import open_run

Command = Callable[..., Any]


@pytest.fixture
def features(medseg: Command, breathing: Path, segmenter: Path, tmp_path: Path) -> Path:
    (tmp_path / "labels.json").write_text((segmenter / "labels.json").read_text())
    masks = tmp_path / "masks"
    masks.symlink_to(breathing / "masks")
    (tmp_path / "phantom.json").write_text("{}")
    out = tmp_path / "features.csv"
    from medseg.batch import Book
    from medseg.config import compose
    from medseg.data.folders import read_cases
    from medseg.extract import Extractor, extract_cases, write_tables
    from medseg.ledger import Ledger

    extractor = Extractor(compose(["organ=lung"]).features, Labels({"right_lung": 1, "left_lung": 2}))
    write_tables(
        extract_cases(read_cases(breathing, ["ct"]), extractor, own_mask, Book(Ledger(tmp_path / "l.csv"))), out
    )
    return out


def test_a_features_table_is_diagnosed(medseg: Command, features: Path, diagnoser: Path, tmp_path: Path) -> None:
    out = tmp_path / "diagnosis.csv"
    result = medseg("diagnose", features, out, "--model", diagnoser, "--json")
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


def test_images_with_masks_give_what_their_table_gives(
    medseg: Command, features: Path, breathing: Path, diagnoser: Path, tmp_path: Path
) -> None:
    medseg("diagnose", features, tmp_path / "a.csv", "--model", diagnoser, "-q")
    assert medseg("diagnose", breathing, tmp_path / "b.csv", "--model", diagnoser, "-q").status == 0
    masks = ["--masks", breathing / "masks"]
    assert medseg("diagnose", breathing / "images", tmp_path / "c.csv", "--model", diagnoser, *masks).status == 0
    a, b, c = (pd.read_csv(tmp_path / f"{name}.csv") for name in "abc")
    assert b["p_inhale"].tolist() == pytest.approx(a["p_inhale"].tolist(), abs=1e-4)
    assert "label" not in c  # a bare folder knows none, nor the times
    assert c["case"].tolist() == a["case"].tolist()


def test_images_are_segmented_on_the_way(
    medseg: Command, breathing: Path, diagnoser: Path, segmenter: Path, tmp_path: Path
) -> None:
    one = breathing / "images" / "lung000"
    result = medseg("diagnose", one, tmp_path / "d.csv", "--model", diagnoser, "--segmenter", segmenter)
    assert result.status == 0
    assert len(pd.read_csv(tmp_path / "d.csv")) == 8


@pytest.mark.parametrize("what", ["no masks", "wrong model", "missing column", "no file", "text in a number"])
def test_what_is_missing_is_said(
    medseg: Command, breathing: Path, features: Path, diagnoser: Path, segmenter: Path, tmp_path: Path, what: str
) -> None:
    model, source, words = diagnoser, features, ""
    if what == "no masks":
        source, words = breathing / "images", "give --masks FOLDER, or --segmenter RUN"
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


def test_a_saved_diagnoser_says_what_it_said_in_training(diagnoser: Path) -> None:
    run = open_run(diagnoser)
    then = pd.read_csv(diagnoser / "predictions.csv")
    tables = read_tables(diagnoser / "features.csv")
    now = Diagnoser.from_run(run)(tables, baseline=True)
    now = now[now["case"].isin(then["case"])].reset_index(drop=True)
    for column in ("p_inhale", "signal_predicted", "p_inhale_linear", "signal_linear"):
        assert now[column].tolist() == pytest.approx(then[column].tolist(), abs=1e-5)


def test_it_learnt_the_states_and_stands_beside_a_baseline(diagnoser: Path) -> None:
    metrics = json.loads((diagnoser / "metrics.json").read_text())
    assert set(metrics["models"]) == {"lstm", "linear", "rule"}
    assert metrics["models"]["lstm"]["signal_correlation"]["mean"] > 0.8
    assert metrics["never_predicted"]["lstm"] == []
