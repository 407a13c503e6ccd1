"""`medseg segment`: segment an image or a folder of images with trained models."""

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
from medseg.data.probability_maps import IMAGE_2D, map_file, write_map
from medseg.data.readers import DEFAULT_COLUMNS, read_cases
from medseg.errors import ConfigError
from medseg.inference.model_facts import ModelFacts, average_facts, ensemble_facts, fold_facts
from medseg.inference.review import quality_error
from medseg.io.dicom.seg_writer import SUFFIX, Origin
from medseg.io.image import image_suffix, read_image, stem
from medseg.runs.run import Run
from medseg.runs.synthetic import warn_synthetic
from medseg.utils.files import atomic_write_text, write_json
from medseg.utils.locks import lock_output

if TYPE_CHECKING:  # these import torch, which is deferred until there are cases to segment
    from medseg.inference.predictor import Predictor, SegmentationResult

TABLES = ("agreement", "candidates", "provenance", "uncertainty")


@dataclass(frozen=True)
class SegmentRequest:
    """Inputs, output and options of `medseg segment`. `ConfigError` for an unknown format."""

    source: Path
    out: Path
    pattern: str | None = None
    series_uid: str | None = None
    output_format: str | None = None  # of the masks, a name or a suffix; None: .png for 2D images, else .nii.gz
    out_of_fold: bool = False  # each case by a model not trained on it
    fail_fast: bool = False  # stop at the first case that fails
    fail_on_quality: bool = False  # an image that fails the quality gate is an error
    overwrite: bool = False  # delete results of other cases from an earlier run
    keep_patient_data: bool = False  # copy the patient's data into a DICOM SEG
    max_ram: float | None = None  # GB of memory for all workers; None: the free memory
    average: bool = False  # one mask from the mean of the models' probabilities
    probabilities: bool = False  # write the probability of each label
    uncertainty: bool = False  # write the entropy of the probabilities

    def __post_init__(self) -> None:
        suffix = self.suffix
        if self.keep_patient_data and suffix != SUFFIX:
            text = "patient data can be kept in a DICOM SEG only; choose that format, or do not keep it"
            raise ConfigError(text, hint="keep_patient_data output_format=dicom-seg")
        if self.average and self.out_of_fold:
            text = "out of fold each case is segmented by one model, so there is no mean of several; choose one of both"
            raise ConfigError(text, hint="average out_of_fold")

    @property
    def suffix(self) -> str | None:
        """Suffix of the masks; None: it depends on the image."""
        return None if self.output_format is None else mask_suffix(self.output_format)

    @property
    def settings(self) -> dict[str, Any]:
        """Options that affect the masks of an image."""
        settings = {"series_uid": self.series_uid, "format": self.suffix, "out_of_fold": self.out_of_fold}
        return {
            **settings,
            "fail_on_quality": self.fail_on_quality,
            "keep_patient_data": self.keep_patient_data,
            "average": self.average,
            "probabilities": self.probabilities,
            "uncertainty": self.uncertainty,
        }


class SegmentJob(NamedTuple):
    """A case, and the path of its mask below the output folder."""

    case: Case
    target: Path


def segment_folder(request: SegmentRequest, runs: list[Run], device: str = "auto", workers: int = 1) -> CaseLog:
    """Segment every image below `source` into the same tree below `out`; one entry per case in out/cases.csv.

    A failed case is reported and the others continue. labels.json with the label names is written next to the masks.
    Several models with the same labels get a folder each, and agreement.csv has the Dice between them, unless they are
    averaged. candidates.csv has every candidate of a model that ranks them, uncertainty.csv the expected Dice of each
    label of a trained model; maps are written below out/probabilities and out/uncertainty on request.
    Results of an earlier run with the same models and settings are reused if image and masks are unchanged; all other
    cases, also failed ones, are segmented.

    `workers` processes, each with the models, segment one case at a time; with 0 or 1 this process does. Masks and
    tables do not depend on their number: a finished batch has its rows in the order of the cases, an interrupted one
    in the order of completion.
    """
    facts = _facts(request, runs)
    cases = read_cases(request.source, facts.channels, _columns(request, runs), request.pattern)
    jobs = [
        Job(case.name, case.image, list(case.images.values()), work=SegmentJob(case, target))
        for case, target in zip(cases, _targets(cases, request), strict=True)
    ]
    key = settings_key(runs, {**request.settings, **_output_settings(request, runs, facts)})
    for run in runs:
        warn_synthetic(run, request.source)
    own_cases = cases if workers <= 1 else []  # cases of this process, for its memory estimate
    with open_pool(workers, load_models, request, runs, device, workers, own_cases) as pool, lock_output(request.out):
        previous = PreviousRun(request.out / "cases.csv", [job.name for job in jobs], request.overwrite)
        warn_outdated(previous, key, request.out)
        _describe_output(request, runs, facts)
        with CaseLog(request.out / "cases.csv", previous, key, request.fail_fast) as log:
            _segment_all(request.out, jobs, pool, log)
    return log


def _facts(request: SegmentRequest, runs: list[Run]) -> ModelFacts:
    """Facts of the models; `ConfigError` if they cannot be combined, or maps cannot be written of them."""
    if request.out_of_fold:
        return fold_facts(runs)
    if request.average:
        return average_facts(runs)
    if (request.probabilities or request.uncertainty) and len(runs) > 1:
        text = "maps of probabilities or uncertainty are of one mask; give one model, or average the models"
        raise ConfigError(text, hint="average")
    return ensemble_facts(runs)


def _segment_all(out: Path, jobs: list[Job], pool: WorkerPool | SerialPool, log: CaseLog) -> None:
    """Segment every case and write the tables, both in the order of the jobs."""
    resumed = bool(log.previous and log.previous.entries)
    rows = dict(run_cases(jobs, pool, log, "segment"))
    entries = {entry.case: entry for entry in log.entries}
    log.amend([entries[job.name] for job in jobs])
    _write_tables(out, [rows[job.name] for job in jobs if job.name in rows], resumed)


def _columns(request: SegmentRequest, runs: list[Run]) -> Columns:
    """Column names of a cases.csv: out of fold the patient column is that of the model's dataset."""
    if not request.out_of_fold:
        return DEFAULT_COLUMNS
    return Columns(patient=str(load_config(runs[0].file("config.yaml")).data.patient_column))


def _describe_output(request: SegmentRequest, runs: list[Run], facts: ModelFacts) -> None:
    """Write labels.json, and for out-of-fold masks out_of_fold.json with the models."""
    for folder in facts.folders:
        write_json(request.out / folder / "labels.json", dict(facts.labels.numbers))
    if request.out_of_fold:
        write_json(request.out / "out_of_fold.json", {"models": [str(run.named) for run in runs]})


def _write_tables(out: Path, case_rows: list[Rows], resumed: bool) -> None:
    """Write the tables from each case's rows; if resumed, delete an earlier run's table that is empty now."""
    for name in TABLES:
        if table := [row for rows in case_rows for row in rows.get(name, [])]:
            atomic_write_text(out / f"{name}.csv", pd.DataFrame(table).to_csv(index=False))
        elif resumed:
            (out / f"{name}.csv").unlink(missing_ok=True)


def _output_settings(request: SegmentRequest, runs: list[Run], facts: ModelFacts) -> dict[str, Any]:
    """Facts besides the models' weights that decide the path of a mask or the model that makes it."""
    splits = [run.read_json("manifest.json")["sha256"].get("split.csv") for run in runs]
    return {"folders": facts.folders, "splits": splits if request.out_of_fold else None}


def load_models(request: SegmentRequest, runs: list[Run], device: str, processes: int, cases: list[Case]) -> Work:
    """Load the models in one of `processes`; return the function that segments a case. Logs a memory estimate."""
    from medseg.inference.averaging import AveragingEnsemble
    from medseg.inference.confidence import KeptMaps
    from medseg.inference.memory import GB, log_memory_estimate, memory_limit
    from medseg.inference.multi_model import ModelEnsemble
    from medseg.inference.out_of_fold import OutOfFoldPredictor
    from medseg.utils.devices import divide_threads

    kept = KeptMaps(request.probabilities, request.uncertainty)
    kind = OutOfFoldPredictor if request.out_of_fold else AveragingEnsemble if request.average else ModelEnsemble
    predictor: Predictor = kind(runs, device, kept)
    if processes > 1:
        divide_threads(processes)
        total_gb = memory_limit(None) / GB if request.max_ram is None else request.max_ram
        request = dataclasses.replace(request, max_ram=total_gb / processes)
    log_memory_estimate(predictor.models, cases, memory_limit(request.max_ram), predictor.kept_volumes)
    return partial(run_case, partial(segment_case, request, predictor))


def segment_case(request: SegmentRequest, predictor: Predictor, job: Job) -> CaseResult:
    """Segment one case: check headers and quality, predict, write the masks. Raises the error that makes it fail."""
    from medseg.inference.memory import choose_tiling, memory_limit

    work: SegmentJob = job.work
    case = dataclasses.replace(work.case, image_hash=job.hashes.get(work.case.image, ""))
    origin = None
    if request.suffix == SUFFIX:  # checked before anything is computed
        origin = Origin(case.image, request.series_uid, "", request.keep_patient_data).with_slices()
    tiling = choose_tiling(predictor.models, case, memory_limit(request.max_ram), predictor.kept_volumes)
    images = {channel: read_image(path, request.series_uid) for channel, path in case.images.items()}
    warnings = predictor.quality_warnings(images)
    if warnings and request.fail_on_quality:
        raise quality_error(case, warnings)
    result = predictor.predict(case, images, tiling)
    files = _write_masks(request.out, work.target, result, predictor, origin)
    rows = {name: [{"case": case.name, **row} for row in getattr(result, name)] for name in TABLES}
    implausible = predictor.mask_warnings(result)
    status, code = ("ok", "")
    if warnings:
        status, code = ("review", "quality")
    elif implausible:
        status, code = ("review", "implausible")
    elif result.doubts:
        status, code = ("review", "expected-dice")
    message = "; ".join(filter(None, [*warnings, *implausible, result.doubts]))
    tables = {name: table for name, table in rows.items() if table}
    return CaseResult(tables, files, status, code, message, str(request.out / work.target))


def _write_masks(
    out: Path, target: Path, result: SegmentationResult, predictor: Predictor, origin: Origin | None
) -> list[Path]:
    """Write the masks and maps of a case, all or none; return their files."""
    files: list[Path] = []
    try:
        for folder, mask in result.masks.items():
            path = out / folder / target
            files += mask_files(path, predictor.labels).values()
            models = [folder] if folder else [row["model"] for row in result.provenance] or list(predictor.models)
            write_masks(mask, path, predictor.labels, _with_model(models, origin))
        for (folder, label), values in result.maps.items():
            mask = result.masks[""]
            files.append(map_file(out / folder / target, mask, label))
            write_map(values, mask, files[-1])
    except Exception:
        for file in files:  # some may be written
            with suppress(OSError):
                file.unlink(missing_ok=True)
        raise
    return files


def _with_model(models: Sequence[str], origin: Origin | None) -> Origin | None:
    """Add the models to the origin of a DICOM SEG; None for other formats."""
    return origin and dataclasses.replace(origin, model=", ".join(Path(model).name for model in models))


def _targets(cases: list[Case], request: SegmentRequest) -> list[Path]:
    """Path of each mask below `out`: the image's path below the source, else its name; never that of an input."""
    out, targets = request.out, list[Path]()
    for case in cases:
        target = _target(case, request)
        if target in targets:  # two images that differ in the suffix
            target = target.with_name(case.image.name + target.name.removeprefix(stem(case.image)))
        targets.append(target)
    # realpath and not resolve: a link to itself must fail one case, not the batch
    inputs = {os.path.realpath(path) for case in cases for path in case.images.values()}
    table = request.source / "cases.csv"
    if inputs & {os.path.realpath(out / path) for path in targets} or (out / "cases.csv").resolve() == table.resolve():
        raise ConfigError(f"{out}: masks would overwrite the input; choose another OUT")
    return targets


def _target(case: Case, request: SegmentRequest) -> Path:
    path, source = case.image, request.source
    suffix = request.suffix or (".png" if image_suffix(path) in IMAGE_2D else ".nii.gz")
    if path == source:
        return Path(stem(path.resolve()) + suffix)
    if len(case.images) > 1 or not path.is_relative_to(source) or ".." in path.parts[len(source.parts) :]:
        return Path(case.name + suffix)
    return path.relative_to(source).parent / (stem(path) + suffix)
