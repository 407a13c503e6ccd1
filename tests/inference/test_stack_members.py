"""Classifiers of phantoms with deep features: trained, saved, opened, used on images and tables, explained."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import SimpleITK as sitk

import medseg as package
from medseg.commands.diagnose import DiagnoseRequest, diagnose_folder
from medseg.commands.model_package import export_model
from medseg.config.compose import compose
from medseg.config.load import load, without_paths
from medseg.errors import ConfigError
from medseg.features.tables import Tables, read_tables
from medseg.inference.stacked_classifier import StackedClassifier
from medseg.runs.run import open_run
from medseg.training.train import train

QUICK = [
    "organ=skin", "task=diagnosis", "compute=cpu", "compute.num_threads=1", "classifier.ensemble.n_trees=20",
    "classifier.n_folds=2", "classifier.max_samples=320", "classifier.network.hidden=8", "data.test_fraction=0.4",
]  # fmt: skip
LITE = ["data.encoder=efficientnet_lite0", "data.encoder_px=64"]


@pytest.fixture(scope="module")
def textured(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Discs with masks: malignant ones are striped inside, all else is the same; the last has an empty mask."""
    folder, rng = tmp_path_factory.mktemp("textured"), np.random.default_rng(0)
    y, x = np.mgrid[:96, :96]
    rows = []
    for place in ("images", "masks"):
        (folder / place).mkdir()
    for number in range(40):
        striped = number % 2 == 1
        inside = (x - rng.integers(36, 60)) ** 2 + (y - rng.integers(36, 60)) ** 2 <= rng.integers(18, 26) ** 2
        values = 170.0 + rng.normal(0, 6, (96, 96))
        values[inside] = 110 + (45 * np.sign(np.sin(x * 0.9)) if striped else 0 * x)[inside]
        picture = (values[..., None] * [1.0, 0.8, 0.7]).clip(0, 255).astype(np.uint8)
        sitk.WriteImage(sitk.GetImageFromArray(picture, isVector=True), folder / "images" / f"c{number:02d}.png")
        mask = (inside & (number < 39)).astype(np.uint8) * 255
        sitk.WriteImage(sitk.GetImageFromArray(mask), folder / "masks" / f"c{number:02d}.png")
        rows.append({"case": f"c{number:02d}", "label": "malignant" if striped else "benign"})
    pd.DataFrame(rows).to_csv(folder / "labels.csv", index=False)
    return folder


@pytest.fixture(scope="module")
def finished(textured: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    run = tmp_path_factory.mktemp("deep") / "run"
    train(compose([*QUICK, *LITE, f"data.root={textured}", f"run_dir={run}"]))
    return run


@pytest.fixture(scope="module")
def alone(textured: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Nothing measured, no mask: a classifier on whole images."""
    run = tmp_path_factory.mktemp("alone") / "run"
    words = ["features=none", "data.encoder_regions=[image]", "organ.clinical_rule=null", "classifier.final_model=deep"]
    train(compose([*QUICK, *LITE, *words, f"data.root={textured}", f"run_dir={run}"]))
    return run


def test_stack_with_deep_features_has_four_members_and_measured_ones_do_not_see_them(finished: Path) -> None:
    classifier = StackedClassifier.from_run(open_run(finished))
    schema, tables = classifier.schema, read_tables(finished / "features.csv")
    assert len(schema.deep) == 960
    assert not [name for name in schema.names if name.startswith("deep.")]
    assert "deep.step_000" in schema.step_names
    assert classifier.models == ("logistic", "ensemble", "lstm", "deep", "stack", "rule")
    assert set(open_run(finished).read_json("metrics.json")["models"]) == set(classifier.models)
    before = classifier.predict_proba(tables)
    frames = tables.frames.copy()
    frames[list(schema.deep)] = frames[list(schema.deep)].to_numpy()[::-1]
    after = classifier.predict_proba(Tables(frames, tables.steps))
    for name in ("logistic", "ensemble", "lstm", "rule"):
        assert (before[name] == after[name]).all()
    for name in ("deep", "stack"):
        assert not np.allclose(before[name], after[name])


def test_deep_member_tells_stripes(finished: Path, alone: Path) -> None:
    for run in (finished, alone):
        scores = open_run(run).read_json("metrics.json")["models"]["deep"]
        assert scores["auc_positive"]["mean"] > 0.9
        assert {"nll_before", "set_coverage"} <= set(scores)
    text = (finished / "card.md").read_text()
    assert "Deep features of efficientnet_lite0: 960, of the structure, the rim, the image." in text
    assert "Selected features: " in text


def test_diagnose_images_equals_table_and_package_and_api(finished: Path, textured: Path, tmp_path: Path) -> None:
    assert not (finished / "encoder").exists()
    trained = pd.read_csv(finished / "predictions.csv").set_index("case").drop(index="c39", errors="ignore")
    log = diagnose_folder(DiagnoseRequest(textured, tmp_path / "out.csv"), open_run(finished))
    assert not [entry for entry in log.entries if entry.status == "failed"]
    found = pd.read_csv(tmp_path / "out.csv").set_index("case")
    assert np.allclose(found.loc[trained.index, "p_malignant"], trained["p_malignant"], atol=1e-6)
    diagnose_folder(DiagnoseRequest(tmp_path / "out_features.csv", tmp_path / "table.csv"), open_run(finished))
    assert np.allclose(pd.read_csv(tmp_path / "table.csv")["p_malignant"], found["p_malignant"], equal_nan=True)
    packed = export_model(open_run(finished), tmp_path / "model.zip")
    diagnose_folder(DiagnoseRequest(tmp_path / "out_features.csv", tmp_path / "packed.csv"), open_run(packed))
    assert (tmp_path / "packed.csv").read_bytes() == (tmp_path / "table.csv").read_bytes()
    assert without_paths(load(finished / "config.yaml")).data.encoder == "efficientnet_lite0"
    model = package.load_model(packed, device="cpu")
    image, mask = textured / "images" / "c03.png", sitk.ReadImage(textured / "masks" / "c03.png") > 0
    answer = package.diagnose(image, model, mask=mask)
    assert answer["p_malignant"][0] == pytest.approx(found.loc["c03", "p_malignant"], abs=1e-6)
    with pytest.raises(ConfigError, match="mask="):
        package.diagnose(image, model)


def test_explanations_name_deep_features_by_region(finished: Path, alone: Path, tmp_path: Path) -> None:
    tables = read_tables(finished / "features.csv")
    explanations = StackedClassifier.from_run(open_run(finished)).predict(tables).explanations
    assert pd.Series(explanations).str.contains("deep features of the (?:structure|rim|image) [+−]").mean() > 0.3
    explanations = StackedClassifier.from_run(open_run(alone)).predict(read_tables(alone / "features.csv")).explanations
    assert all(text.startswith("deep features of the image ") for text in explanations)


def test_case_without_structure_has_a_diagnosis_of_its_image(finished: Path) -> None:
    """Its measured features are undefined, deep ones do not count."""
    tables = read_tables(finished / "features.csv")
    empty = tables.frames[tables.frames["case"] == "c39"]
    assert empty[[f"deep.structure_{k:03d}" for k in range(320)]].isna().all(axis=None)
    assert empty[[f"deep.image_{k:03d}" for k in range(320)]].notna().all(axis=None)
    classifier = StackedClassifier.from_run(open_run(finished))
    undefined = dict(zip(tables.frames["case"], classifier.predict(tables).undefined, strict=True))
    assert undefined["c39"]
    assert not undefined["c38"]
    frames = tables.frames.copy()
    frames.loc[frames["case"] == "c38", list(classifier.schema.deep)] = np.nan
    again = dict(zip(frames["case"], classifier.predict(Tables(frames, tables.steps)).undefined, strict=True))
    assert not again["c38"]


def test_deep_features_alone_train_and_report(
    alone: Path, textured: Path, tmp_path: Path, medseg: Callable[..., Any]
) -> None:
    classifier = StackedClassifier.from_run(open_run(alone))
    assert classifier.models == ("deep", "stack")
    assert classifier.final_model == "deep"
    assert not (alone / "ensemble.skops").exists()
    out = tmp_path / "d.csv"
    assert medseg("diagnose", textured / "images", out, "--model", alone).status == 0  # no mask is asked for
    diagnoses = pd.read_csv(out)
    assert diagnoses["predicted"].notna().all()
    assert json.loads(out.with_suffix(".json").read_text())["cases"][0]["features"] == []
    for source in (out.with_suffix(".json"), alone):
        assert medseg("report", source, "--out", tmp_path / "r.html").status == 0
    assert package.diagnose(textured / "images" / "c01.png", package.load_model(alone))["predicted"].notna().all()


def test_train_refuses_a_final_model_without_features(textured: Path, alone: Path, tmp_path: Path) -> None:
    words = [*QUICK, f"data.root={alone}", f"run_dir={tmp_path / 'run'}", "organ.clinical_rule=null"]
    with pytest.raises(ConfigError, match="nothing is measured; choose deep or stack"):
        train(compose([*words, "classifier.final_model=lstm"]))
    words = [*QUICK, f"data.root={textured}", f"run_dir={tmp_path / 'other'}", "classifier.final_model=deep"]
    with pytest.raises(ConfigError, match=r"no deep features; set data\.encoder"):
        train(compose(words))


def test_table_without_deep_columns_is_refused_by_name(finished: Path) -> None:
    tables = read_tables(finished / "features.csv")
    frames = tables.frames.drop(columns=[name for name in tables.frames if name.startswith("deep.rim")])
    with pytest.raises(Exception, match=r"does not have: deep\.rim_000, .* …; extract"):
        StackedClassifier.from_run(open_run(finished)).predict(Tables(frames, tables.steps))
