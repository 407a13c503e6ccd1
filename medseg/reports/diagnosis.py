"""The part of a report that tells of a diagnosis: scores, curves, confusion, reliability, signals."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pandas as pd

from medseg.errors import DataError
from medseg.evaluation.predictions import Predictions, from_table
from medseg.evaluation.states import confusions, correlation
from medseg.reports import diagnosis_plots as plots_diagnosis
from medseg.reports import plots
from medseg.reports.common import Json, best_median_worst, png_data_uri, table_of
from medseg.reports.sequences import LONG, sequence_pages
from medseg.runs.run import Run

MODEL_NAMES = {
    "lstm": "LSTM",
    "linear": "linear baseline",
    "logistic": "logistic regression",
    "rule": "rule of the clinic",
}
PAGES = 40  # cases shown one by one
QUADRANTS = [["superior_temporal", "superior_nasal"], ["inferior_temporal", "inferior_nasal"]]
SCORES = {
    "accuracy": "Accuracy",
    "balanced_accuracy": "Balanced accuracy",
    "auc": "AUC",
    "auc_positive": "AUC of the positive classes",
    "average_precision_positive": "Average precision of the positive classes",
    "sensitivity": "Sensitivity (positive classes together, at one half)",
    "specificity": "Specificity (likewise)",
    "qwk": "Weighted kappa",
    "nll_before": "NLL before calibration",
    "nll": "NLL",
    "brier_before": "Brier score before calibration",
    "brier": "Brier score",
    "ece_before": "Calibration error before",
    "ece": "Calibration error",
    "ece_classwise_before": "Calibration error by class, before",
    "ece_classwise": "Calibration error by class",
    "set_coverage": "Sets that hold the truth",
    "set_abstains": "Share that abstains",
    "signal_correlation": "Correlation of the signal",
    "signal_nrmse": "nRMSE of the signal",
    "period_error_s": "Error of the period (s)",
}
OF_SIGNAL = ("signal_correlation", "signal_nrmse", "period_error_s")


def diagnosis_section(run: Run, metrics: Json, settings: Json) -> Json:
    """Scores beside the baseline, confusion and per class, and the signal of the best, median and worst case."""
    classes, models = metrics["classes"], list(metrics["models"])
    table = table_of(run, "predictions.csv")
    shown = _shown(list(metrics["models"].values()))
    section: Json = {"scores": shown, "model_names": MODEL_NAMES, "signals": [], "figures": []}
    section |= {"confusion": metrics["confusion"]} if "confusion" in metrics else {}
    section["of"] = "cases" if metrics["n_frames"] == metrics["n_cases"] else "frames"
    if run.file("diagnoses.json").is_file():
        content = _content(run.file("diagnoses.json"))
        section |= {**pages(content, run.file("pictures")), **sequence_pages(content, run.file("pictures"))}
    if table is None:
        return section
    predictions = from_table(table, classes, models)
    if "confusion" not in section and predictions.facts["label"].notna().any():  # metrics.json of an older run
        section["confusion"] = confusions(predictions)
    section["figures"] = _figures(predictions, metrics, settings)
    order = np.argsort(predictions.facts["frame"].to_numpy(), kind="stable")
    sequences = {case: part for case, part in predictions.rows(order).by_case() if len(part) > 1}
    ranked = pd.Series({case: _agreement(part) for case, part in sequences.items()}, dtype=float).dropna().sort_values()
    for title, case in best_median_worst(ranked):
        whole = sequences[case]
        part = whole.rows(np.arange(min(len(whole), LONG)))
        text = f"frames 1 to {LONG} of {len(whole)}" if len(part) < len(whole) else f"{len(part)} frames"
        picture = png_data_uri(plots.breathing(part, MODEL_NAMES))
        section["signals"].append({"title": title, "case": case, "frames": text, "image": picture})
    return section


def _shown(models: Sequence[Json]) -> dict[str, str]:
    """Scores that every model has; those of a signal where there is one."""
    signal = any(scores[key]["mean"] is not None for scores in models for key in OF_SIGNAL if key in scores)
    return {
        key: title
        for key, title in SCORES.items()
        if all(key in scores for scores in models) and (signal or key not in OF_SIGNAL)
    }


def diagnosis_report_section(file: Path, number: int) -> Json:
    """The section of OUT.json that `medseg diagnose` wrote: a page a case."""
    content = _content(file)
    cases = len({case["case"] for case in content["cases"]})
    known: Json = {"id": f"run{number}", "name": file.name, "organ": None, "warnings": []}
    known["synthetic"] = bool(content.get("synthetic"))
    by = MODEL_NAMES.get(content["use"], str(content["use"]))
    lost = content.get("not_diagnosed", [])
    count = f"{cases}, and {len(lost)} not diagnosed" if lost else str(cases)
    facts = {"Model": content.get("model", ""), "Cases": count, "Diagnosis by": by}
    rest: Json = {"facts": facts, "metrics": {"task": "diagnosis"}, "curves": None, "settings": None, "manifest": None}
    pictures = file.with_name(file.stem + "_pictures")
    shown = {**pages(content, pictures), **sequence_pages(content, pictures)}
    return {**known, **rest, "model_names": MODEL_NAMES, "signals": [], "not_diagnosed": lost, **shown}


def pages(content: Json, pictures: Path) -> Json:
    """At most `PAGES` cases one by one, first those that a person should look at: for review, undecided, wrong.

    Also what the measures are, as far as it is known.
    """
    cases = [case for case in content["cases"] if "models" in case]
    order = sorted(cases, key=lambda c: (not c["review"], not c["abstain"], c["label"] in (None, c["diagnosis"])))
    found = []
    for case in order[:PAGES]:
        picture = pictures / f"{case['case']}.png"
        image = png_data_uri(picture.read_bytes()) if picture.is_file() else None
        values = {row["what"]: row["value"] for row in case["rule"] or []}
        found.append({**case, "image": image, "maps": _maps(values)})
    units = {name: text for name, text in content.get("units", {}).items() if text}
    return {"pages": found, "pages_left": len(order) - len(found), "units": units}


def _maps(values: dict[str, float | None]) -> list[Json]:
    """Counts by quadrant, as two by two, of each label that the rule's sheet counts so."""
    labels = dict.fromkeys(name.split(".")[0] for name in values if name.endswith("." + "count_" + QUADRANTS[0][0]))
    return [
        {"label": label, "rows": [[values.get(f"{label}.count_{place}") for place in row] for row in QUADRANTS]}
        for label in labels
    ]


def _content(file: Path) -> Json:
    try:
        content = json.loads(file.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise DataError(
            f"{file}: cannot be read as the JSON that medseg diagnose writes ({error}); it ends in .json"
        ) from error
    if not isinstance(content, dict) or "cases" not in content or "use" not in content:
        raise DataError(f"{file}: is not what medseg diagnose writes; give OUT.json of medseg diagnose")
    return content


def _agreement(part: Predictions) -> float:
    """How well a case went: correlation of the signal, else accuracy of the state; NaN where truth is unknown."""
    truth, predicted = part.facts["signal"].to_numpy(), part.final.signal
    if predicted is not None and np.isfinite(truth).any():
        both = np.isfinite(truth) & np.isfinite(predicted)
        return correlation(truth[both], predicted[both]) if both.sum() > 1 else float("nan")
    known = part.facts["label"].notna().to_numpy()
    right = (part.facts["label"].to_numpy() == part.final.predicted)[known]
    return float(right.mean()) if len(right) else float("nan")


def _figures(predictions: Predictions, metrics: Json, settings: Json) -> list[Json]:
    """ROC, precision–recall and reliability, where the model's probabilities are calibrated."""
    labels = predictions.facts["label"].dropna()
    if "reliability" not in metrics or labels.empty:
        return []
    found = []
    positive = [str(name) for name in (settings.get("organ") or {}).get("positive_classes") or []]
    known = set(labels)
    if known & set(positive) and known - set(positive):
        picture = plots_diagnosis.plot_roc_pr(predictions, positive)
        text = "ROC and precision–recall curves on the held-out cases; dotted: what a guess gives."
        found.append({"image": png_data_uri(picture), "text": text})
    text = "How often each model is right where it says it is so sure, after calibration; dots by number of cases."
    bins = {name: metrics["reliability"][name] for name in metrics["models"] if name in metrics["reliability"]}
    return [*found, {"image": png_data_uri(plots_diagnosis.plot_reliability(bins)), "text": text}]
