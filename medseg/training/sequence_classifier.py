"""Train a diagnoser on measured features and compare it with a linear baseline on patients it never saw."""

from __future__ import annotations

import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any, Literal, NamedTuple

import numpy as np
import pandas as pd
import pytorch_lightning as pl
import torch

from medseg.batch import Book
from medseg.config import Config, did_you_mean, labels_of
from medseg.console import table, warn
from medseg.data.cases import Case, report_split
from medseg.data.folders import FEATURES
from medseg.diagnose import judge_forecast, told
from medseg.diagnoser import CALIBRATION, Diagnoser, Inputs, as_item, horizon_of, rule_of, to_json, withheld
from medseg.diagnosis.batch import UNKNOWN
from medseg.diagnosis.calibration import Calibration, calibrate
from medseg.diagnosis.forecast import Forecast
from medseg.diagnosis.forecast import fit as fit_forecast
from medseg.diagnosis.linear import fit as fit_linear
from medseg.diagnosis.lstm import SequenceLSTM
from medseg.diagnosis.rules import Slope
from medseg.diagnosis.signal import normalise
from medseg.encoder import encoder_of
from medseg.errors import ConfigError, DataError
from medseg.extract import Extractor, Presence, extract_cases
from medseg.features.absence import telling
from medseg.features.sequence import cohort, feature_columns
from medseg.folds import provenance_of, told_of_masks
from medseg.gate import Looks
from medseg.judging import judge_sequences
from medseg.ledger import Ledger, atomic_write_text, write_json
from medseg.masks import MaskFolder, true_masks
from medseg.plots import curves
from medseg.runs import Run
from medseg.sequence_sheets import cohort_of
from medseg.sheets import pictured
from medseg.tables import Tables, read_tables, write_tables
from medseg.train_lstm import FOLDS, Items, fit_lstm, out_of_fold, split_in_folds

PICTURES = 60  # held-out cases that the run keeps a picture of, for its report


class Measured(NamedTuple):
    """What a diagnoser learns from and is judged by. reported: the split of `held`; masks: where theirs came from."""

    ledger: Ledger
    train: Tables
    held: Tables
    inputs: Inputs
    reported: str | None
    masks: str


def measured(config: Config, run: Run, cases: list[Case], synthetic: bool) -> Measured:
    """Measure all cases; what they are read as and what they look like is kept in the run."""
    ledger = Ledger(run.file("cases.csv"))
    looks, masks = Looks(config), told_of_masks(config, cases)
    tables = tables_of(config, run, cases, ledger, looks)
    reported = report_split(cases)
    train = part(tables, [case.id for case in cases if case.split == "train"])
    held = part(tables, [case.id for case in cases if case.split == reported != "train"])
    check_labels(train.frames, held.frames, list(config.organ.classes))
    inputs = inputs_of(config, train)
    write_json(run.file("diagnoser.json"), to_json(inputs))
    write_json(run.file("fingerprint.json"), fingerprint(config, train, synthetic) | looks.summary())
    return Measured(ledger, train, held, inputs, reported, masks)


def train_diagnoser(config: Config, run: Run, cases: list[Case], synthetic: bool) -> tuple[list[str], Ledger]:
    """Fill the run folder: features, weights, history, predictions and metrics of held-out cases.

    Returns lines for the card, and what happened to each case.
    """
    ledger, train, held, inputs, reported, masks = measured(config, run, cases, synthetic)
    pl.seed_everything(config.seed, verbose=False)
    network = SequenceLSTM(inputs.task(), **config.diagnoser.network)
    items = {s.case: (s.patient, as_item(s, inputs)) for s in inputs.prepare(train)}
    folds = split_in_folds(config, items)
    seconds, steps = fit_lstm(config, run, network, items, 1 / (len(folds) + 1))
    baseline = fit_linear([item for _, item in items.values()], len(inputs.classes), **config.diagnoser.baseline)
    forecast = _forecast(config, inputs, train)
    weights = {f"lstm.{k}": v for k, v in network.state_dict().items()}
    weights |= {f"linear.{k}": torch.from_numpy(v) for k, v in baseline.arrays().items()}
    run.save_weights(weights | {f"forecast.{k}": v for k, v in (forecast.arrays() if forecast else {}).items()})
    curves(pd.read_csv(run.file("history.csv")), run.file("curves.png"))
    cohort = cohort_of(train.frames, inputs.names)
    diagnoser = Diagnoser(inputs, network, baseline, forecast, rule_of(config, inputs.names, (Slope,)), cohort)
    diagnoser.calibrations = _calibrations(config, run, diagnoser, train, items, folds)
    write_json(run.file(CALIBRATION), {name: one._asdict() for name, one in diagnoser.calibrations.items()})
    summary = _measure(config, run, diagnoser, held, reported, masks)
    shutil.rmtree(run.file(FOLDS), ignore_errors=True)
    passes = steps * config.diagnoser.batch
    taught = f"{passes} sequences in {seconds:.0f} s, {len(items)} cases. {balance(train)}"
    return [taught, "", *_results(summary)], ledger


def _calibrations(
    config: Config, run: Run, diagnoser: Diagnoser, train: Tables, items: Items, folds: list[list[str]]
) -> dict[str, Calibration]:
    """Of each model, from what it says of patients that it did not see; the rule has seen none."""
    if not folds:
        return {}
    apart = out_of_fold(config, run, diagnoser.inputs.task(), items, folds)
    said = diagnoser.said(train)
    said |= {model: np.concatenate([by_case[case] for case in items]) for model, by_case in apart.items()}
    truth = np.concatenate([item.state for _, item in items.values() if item.state is not None])
    known = truth != UNKNOWN
    settings = config.diagnoser
    return {
        name: calibrate(chances[known].astype(np.float64), truth[known], settings.alpha, settings.bias)
        for name, chances in said.items()
    }


def _forecast(config: Config, inputs: Inputs, train: Tables) -> Forecast | None:
    """Learnt from the true signals of the training sequences, each with mean 0 and standard deviation 1."""
    if not inputs.signal:
        return None
    known = [item for item in inputs.raw(train) if np.isfinite(item.signal).any()]
    settings = config.diagnoser.forecast
    traces = [(normalise(item.signal), item.times) for item in known]
    return fit_forecast(traces, horizon_of(config), settings.hidden, settings.passes, config.seed)


def tables_of(config: Config, run: Run, cases: list[Case], ledger: Ledger, looks: Looks) -> Tables:
    """features.csv of the dataset where it has one, else measured now, which `looks` sees; kept in the run."""
    root = Path(config.data.root) if config.data.root is not None else None
    if root is not None and (root / FEATURES).is_file():
        if config.data.encoder is not None:
            raise ConfigError(f"data.encoder sees images, but {root / FEATURES} is measured already; name their folder")
        tables = read_tables(root / FEATURES)
    else:
        labels = labels_of(config)
        extractor = extractor_of(config, run, cases)
        masks = true_masks(labels) if any(case.annotated for case in cases) else None
        if config.data.masks is not None and root is not None:
            masks = MaskFolder(root, Path(config.data.masks), labels)
        if masks is not None:
            side = report_split(cases)
            wanted = sorted({case.id for case in cases if case.split == side})[:PICTURES]
            masks = pictured(masks, run.file("pictures"), labels, wanted)
            masks = looks.watching(masks)
        tables = extract_cases(cases, extractor, masks, Book(ledger))
    write_tables(tables, run.file(FEATURES))
    return tables


def extractor_of(config: Config, run: Run, cases: list[Case]) -> Extractor:
    """What measures as the settings say, and which class a slice has."""
    organ, side = config.organ, report_split(cases)
    present = Presence(str(organ.present), *map(str, organ.classes)) if organ.present is not None else None
    reported = sorted({str(case.patient) for case in cases if case.split == side and side != "train"})
    encoder = encoder_of(config, run, reported)
    return Extractor(config.features, labels_of(config), config.data.time_axis, present, encoder)


def part(tables: Tables, names: list[str]) -> Tables:
    """The rows of some cases."""
    frames = tables.frames[tables.frames["case"].isin(names)]
    steps = None if tables.steps is None else tables.steps[tables.steps["case"].isin(names)]
    return Tables(frames, steps, tables.units)


def check_labels(train: pd.DataFrame, held: pd.DataFrame, classes: list[str]) -> None:
    """Raises `DataError` for a label that is no class, or where fewer than two classes are to be learnt from."""
    labels, judged = (
        frames["label"].dropna().astype(str) if "label" in frames else pd.Series(dtype=str) for frames in (train, held)
    )
    unknown = sorted({*labels, *judged} - set(classes))
    if unknown:
        both = pd.concat([train, held])
        first = both.loc[both["label"].astype(str) == unknown[0], "case"].iloc[0]
        raise DataError(
            f"{first}: label {unknown[0]!r} is not one of organ.classes {classes}{did_you_mean(unknown[0], classes)}; "
            "name them all: 'organ.classes=[…]', or the right column with data.label_column=…"
        )
    if labels.nunique() < 2:
        raise DataError(
            f"the training cases show {sorted(set(labels)) or 'no label'}; at least two of {classes} are needed"
        )
    if absent := [name for name in classes if name not in set(labels)]:
        rest = ",".join(name for name in classes if name not in absent)
        warn(f"no training case is {' or '.join(absent)}: never diagnosed; without it: 'organ.classes=[{rest}]'")


def inputs_of(config: Config, train: Tables) -> Inputs:
    """What a diagnoser will read: the measures of the training table, and their moments where they are compared."""
    settings, names = config.diagnoser, feature_columns(train.frames)
    labelled = train.frames.dropna(subset="label")
    slopes: Literal["", "central", "backward"] = ""
    if settings.slopes:
        slopes = "central" if settings.network.bidirectional else "backward"
    inputs = Inputs(
        classes=tuple(config.organ.classes),
        names=names,
        step_names=() if train.steps is None else feature_columns(train.steps),
        levels=settings.levels or _most_steps(train),
        resample=settings.levels > 0,
        slopes=slopes,
        per="frame" if config.organ.label_level == "frame" else "sequence",
        signal="signal" in train.frames and bool(train.frames["signal"].notna().any()),
        moments=None,
        telling=telling(labelled[list(names)].to_numpy(np.float64), names, labelled["label"].astype(str).to_numpy()),
    )
    if settings.normalise == "case":
        return inputs
    return replace(inputs, moments=cohort(inputs.raw(train)))


def _most_steps(train: Tables) -> int:
    """How many sectors or quadrants a frame has."""
    return 0 if train.steps is None else int(train.steps["step"].max()) + 1


def _measure(
    config: Config, run: Run, diagnoser: Diagnoser, held: Tables, reported: str | None, masks: str
) -> dict[str, Any] | None:
    """Diagnose the held-out cases as a user would; predictions.csv and metrics.json, the baseline beside."""
    if held.frames.empty or "label" not in held.frames or held.frames["label"].isna().all():
        write_json(
            run.file("metrics.json"),
            {"task": "diagnosis", "report_split": None, "reason": "no held-out case with a label"},
        )
        return None
    found = diagnoser(held, baseline=True)
    atomic_write_text(run.file("predictions.csv"), found.to_csv(index=False))
    write_json(run.file("diagnoses.json"), told(diagnoser, held, withheld(found)))
    positive = list(map(str, config.organ.positive))
    models = ["lstm", "linear", *(["rule"] if diagnoser.rule is not None else [])]
    summary = {"report_split": reported, "masks": masks, **judge_sequences(diagnoser, held, found, models, positive)}
    if diagnoser.calibrations:
        summary["alpha"] = config.diagnoser.alpha
    if diagnoser.forecast is not None:
        summary["forecast"] = judge_forecast(found, diagnoser, diagnoser.forecast.horizon)
    write_json(run.file("metrics.json"), summary)
    for model, names in summary["never_predicted"].items():
        if names:
            warn(f"{model} never predicts {', '.join(names)}")
    scores = summary["models"]
    table(
        f"{reported}: {summary['n_cases']} cases, {summary['n_patients']} patients, {summary['n_frames']} frames",
        ["score", *models],
        [[key, *(scores[model][key]["mean"] for model in models)] for key in scores["lstm"]],
    )
    return summary


def fingerprint(config: Config, train: Tables, synthetic: bool) -> dict[str, Any]:
    """What the model was trained on, in numbers, and whether its masks were made out of fold."""
    return {
        "synthetic": synthetic,
        "cases": int(train.frames["case"].nunique()),
        "patients": int(train.frames["patient"].nunique()) if "patient" in train.frames else None,
        "frames": len(train.frames),
        "labels": {str(k): int(v) for k, v in train.frames["label"].value_counts().items()},
        "measures": cohort_of(train.frames, feature_columns(train.frames)),
        "masks": provenance_of(Path(config.data.masks)) if config.data.masks is not None else None,
    }


def balance(train: Tables) -> str:
    """How many rows of each class taught, and how much each class counts: for the card."""
    counts = train.frames["label"].value_counts()
    taught = ", ".join(f"{count} {name}" for name, count in counts.items())
    return f"Taught by {taught}; each class has the same weight in the loss, however rare it is."


def _results(summary: dict[str, Any] | None) -> list[str]:
    if summary is None:
        return ["Not measured: no held-out case with a label."]
    models = summary["models"]
    lines = [
        f"Measured on split `{summary['report_split']}`: {summary['n_cases']} cases, {summary['n_patients']} patients.",
        f"Masks: {summary['masks']}.",
        "",
        f"| score | {' | '.join(models)} |",
        f"|---|{'---|' * len(models)}",
    ]
    for key in models["lstm"]:
        means = [models[model][key]["mean"] for model in models]
        lines.append(f"| {key} | {' | '.join('–' if mean is None else f'{mean:.3f}' for mean in means)} |")
    return lines
