from __future__ import annotations

import json
import re
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import SimpleITK as sitk

from medseg.errors import ModelError
from medseg.evaluation.overlap import compare_masks, summarise
from medseg.evaluation.predictions import from_table
from medseg.evaluation.states import summarise_predictions
from medseg.io.image import write_image
from medseg.reports.report import write_report

LABELS = {"right_part": 1, "left_part": 2}
CLASSES = ["exhale", "inhale"]


class Page(HTMLParser):
    """The text of every element with a data-of attribute, the images, and all text."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.cells: dict[str, str] = {}
        self.images: list[dict[str, str]] = []
        self.text = ""
        self._of: str | None = None
        self.feed(html)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        found = {key: value or "" for key, value in attrs}
        if tag == "img":
            self.images.append(found)
        if tag in ("td", "th"):
            self._of = found.get("data-of")

    def handle_endtag(self, tag: str) -> None:
        if tag in ("td", "th"):
            self._of = None

    def handle_data(self, data: str) -> None:
        self.text += data
        if self._of:
            self.cells[self._of] = self.cells.get(self._of, "") + data


def volume(shift: int = 0) -> sitk.Image:
    array = np.zeros((9, 14, 16), dtype=np.uint8)
    array[2:7, 3:9, 2 + shift : 6 + shift] = 1
    array[2:7, 3:9, 9:13] = 2
    image = sitk.GetImageFromArray(array)
    image.SetSpacing((1.5, 1.5, 3.0))
    return image


def segmentation_run(folder: Path, synthetic: bool = False) -> dict[str, Any]:
    rows, split = [], [{"case": "t", "patient": "pt", "image": "gone", "mask": "gone", "split": "train"}]
    for number, case in enumerate(["a", "b", "c<1>"]):
        truth, pred = volume(), volume(shift=number)
        image = sitk.Cast(truth, sitk.sitkFloat32) * -400 + 40
        write_image(image, folder / f"data/{number}.nii.gz")
        write_image(truth, folder / f"truth/{case}.nii.gz")
        write_image(pred, folder / f"predictions/{case}.nii.gz")
        rows += [{"case": case, "patient": f"p{number}"} | row for row in compare_masks(pred, truth, LABELS, 2.0)]
        split.append(
            {"case": case, "patient": f"p{number}", "image": f"data/{number}.nii.gz"}
            | {"split": "valid", "frame": None}
        )
    summary = summarise(pd.DataFrame(rows), LABELS, 2.0) | {"report_split": "valid"}
    pd.DataFrame(rows).to_csv(folder / "evaluation.csv", index=False)
    pd.DataFrame(split).to_csv(folder / "split.csv", index=False)
    settings = (
        "task: segmentation\norgan: {name: some_organ, labels: {right_part: 1, left_part: 2}, window_hu: [-400, 60]}\n"
    )
    common_files(folder, summary, settings + "data: {root: /data/set}\n", synthetic)
    return summary


def diagnosis_run(folder: Path) -> dict[str, Any]:
    tables = []
    for number in range(4):
        signal = np.cos(np.arange(24) * 0.7 + number)
        label = np.where(np.gradient(signal) > 0, "inhale", "exhale")
        chance = np.clip(0.5 + np.gradient(signal) + 0.2 * np.sin(np.arange(24)), 0, 1)
        tables.append(
            pd.DataFrame({"case": f"s{number}", "patient": f"p{number}", "frame": range(24), "time": np.arange(24) / 3})
            .assign(label=label, signal=signal, predicted=np.where(chance > 0.5, "inhale", "exhale"))
            .assign(p_exhale=1 - chance, p_inhale=chance, signal_predicted=signal + 0.1 * chance)
            .assign(predicted_linear="exhale", signal_linear=signal * 0.5)
        )
    frames = pd.concat(tables, ignore_index=True)
    summary = summarise_predictions(from_table(frames, CLASSES, ["lstm", "linear"]))
    summary |= {"report_split": "test", "masks": "given, out of fold"}
    folder.mkdir(parents=True)
    frames.to_csv(folder / "predictions.csv", index=False)
    common_files(
        folder, summary, "task: diagnosis\norgan: {name: some_organ, classes: [exhale, inhale]}\n", synthetic=True
    )
    return summary


def common_files(folder: Path, summary: dict[str, Any], settings: str, synthetic: bool) -> None:
    (folder / "metrics.json").write_text(json.dumps(summary))
    (folder / "config.yaml").write_text(settings)
    (folder / "fingerprint.json").write_text(json.dumps({"synthetic": synthetic}))
    (folder / "history.csv").write_text("step,samples,lr,train_loss,valid_loss\n1,8,0.1,1.0,\n2,16,0.05,0.5,0.6\n")
    manifest = {"schema": 1, "medseg": "9.9.9", "finished": "2030-01-01", "python": "3.11", "platform": "Any"}
    (folder / "manifest.json").write_text(
        json.dumps(manifest | {"versions": {"torch": "8.8"}, "sha256": {"x": "abc123"}})
    )


def shown(estimate: dict[str, Any]) -> list[str]:
    """The numbers of an estimate as the page rounds them."""
    values = [value for value in (estimate["mean"], *(estimate["ci95"] or [])) if value is not None]
    return [f"{value:.3f}" if abs(value) < 10 else f"{value:.1f}" for value in values]


def assert_cell(page: Page, key: str, estimate: dict[str, Any]) -> None:
    numbers = re.findall(r"-?\d+(?:\.\d+)", page.cells[key].split("n =")[0].split("no interval")[0])
    assert numbers == shown(estimate), key
    if estimate["mean"] is None:
        assert estimate["reason"] in page.cells[key]
    else:
        assert f"n = {estimate['n']}" in page.cells[key]


def test_write_report_has_every_score_of_a_segmentation(tmp_path: Path) -> None:
    summary = segmentation_run(tmp_path / "run")
    html = write_report([tmp_path / "run"], tmp_path / "out").read_text(encoding="utf-8")
    page = Page(html)
    for name, scores in {**summary["labels"], "macro": summary["macro"]}.items():
        for score in ("dice", "iou", "hd95_mm", "nsd"):
            assert_cell(page, f"{name}.{score}", scores[score])
    for count in ("missed", "false_positive", "empty_both"):
        assert page.cells[f"left_part.{count}"].strip() == str(summary["labels"]["left_part"][count])
    table = pd.read_csv(tmp_path / "run/evaluation.csv")
    assert all(f"{value:.3f}" in page.text for value in table["dice"])
    for text in ("Research use only", "NSD at 2.0 mm", "3 cases of 3 patients", "/data/set", "9.9.9", "8.8", "abc123"):
        assert text in page.text
    assert "Worst case: c<1>" in page.text
    assert "c<1>" not in html  # escaped


def test_write_report_is_self_contained(tmp_path: Path) -> None:
    segmentation_run(tmp_path / "run")
    path = write_report([tmp_path / "run"], tmp_path / "one.html")
    html = path.read_text(encoding="utf-8")
    assert path == tmp_path / "one.html"
    assert not re.search(r"https?://|<script|<link|@import|url\(", html)
    page = Page(html)
    assert len(page.images) == 5  # strip, three overlays, curves
    for image in page.images:
        assert image["src"].startswith("data:image/png;base64,iVBOR")
        assert len(image["alt"]) > 20
    assert write_report([tmp_path / "run"], tmp_path / "two.html").read_text(encoding="utf-8") == html


@pytest.mark.parametrize("synthetic", [True, False])
def test_write_report_banner_for_phantoms_only(tmp_path: Path, synthetic: bool) -> None:
    segmentation_run(tmp_path / "run", synthetic)
    page = Page(write_report([tmp_path / "run"], tmp_path).read_text(encoding="utf-8"))
    assert ("SYNTHETIC PHANTOMS" in page.text) is synthetic
    assert ("/data/set synthetic phantoms" in page.text) is synthetic


def assert_confusion(page: Page, models: dict[str, Any]) -> None:
    expected = {}
    for model, rows in models.items():
        for truth, row in rows.items():
            of = f"{model}.confusion.{truth}"
            expected[of] = f"{truth} ({row['n']} frames)"
            expected |= {f"{of}.{key}": rounded(row[key]) for key in ("sensitivity", "precision")}
            for name, cell in row["predicted"].items():
                expected[f"{of}.{name}"] = f"{cell['n']}" + (f"{100 * cell['share']:.1f} %" if row["n"] else "–")
    shown = {key: text.strip() for key, text in page.cells.items() if ".confusion." in key}
    assert shown == expected


def test_write_report_diagnosis_has_its_baseline(tmp_path: Path) -> None:
    segmentation_run(tmp_path / "seg")
    summary = diagnosis_run(tmp_path / "dia")
    page = Page(write_report([tmp_path / "seg", tmp_path / "dia"], tmp_path).read_text(encoding="utf-8"))
    for model, scores in summary["models"].items():
        for key, found in scores.items():
            assert_cell(page, f"{model}.{key}", found)
    assert "linear baseline never predicts inhale" in page.text
    assert_confusion(page, summary["confusion"])
    assert summary["masks"] in page.text
    assert sum("signal over time" in image["alt"] for image in page.images) == 3
    assert "Overview" in page.text


def test_write_report_names_missing_images(tmp_path: Path) -> None:
    segmentation_run(tmp_path / "run")
    (tmp_path / "run/data/0.nii.gz").unlink()
    page = Page(write_report([tmp_path / "run"], tmp_path).read_text(encoding="utf-8"))
    assert "0.nii.gz no longer exists" in page.text
    assert len(page.images) == 4


def test_write_report_warns_of_biased_scores(tmp_path: Path) -> None:
    summary = segmentation_run(tmp_path / "run")
    (tmp_path / "run/metrics.json").write_text(json.dumps(summary | {"never_predicted": ["left_part"], "n_failed": 2}))
    split = pd.read_csv(tmp_path / "run/split.csv")
    split.assign(patient="p1").to_csv(tmp_path / "run/split.csv", index=False)
    page = Page(write_report([tmp_path / "run"], tmp_path).read_text(encoding="utf-8"))
    assert "never predicts left_part" in page.text
    assert "2 cases could not be evaluated" in page.text
    assert "In training and in the reported split: 1 patient." in page.text


def test_write_report_of_an_evaluation_or_an_empty_folder(tmp_path: Path) -> None:
    segmentation_run(tmp_path / "run")
    for name in ("config.yaml", "split.csv", "fingerprint.json", "history.csv", "manifest.json"):
        (tmp_path / "run" / name).unlink()
    page = Page(write_report([tmp_path / "run"], tmp_path).read_text(encoding="utf-8"))
    assert len(page.images) == 1
    assert "No image" in page.text
    (tmp_path / "run/metrics.json").unlink()
    with pytest.raises(ModelError, match=r"metrics\.json"):
        write_report([tmp_path / "run"], tmp_path)


def test_write_report_without_test_cases_states_the_reason(tmp_path: Path) -> None:
    segmentation_run(tmp_path / "run")
    metrics = {"task": "segmentation", "report_split": None, "reason": "no held-out case with a mask"}
    (tmp_path / "run/metrics.json").write_text(json.dumps(metrics))
    for runs in (["run"], ["run", "run"]):
        page = Page(write_report([tmp_path / name for name in runs], tmp_path).read_text(encoding="utf-8"))
        assert "Not evaluated: no held-out case with a mask." in page.text
        assert len(page.images) == len(runs)  # the curves


def sequences_json(folder: Path) -> dict[str, Any]:
    """What `medseg diagnose` writes of two sequences, one for review."""
    cases, sheets = [], []
    for number, case in enumerate(["calm", "odd"]):
        times = np.arange(12) / 4
        signal = np.sin(times * 1.5 + number)
        for frame in range(12):
            rises = bool(np.cos(times[frame] * 1.5 + number) > 0)
            row: dict[str, Any] = {"case": case, "patient": case, "frame": frame, "time": times[frame], "signal": None}
            row |= {"label": "inhale" if rises else "exhale", "predicted": "inhale", "probability": 0.61 + frame / 100}
            row |= {"p_exhale": 0.39 - frame / 100, "p_inhale": 0.61 + frame / 100, "signal_predicted": signal[frame]}
            row |= {"signal_forecast": signal[frame] * 0.9 if frame > 3 else None, "signal_forecast_linear": None}
            cases.append(row | {"review": "its mask is empty" if number else ""})
        described = {"period_s": 4.187 + number, "breaths": 2.0, "breaths_per_minute": 14.33, "amplitude": 2.71}
        measure = {
            "name": "part.volume_ml",
            "low": 2711.25,
            "value": 2804.5,
            "high": 2911.75,
            "mean": 2650.25,
            "sd": None,
        }
        sheets.append(
            {"case": case, "frames": 12, "states": {"exhale": 0, "inhale": 12}, "probability": 0.665 - number / 10}
            | {"accuracy": {"lstm": 0.583}, "signal": {"lstm": {**described, "irregularity": None}}}
            | {"forecast": {"ahead_s": 0.5, "read": "as it came", "nrmse": {"lstm": 0.317, "linear": 0.295}}}
            | {"explanation": "part.volume_ml +1.31", "features": [measure]}
        )
    content = {
        "model": "breathing",
        "synthetic": True,
        "classes": CLASSES,
        "final_model": "lstm",
        "cases": cases,
        "sequences": sheets,
    }
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "said.json").write_text(json.dumps(content))
    return content


def rounded(value: Any) -> str:
    if value is None:
        return "–"
    return value if isinstance(value, str) else f"{value:.3f}" if abs(value) < 10 else f"{value:.1f}"


def test_write_report_sequence_values_equal_the_json(tmp_path: Path) -> None:
    content = sequences_json(tmp_path)
    page = Page(write_report([tmp_path / "said.json"], tmp_path / "said.html").read_text(encoding="utf-8"))
    for sheet in content["sequences"]:
        case = sheet["case"]
        expected = {f"{case}.{model}.accuracy": value for model, value in sheet["accuracy"].items()}
        expected |= {f"{case}.{kind}.nrmse": value for kind, value in sheet["forecast"]["nrmse"].items()}
        for name, found in sheet["signal"].items():
            expected |= {f"{case}.{name}.{key}": value for key, value in found.items()}
            expected[f"{case}.{name}.breaths"] = str(int(found["breaths"]))
        for row in sheet["features"]:
            expected |= {f"{case}.{row['name']}.{key}": row[key] for key in ("low", "value", "high", "mean", "sd")}
        for row in content["cases"]:
            if row["case"] == case:
                columns = ("time", "label", "predicted", "p_exhale", "p_inhale", "signal_predicted", "signal_forecast")
                expected |= {f"{case}.{row['frame']}.{name}": row[name] for name in columns}
        assert {key: page.cells[key].strip() for key in expected} == {k: rounded(v) for k, v in expected.items()}
        assert f"{case}.3.signal" not in page.cells  # nothing is known of it
        assert f"mean probability {rounded(sheet['probability'])}" in page.text
    assert page.text.index("odd: 12 frames") < page.text.index("calm: 12 frames")  # for review: first
    assert "its mask is empty" in page.text
    assert "SYNTHETIC PHANTOMS" in page.text
    assert sum("probability of each state" in image["alt"] for image in page.images) == 2
    assert sum("bars of states" in image["alt"] for image in page.images) == 2


def test_write_report_states_how_a_forecast_was_made(tmp_path: Path) -> None:
    content = sequences_json(tmp_path)
    page = Page(write_report([tmp_path / "said.json"], tmp_path / "said.html").read_text(encoding="utf-8"))
    assert page.text.count("Forecast: as it came.") == 2
    assert "retrospective error" not in page.text
    for sheet in content["sequences"]:
        del sheet["forecast"]["read"]
    (tmp_path / "said.json").write_text(json.dumps(content))
    page = Page(write_report([tmp_path / "said.json"], tmp_path / "said.html").read_text(encoding="utf-8"))
    assert page.text.count("Forecast: the signal uses the whole sequence: retrospective error") == 2


@pytest.mark.parametrize("older", [False, True])
def test_write_report_confusion_equals_the_json_or_predictions(tmp_path: Path, older: bool) -> None:
    run = tmp_path / "run"
    counted = diagnosis_run(run)["confusion"]
    assert counted["linear"]["inhale"]["precision"] is None  # which it never predicts
    content = json.loads((run / "metrics.json").read_text())
    if older:
        del content["confusion"]
    else:  # a number that is in no other file
        counted["lstm"]["inhale"]["predicted"]["exhale"]["n"] = 1234
        counted["lstm"]["exhale"]["sensitivity"] = 0.123
        content["confusion"] = counted
    (run / "metrics.json").write_text(json.dumps(content))
    page = Page(write_report([run], tmp_path / "one.html").read_text(encoding="utf-8"))
    assert_confusion(page, counted)
