"""Segment images with a trained model, one image or a folder of them."""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import pandas as pd

from medseg.batch.case_log import CaseLog
from medseg.batch.resume import PreviousRun, settings_key
from medseg.batch.runner import BatchLog, CaseOutcome, CaseResult, Job, Rows, run_case, run_cases, warn_outdated
from medseg.batch.workers import open_workers
from medseg.config.load import load as load_config
from medseg.data.cases import Case, Columns
from medseg.data.ground_truth import mask_files, mask_suffix, write_masks
from medseg.data.readers import DEFAULT_COLUMNS, read_cases
from medseg.errors import ConfigError, ImageError
from medseg.inference.memory import GB, choose_tiling, log_memory_estimate, memory_limit
from medseg.io.dicom.seg_writer import SUFFIX, Origin
from medseg.io.image import image_suffix, read_image, stem
from medseg.io.labels import Labels
from medseg.runs.run import Run
from medseg.runs.synthetic import warn_synthetic
from medseg.utils.files import atomic_write_text, write_json
from medseg.utils.locks import lock_output

if TYPE_CHECKING:
    from medseg.inference.multi_model import ModelEnsemble
    from medseg.inference.out_of_fold import OutOfFoldPredictor
    from medseg.inference.segmenter import Segmenter

IMAGE_2D_SUFFIXES = (".png", ".jpg", ".jpeg", ".bmp", ".tif", ".tiff")
TABLES = ("agreement", "candidates", "provenance")


@dataclass(frozen=True)
class SegmentRequest:
    """What a batch reads and writes."""

    source: Path
    out: Path
    pattern: str | None = None
    series: str | None = None
    suffix: str | None = None  # of the masks; None: .png for pictures, else .nii.gz
    out_of_fold: bool = False  # each case by the model that never saw it
    fail_fast: bool = False  # end at the first case that fails
    strict: bool = False  # an image that the quality gate doubts fails
    replace: bool = False  # drop what an earlier run left of other cases
    keep_identity: bool = False  # of the patient, in a DICOM SEG
    max_ram: float | None = None  # GB that may be taken in all; None: what is free

    @property
    def settings(self) -> dict[str, Any]:
        """What decides the masks of an image, beside the models."""
        settings = {"series": self.series, "format": self.suffix, "out_of_fold": self.out_of_fold}
        return {**settings, "strict": self.strict, "keep_identity": self.keep_identity}


class SegmentJob(NamedTuple):
    """A case, and where its mask goes."""

    case: Case
    target: Path


class ModelFacts(NamedTuple):
    """What the batch must know of its models."""

    channels: list[str]
    labels: Labels
    folders: list[str]
    models: dict[str, Segmenter] | None  # None: other processes hold them


def segment_folder(batch: SegmentRequest, runs: list[Run], device: str = "auto", workers: int = 1) -> CaseLog:
    """Segment every image below `source` into the same tree below `out`; one entry a case in out/cases.csv.

    A case that fails is named and the others go on. labels.json with the label names is written beside the masks.
    Of several models with the same labels each gets a folder, and agreement.csv tells the Dice between them.
    candidates.csv tells every candidate of a model that ranks them. Cases that an earlier run of the same models and
    settings did are kept where image and masks are unaltered; all others are made, failed ones again.

    `workers` processes, each with the models, take the cases one by one; with 0 or 1 it is this process. Masks do not
    depend on their number, nor do the lines of the ledger and the tables: a batch that came to its end has them in the
    order of the cases, one that was stopped as the cases were ready.
    """
    if batch.suffix is not None:
        batch = dataclasses.replace(batch, suffix=mask_suffix(batch.suffix))
    if batch.keep_identity and batch.suffix != SUFFIX:
        raise ConfigError("--keep-identity: only a DICOM SEG (--format dicom-seg) can hold the patient's identity")
    with open_workers(workers, load_models, batch, runs, device, workers) as team:
        facts: ModelFacts = team.facts
        cases = read_cases(batch.source, facts.channels, _columns(batch, runs), batch.pattern)
        for run in runs:
            warn_synthetic(run, batch.source)
        jobs = [
            Job(case.name, case.image, list(case.images.values()), work=SegmentJob(case, target))
            for case, target in zip(cases, _targets(cases, batch), strict=True)
        ]
        names = [case.name for case in cases]
        key = settings_key(runs, {**batch.settings, **_places(batch, runs, facts)})
        with lock_output(batch.out):
            before = PreviousRun(batch.out / "cases.csv", names, batch.replace)
            warn_outdated(before, key, batch.out)
            _introduce(batch, runs, facts)
            if facts.models is not None:
                log_memory_estimate(facts.models, cases, memory_limit(batch.max_ram))
            with CaseLog(batch.out / "cases.csv", before.entries) as ledger:
                older = bool(before.entries)
                rows = dict(run_cases(jobs, team, BatchLog(ledger, key, before, batch.fail_fast), "segment"))
                by_name = {entry.case: entry for entry in ledger.entries}
                ledger.amend([by_name[name] for name in names])
                _write_tables(batch.out, [rows[name] for name in names if name in rows], older)
    return ledger


def _columns(batch: SegmentRequest, runs: list[Run]) -> Columns:
    """How a table beside the images names things: out of fold patients stand where the model's dataset had them."""
    if not batch.out_of_fold:
        return DEFAULT_COLUMNS
    return Columns(patient=str(load_config(runs[0].file("config.yaml")).data.patient_column))


def _introduce(batch: SegmentRequest, runs: list[Run], facts: ModelFacts) -> None:
    """What the output folder says of itself: names of the labels, and whose masks out of fold they are."""
    for folder in facts.folders:
        write_json(batch.out / folder / "labels.json", dict(facts.labels.numbers))
    if batch.out_of_fold:
        write_json(batch.out / "out_of_fold.json", {"models": [str(run.named) for run in runs]})


def _write_tables(out: Path, found: list[Rows], older: bool) -> None:
    """The tables beside the ledger, of the rows of each case; one that an older run left and that is empty now goes."""
    for name in TABLES:
        if table := [row for rows in found for row in rows.get(name, [])]:
            atomic_write_text(out / f"{name}.csv", pd.DataFrame(table).to_csv(index=False))
        elif older:
            (out / f"{name}.csv").unlink(missing_ok=True)


def _places(batch: SegmentRequest, runs: list[Run], facts: ModelFacts) -> dict[str, Any]:
    """What decides, beside the models' answers, where masks go or which model makes them."""
    splits = [run.read_json("manifest.json")["sha256"].get("split.csv") for run in runs]
    return {"folders": facts.folders, "splits": splits if batch.out_of_fold else None}


def load_models(
    batch: SegmentRequest, runs: list[Run], device: str, processes: int
) -> tuple[ModelFacts, Callable[[Job], CaseOutcome]]:
    """The models in one of `processes`: facts about them, and what segments a case."""
    from medseg.inference.multi_model import ModelEnsemble
    from medseg.inference.out_of_fold import OutOfFoldPredictor
    from medseg.utils.devices import divide_threads

    panel = OutOfFoldPredictor(runs, device) if batch.out_of_fold else ModelEnsemble(runs, device)
    if processes > 1:
        divide_threads(processes)
        whole = memory_limit(None) / GB if batch.max_ram is None else batch.max_ram
        batch = dataclasses.replace(batch, max_ram=whole / processes)
    models = None if processes > 1 else panel.models
    make = partial(_segment_one, batch, panel)
    return ModelFacts(panel.channels, panel.labels, panel.folders, models), partial(run_case, make)


def _segment_one(batch: SegmentRequest, panel: ModelEnsemble | OutOfFoldPredictor, job: Job) -> CaseResult:
    case, target = job.work
    if origin := _origin(case, batch):
        origin.stack()  # refused before anything is computed
    tiles = choose_tiling(panel.models, case, memory_limit(batch.max_ram))
    images = {channel: read_image(path, batch.series) for channel, path in case.images.items()}
    doubts = panel.doubts(images)
    if doubts and batch.strict:
        raise ImageError(
            f"{case.image}: refused: {'; '.join(doubts)}; look at it, or leave --strict out", code="quality"
        )
    found = panel(images, case, tiles)
    written: list[Path] = []
    try:
        for folder, mask in found.masks.items():
            place = batch.out / folder / target.relative_to(batch.out)
            models = [folder] if folder else [row["model"] for row in found.provenance] or list(panel.models)
            written += mask_files(place, panel.labels).values()
            write_masks(mask, place, panel.labels, _origin(case, batch, models))
    except Exception:
        for file in written:  # of several some may be there
            with suppress(OSError):
                file.unlink(missing_ok=True)
        raise
    rows = {name: [{"case": case.name, **row} for row in getattr(found, name)] for name in TABLES}
    status, code = ("review", "quality") if doubts else ("ok", "")
    told = {name: table for name, table in rows.items() if table}
    return CaseResult(told, written, status, code, "; ".join(doubts), str(target))


def _origin(case: Case, batch: SegmentRequest, models: Sequence[str] = ()) -> Origin | None:
    """What a DICOM SEG refers to; other masks refer to nothing."""
    if batch.suffix != SUFFIX:
        return None
    names = ", ".join(Path(model).name for model in models)
    return Origin(case.image, batch.series, names, batch.keep_identity)


def _targets(cases: list[Case], batch: SegmentRequest) -> list[Path]:
    """Where each mask goes: the image's path below the source, else its name; never onto an input."""
    targets: list[Path] = []
    for case in cases:
        target = _target(case, batch)
        if target in targets:  # two endings of one name
            target = target.with_name(case.image.name + target.name.removeprefix(stem(case.image)))
        targets.append(target)
    # realpath and not resolve: a link to itself is one broken case, not the end of the batch
    inputs = {os.path.realpath(path) for case in cases for path in case.images.values()}
    table = batch.source / "cases.csv"
    if inputs & {os.path.realpath(path) for path in targets} or (batch.out / "cases.csv").resolve() == table.resolve():
        raise ConfigError(f"{batch.out}: masks would be written over what is read; choose another OUT")
    return targets


def _target(case: Case, batch: SegmentRequest) -> Path:
    path = case.image
    suffix = batch.suffix or (".png" if image_suffix(path) in IMAGE_2D_SUFFIXES else ".nii.gz")
    if path == batch.source:
        return batch.out / (stem(path.resolve()) + suffix)
    if len(case.images) > 1 or not path.is_relative_to(batch.source) or ".." in path.parts[len(batch.source.parts) :]:
        return batch.out / (case.name + suffix)
    return batch.out / path.relative_to(batch.source).parent / (stem(path) + suffix)
