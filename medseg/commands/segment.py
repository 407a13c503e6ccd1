"""Segment images with a trained model, one image or a folder of them."""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import pandas as pd

from medseg.batch.case_log import CaseLog
from medseg.batch.resume import PreviousRun, settings_key
from medseg.batch.runner import CaseResult, Job, Rows, run_case, run_cases, warn_outdated
from medseg.batch.workers import SerialPool, Work, WorkerPool, open_pool
from medseg.config.load import load as load_config
from medseg.data.cases import Case, Columns
from medseg.data.ground_truth import mask_files, mask_suffix, write_masks
from medseg.data.readers import DEFAULT_COLUMNS, read_cases
from medseg.errors import ConfigError
from medseg.inference.model_facts import ModelFacts, ensemble_facts, fold_facts
from medseg.inference.review import quality_error
from medseg.io.dicom.seg_writer import SUFFIX, Origin
from medseg.io.image import image_suffix, read_image, stem
from medseg.runs.run import Run
from medseg.runs.synthetic import warn_synthetic
from medseg.utils.files import atomic_write_text, write_json
from medseg.utils.locks import lock_output

if TYPE_CHECKING:  # these load torch, which waits until there are cases to segment
    from medseg.inference.predictor import Predictor, SegmentationResult

IMAGE_2D_SUFFIXES = (".png", ".jpg", ".jpeg", ".bmp", ".tif", ".tiff")
TABLES = ("agreement", "candidates", "provenance")


@dataclass(frozen=True)
class SegmentRequest:
    """What a batch reads and writes. `ConfigError` for a format that there is not."""

    source: Path
    out: Path
    pattern: str | None = None
    series_uid: str | None = None
    output_format: str | None = None  # of the masks, a word or an ending; None: .png for pictures, else .nii.gz
    out_of_fold: bool = False  # each case by the model that never saw it
    fail_fast: bool = False  # end at the first case that fails
    fail_on_quality: bool = False  # an image that the quality gate doubts fails
    overwrite: bool = False  # drop what an earlier run left of other cases
    keep_patient_data: bool = False  # of the patient, in a DICOM SEG
    max_ram: float | None = None  # GB that may be taken in all; None: what is free

    def __post_init__(self) -> None:
        suffix = self.suffix
        if self.keep_patient_data and suffix != SUFFIX:
            text = "the patient's identity is kept in a DICOM SEG only; ask for that format, or leave it out"
            raise ConfigError(text, hint="keep_patient_data output_format=dicom-seg")

    @property
    def suffix(self) -> str | None:
        """The ending of the masks; None: it depends on the image."""
        return None if self.output_format is None else mask_suffix(self.output_format)

    @property
    def settings(self) -> dict[str, Any]:
        """What decides the masks of an image, beside the models."""
        settings = {"series_uid": self.series_uid, "format": self.suffix, "out_of_fold": self.out_of_fold}
        return {
            **settings,
            "fail_on_quality": self.fail_on_quality,
            "keep_patient_data": self.keep_patient_data,
        }


class SegmentJob(NamedTuple):
    """A case, and where below the output folder its mask goes."""

    case: Case
    target: Path


def segment_folder(request: SegmentRequest, runs: list[Run], device: str = "auto", workers: int = 1) -> CaseLog:
    """Segment every image below `source` into the same tree below `out`; one entry a case in out/cases.csv.

    A case that fails is named and the others go on. labels.json with the label names is written beside the masks.
    Of several models with the same labels each gets a folder, and agreement.csv tells the Dice between them.
    candidates.csv tells every candidate of a model that ranks them. Cases that an earlier run of the same models and
    settings did are kept where image and masks are unaltered; all others are made, failed ones again.

    `workers` processes, each with the models, take the cases one by one; with 0 or 1 it is this process. Masks do not
    depend on their number, nor do the lines of the log and the tables: a batch that came to its end has them in the
    order of the cases, one that was stopped as the cases were ready.
    """
    facts = fold_facts(runs) if request.out_of_fold else ensemble_facts(runs)
    cases = read_cases(request.source, facts.channels, _columns(request, runs), request.pattern)
    jobs = [
        Job(case.name, case.image, list(case.images.values()), work=SegmentJob(case, target))
        for case, target in zip(cases, _targets(cases, request), strict=True)
    ]
    key = settings_key(runs, {**request.settings, **_routes(request, runs, facts)})
    for run in runs:
        warn_synthetic(run, request.source)
    here = cases if workers <= 1 else []  # whose need of memory this process can tell
    with open_pool(workers, load_models, request, runs, device, workers, here) as pool, lock_output(request.out):
        previous = PreviousRun(request.out / "cases.csv", [job.name for job in jobs], request.overwrite)
        warn_outdated(previous, key, request.out)
        _describe_output(request, runs, facts)
        with CaseLog(request.out / "cases.csv", previous, key, request.fail_fast) as log:
            _segment_all(request.out, jobs, pool, log)
    return log


def _segment_all(out: Path, jobs: list[Job], pool: WorkerPool | SerialPool, log: CaseLog) -> None:
    """Every case, and the tables; both in the order of the jobs."""
    older = bool(log.previous and log.previous.entries)
    rows = dict(run_cases(jobs, pool, log, "segment"))
    entries = {entry.case: entry for entry in log.entries}
    log.amend([entries[job.name] for job in jobs])
    _write_tables(out, [rows[job.name] for job in jobs if job.name in rows], older)


def _columns(request: SegmentRequest, runs: list[Run]) -> Columns:
    """How a table beside the images names things: out of fold patients stand where the model's dataset had them."""
    if not request.out_of_fold:
        return DEFAULT_COLUMNS
    return Columns(patient=str(load_config(runs[0].file("config.yaml")).data.patient_column))


def _describe_output(request: SegmentRequest, runs: list[Run], facts: ModelFacts) -> None:
    """What the output folder says of itself: names of the labels, and whose masks out of fold they are."""
    for folder in facts.folders:
        write_json(request.out / folder / "labels.json", dict(facts.labels.numbers))
    if request.out_of_fold:
        write_json(request.out / "out_of_fold.json", {"models": [str(run.named) for run in runs]})


def _write_tables(out: Path, found: list[Rows], older: bool) -> None:
    """The tables beside the ledger, of the rows of each case; one that an older run left and that is empty now goes."""
    for name in TABLES:
        if table := [row for rows in found for row in rows.get(name, [])]:
            atomic_write_text(out / f"{name}.csv", pd.DataFrame(table).to_csv(index=False))
        elif older:
            (out / f"{name}.csv").unlink(missing_ok=True)


def _routes(request: SegmentRequest, runs: list[Run], facts: ModelFacts) -> dict[str, Any]:
    """What decides, beside the models' answers, where masks go or which model makes them."""
    splits = [run.read_json("manifest.json")["sha256"].get("split.csv") for run in runs]
    return {"folders": facts.folders, "splits": splits if request.out_of_fold else None}


def load_models(request: SegmentRequest, runs: list[Run], device: str, processes: int, cases: list[Case]) -> Work:
    """Load the models in one of `processes`; what segments a case. Says what the largest of `cases` will take."""
    from medseg.inference.memory import GB, log_memory_estimate, memory_limit
    from medseg.inference.multi_model import ModelEnsemble
    from medseg.inference.out_of_fold import OutOfFoldPredictor
    from medseg.utils.devices import divide_threads

    predictor: Predictor = OutOfFoldPredictor(runs, device) if request.out_of_fold else ModelEnsemble(runs, device)
    if processes > 1:
        divide_threads(processes)
        whole = memory_limit(None) / GB if request.max_ram is None else request.max_ram
        request = dataclasses.replace(request, max_ram=whole / processes)
    log_memory_estimate(predictor.models, cases, memory_limit(request.max_ram))
    return partial(run_case, partial(segment_case, request, predictor))


def segment_case(request: SegmentRequest, predictor: Predictor, job: Job) -> CaseResult:
    """Headers, image, quality check, prediction, masks of one case; raises what makes it fail."""
    from medseg.inference.memory import choose_tiling, memory_limit

    work: SegmentJob = job.work
    case = dataclasses.replace(work.case, image_hash=job.hashes.get(work.case.image, ""))
    origin = None
    if request.suffix == SUFFIX:  # refused before anything is computed
        origin = Origin(case.image, request.series_uid, "", request.keep_patient_data).with_slices()
    tiles = choose_tiling(predictor.models, case, memory_limit(request.max_ram))
    images = {channel: read_image(path, request.series_uid) for channel, path in case.images.items()}
    doubts = predictor.doubts(images)
    if doubts and request.fail_on_quality:
        raise quality_error(case, doubts)
    result = predictor.predict(case, images, tiles)
    files = _write_masks(request.out, work.target, result, predictor, origin)
    rows = {name: [{"case": case.name, **row} for row in getattr(result, name)] for name in TABLES}
    status, code = ("review", "quality") if doubts else ("ok", "")
    tables = {name: table for name, table in rows.items() if table}
    return CaseResult(tables, files, status, code, "; ".join(doubts), str(request.out / work.target))


def _write_masks(
    out: Path, target: Path, result: SegmentationResult, predictor: Predictor, origin: Origin | None
) -> list[Path]:
    """Write the masks of a case, all or none; their files."""
    files: list[Path] = []
    try:
        for folder, mask in result.masks.items():
            path = out / folder / target
            files += mask_files(path, predictor.labels).values()
            models = [folder] if folder else [row["model"] for row in result.provenance] or list(predictor.models)
            write_masks(mask, path, predictor.labels, _made_by(models, origin))
    except Exception:
        for file in files:  # of several some may be there
            with suppress(OSError):
                file.unlink(missing_ok=True)
        raise
    return files


def _made_by(models: Sequence[str], origin: Origin | None) -> Origin | None:
    """What a DICOM SEG refers to, with the models that made it; other masks refer to nothing."""
    return origin and dataclasses.replace(origin, model=", ".join(Path(model).name for model in models))


def _targets(cases: list[Case], request: SegmentRequest) -> list[Path]:
    """Where each mask goes below `out`: the image's path below the source, else its name; never onto an input."""
    out, targets = request.out, list[Path]()
    for case in cases:
        target = _target(case, request)
        if target in targets:  # two endings of one name
            target = target.with_name(case.image.name + target.name.removeprefix(stem(case.image)))
        targets.append(target)
    # realpath and not resolve: a link to itself is one broken case, not the end of the batch
    inputs = {os.path.realpath(path) for case in cases for path in case.images.values()}
    table = request.source / "cases.csv"
    if inputs & {os.path.realpath(out / path) for path in targets} or (out / "cases.csv").resolve() == table.resolve():
        raise ConfigError(f"{out}: masks would be written over what is read; choose another OUT")
    return targets


def _target(case: Case, request: SegmentRequest) -> Path:
    path, source = case.image, request.source
    suffix = request.suffix or (".png" if image_suffix(path) in IMAGE_2D_SUFFIXES else ".nii.gz")
    if path == source:
        return Path(stem(path.resolve()) + suffix)
    if len(case.images) > 1 or not path.is_relative_to(source) or ".." in path.parts[len(source.parts) :]:
        return Path(case.name + suffix)
    return path.relative_to(source).parent / (stem(path) + suffix)
