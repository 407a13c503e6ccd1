"""Measure a segmenter on held-out cases as a user would run it."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
import SimpleITK as sitk

from medseg.batch.case_log import CaseLog
from medseg.batch.runner import case_errors
from medseg.config.settings import Settings
from medseg.data.cases import Case
from medseg.data.ground_truth import GroundTruth, read_ground_truth, write_masks
from medseg.evaluation.froc import DetectionResult
from medseg.evaluation.lesion_detection import LesionDetection
from medseg.evaluation.overlap import compare_masks, summarise
from medseg.evaluation.pixelwise import PixelwisePrecisionRecall
from medseg.inference import candidates
from medseg.inference.segmenter import Segmentation, Segmenter
from medseg.io.image import read_image
from medseg.io.labels import Labels
from medseg.runs.run import Run
from medseg.typing import Images
from medseg.utils.console import progress, table
from medseg.utils.files import atomic_write_text, write_json


def evaluate_holdout(
    config: Settings, run: Run, segmenter: Segmenter, cases: list[Case], ledger: CaseLog
) -> dict[str, Any] | None:
    """Segment cases, keep their masks and truth, write evaluation.csv and metrics.json; None where there is no case.

    A case that cannot be segmented fails in `ledger` and counts as an empty mask: left out, it would flatter. Labels
    that may overlap are also judged by their probability at every pixel, at the images' own size (AUPR), and by their
    pieces, found, missed or invented.
    """
    if not cases:
        write_json(
            run.file("metrics.json"),
            {"task": "segmentation", "report_split": None, "reason": "no held-out case with a mask"},
        )
        return None
    labels, tolerance = segmenter.labels, config.data.surface_tolerance_mm
    tally = ScoreAccumulator(labels, tolerance, config.candidates.min_iou)
    with progress("measure", len(cases)) as bar:
        for case in cases:
            images = {channel: read_image(path) for channel, path in case.images.items()}
            truth = read_ground_truth(case, next(iter(images.values())), labels)
            found = _segmented(case, segmenter, images, truth, ledger)
            write_masks(found.mask, run.file("predictions") / f"{case.name}.nii.gz", labels)
            write_masks(truth.mask, run.file("truth") / f"{case.name}.nii.gz", labels)
            tally.add(case, found, truth)
            bar.advance(1, case.name)
    for name, rows in {"evaluation": tally.rows, "candidates": tally.candidates}.items():
        if rows:
            atomic_write_text(run.file(f"{name}.csv"), pd.DataFrame(rows).to_csv(index=False))
    summary = {"task": "segmentation", "report_split": cases[0].split, **tally.summary()}
    write_json(run.file("metrics.json"), summary)
    _show(summary)
    return summary


def _segmented(case: Case, segmenter: Segmenter, images: Images, truth: GroundTruth, ledger: CaseLog) -> Segmentation:
    """What was found in a held-out case: nothing where the segmenter cannot say."""
    overlapping = not segmenter.labels.exclusive
    with case_errors(ledger, case.name, case.image, "could not be segmented", "it counts as an empty mask"):
        return segmenter.scored(images, keep=overlapping)
    nothing = sitk.Image(truth.mask.GetSize(), sitk.sitkUInt8)
    nothing.CopyInformation(truth.mask)
    zeros = np.zeros(sitk.GetArrayViewFromImage(nothing).shape, np.float32)
    return Segmentation(nothing, dict.fromkeys(truth.known, zeros) if overlapping else {}, None)


class ScoreAccumulator:
    """Scores of held-out cases, a case at a time; `overlap` as in `candidates.hits_of`."""

    def __init__(self, labels: Labels, tolerance_mm: float, overlap: float) -> None:
        self.labels, self.tolerance, self.overlap = labels, tolerance_mm, overlap
        self.rows: list[dict[str, Any]] = []
        self.candidates: list[dict[str, Any]] = []
        self._judged: list[dict[str, DetectionResult]] = []
        self._pixels, self._pieces = PixelwisePrecisionRecall(), LesionDetection()

    def add(self, case: Case, found: Segmentation, truth: GroundTruth) -> None:
        """Compare what was found with the truth, for labels that the case annotates."""
        facts = {"case": case.name, "patient": case.patient}
        self.rows += [facts | score for score in compare_coded(found.mask, truth, self.labels, self.tolerance)]
        self.candidates += [facts | row for row in candidates.candidate_rows(found.candidates)]
        known = {name: regions for name, regions in found.candidates.items() if name in truth.known}
        if found.grid is not None:
            self._judged.append(
                candidates.detection_results(case.patient, known, truth.mask, found.grid, (self.labels, self.overlap))
            )
        for name in set(found.probabilities) & set(truth.known):
            inside, said = (
                self.labels.layer(sitk.GetArrayViewFromImage(mask), name) for mask in (truth.mask, found.mask)
            )
            self._pixels.add(name, case.patient, found.probabilities[name], inside)
            self._pieces.add(name, case.patient, said, inside)

    def summary(self) -> dict[str, Any]:
        """What metrics.json says."""
        summary = summarise(pd.DataFrame(self.rows), self.labels.numbers, self.tolerance)
        for name, area in self._pixels.summary().items():
            summary["labels"][name]["aupr"] = area
        for name, pieces in self._pieces.summary().items():
            summary["labels"][name]["lesion_detection"] = pieces
        for name, ranking in candidates.summaries(self._judged).items():
            summary["labels"][name]["candidates"] = ranking
        return summary


def compare_coded(mask: sitk.Image, truth: GroundTruth, labels: Labels, tolerance_mm: float) -> list[dict[str, Any]]:
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
