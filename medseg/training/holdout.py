"""Evaluate a segmenter on held-out cases, as in use."""

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
from medseg.inference.segmenter import EXPECTED_DICE, Segmentation, Segmenter
from medseg.io.image import read_image
from medseg.io.labels import Labels
from medseg.runs.run import Run
from medseg.training.expected_dice import ExpectedDice, ranking_line
from medseg.typing import Images
from medseg.utils.console import progress, say, table
from medseg.utils.files import atomic_write_text, write_json


def evaluate_holdout(
    config: Settings, run: Run, segmenter: Segmenter, cases: list[Case], log: CaseLog
) -> dict[str, Any] | None:
    """Segment cases, write their masks, reference masks, evaluation.csv, metrics.json and, of a trained model,
    expected_dice.json; None without a case.

    A case that cannot be segmented fails in `log` and counts as an empty mask: excluding it would flatter. Labels that
    may overlap are also evaluated by their probability at every pixel, at the images' own size (AUPR), and by their
    connected components: true positive, missed or false positive.
    """
    if not cases:
        write_json(
            run.file("metrics.json"),
            {"task": "segmentation", "report_split": None, "reason": "no held-out case with a mask"},
        )
        return None
    labels, tolerance = segmenter.labels, config.data.surface_tolerance_mm
    scores = ScoreAccumulator(labels, tolerance, config.candidates.min_iou)
    with progress("evaluate", len(cases)) as bar:
        for case in cases:
            images = {channel: read_image(path) for channel, path in case.images.items()}
            truth = read_ground_truth(case, next(iter(images.values())), labels)
            result = _segmented(case, segmenter, images, truth, log)
            write_masks(result.mask, run.file("predictions") / f"{case.name}.nii.gz", labels)
            write_masks(truth.mask, run.file("truth") / f"{case.name}.nii.gz", labels)
            scores.add(case, result, truth)
            bar.advance(1, case.name)
    scores.expected.write_columns()
    if calibrations := scores.expected.calibrations():
        write_json(run.file(EXPECTED_DICE), calibrations)
    for name, rows in {"evaluation": scores.rows, "candidates": scores.candidates}.items():
        if rows:
            atomic_write_text(run.file(f"{name}.csv"), pd.DataFrame(rows).to_csv(index=False))
    summary = {"task": "segmentation", "report_split": cases[0].split, **scores.summary()}
    write_json(run.file("metrics.json"), summary)
    _show(summary)
    return summary


def _segmented(case: Case, segmenter: Segmenter, images: Images, truth: GroundTruth, log: CaseLog) -> Segmentation:
    """Segment a held-out case; an empty result if that fails."""
    overlapping = not segmenter.labels.exclusive
    with case_errors(log, case.name, case.image, "could not be segmented", "it counts as an empty mask"):
        return segmenter.scored(images, keep=overlapping)
    empty = sitk.Image(truth.mask.GetSize(), sitk.sitkUInt8)
    empty.CopyInformation(truth.mask)
    zeros = np.zeros(sitk.GetArrayViewFromImage(empty).shape, np.float32)
    return Segmentation(empty, dict.fromkeys(truth.known, zeros) if overlapping else {}, None)


class ScoreAccumulator:
    """Scores of held-out cases, added case by case; `overlap`: minimum IoU of a matching candidate."""

    def __init__(self, labels: Labels, tolerance_mm: float, overlap: float) -> None:
        self.labels, self.tolerance, self.overlap = labels, tolerance_mm, overlap
        self.rows: list[dict[str, Any]] = []
        self.candidates: list[dict[str, Any]] = []
        self._detections: list[dict[str, DetectionResult]] = []
        self._pixels, self._lesions = PixelwisePrecisionRecall(), LesionDetection()
        self.expected = ExpectedDice()

    def add(self, case: Case, result: Segmentation, truth: GroundTruth) -> None:
        """Compare a segmentation with the ground truth, for labels annotated in the case."""
        facts = {"case": case.name, "patient": case.patient}
        scores = [facts | score for score in compare_coded(result.mask, truth, self.labels, self.tolerance)]
        self.expected.add(facts, result.confidence, scores)
        self.rows += scores
        self.candidates += [facts | row for row in candidates.candidate_rows(result.candidates)]
        annotated = {name: regions for name, regions in result.candidates.items() if name in truth.known}
        if result.grid is not None:
            self._detections.append(
                candidates.detection_results(
                    case.patient, annotated, truth.mask, result.grid, (self.labels, self.overlap)
                )
            )
        for name in set(result.probabilities) & set(truth.known):
            reference, predicted = (
                self.labels.layer(sitk.GetArrayViewFromImage(mask), name) for mask in (truth.mask, result.mask)
            )
            self._pixels.add(name, case.patient, result.probabilities[name], reference)
            self._lesions.add(name, case.patient, predicted, reference)

    def summary(self) -> dict[str, Any]:
        """The content of metrics.json."""
        summary = summarise(pd.DataFrame(self.rows), self.labels.numbers, self.tolerance)
        for name, area in self._pixels.summary().items():
            summary["labels"][name]["aupr"] = area
        for name, detection in self._lesions.summary().items():
            summary["labels"][name]["lesion_detection"] = detection
        for name, expected in self.expected.summary().items():
            summary["labels"][name]["expected_dice"] = expected
        for name, ranking in candidates.summaries(self._detections).items():
            summary["labels"][name]["candidates"] = ranking
        return summary


def compare_coded(mask: sitk.Image, truth: GroundTruth, labels: Labels, tolerance_mm: float) -> list[dict[str, Any]]:
    """Rows of scores for each annotated label."""
    numbers = {name: labels.numbers[name] for name in truth.known}
    if labels.exclusive:
        return compare_masks(mask, truth.mask, numbers, tolerance_mm)
    masks, references = labels.split(mask), labels.split(truth.mask)
    rows: list[dict[str, Any]] = []
    for name in numbers:
        rows += compare_masks(masks[name], references[name], {name: 1}, tolerance_mm)
    return rows


def _show(summary: dict[str, Any]) -> None:
    has_aupr = any("aupr" in score for score in summary["labels"].values())
    rows = []
    for name, score in summary["labels"].items():
        row = [name, score["dice"]["mean"], interval(score["dice"]), score["iou"]["mean"], score["hd95_mm"]["mean"]]
        rows.append([*row, score.get("aupr", {}).get("mean")] if has_aupr else row)
    table(
        f"Dice on {summary['report_split']} ({summary['n_cases']} cases, {summary['n_patients']} patients)",
        ["label", "mean", "95 % CI", "IoU", "HD95 mm", *(["AUPR"] if has_aupr else [])],
        rows,
    )
    if line := ranking_line(summary):
        say(line)


def interval(score: dict[str, Any]) -> str:
    """``0.812–0.907``, or a dash."""
    return "–" if score.get("ci95") is None else "{:.3f}–{:.3f}".format(*score["ci95"])


def results(summary: dict[str, Any] | None) -> list[str]:
    """Lines of the model card."""
    if summary is None:
        return ["Not evaluated: no held-out case with a mask."]
    lines = [
        f"Evaluated on split `{summary['report_split']}`: {summary['n_cases']} cases, {summary['n_patients']} "
        "patients.",
        "",
    ]
    lines += ["| label | Dice | 95 % CI | missed |", "|---|---|---|---|"]
    for name, score in summary["labels"].items():
        mean = score["dice"]["mean"]
        lines.append(
            f"| {name} | {'–' if mean is None else f'{mean:.3f}'} | {interval(score['dice'])} | {score['missed']} |"
        )
    if line := ranking_line(summary):
        lines += ["", line]
    return lines
