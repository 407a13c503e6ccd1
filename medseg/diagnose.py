"""Diagnose with a trained model: from images, images and masks, or a table of features."""

from __future__ import annotations

import json
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import SimpleITK as sitk

from medseg.bootstrap import estimate
from medseg.classifier import Classifier, load_classifier
from medseg.config import Config, labels_of, load
from medseg.console import say, table
from medseg.data.cases import Case
from medseg.data.folders import read_cases
from medseg.data.image import read_image
from medseg.data.labels import Labels
from medseg.diagnoser import Diagnoser, Inputs, require_diagnosis
from medseg.diagnosis.forecast import Horizon
from medseg.diagnosis.signal import describe, normalise, period
from medseg.doubts import Doubts
from medseg.encoder import encoder_kept
from medseg.errors import ConfigError
from medseg.executor import use_threads
from medseg.extract import (
    Extractor,
    MaskOf,
    Tables,
    beside,
    extract_cases,
    masks_from,
    read_tables,
    true_masks,
    write_tables,
)
from medseg.gate import Gate
from medseg.ledger import Entry, Ledger, atomic_write_text, write_json
from medseg.metrics import nrmse, summarise_states
from medseg.panel import opened
from medseg.runs import Run
from medseg.segment import warn_synthetic
from medseg.segmenter import Segmenter
from medseg.sheets import diagnoses, pictured

SHOWN = 50  # cases printed


def open_diagnoser(run: Run, config: Config) -> Diagnoser | Classifier:
    """What a finished run diagnoses with."""
    with run.reading():
        if "use" not in config.diagnoser:
            return Diagnoser.from_run(run)
        require_diagnosis(run, config)
        return load_classifier(run, config, Inputs.read(run.read_json("diagnoser.json")))


@dataclass(frozen=True)
class Request:
    """What to diagnose, and where the masks come from."""

    source: Path
    out: Path
    masks: Path | None = None
    segmenter: Run | None = None
    pattern: str | None = None
    strict: bool = False  # an image that a quality gate doubts fails


def diagnose_folder(request: Request, run: Run) -> Ledger:
    """The command. OUT.csv: a row a frame or case; OUT.json: all that is said of each; OUT_cases.csv: the ledger.

    Where images are measured also OUT_features.csv, and in OUT_pictures/ each case with its mask's outlines. A case
    whose image failed the quality gate, whose mask is empty or whose measures are undefined gets status review.
    """
    with run.reading():
        config = load(run.file("config.yaml"))
        use_threads(config.executor.threads)
        gate = Gate.of_run(run, config).of(str(config.organ.channels[0]))
    diagnoser = open_diagnoser(run, config)
    warn_synthetic(run, request.source)
    ledger = Ledger(beside(request.out, "_cases.csv"))
    doubts = Doubts(gate, strict=request.strict)
    if request.source.suffix.lower() == ".csv":
        tables = read_tables(request.source)
        for case in tables.frames["case"].unique():
            ledger.add(Entry(str(case), "ok", input=str(request.source)))
    else:
        tables = _measured(request, (config, run), ledger, doubts)
        write_tables(tables, beside(request.out, "_features.csv"))
    started = time.monotonic()
    found = diagnoser(tables)
    said = found["review"] if "review" in found else [""] * len(found)
    reasons = [(doubts.reasons.get(str(case), ""), text) for case, text in zip(found["case"], said, strict=True)]
    found["review"] = ["; ".join(filter(None, both)) for both in reasons]
    ledger.review(dict(zip(found["case"], found["review"], strict=True)))
    unknown = [name for name in ("label", "signal", "time") if found[name].isna().all()]
    atomic_write_text(request.out, found.drop(columns=unknown).to_csv(index=False))
    write_json(request.out.with_suffix(".json"), {"model": run.named.resolve().name, **_told(diagnoser, tables, found)})
    if "signal_predicted" in found and "time" not in unknown:
        atomic_write_text(beside(request.out, "_signal.csv"), describe_signals(found).to_csv(index=False))
    say(f"{len(found)} rows in {request.out} ({time.monotonic() - started:.1f} s)")
    _show(found, diagnoser.inputs.classes)
    if "label" not in unknown:
        _judge(request, found, diagnoser.inputs.classes)
    return ledger


def _told(diagnoser: Diagnoser | Classifier, tables: Tables, found: pd.DataFrame) -> dict[str, Any]:
    """The content of OUT.json."""
    if isinstance(diagnoser, Classifier):
        return diagnoses(diagnoser, tables, found)
    rows = json.loads(found.to_json(orient="records", double_precision=15))
    return {"classes": list(diagnoser.inputs.classes), "use": "lstm", "cases": rows}


def _judge(request: Request, found: pd.DataFrame, classes: Sequence[str]) -> None:
    """OUT_metrics.json, where the labels are known."""
    summary = score(found, classes, ["lstm"])
    write_json(beside(request.out, "_metrics.json"), summary)
    scores = summary["models"]["lstm"]
    table("against the labels given", ["score", "mean"], [[key, value["mean"]] for key, value in scores.items()])


def score(found: pd.DataFrame, classes: Sequence[str], models: Sequence[str]) -> dict[str, Any]:
    """metrics.json of diagnoses whose labels are known; signals are compared with mean 0 and SD 1 in each case."""
    truth = found["signal"].astype(float)
    if truth.notna().any():
        truth = truth.groupby(found["case"], sort=False).transform(lambda s: normalise(s.to_numpy(dtype=np.float64)))
    return summarise_states(found.assign(signal=truth), classes, models, period)


def judge_forecast(found: pd.DataFrame, horizon: Horizon) -> dict[str, Any]:
    """nRMSE of each forecast against the true signal so much later, a mean over cases; guessing the mean gives 1."""
    errors: dict[str, list[float]] = {"lstm": [], "linear": [], "hold": []}
    patients = []
    for _, part in found.groupby("case", sort=False):
        signal, times = (part[name].to_numpy(dtype=np.float64) for name in ("signal", "time"))
        patients.append(part["patient"].iloc[0])
        later = horizon.targets(normalise(signal), times) if np.isfinite(signal).any() else np.full(len(part), np.nan)
        for name, values in errors.items():
            said = part["signal_ahead" if name == "lstm" else f"signal_ahead_{name}"].to_numpy(dtype=np.float64)
            both = np.isfinite(said) & np.isfinite(later)
            values.append(nrmse(later[both], said[both]) if both.sum() > 1 else np.nan)
    why = "no sequence with times that is longer than the past that is read"
    return {"ahead_s": horizon.ahead, **{name: estimate(values, patients, why) for name, values in errors.items()}}


def describe_signals(found: pd.DataFrame) -> pd.DataFrame:
    """A row a case with a predicted signal and times: period, breaths, amplitude, irregularity."""
    rows = []
    for case, part in found.groupby("case", sort=False):
        signal, times = (part[name].to_numpy(dtype=np.float64) for name in ("signal_predicted", "time"))
        rows.append({"case": case, **describe(signal, times)})
    return pd.DataFrame(rows)


def _measured(request: Request, model: tuple[Config, Run], ledger: Ledger, doubts: Doubts) -> Tables:
    config, run = model
    cases = read_cases(request.source, list(config.organ.channels), pattern=request.pattern)
    labels = labels_of(config)
    extractor = Extractor(config.features, labels, config.data.time_axis, encoder=encoder_kept(config, run))
    masks = None
    if extractor.needs_masks:
        folder, wanted = beside(request.out, "_pictures"), {case.id for case in cases}
        masks = pictured(doubts.watching(_mask_source(request, cases, labels, doubts)), folder, labels, wanted)
    return extract_cases(cases, extractor, masks, ledger)


def _mask_source(request: Request, cases: list[Case], labels: Labels, doubts: Doubts) -> MaskOf:
    if request.masks is not None:
        return masks_from(request.source, request.masks, labels)
    if request.segmenter is not None:
        warn_synthetic(request.segmenter, request.source)
        segmenter = opened(request.segmenter, "auto")
        doubts.checks.append(segmenter.gate.of(segmenter.channels[0]))
        return segmented_by(segmenter)
    if any(case.annotated for case in cases):
        say("using the masks that the dataset names")
        return true_masks(labels)
    raise ConfigError("this model measures inside masks: give --masks FOLDER, or --segmenter RUN to make them")


def segmented_by(segmenter: Segmenter) -> MaskOf:
    """Masks made on the way by a segmentation model."""

    def make(case: Case, image: sitk.Image) -> sitk.Image:
        first, *rest = segmenter.channels
        # the diagnoser's only channel is the segmenter's, whatever it is called there
        others = {channel: read_image(case.images[channel]) for channel in rest if channel in case.images}
        return segmenter({first: image, **others})

    return make


def _show(found: pd.DataFrame, classes: tuple[str, ...]) -> None:
    """A line a case: its diagnosis and why; of sequences how many frames of each class, and how sure."""
    if found["case"].is_unique and "set" in found:
        columns = ["case", "predicted", "probability", "set", "why", "review"]
        rows = [list(row) for row in found[columns].itertuples(index=False)]
        title = ["case", "diagnosis", "probability", "set", "why", "review"]
    else:
        title, rows = ["case", "rows", *classes, "mean probability", "review"], []
        for case, part in found.groupby("case", sort=False):
            counts = part["predicted"].value_counts()
            each = [int(counts.get(name, 0)) for name in classes]
            rows.append([case, len(part), *each, float(part["probability"].mean()), _once(part["review"])])
    table("diagnosis", title, rows[:SHOWN])
    if len(rows) > SHOWN:
        say(f"… and {len(rows) - SHOWN} more cases")


def _once(reasons: pd.Series[str]) -> str:
    return "; ".join(dict.fromkeys(filter(None, reasons)))
