"""Segmentation metrics: overlap and surface distance of masks, with intervals by patient; missed structures score 0.

A missed structure counts 0 (Dice, IoU, NSD) or the image diagonal (HD95); empty against empty is listed apart;
what was not computed is None (null in JSON) and has a reason.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import pandas as pd
import SimpleITK as sitk

from medseg.errors import ImageError
from medseg.evaluation.bootstrap import mean_with_ci
from medseg.evaluation.surface_distance import surface_scores
from medseg.typing import BoolArray

SCORES = ("dice", "iou", "hd95_mm", "nsd")


def dice(pred: BoolArray, truth: BoolArray) -> float:
    """Dice 2|A∩B|/(|A|+|B|) of two masks of one shape; NaN where both are empty."""
    total = int(pred.sum()) + int(truth.sum())
    return 2 * int((pred & truth).sum()) / total if total else float("nan")


def iou(pred: BoolArray, truth: BoolArray) -> float:
    """Intersection over union (Jaccard) of two masks of one shape; NaN where both are empty."""
    union = int((pred | truth).sum())
    return int((pred & truth).sum()) / union if union else float("nan")


def compare_masks(
    pred: sitk.Image, truth: sitk.Image, labels: Mapping[str, int], tolerance_mm: float
) -> list[dict[str, Any]]:
    """One evaluation row per label: label, status, dice, iou, hd95_mm, nsd, volume_ml, volume_truth_ml.

    `pred` and `truth` are label images on one grid, 2D or 3D (the caller checks the grid; only the size is checked
    here). Status: ok, missed (truth only), false_positive (prediction only), empty_both (scores None).
    Volumes in mL; None for a 2D image. Raises ImageError where the sizes differ or a mask is 4D.
    """
    if pred.GetSize() != truth.GetSize() or truth.GetDimension() not in (2, 3):
        raise ImageError(
            f"a prediction of size {pred.GetSize()} cannot be compared with ground truth of size {truth.GetSize()}: "
            "masks are compared on one 2D or 3D grid; resample one onto the other, split 4D into frames",
            code="image-geometry",
        )
    pred_array, truth_array = sitk.GetArrayViewFromImage(pred), sitk.GetArrayViewFromImage(truth)
    spacing = truth.GetSpacing()[::-1]
    voxel_ml = float(np.prod(spacing)) / 1000 if truth.GetDimension() == 3 else None
    rows = []
    for name, value in labels.items():
        predicted, present = pred_array == value, truth_array == value
        status = _status(bool(predicted.any()), bool(present.any()))
        scores: list[float | None] = [None] * len(SCORES)
        if status != "empty_both":
            scores = [
                dice(predicted, present),
                iou(predicted, present),
                *surface_scores(predicted, present, spacing, tolerance_mm),
            ]
        volumes = [None if voxel_ml is None else float(mask.sum()) * voxel_ml for mask in (predicted, present)]
        rows.append(
            {"label": name, "status": status, **dict(zip(SCORES, scores, strict=True))}
            | {"volume_ml": volumes[0], "volume_truth_ml": volumes[1]}
        )
    return rows


def _status(predicted: bool, present: bool) -> str:
    if predicted and present:
        return "ok"
    return "missed" if present else "false_positive" if predicted else "empty_both"


NEVER_PRESENT = "in no case's ground truth"


def summarise(rows: pd.DataFrame, labels: Mapping[str, int], tolerance_mm: float) -> dict[str, Any]:
    """The metrics.json of a segmentation from evaluation rows (case, patient, label, status, scores), less its split.

    Per label and, as "macro", the mean over the foreground labels of their means; intervals by patient.
    empty_both rows are counted, never scored. "never_predicted" names labels in the ground truth that no
    case predicts.
    """
    status = rows.pivot(index="case", columns="label", values="status").reindex(columns=list(labels))
    patients = rows.groupby("case")["patient"].first().reindex(status.index)
    tables = {
        score: rows.pivot(index="case", columns="label", values=score).reindex(columns=list(labels)).astype(float)
        for score in SCORES
    }
    empty = "empty in prediction and ground truth of every case"
    per_label: dict[str, Any] = {}
    for name in labels:
        per_label[name] = {score: mean_with_ci(tables[score][name], patients, empty) for score in SCORES}
        present = status[name].isin(["ok", "missed"])  # in the ground truth: empty images do not count
        per_label[name]["dice_where_present"] = mean_with_ci(
            tables["dice"][name].where(present), patients, NEVER_PRESENT
        )
        per_label[name]["iou_where_present"] = mean_with_ci(tables["iou"][name].where(present), patients, NEVER_PRESENT)
        per_label[name] |= {key: int((status[name] == key).sum()) for key in ("missed", "false_positive", "empty_both")}
    return {
        "task": "segmentation",
        "n_cases": len(status),
        "n_patients": int(patients.nunique()),
        "nsd_tolerance_mm": tolerance_mm,
        "labels": per_label,
        "macro": {score: mean_with_ci(tables[score], patients, empty) for score in SCORES},
        "never_predicted": [
            name
            for name in labels
            if "missed" in set(status[name]) and not status[name].isin(["ok", "false_positive"]).any()
        ],
    }
