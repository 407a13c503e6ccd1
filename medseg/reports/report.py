"""`medseg report`: one self-contained HTML file from one or more run folders."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pandas as pd
import SimpleITK as sitk
from jinja2 import Environment, PackageLoader, StrictUndefined

import medseg
from medseg.config.load import plain, read_plain
from medseg.data.ground_truth import read_masks
from medseg.errors import DataError, ImageError
from medseg.io.geometry import require_same_grid
from medseg.io.image import frames as split_frames
from medseg.io.image import read_image
from medseg.io.labels import Labels
from medseg.reports import plots
from medseg.reports.common import Json, best_median_worst, png_data_uri, table_of
from medseg.reports.diagnosis import MODEL_NAMES, diagnosis_report_section, diagnosis_section
from medseg.runs.run import Run
from medseg.utils.files import atomic_write_text

FEW_PATIENTS = 10
SEGMENTATION_SCORES = {"dice": "Dice", "iou": "IoU", "hd95_mm": "HD95 (mm)", "nsd": "NSD"}


def write_report(runs: Sequence[Path], out: Path) -> Path:
    """Write the report of `runs` (run folders, or folders that `medseg evaluate` wrote) and return its path.

    `out` is the HTML file, or a folder that gets report.html. A section omits files that a run lacks. Raises
    ModelError without metrics.json.
    """
    sections = [
        diagnosis_report_section(path, number) if path.is_file() else _section(Run(path), number)
        for number, path in enumerate(runs, start=1)
    ]
    environment = Environment(
        loader=PackageLoader("medseg.reports"), autoescape=True, undefined=StrictUndefined, trim_blocks=True
    )
    environment.filters |= {
        "number": _number,
        "whole": _count_or_number,
        "words": lambda name: str(name).replace("_", " "),
    }
    target = out if out.suffix.lower() in (".html", ".htm") else out / "report.html"
    page = environment.get_template("report.html.j2")
    atomic_write_text(target, page.render(sections=sections, cases_of=_cases_of, version=medseg.__version__))
    return target


def _section(run: Run, number: int) -> Json:
    """Template variables of one run."""
    metrics = run.read_json("metrics.json")
    settings = plain(read_plain(run.file("config.yaml"))) if run.file("config.yaml").is_file() else {}
    fingerprint = run.read_json("fingerprint.json") if run.file("fingerprint.json").is_file() else {}
    split = table_of(run, "split.csv")
    section: Json = {
        "id": f"run{number}",
        "name": run.path.resolve().name,
        "metrics": metrics,
        "organ": settings.get("organ", {}).get("name"),
        "synthetic": bool(fingerprint.get("synthetic")),
        "facts": _facts(settings, split, metrics, bool(fingerprint.get("synthetic"))),
        "warnings": _warnings(metrics, split),
        "curves": _curves(run),
        "settings": run.file("config.yaml").read_text(encoding="utf-8") if settings else None,
        "manifest": run.read_json("manifest.json") if run.file("manifest.json").is_file() else None,
    }
    if "n_cases" not in metrics:  # no held-out cases
        return section
    if metrics["task"] == "diagnosis":
        return section | diagnosis_section(run, metrics, settings)
    return section | _segmentation(run, metrics, split, settings)


def _facts(settings: Json, split: pd.DataFrame | None, metrics: Json, synthetic: bool) -> dict[str, str]:
    """Model, data, and the cases of training and report."""
    facts = {}
    if settings:
        component = "classifier" if metrics.get("task") == "diagnosis" else "segmenter"
        target = str((settings.get(component) or {}).get("_target_", component)).rsplit(".", 1)[-1]
        root = (settings.get("data") or {}).get("root")
        facts["Model"] = f"{target} for {metrics.get('task')}"
        facts["Data"] = " ".join(filter(None, [root, "synthetic phantoms" if synthetic else None]))
    for name, group in [] if split is None else sorted(split.groupby("split"), key=lambda item: item[0] != "train"):
        title = "Trained on" if name == "train" else f"Split {name!r}"
        facts[title] = _cases_of(group["case"].nunique(), group["patient"].nunique())
    where = f", split {metrics['report_split']!r}" if metrics.get("report_split") else ""
    if "n_cases" in metrics:
        facts["Reported on"] = _cases_of(metrics["n_cases"], metrics["n_patients"]) + where
    if "masks" in metrics:
        facts["Masks"] = metrics["masks"]
    return facts


def _cases_of(cases: int, patients: int) -> str:
    return f"{_count(cases, 'case')} of {_count(patients, 'patient')}"


def _count(number: int, noun: str) -> str:
    return f"{number} {noun}{'' if number == 1 else 's'}"


def _warnings(metrics: Json, split: pd.DataFrame | None) -> list[str]:
    """Warnings above the scores."""
    texts = [metrics["note"]] if "note" in metrics else []
    if split is not None:
        sides = [set(split.loc[split["split"] == name, "patient"]) for name in ("train", metrics.get("report_split"))]
        if shared := sides[0] & sides[1]:
            count = _count(len(shared), "patient")
            texts.append(f"In training and in the reported split: {count}. The scores are too optimistic.")
    never = metrics.get("never_predicted") or {}
    for model, names in (never if isinstance(never, dict) else {"": never}).items():
        if names:
            name_ = MODEL_NAMES.get(model, model) or "model"
            texts.append(
                f"The {name_} never predicts {', '.join(names)}: this is a failure, whatever the mean scores are."
            )
    if metrics.get("n_failed"):
        texts.append(f"{_count(metrics['n_failed'], 'case')} could not be evaluated and are not in the scores.")
    models = metrics.get("models", {})
    means = {MODEL_NAMES.get(name, name): scores["accuracy"]["mean"] for name, scores in models.items()}
    (first, accuracy), *others = means.items() if means else [("", None)]
    for name, other in others:
        if accuracy is not None and other is not None and other >= accuracy:
            texts.append(f"The {name} is at least as accurate as the {first}.")
    if metrics.get("n_patients", FEW_PATIENTS) < FEW_PATIENTS:
        texts.append(f"Only {_count(metrics['n_patients'], 'patient')}: intervals from so few are rough.")
    return texts


def _segmentation(run: Run, metrics: Json, split: pd.DataFrame | None, settings: Json) -> Json:
    """Scores per label, Dice per case and overlays of the best, median and worst case."""
    labels = list(metrics["labels"])
    rows = table_of(run, "evaluation.csv")
    section: Json = {"scores": SEGMENTATION_SCORES, "cases": [], "overlays": [], "strip": None}
    if rows is None:
        return section
    rows["dice"] = pd.to_numeric(rows["dice"])
    dice = rows.pivot(index="case", columns="label", values="dice").reindex(columns=labels)
    status = rows.pivot(index="case", columns="label", values="status").reindex(columns=labels)
    mean = dice.mean(axis=1).sort_values(kind="stable")
    section["cases"] = [
        {"case": case, "mean": mean[case], "cells": list(zip(dice.loc[case], status.loc[case], strict=True))}
        for case in mean.index
    ]
    section["strip"] = png_data_uri(
        plots.strip(rows, labels, {name: metrics["labels"][name]["dice"] for name in labels})
    )
    ranked = mean.dropna()
    organ = settings.get("organ") or {}
    for title, case in best_median_worst(ranked):
        entry = {"title": title, "case": case, "dice": ranked[case], "image": None, "missing": None}
        try:
            code = Labels(organ.get("labels") or {}, organ.get("exclusive_labels", True))
            volumes = _volumes_of(run, case, split, code)
            entry["image"] = png_data_uri(plots.overlay(*volumes, organ.get("labels"), organ.get("window_hu")))
        except (ImageError, DataError) as error:
            entry["missing"] = str(error)
        section["overlays"].append(entry)
    return section


def _volumes_of(
    run: Run, case: str, split: pd.DataFrame | None, labels: Labels
) -> tuple[sitk.Image, sitk.Image, sitk.Image]:
    """Image, ground truth and prediction of a case on one grid; overlapping labels as one map, later labels on top."""
    known = pd.DataFrame() if split is None else split.dropna(subset=["image"])
    for row in known.to_dict("records"):
        frame = None if pd.isna(row.get("frame")) else int(float(row["frame"]))
        if case == row["case"] or (frame is not None and case == f"{row['case']}_frame{frame:03d}"):
            break
    else:
        raise DataError(f"{run.file('split.csv')} has no image of {case}")
    file = run.path / row["image"]
    if not file.exists():
        raise DataError(f"{file} no longer exists")
    image = split_frames(read_image(file))
    truth, pred = (
        labels.flatten(read_masks(run.file(name) / f"{case}.nii.gz", labels)) for name in ("truth", "predictions")
    )
    volumes = [image[frame or 0] if len(image) > 1 else image[0], truth, pred]
    for mask in volumes[1:]:
        require_same_grid(mask, volumes[0], f"{case}: mask and image are on different grids", "", "image")
    return volumes[0], volumes[1], volumes[2]


def _curves(run: Run) -> str | None:
    """Training curves of history.csv as data URI."""
    history = table_of(run, "history.csv")
    if history is None or history.empty:
        return None
    return png_data_uri(plots.curves_png(history.apply(pd.to_numeric, errors="coerce")))


def _number(value: float | None) -> str:
    """Three decimals, one from ten on; a dash for None and NaN."""
    if value is None or np.isnan(value):
        return "–"
    return f"{value:.3f}" if abs(value) < 10 else f"{value:.1f}"


def _count_or_number(value: float | None) -> str:
    """A count without decimals; anything else as `_number`."""
    return str(int(value)) if value is not None and np.isfinite(value) and value == int(value) else _number(value)
