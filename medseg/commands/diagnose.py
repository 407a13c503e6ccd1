"""Diagnose with a trained model: from images, images and masks, or a table of features."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
import SimpleITK as sitk

from medseg.batch.case_log import CaseLog
from medseg.batch.entry import Entry
from medseg.batch.resume import hash_content, settings_key
from medseg.batch.runner import DEFAULT_OPTIONS, BatchOptions, open_case_log
from medseg.config.load import get_labels, load
from medseg.config.settings import Settings
from medseg.data.cases import Case
from medseg.data.masks import MaskFolder, MaskOf, ground_truth_masks
from medseg.data.readers import read_cases
from medseg.diagnosis.respiratory_signal import describe
from medseg.errors import ConfigError
from medseg.evaluation.predictions import SEPARATOR, Predictions, to_table
from medseg.features.tables import BESIDE, Tables, read_tables, write_tables
from medseg.inference.diagnosis_scores import evaluate_predictions
from medseg.inference.encoder import encoder_kept
from medseg.inference.extractor import ExtractionContext, Extractor, extract_cases
from medseg.inference.multi_model import load_segmenter
from medseg.inference.open_classifier import open_classifier
from medseg.inference.quality_gate import Check, QualityGate
from medseg.inference.review import ReviewReasons
from medseg.inference.segmenter import Segmenter
from medseg.inference.sequence_results import mean_known
from medseg.io.image import read_image
from medseg.io.labels import Labels
from medseg.reports.overlays import OverlayFolder
from medseg.runs.run import ENCODER, Run
from medseg.runs.synthetic import warn_synthetic
from medseg.utils.console import say, table, warn
from medseg.utils.devices import set_num_threads
from medseg.utils.files import atomic_write_text, sibling_path, write_json
from medseg.utils.json import join_distinct

SHOWN = 50  # cases printed
MEASURED = ("_features.csv", *(f"_features{ending}" for ending in BESIDE))
WRITTEN = (".json", "_signal.csv", "_metrics.json", *MEASURED)  # beside OUT.csv


@dataclass(frozen=True)
class DiagnoseRequest:
    """What to diagnose, and where the masks come from."""

    source: Path
    out: Path
    masks: Path | None = None
    segmenter: Run | None = None
    pattern: str | None = None
    ways: BatchOptions = DEFAULT_OPTIONS
    fail_on_quality: bool = False  # an image that a quality gate doubts fails


def diagnose_folder(request: DiagnoseRequest, run: Run) -> CaseLog:
    """The command. OUT.csv: a row a frame or case; OUT.json: all that is said of each; OUT_cases.csv: the ledger.

    Where images are measured also OUT_features.csv, and in OUT_pictures/ each case, with its mask's outlines where it
    has one. A case whose image failed the quality gate, whose mask is empty or whose measures are undefined gets status
    review; of the last nothing else is said. Cases whose images, masks, models and version are as in an earlier run are
    not measured again.
    """
    with run.reading():
        config = load(run.file("config.yaml"))
        set_num_threads(config.compute.num_threads)
        gate = QualityGate.of_run(run, config).of(str(config.organ.channels[0]))
    if request.out.resolve() == request.source.resolve():
        raise ConfigError(f"{request.out}: the diagnoses would be written over what is read; choose another OUT.csv")
    classifier = open_classifier(run, config)
    warn_synthetic(run, request.source)
    given = _given(request, config)
    names = [case.id for case in given] if isinstance(given, list) else list(given.frames["case"].unique())
    measure, review = _measuring(request, (config, run), given, gate)
    with open_case_log(request.out, names, _key(request, config, run), request.ways, (".csv", *WRITTEN)) as log:
        tables = measure(log)
        if isinstance(given, list):
            write_tables(tables, sibling_path(request.out, "_features.csv"))
        predictions = classifier.predict(tables).with_review(review.reasons)
        if not isinstance(given, list):
            _enter(request.source, given, to_table(predictions.withheld()), log)
        log.review({case: join_distinct(part.review) for case, part in predictions.by_case()})
        _write(request.out, predictions.withheld())
        _evaluate(request.out, predictions, config)
        lost = [entry for entry in log.entries if entry.status in ("failed", "skipped")]
        facts = {
            "model": run.named.resolve().name,
            "synthetic": run.synthetic,
            "not_diagnosed": [{"case": entry.case, "why": entry.message} for entry in lost],
        }
        write_json(request.out.with_suffix(".json"), {**facts, **classifier.to_records(tables, predictions)})
    return log


def _given(request: DiagnoseRequest, config: Settings) -> list[Case] | Tables:
    """Cases whose images are to be measured, or what was measured already."""
    if request.source.suffix.lower() == ".csv":
        return read_tables(request.source)
    return read_cases(request.source, list(config.organ.channels), pattern=request.pattern)


def _key(request: DiagnoseRequest, config: Settings, run: Run) -> str:
    """Digest of all models that a case goes through."""
    runs = [run, *([request.segmenter] if request.segmenter else [])]
    if config.data.encoder is not None:
        runs.append(Run(run.file(ENCODER)))
    return settings_key(runs, {"given_masks": request.masks is not None, "fail_on_quality": request.fail_on_quality})


def _enter(source: Path, tables: Tables, found: pd.DataFrame, log: CaseLog) -> None:
    """A line in the ledger for each case of a table, with hashes of what it says of the case and of what is answered.

    The table is read again each time: there is nothing to be saved.
    """
    answers = dict(iter(found.groupby("case", sort=False)))
    steps = dict(iter(tables.steps.groupby("case", sort=False))) if tables.steps is not None else {}
    for name, part in tables.frames.groupby("case", sort=False):
        given = [part.to_csv(index=False), steps[name].to_csv(index=False) if name in steps else ""]
        read, made = hash_content([], given), hash_content([], answers[name].to_csv(index=False))
        log.add(Entry(str(name), "ok", input=str(source), input_hash=read, key=log.key, output_hash=made))


def _write(out: Path, predictions: Predictions) -> None:
    """OUT.csv, what follows from it, and the screen; what an earlier run wrote and this one has not is removed."""
    table = to_table(predictions)
    unknown = [name for name in ("label", "signal", "time") if table[name].isna().all()]
    atomic_write_text(out, table.drop(columns=unknown).to_csv(index=False))
    if predictions.final.signal is not None and "time" not in unknown:
        atomic_write_text(sibling_path(out, "_signal.csv"), describe_signals(predictions).to_csv(index=False))
    else:
        sibling_path(out, "_signal.csv").unlink(missing_ok=True)
    say(f"{len(table)} rows in {out}")
    _show(predictions)


def _evaluate(out: Path, predictions: Predictions, config: Settings) -> None:
    """OUT_metrics.json, where labels are known; an earlier run's goes where they are not."""
    labels, classes = predictions.facts["label"], predictions.classes
    if strange := sorted(set(labels.dropna().astype(str)) - set(classes)):
        warn(f"labels that the model does not know are not judged: {', '.join(strange)}; it knows {', '.join(classes)}")
        predictions = predictions.with_known_labels()
    if predictions.facts["label"].isna().all():
        sibling_path(out, "_metrics.json").unlink(missing_ok=True)
        return
    summary = evaluate_predictions(predictions, list(map(str, config.organ.positive_classes)))
    write_json(sibling_path(out, "_metrics.json"), summary)
    scores = summary["models"][predictions.final_model]
    means = [[key, value["mean"]] for key, value in scores.items() if isinstance(value, dict)]
    table("against the labels given", ["score", "mean"], means)


def describe_signals(predictions: Predictions) -> pd.DataFrame:
    """A row a case with a predicted signal and times: period, breaths, amplitude, irregularity."""
    rows = []
    for case, part in predictions.by_case():
        signal, times = np.asarray(part.final.signal, np.float64), part.facts["time"].to_numpy(dtype=np.float64)
        rows.append({"case": case, **describe(signal, times)})
    return pd.DataFrame(rows)


class MaskSource(NamedTuple):
    """Where masks come from, the files that are read for one, and what else judges the images then."""

    masks: MaskOf | None
    reads: Callable[[Case], list[Path]]
    checks: tuple[Check, ...] = ()


def _measuring(
    request: DiagnoseRequest, model: tuple[Settings, Run], given: list[Case] | Tables, gate: Check
) -> tuple[Callable[[CaseLog], Tables], ReviewReasons]:
    """What measures the cases, or has their measures, and what it will note of the images; `ConfigError` where masks
    are needed and none are named.
    """
    if not isinstance(given, list):
        return lambda _: given, ReviewReasons()
    config, run = model
    labels = get_labels(config)
    extractor = Extractor(config.features, labels, config.data.time_axis, encoder=encoder_kept(config, run))
    source = _mask_source(request, given, labels) if extractor.needs_masks else MaskSource(None, _nothing)
    review = ReviewReasons(gate, *source.checks, strict=request.fail_on_quality)
    overlays = OverlayFolder(sibling_path(request.out, "_pictures"), labels, config.data.time_axis)
    context = ExtractionContext(source.reads, review, overlays=overlays)
    return partial(extract_cases, given, extractor, source.masks, around=context), review


def _mask_source(request: DiagnoseRequest, cases: list[Case], labels: Labels) -> MaskSource:
    """The masks that are given, made on the way, or named by the dataset."""
    if request.masks is not None:
        folder = MaskFolder(request.source, request.masks, labels)
        return MaskSource(folder, folder.files)
    if request.segmenter is not None:
        warn_synthetic(request.segmenter, request.source)
        segmenter = load_segmenter(request.segmenter, "auto")
        return MaskSource(segment_with(segmenter), _nothing, (segmenter.gate.of(segmenter.channels[0]),))
    if any(case.annotated for case in cases):
        say("using the masks that the dataset names")
        return MaskSource(ground_truth_masks(labels), Case.truth_files)
    raise ConfigError(
        "this model measures inside masks: give their folder, or a segmentation model that makes them",
        hint="masks=FOLDER segmenter=RUN",
    )


def _nothing(_: Case) -> list[Path]:
    return []


def segment_with(segmenter: Segmenter) -> MaskOf:
    """Masks made on the way by a segmentation model."""

    def make(case: Case, image: sitk.Image) -> sitk.Image:
        first, *rest = segmenter.channels
        # the diagnoser's only channel is the segmenter's, whatever it is called there
        others = {channel: read_image(case.images[channel]) for channel in rest if channel in case.images}
        return segmenter({first: image, **others})

    return make


def _show(predictions: Predictions) -> None:
    """A line a case: its diagnosis and why; of sequences how many frames of each class, and how sure."""
    if predictions.facts["case"].is_unique and predictions.explanations is not None:
        title = ["case", "diagnosis", "probability", "prediction set", "explanation", "review"]
        rows = _case_lines(predictions)
    else:
        undecided = [] if predictions.final.abstains is None else ["of them undecided"]
        title = ["case", "rows", *predictions.classes, *undecided, "mean probability", "review"]
        rows = [_sequence_line(case, part) for case, part in predictions.by_case()]
    table("diagnosis", title, rows[:SHOWN])
    if len(rows) > SHOWN:
        say(f"… and {len(rows) - SHOWN} more cases")


def _case_lines(predictions: Predictions) -> list[list[Any]]:
    final, explanations = predictions.final, predictions.explanations or ()
    sets = final.prediction_sets(predictions.classes)
    diagnoses = [name if len(names) == 1 else "undecided" for name, names in zip(final.predicted, sets, strict=True)]
    texts = [SEPARATOR.join(names) for names in sets]
    cases, reviews = predictions.facts["case"], predictions.review
    columns = zip(cases, diagnoses, final.probability.tolist(), texts, explanations, reviews, strict=True)
    return [list(row) for row in columns]


def _sequence_line(case: str, part: Predictions) -> list[Any]:
    final = part.final
    counts = [int((final.predicted == name).sum()) for name in part.classes]
    undecided = [] if final.abstains is None else [int(final.abstains.sum())]
    return [case, len(part), *counts, *undecided, mean_known(final.probability), join_distinct(part.review)]
