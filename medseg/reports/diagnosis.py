"""Diagnosis section of a report: scores, curves, confusion, reliability, signals."""

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
    "deep": "deep features",
    "rule": "clinical rule",
}
PAGES = 40  # maximum cases with a page
QUADRANTS = [["superior_temporal", "superior_nasal"], ["inferior_temporal", "inferior_nasal"]]
SCORES = {
    "accuracy": "Accuracy",
    "balanced_accuracy": "Balanced accuracy",
    "auc": "AUC",
    "auc_positive": "AUC of the positive classes",
    "average_precision_positive": "Average precision of the positive classes",
    "sensitivity": "Sensitivity (positive classes together, at one half)",
    "specificity": "Specificity (same threshold)",
    "qwk": "Weighted kappa",
    "nll_before": "NLL before calibration",
    "nll": "NLL",
    "brier_before": "Brier score before calibration",
    "brier": "Brier score",
    "ece_before": "Calibration error before",
    "ece": "Calibration error",
    "ece_classwise_before": "Calibration error by class, before",
    "ece_classwise": "Calibration error by class",
    "set_coverage": "Coverage of prediction sets",
    "set_abstains": "Fraction that abstains",
    "signal_correlation": "Correlation of the signal",
    "signal_nrmse": "nRMSE of the signal",
    "period_error_s": "Error of the period (s)",
}
OF_SIGNAL = ("signal_correlation", "signal_nrmse", "period_error_s")


def diagnosis_section(run: Run, metrics: Json, settings: Json) -> Json:
    """Scores of model and baseline, confusion matrix, and the signal of the best, median and worst case."""
    classes, models = metrics["classes"], list(metrics["models"])
    table = table_of(run, "predictions.csv")
    scores = _common_scores(list(metrics["models"].values()))
    section: Json = {"scores": scores, "model_names": MODEL_NAMES, "signals": [], "figures": []}
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
    sequences = {case: case_rows for case, case_rows in predictions.rows(order).by_case() if len(case_rows) > 1}
    agreement = {case: _agreement(case_rows) for case, case_rows in sequences.items()}
    ranked = pd.Series(agreement, dtype=float).dropna().sort_values()
    for title, case in best_median_worst(ranked):
        sequence = sequences[case]
        case_rows = sequence.rows(np.arange(min(len(sequence), LONG)))
        shown = len(case_rows)
        text = f"frames 1 to {LONG} of {len(sequence)}" if shown < len(sequence) else f"{shown} frames"
        figure = png_data_uri(plots.breathing(case_rows, MODEL_NAMES))
        section["signals"].append({"title": title, "case": case, "frames": text, "image": figure})
    return section


def _common_scores(models: Sequence[Json]) -> dict[str, str]:
    """Scores that every model has; scores of the signal only if there is one."""
    signal = any(scores[key]["mean"] is not None for scores in models for key in OF_SIGNAL if key in scores)
    return {
        key: title
        for key, title in SCORES.items()
        if all(key in scores for scores in models) and (signal or key not in OF_SIGNAL)
    }


def diagnosis_report_section(file: Path, number: int) -> Json:
    """The section of OUT.json by `medseg diagnose`: one page per case."""
    content = _content(file)
    cases = len({case["case"] for case in content["cases"]})
    known: Json = {"id": f"run{number}", "name": file.name, "organ": None, "warnings": []}
    known["synthetic"] = bool(content.get("synthetic"))
    by = MODEL_NAMES.get(content["final_model"], str(content["final_model"]))
    not_diagnosed = content.get("not_diagnosed", [])
    count = f"{cases}, and {len(not_diagnosed)} not diagnosed" if not_diagnosed else str(cases)
    facts = {"Model": content.get("model", ""), "Cases": count, "Diagnosis by": by}
    section: Json = {"facts": facts, "metrics": {"task": "diagnosis"}}
    section |= {"curves": None, "settings": None, "manifest": None}
    folder = file.with_name(file.stem + "_pictures")
    pages_ = {**pages(content, folder), **sequence_pages(content, folder)}
    return {**known, **section, "model_names": MODEL_NAMES, "signals": [], "not_diagnosed": not_diagnosed, **pages_}


def pages(content: Json, folder: Path) -> Json:
    """Pages of at most `PAGES` cases, first those that need attention: for review, undecided, wrong.

    Also units of the features, as far as known.
    """
    cases = [case for case in content["cases"] if "models" in case]
    order = sorted(cases, key=lambda c: (not c["review"], not c["abstain"], c["label"] in (None, c["diagnosis"])))
    pages_ = []
    for case in order[:PAGES]:
        file = folder / f"{case['case']}.png"
        image = png_data_uri(file.read_bytes()) if file.is_file() else None
        values = {row["what"]: row["value"] for row in case["rule"] or []}
        pages_.append({**case, "image": image, "maps": _maps(values)})
    units = {name: text for name, text in content.get("units", {}).items() if text}
    return {"pages": pages_, "pages_left": len(order) - len(pages_), "units": units}


def _maps(values: dict[str, float | None]) -> list[Json]:
    """Counts by quadrant, two by two, of each label with such counts in the rule's breakdown."""
    labels = dict.fromkeys(name.split(".")[0] for name in values if name.endswith("." + "count_" + QUADRANTS[0][0]))
    return [
        {"label": label, "rows": [[values.get(f"{label}.count_{quadrant}") for quadrant in row] for row in QUADRANTS]}
        for label in labels
    ]


def _content(file: Path) -> Json:
    try:
        content = json.loads(file.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise DataError(f"{file}: is not the JSON of medseg diagnose ({error}); give its OUT.json") from error
    if not isinstance(content, dict) or "cases" not in content or "final_model" not in content:
        raise DataError(f"{file}: is not the JSON of medseg diagnose; give its OUT.json")
    return content


def _agreement(case_rows: Predictions) -> float:
    """Score of a case: correlation of the signal, else accuracy of the state; NaN without reference."""
    signal, predicted = case_rows.facts["signal"].to_numpy(), case_rows.final.signal
    if predicted is not None and np.isfinite(signal).any():
        known_signal = np.isfinite(signal) & np.isfinite(predicted)
        return correlation(signal[known_signal], predicted[known_signal]) if known_signal.sum() > 1 else float("nan")
    known = case_rows.facts["label"].notna().to_numpy()
    correct = (case_rows.facts["label"].to_numpy() == case_rows.final.predicted)[known]
    return float(correct.mean()) if len(correct) else float("nan")


def _figures(predictions: Predictions, metrics: Json, settings: Json) -> list[Json]:
    """ROC, precision–recall and reliability curves, if the model's probabilities are calibrated."""
    labels = predictions.facts["label"].dropna()
    if "reliability" not in metrics or labels.empty:
        return []
    figures = []
    positive = [str(name) for name in (settings.get("organ") or {}).get("positive_classes") or []]
    known = set(labels)
    if known & set(positive) and known - set(positive):
        figure = plots_diagnosis.plot_roc_pr(predictions, positive)
        text = "ROC and precision–recall curves on the held-out cases; dotted: random guessing."
        figures.append({"image": png_data_uri(figure), "text": text})
    text = "Accuracy by predicted probability after calibration; dots by number of cases."
    bins = {name: metrics["reliability"][name] for name in metrics["models"] if name in metrics["reliability"]}
    return [*figures, {"image": png_data_uri(plots_diagnosis.plot_reliability(bins)), "text": text}]
