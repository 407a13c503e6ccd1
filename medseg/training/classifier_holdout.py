"""Evaluate a classifier on held-out cases as a user would run it: its files in the run, the screen, the card."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from medseg.config.settings import Settings
from medseg.evaluation.predictions import to_table
from medseg.inference.case_classifier import CaseClassifier
from medseg.inference.diagnosis_scores import evaluate_forecast, evaluate_predictions
from medseg.inference.sequence_classifier import forecast_horizon
from medseg.runs.run import Run
from medseg.training.feature_tables import FeatureSplits
from medseg.utils.console import table, warn
from medseg.utils.files import atomic_write_text, write_json

NO_HOLDOUT = "no held-out case with a label"
Json = dict[str, Any]


def evaluate_classifier(config: Settings, run: Run, classifier: CaseClassifier, splits: FeatureSplits) -> Json | None:
    """Write predictions.csv, diagnoses.json and metrics.json, every model beside the one that answers; None where no
    held-out case has a label.
    """
    held = splits.held
    if held.frames.empty or "label" not in held.frames or held.frames["label"].isna().all():
        write_json(run.file("metrics.json"), {"task": "diagnosis", "report_split": None, "reason": NO_HOLDOUT})
        return None
    predictions = classifier.predict(held)
    atomic_write_text(run.file("predictions.csv"), to_table(predictions, others=True).to_csv(index=False))
    write_json(run.file("diagnoses.json"), classifier.to_records(held, predictions))
    scores = evaluate_predictions(predictions, list(map(str, config.organ.positive_classes)))
    summary = {"report_split": splits.reported, "masks": splits.masks, **scores}
    if classifier.calibrations:
        summary["alpha"] = config.classifier.alpha
    if predictions.forecasts:
        horizon = forecast_horizon(config)
        summary["forecast"] = evaluate_forecast(predictions, horizon, classifier.schema.sees_the_future)
    write_json(run.file("metrics.json"), summary)
    return summary


def show_scores(summary: Json, keys: Sequence[str] = ()) -> None:
    """The scores on the screen, and which classes a model never predicts; `keys`: only these."""
    for model, names in summary["never_predicted"].items():
        if names:
            warn(f"{model} never predicts {', '.join(names)}")
    title = f"{summary['report_split']}: {summary['n_cases']} cases, {summary['n_patients']} patients"
    if summary["n_frames"] != summary["n_cases"]:
        title += f", {summary['n_frames']} frames"
    table(title, ["score", *summary["models"]], [[key, *means] for key, means in _means(summary, keys)])


def card_lines(summary: Json | None, keys: Sequence[str] = ()) -> list[str]:
    """Lines for the card."""
    if summary is None:
        return [f"Not measured: {NO_HOLDOUT}."]
    models = summary["models"]
    lines = [
        f"Measured on split `{summary['report_split']}`: {summary['n_cases']} cases, {summary['n_patients']} patients. "
        f"The diagnosis is that of `{summary['use']}`. Masks: {summary['masks']}.",
        "",
        f"| score | {' | '.join(models)} |",
        f"|---|{'---|' * len(models)}",
    ]
    for key, means in _means(summary, keys):
        lines.append(f"| {key} | {' | '.join('–' if mean is None else f'{mean:.3f}' for mean in means)} |")
    return lines


def _means(summary: Json, keys: Sequence[str]) -> list[tuple[str, list[float | None]]]:
    """Means of each score that every model has."""
    models = list(summary["models"].values())
    shared = [key for key in keys or models[0] if all(key in model for model in models)]
    return [(key, [model[key]["mean"] for model in models]) for key in shared]
