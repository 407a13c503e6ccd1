"""Evaluate a classifier on held-out cases, as in use: files of the run, printed scores, model card."""

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
    """Write predictions.csv, diagnoses.json and metrics.json with all models; None if no held-out case has a label."""
    held_out = splits.held_out
    if held_out.frames.empty or "label" not in held_out.frames or held_out.frames["label"].isna().all():
        write_json(run.file("metrics.json"), {"task": "diagnosis", "report_split": None, "reason": NO_HOLDOUT})
        return None
    predictions = classifier.predict(held_out)
    atomic_write_text(run.file("predictions.csv"), to_table(predictions, others=True).to_csv(index=False))
    write_json(run.file("diagnoses.json"), classifier.to_records(held_out, predictions))
    scores = evaluate_predictions(predictions, list(map(str, config.organ.positive_classes)))
    summary = {"report_split": splits.split_name, "masks": splits.masks, **scores}
    if classifier.calibrations:
        summary["alpha"] = config.classifier.alpha
    if predictions.forecasts:
        horizon = forecast_horizon(config)
        summary["forecast"] = evaluate_forecast(predictions, horizon, classifier.schema.sees_the_future)
    write_json(run.file("metrics.json"), summary)
    return summary


def show_scores(summary: Json, keys: Sequence[str] = ()) -> None:
    """Print the scores, only those in `keys` if given, and warn of classes that a model never predicts."""
    for model, names in summary["never_predicted"].items():
        if names:
            warn(f"{model} never predicts {', '.join(names)}")
    title = f"{summary['report_split']}: {summary['n_cases']} cases, {summary['n_patients']} patients"
    if summary["n_frames"] != summary["n_cases"]:
        title += f", {summary['n_frames']} frames"
    table(title, ["score", *summary["models"]], [[key, *means] for key, means in _means(summary, keys)])


def card_lines(summary: Json | None, keys: Sequence[str] = ()) -> list[str]:
    """Lines of the model card."""
    if summary is None:
        return [f"Not evaluated: {NO_HOLDOUT}."]
    models = summary["models"]
    lines = [
        f"Evaluated on split `{summary['report_split']}`: {summary['n_cases']} cases, {summary['n_patients']} "
        f"patients. The diagnosis is that of `{summary['final_model']}`. Masks: {summary['masks']}.",
        "",
        f"| score | {' | '.join(models)} |",
        f"|---|{'---|' * len(models)}",
    ]
    for key, means in _means(summary, keys):
        lines.append(f"| {key} | {' | '.join('–' if mean is None else f'{mean:.3f}' for mean in means)} |")
    return lines


def _means(summary: Json, keys: Sequence[str]) -> list[tuple[str, list[float | None]]]:
    """Each score that all models have, with its means."""
    models = list(summary["models"].values())
    shared = [key for key in keys or models[0] if all(key in model for model in models)]
    return [(key, [model[key]["mean"] for model in models]) for key in shared]
