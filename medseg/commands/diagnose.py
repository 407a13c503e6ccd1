"""`medseg diagnose`: classify images, images with masks, or a features table with a trained model."""

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
from medseg.inference.encoder import open_encoder
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

MAX_SHOWN = 50  # cases printed
FEATURE_FILES = ("_features.csv", *(f"_features{ending}" for ending in BESIDE))
WRITTEN = (".json", "_signal.csv", "_metrics.json", *FEATURE_FILES)  # suffixes next to OUT.csv


@dataclass(frozen=True)
class DiagnoseRequest:
    """Inputs, output and options of `medseg diagnose`."""

    source: Path
    out: Path
    masks: Path | None = None
    segmenter: Run | None = None
    pattern: str | None = None
    options: BatchOptions = DEFAULT_OPTIONS
    fail_on_quality: bool = False  # an image that fails the quality gate is an error


def diagnose_folder(request: DiagnoseRequest, run: Run) -> CaseLog:
    """Write OUT.csv (one row per frame or case), OUT.json (all results) and the case log OUT_cases.csv.

    With images also OUT_features.csv, and OUT_pictures/ with an overlay of each case's mask outlines. A case whose
    image failed the quality gate, whose mask is empty or whose features are undefined gets status review; with
    undefined features it gets no diagnosis. Cases whose images, masks, models and version are unchanged since an
    earlier run are not extracted again.
    """
    with run.reading():
        config = load(run.file("config.yaml"))
        set_num_threads(config.compute.num_threads)
        gate = QualityGate.of_run(run, config).of(str(config.organ.channels[0]))
    if request.out.resolve() == request.source.resolve():
        raise ConfigError(f"{request.out}: the diagnoses would overwrite the input; choose another OUT.csv")
    classifier = open_classifier(run, config)
    warn_synthetic(run, request.source)
    source = _read_source(request, config)
    names = [case.id for case in source] if isinstance(source, list) else list(source.frames["case"].unique())
    extract, review = _make_extraction(request, (config, run), source, gate)
    with open_case_log(request.out, names, _key(request, config, run), request.options, (".csv", *WRITTEN)) as log:
        tables = extract(log)
        if isinstance(source, list):
            write_tables(tables, sibling_path(request.out, "_features.csv"))
        predictions = classifier.predict(tables).with_review(review.reasons)
        if not isinstance(source, list):
            _log_table_cases(request.source, source, to_table(predictions.withheld()), log)
        log.review({case: join_distinct(prediction.review) for case, prediction in predictions.by_case()})
        _write(request.out, predictions.withheld())
        _evaluate(request.out, predictions, config)
        undiagnosed = [entry for entry in log.entries if entry.status in ("failed", "skipped")]
        facts = {
            "model": run.named.resolve().name,
            "synthetic": run.synthetic,
            "not_diagnosed": [{"case": entry.case, "reason": entry.message} for entry in undiagnosed],
        }
        write_json(request.out.with_suffix(".json"), {**facts, **classifier.to_records(tables, predictions)})
    return log


def _read_source(request: DiagnoseRequest, config: Settings) -> list[Case] | Tables:
    """Read the cases of an image folder, or a features table."""
    if request.source.suffix.lower() == ".csv":
        return read_tables(request.source)
    return read_cases(request.source, list(config.organ.channels), pattern=request.pattern)


def _key(request: DiagnoseRequest, config: Settings, run: Run) -> str:
    """Digest of all models and settings that a diagnosis depends on."""
    runs = [run, *([request.segmenter] if request.segmenter else [])]
    if config.data.encoder is not None and not config.data.imagenet_encoder:
        runs.append(Run(run.file(ENCODER)))
    return settings_key(runs, {"given_masks": request.masks is not None, "fail_on_quality": request.fail_on_quality})


def _log_table_cases(source: Path, tables: Tables, diagnoses: pd.DataFrame, log: CaseLog) -> None:
    """Add an entry for each case of a features table to the case log, with hashes of its rows and of its diagnosis.

    The table is read again each time: there is nothing to resume.
    """
    by_case = dict(iter(diagnoses.groupby("case", sort=False)))
    profiles = dict(iter(tables.steps.groupby("case", sort=False))) if tables.steps is not None else {}
    for name, rows in tables.frames.groupby("case", sort=False):
        texts = [rows.to_csv(index=False), profiles[name].to_csv(index=False) if name in profiles else ""]
        input_hash, output_hash = hash_content([], texts), hash_content([], by_case[name].to_csv(index=False))
        log.add(Entry(str(name), "ok", input=str(source), input_hash=input_hash, key=log.key, output_hash=output_hash))


def _write(out: Path, predictions: Predictions) -> None:
    """Write OUT.csv and OUT_signal.csv, remove an outdated OUT_signal.csv, and print the diagnoses."""
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
    """Write OUT_metrics.json if labels are known, else remove an earlier run's."""
    labels, classes = predictions.facts["label"], predictions.classes
    if unknown := sorted(set(labels.dropna().astype(str)) - set(classes)):
        warn(f"labels unknown to the model are not evaluated: {', '.join(unknown)}; it knows {', '.join(classes)}")
        predictions = predictions.with_known_labels()
    if predictions.facts["label"].isna().all():
        sibling_path(out, "_metrics.json").unlink(missing_ok=True)
        return
    summary = evaluate_predictions(predictions, list(map(str, config.organ.positive_classes)))
    write_json(sibling_path(out, "_metrics.json"), summary)
    scores = summary["models"][predictions.final_model]
    means = [[key, value["mean"]] for key, value in scores.items() if isinstance(value, dict)]
    table("scores against the given labels", ["score", "mean"], means)


def describe_signals(predictions: Predictions) -> pd.DataFrame:
    """One row per case with a predicted signal and times: period, breaths, amplitude, irregularity."""
    rows = []
    for case, prediction in predictions.by_case():
        signal = np.asarray(prediction.final.signal, np.float64)
        times = prediction.facts["time"].to_numpy(dtype=np.float64)
        rows.append({"case": case, **describe(signal, times)})
    return pd.DataFrame(rows)


class MaskSource(NamedTuple):
    """Masks, the function that lists the files read for a case's mask, and further image checks."""

    masks: MaskOf | None
    reads: Callable[[Case], list[Path]]
    checks: tuple[Check, ...] = ()


def _make_extraction(
    request: DiagnoseRequest, model: tuple[Settings, Run], source: list[Case] | Tables, gate: Check
) -> tuple[Callable[[CaseLog], Tables], ReviewReasons]:
    """Return a function that extracts (or has) the features tables, and the review reasons that it will fill.

    Raises `ConfigError` if masks are needed and none are given.
    """
    if not isinstance(source, list):
        return lambda _: source, ReviewReasons()
    config, run = model
    labels = get_labels(config)
    extractor = Extractor(config.features, labels, config.data.time_axis, encoder=open_encoder(config, run))
    mask_source = _mask_source(request, source, labels) if extractor.needs_masks else MaskSource(None, _no_files)
    review = ReviewReasons(gate, *mask_source.checks, strict=request.fail_on_quality)
    overlays = OverlayFolder(sibling_path(request.out, "_pictures"), labels, config.data.time_axis)
    context = ExtractionContext(mask_source.reads, review, overlays=overlays)
    return partial(extract_cases, source, extractor, mask_source.masks, context=context), review


def _mask_source(request: DiagnoseRequest, cases: list[Case], labels: Labels) -> MaskSource:
    """Masks from a folder, from a segmentation model, or from the dataset."""
    if request.masks is not None:
        folder = MaskFolder(request.source, request.masks, labels)
        return MaskSource(folder, folder.files)
    if request.segmenter is not None:
        warn_synthetic(request.segmenter, request.source)
        segmenter = load_segmenter(request.segmenter, "auto")
        return MaskSource(segment_with(segmenter), _no_files, (segmenter.gate.of(segmenter.channels[0]),))
    if any(case.annotated for case in cases):
        say("using the masks of the dataset")
        return MaskSource(ground_truth_masks(labels), Case.truth_files)
    raise ConfigError(
        "this model extracts features inside masks: give a folder of masks, or a segmentation model that makes them",
        hint="masks=FOLDER segmenter=RUN",
    )


def _no_files(_: Case) -> list[Path]:
    return []


def segment_with(segmenter: Segmenter) -> MaskOf:
    """Segment each case with a model."""

    def make(case: Case, image: sitk.Image) -> sitk.Image:
        first, *rest = segmenter.channels
        # the classifier's only channel is the segmenter's first, whatever its name there
        others = {channel: read_image(case.images[channel]) for channel in rest if channel in case.images}
        return segmenter({first: image, **others})

    return make


def _show(predictions: Predictions) -> None:
    """Print one row per case: its diagnosis and explanation, or for sequences frames per class and mean probability."""
    if predictions.facts["case"].is_unique and predictions.explanations is not None:
        title = ["case", "diagnosis", "probability", "prediction set", "explanation", "review"]
        rows = _case_lines(predictions)
    else:
        undecided = [] if predictions.final.abstains is None else ["of them undecided"]
        title = ["case", "rows", *predictions.classes, *undecided, "mean probability", "review"]
        rows = [_sequence_line(case, prediction) for case, prediction in predictions.by_case()]
    table("diagnosis", title, rows[:MAX_SHOWN])
    if len(rows) > MAX_SHOWN:
        say(f"… and {len(rows) - MAX_SHOWN} more cases")


def _case_lines(predictions: Predictions) -> list[list[Any]]:
    final, explanations = predictions.final, predictions.explanations or ()
    sets = final.prediction_sets(predictions.classes)
    diagnoses = [name if len(names) == 1 else "undecided" for name, names in zip(final.predicted, sets, strict=True)]
    texts = [SEPARATOR.join(names) for names in sets]
    cases, reviews = predictions.facts["case"], predictions.review
    columns = zip(cases, diagnoses, final.probability.tolist(), texts, explanations, reviews, strict=True)
    return [list(row) for row in columns]


def _sequence_line(case: str, predictions: Predictions) -> list[Any]:
    final = predictions.final
    counts = [int((final.predicted == name).sum()) for name in predictions.classes]
    undecided = [] if final.abstains is None else [int(final.abstains.sum())]
    mean, review = mean_known(final.probability), join_distinct(predictions.review)
    return [case, len(predictions), *counts, *undecided, mean, review]
