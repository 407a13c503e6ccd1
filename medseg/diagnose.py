"""Diagnose with a trained model: from images, images and masks, or a table of features."""

from __future__ import annotations

import json
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pandas as pd
import SimpleITK as sitk

from medseg.config import Config, load
from medseg.console import say, table
from medseg.data.cases import Case
from medseg.data.folders import read_cases
from medseg.data.truth import own_mask
from medseg.diagnosis.batch import UNKNOWN, Item
from medseg.diagnosis.linear import LinearBaseline, from_arrays
from medseg.diagnosis.lstm import Prediction, SequenceLSTM, Task
from medseg.diagnosis.signal import normalise, period
from medseg.errors import ConfigError
from medseg.executor import use_threads
from medseg.extract import Extractor, MaskOf, Tables, beside, extract_cases, masks_from, read_tables
from medseg.features.sequence import (
    FeatureSequence,
    Normalisation,
    add_slopes,
    normalise_case,
    normalise_cohort,
    select,
    sequences,
)
from medseg.ledger import Entry, Ledger, atomic_write_text, write_json
from medseg.metrics import summarise_states
from medseg.runs import Run
from medseg.segment import warn_synthetic
from medseg.segmenter import Segmenter


@dataclass(frozen=True)
class Inputs:
    """What a diagnoser reads: features by name, as they were in training; kept as diagnoser.json in the run."""

    classes: tuple[str, ...]
    names: tuple[str, ...]
    step_names: tuple[str, ...]
    levels: int
    slopes: Literal["", "central", "backward"]
    per: Literal["frame", "sequence"]
    signal: bool
    moments: Normalisation | None  # None: each case is its own reference

    def prepare(self, tables: Tables) -> list[FeatureSequence]:
        """Normalised sequences with these features; `DataError` names features that are missing."""
        ready = []
        for sequence in sequences(tables.frames, tables.steps if self.step_names else None, self.levels):
            chosen = select(sequence, self.names, self.step_names)
            if self.slopes:
                chosen = add_slopes(chosen, self.slopes)
            ready.append(normalise_cohort(chosen, self.moments) if self.moments else normalise_case(chosen))
        return ready

    def task(self) -> Task:
        """Sizes of the network."""
        width = len(self.names) * (2 if self.slopes else 1)
        return Task(width, len(self.classes), len(self.step_names), self.per, self.signal)

    @classmethod
    def read(cls, content: dict[str, Any]) -> Inputs:
        """From diagnoser.json."""
        moments = content["moments"] and Normalisation(**{k: tuple(v) for k, v in content["moments"].items()})
        tuples = {name: tuple(content[name]) for name in ("classes", "names", "step_names")}
        return cls(**(content | tuples | {"moments": moments}))


class Diagnoser:
    """A trained LSTM and the linear baseline beside it, with how their inputs are made."""

    def __init__(self, inputs: Inputs, network: SequenceLSTM, baseline: LinearBaseline | None) -> None:
        self.inputs, self.network, self.baseline = inputs, network, baseline

    @classmethod
    def from_run(cls, run: Run) -> Diagnoser:
        """The diagnoser that a finished run holds."""
        config = load(run.file("config.yaml"))
        if config.task != "diagnosis":
            raise ConfigError(f"{run.path}: a model for task={config.task}; a diagnosis needs one of task=diagnosis")
        inputs = Inputs.read(run.read_json("diagnoser.json"))
        network = SequenceLSTM(inputs.task(), **config.diagnoser.network)
        weights = run.load_weights()
        network.load_state_dict({k.removeprefix("lstm."): v for k, v in weights.items() if k.startswith("lstm.")})
        linear = {k.removeprefix("linear."): v.numpy() for k, v in weights.items() if k.startswith("linear.")}
        return cls(inputs, network, from_arrays(linear) if linear else None)

    def __call__(self, tables: Tables, baseline: bool = False) -> pd.DataFrame:
        """A row a frame, or a case: predicted class, probabilities, signal; `baseline` adds the linear model's."""
        return pd.concat([self._one(s, baseline) for s in self.inputs.prepare(tables)], ignore_index=True)

    def _one(self, sequence: FeatureSequence, baseline: bool) -> pd.DataFrame:
        item = Item(sequence.x, sequence.steps)
        rows = len(sequence.x) if self.inputs.per == "frame" else 1
        facts: dict[str, Any] = {"case": sequence.case, "patient": sequence.patient}
        facts |= {"frame": sequence.frames[:rows].astype(int), "time": sequence.times[:rows]}
        facts |= {"label": list(sequence.labels[:rows]), "signal": sequence.signal[:rows]}
        facts |= self._columns(self.network.predict(item), "", rows)
        if baseline and self.baseline is not None:
            facts |= self._columns(self.baseline.predict(item), "_linear", rows)
        return pd.DataFrame(facts)

    def _columns(self, prediction: Prediction, end: str, rows: int) -> dict[str, Any]:
        best = prediction.probabilities.argmax(axis=1)
        columns: dict[str, Any] = {f"predicted{end}": [self.inputs.classes[k] for k in best]}
        columns[f"probability{end}"] = prediction.probabilities.max(axis=1)
        for k, name in enumerate(self.inputs.classes):
            columns[f"p_{name}{end}"] = prediction.probabilities[:, k]
        if prediction.signal is not None:
            columns["signal_predicted" if not end else f"signal{end}"] = prediction.signal[:rows]
        return columns


@dataclass(frozen=True)
class Request:
    """What to diagnose, and where the masks come from."""

    source: Path
    out: Path
    masks: Path | None = None
    segmenter: Run | None = None
    pattern: str | None = None


def diagnose_folder(request: Request, run: Run) -> Ledger:
    """The command: OUT.csv with a row a frame or case, OUT_features.csv where images were measured, OUT_cases.csv."""
    config = load(run.file("config.yaml"))
    use_threads(config.executor.threads)
    diagnoser = Diagnoser.from_run(run)
    warn_synthetic(run, request.source)
    ledger = Ledger(beside(request.out, "_cases.csv"))
    if request.source.suffix.lower() == ".csv":
        tables = read_tables(request.source)
        for case in tables.frames["case"].unique():
            ledger.add(Entry(str(case), "ok", input=str(request.source)))
    else:
        tables = _measured(request, config, ledger)
    started = time.monotonic()
    found = diagnoser(tables)
    unknown = [name for name in ("label", "signal", "time") if found[name].isna().all()]
    atomic_write_text(request.out, found.drop(columns=unknown).to_csv(index=False))
    say(f"{len(found)} rows in {request.out} ({time.monotonic() - started:.1f} s)")
    _show(found, diagnoser.inputs.classes)
    if "label" not in unknown:
        summary = score(found, diagnoser.inputs.classes, ["lstm"])
        write_json(beside(request.out, "_metrics.json"), summary)
        scores = summary["models"]["lstm"]
        table("against the labels given", ["score", "mean"], [[key, value["mean"]] for key, value in scores.items()])
    return ledger


def score(found: pd.DataFrame, classes: Sequence[str], models: Sequence[str]) -> dict[str, Any]:
    """metrics.json of diagnoses whose labels are known; signals are compared with mean 0 and SD 1 in each case."""
    truth = found.groupby("case", sort=False)["signal"].transform(lambda s: normalise(s.to_numpy(dtype=np.float64)))
    return summarise_states(found.assign(signal=truth), classes, models, period)


def _measured(request: Request, config: Config, ledger: Ledger) -> Tables:
    cases = read_cases(request.source, list(config.organ.channels), pattern=request.pattern)
    extractor = Extractor(config.features, dict(config.organ.labels), config.data.time_axis)
    masks = _mask_source(request, cases) if extractor.needs_masks else None
    return extract_cases(cases, extractor, masks, ledger)


def _mask_source(request: Request, cases: list[Case]) -> MaskOf:
    if request.masks is not None:
        return masks_from(request.source, request.masks)
    if request.segmenter is not None:
        warn_synthetic(request.segmenter, request.source)
        return segmented_by(Segmenter.from_run(request.segmenter))
    if any(case.mask for case in cases):
        say("using the masks that the dataset names")
        return own_mask
    raise ConfigError("this model measures inside masks: give --masks FOLDER, or --segmenter RUN to make them")


def segmented_by(segmenter: Segmenter) -> MaskOf:
    """Masks made on the way by a segmentation model."""

    def make(_case: Case, image: sitk.Image) -> sitk.Image:
        return segmenter({segmenter.channels[0]: image})

    return make


def _show(found: pd.DataFrame, classes: tuple[str, ...]) -> None:
    """A line a case: how many frames of each class, and how sure."""
    rows = []
    for case, part in found.groupby("case", sort=False):
        counts = part["predicted"].value_counts()
        rows.append(
            [case, len(part), *(int(counts.get(name, 0)) for name in classes), float(part["probability"].mean())]
        )
    table("diagnosis", ["case", "rows", *classes, "mean probability"], rows[:50])
    if len(rows) > 50:
        say(f"… and {len(rows) - 50} more cases")


def to_json(inputs: Inputs) -> dict[str, Any]:
    """diagnoser.json."""
    content: dict[str, Any] = json.loads(json.dumps(asdict(inputs)))
    return content


def as_item(sequence: FeatureSequence, inputs: Inputs) -> Item:
    """A training item: states as class numbers, the signal with mean 0 and standard deviation 1 in each case."""
    known = {name: number for number, name in enumerate(inputs.classes)}
    labels = sequence.labels if inputs.per == "frame" else sequence.labels[:1]
    state = np.array([UNKNOWN if label is None else known[label] for label in labels], dtype=np.int64)
    has_signal = inputs.signal and np.isfinite(sequence.signal).any()
    return Item(sequence.x, sequence.steps, state, normalise(sequence.signal) if has_signal else None)
