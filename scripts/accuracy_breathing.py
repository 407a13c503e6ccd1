"""The part of docs/ACCURACY.md that tells of inhale and exhale, from the runs of scripts/lung_accuracy.sh."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
from accuracy_page import done

BREATHS = "Inhale or exhale (accuracy a frame; `scripts/lung_accuracy.sh`)"
CALIBRATED = {
    "nll_before": "NLL before calibration", "nll": "NLL", "ece_before": "calibration error before",
    "ece": "calibration error",
    "set_coverage": "sets that hold the truth (.90 promised)", "set_abstains": "sets of both",
}  # fmt: skip

NOTE = (
    "Frames of two or three patients calibrate: what is promised of frames holds for a new patient as far as that one "
    "breathes like those. A fold's model has learnt from one or two and errs more than the final one, so the "
    "calibration makes that less sure than it could be, and sets hold more than promised."
)


def breathing(data: Path, out: Path) -> bool:
    """Inhale and exhale on simulated 4DCT, cine MRI and a real 4DCT."""
    script = Path(__file__).with_name("lung_accuracy.sh")
    made = (out / "tcia" / "diagnosis_metrics.json").is_file()
    return made or done(["bash", str(script), str(data), str(out)])


def breaths(out: Path) -> list[str]:
    """The lines of inhale and exhale; nothing where no run is there."""
    subjects = [out / f"run_{name}" for name in ("eth_sl14", "ovgu_KS81", "ovgu_QN76")]
    rows, honest = [], []
    for name, own, stacked in (
        ("simulated 4DCT, unseen patients and traces", [out / "breathing" / "metrics.json"],
         [out / "breathing_stack" / "metrics.json"]),
        ("cine MRI, leave one subject out", [run / "metrics.json" for run in subjects],
         [run.with_name(f"{run.name}_stack") / "metrics.json" for run in subjects]),
        ("4DCT of a tumour region, by the model of cine MRI", [out / "tcia" / "diagnosis_metrics.json"],
         [out / "tcia" / "stack_metrics.json"]),
    ):  # fmt: skip
        lstm, others = models_of(own), models_of(stacked)
        cells = [accuracies(lstm, model) for model in ("lstm", "linear", "rule")]
        cells += [accuracies(others, model) for model in ("logistic", "ensemble", "stack")]
        rows += ["| " + " | ".join([name, *cells]) + " |"] if lstm else []
        judged = [[one["lstm"][key]["mean"] for key in CALIBRATED] for one in lstm if "nll_before" in one["lstm"]]
        honest += ["| " + " | ".join([name, *(f"{v:.3f}" for v in np.mean(judged, axis=0))]) + " |"] if judged else []
    head = ["frames of", "LSTM", "linear baseline", "slope of the volume", "logistic regression", "ensemble", "stack"]
    lines = [f"## {BREATHS}", "", *table_of(head, rows)]
    lines += [
        "In brackets the lowest and highest subject. The slope needs masks of the lungs, which films do not have."
    ]
    lines += ["Logistic regression, ensemble and stack: `classifier=stacking_frames`.", ""]
    if honest:
        lines += table_of(["the LSTM on", *CALIBRATED.values()], honest)
        lines += [NOTE, ""]
    return lines if rows else []


def table_of(head: list[str], rows: list[str]) -> list[str]:
    """A table and a blank line."""
    return ["| " + " | ".join(head) + " |", "|---" * len(head) + "|", *rows, ""]


def models_of(files: list[Path]) -> list[dict[str, Any]]:
    """Scores by model of the runs there are."""
    return [json.loads(file.read_text())["models"] for file in files if file.is_file()]


def accuracies(runs: list[dict[str, Any]], model: str) -> str:
    """Mean accuracy of some runs, with the lowest and the highest."""
    values = [one[model]["accuracy"]["mean"] for one in runs if model in one]
    spread = f" ({min(values):.3f}–{max(values):.3f})" if len(values) > 1 else ""
    return f"{np.mean(values):.3f}{spread}" if values else "–"
