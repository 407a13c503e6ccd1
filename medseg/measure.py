"""Measure a segmenter on held-out cases as a user would run it."""

from __future__ import annotations

from typing import Any

import pandas as pd
import SimpleITK as sitk

from medseg.config import Config
from medseg.console import progress, table
from medseg.data.cases import Case
from medseg.data.image import read_image
from medseg.data.labels import Labels
from medseg.data.truth import Truth, read_truth, write_masks
from medseg.ledger import atomic_write_text, write_json
from medseg.metrics import compare_masks, summarise
from medseg.pixels import PixelCurves
from medseg.runs import Run
from medseg.segmenter import Segmenter


def measure(config: Config, run: Run, segmenter: Segmenter, cases: list[Case]) -> dict[str, Any] | None:
    """Segment cases, keep their masks and truth, write evaluation.csv and metrics.json; None where there is no case.

    Labels that may overlap are also judged by their probability at every pixel, at the images' own size (AUPR).
    """
    if not cases:
        write_json(
            run.file("metrics.json"),
            {"task": "segmentation", "report_split": None, "reason": "no held-out case with a mask"},
        )
        return None
    labels, tolerance = segmenter.labels, config.data.surface_tolerance_mm
    rows: list[dict[str, Any]] = []
    pixels = PixelCurves()
    with progress("measure", len(cases)) as bar:
        for case in cases:
            images = {channel: read_image(path) for channel, path in case.images.items()}
            truth = read_truth(case, next(iter(images.values())), labels)
            mask, scores = segmenter.scored(images, keep=not labels.exclusive)
            write_masks(mask, run.file("predictions") / f"{case.name}.nii.gz", labels)
            write_masks(truth.mask, run.file("truth") / f"{case.name}.nii.gz", labels)
            facts = {"case": case.name, "patient": case.patient}
            rows += [facts | score for score in compare_coded(mask, truth, labels, tolerance)]
            for name in set(scores) & set(truth.known):
                inside = labels.layer(sitk.GetArrayViewFromImage(truth.mask), name)
                pixels.add(name, case.patient, scores[name], inside)
            bar.advance(1, case.name)
    frame = pd.DataFrame(rows)
    atomic_write_text(run.file("evaluation.csv"), frame.to_csv(index=False))
    summary = summarise(frame, labels.numbers, tolerance)
    for name, found in pixels.summary().items():
        summary["labels"][name]["aupr"] = found
    summary = {"task": "segmentation", "report_split": cases[0].split, **summary}
    write_json(run.file("metrics.json"), summary)
    _show(summary)
    return summary


def compare_coded(mask: sitk.Image, truth: Truth, labels: Labels, tolerance_mm: float) -> list[dict[str, Any]]:
    """Rows of scores for each label that was annotated."""
    numbers = {name: labels.numbers[name] for name in truth.known}
    if labels.exclusive:
        return compare_masks(mask, truth.mask, numbers, tolerance_mm)
    found, wanted = labels.split(mask), labels.split(truth.mask)
    rows: list[dict[str, Any]] = []
    for name in numbers:
        rows += compare_masks(found[name], wanted[name], {name: 1}, tolerance_mm)
    return rows


def _show(summary: dict[str, Any]) -> None:
    curved = any("aupr" in score for score in summary["labels"].values())
    rows = []
    for name, score in summary["labels"].items():
        row = [name, score["dice"]["mean"], interval(score["dice"]), score["iou"]["mean"], score["hd95_mm"]["mean"]]
        rows.append([*row, score.get("aupr", {}).get("mean")] if curved else row)
    table(
        f"Dice on {summary['report_split']} ({summary['n_cases']} cases, {summary['n_patients']} patients)",
        ["label", "mean", "95 % CI", "IoU", "HD95 mm", *(["AUPR"] if curved else [])],
        rows,
    )


def interval(score: dict[str, Any]) -> str:
    """``0.812–0.907``, or a dash."""
    return "–" if score.get("ci95") is None else "{:.3f}–{:.3f}".format(*score["ci95"])


def results(summary: dict[str, Any] | None) -> list[str]:
    """Lines for the card."""
    if summary is None:
        return ["Not measured: no held-out case with a mask."]
    lines = [
        f"Measured on split `{summary['report_split']}`: {summary['n_cases']} cases, {summary['n_patients']} patients.",
        "",
    ]
    lines += ["| label | Dice | 95 % CI | missed |", "|---|---|---|---|"]
    for name, score in summary["labels"].items():
        mean = score["dice"]["mean"]
        lines.append(
            f"| {name} | {'–' if mean is None else f'{mean:.3f}'} | {interval(score['dice'])} | {score['missed']} |"
        )
    return lines
