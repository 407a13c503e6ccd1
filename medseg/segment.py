"""Segment images with a trained model, one image or a folder of them."""

from __future__ import annotations

import dataclasses
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import pandas as pd

from medseg.console import Progress, banner, progress, warn
from medseg.data.cases import Case
from medseg.data.folders import read_cases
from medseg.data.image import SUFFIXES, image_suffix, read_image, stem
from medseg.data.truth import mask_files, write_masks
from medseg.errors import ConfigError, ImageError, MedsegError
from medseg.folds import Folds
from medseg.ledger import Entry, Ledger, atomic_write_text, failure, write_json
from medseg.panel import Panel
from medseg.resume import Before, content_of, key_of, only_one
from medseg.runs import Run

PICTURES = (".png", ".jpg", ".jpeg", ".bmp", ".tif", ".tiff")


@dataclass(frozen=True)
class Batch:
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


def segment_folder(batch: Batch, runs: list[Run], device: str = "auto") -> Ledger:
    """Segment every image below `source` into the same tree below `out`; one entry a case in out/cases.csv.

    A case that fails is named and the others go on. labels.json with the label names is written beside the masks.
    Of several models with the same labels each gets a folder, and agreement.csv tells the Dice between them.
    candidates.csv tells every candidate of a model that ranks them. Cases that an earlier run of the same models and
    settings did are kept where image and masks are unaltered; all others are made, failed ones again.
    """
    if batch.suffix is not None and batch.suffix not in SUFFIXES:
        raise ConfigError(f"--format {batch.suffix}: must be one of {', '.join(SUFFIXES)}")
    panel = Folds(runs, device) if batch.out_of_fold else Panel(runs, device)
    cases = read_cases(batch.source, panel.channels, pattern=batch.pattern)
    for run in runs:
        warn_synthetic(run, batch.source)
    targets = _targets(cases, batch)
    key = key_of(
        runs, {"series": batch.series, "format": batch.suffix, "out_of_fold": batch.out_of_fold, "strict": batch.strict}
    )
    with only_one(batch.out):
        before = Before(batch.out / "cases.csv", [case.name for case in cases], batch.replace)
        ledger = Ledger(batch.out / "cases.csv", before.entries)
        for folder in panel.folders:
            write_json(batch.out / folder / "labels.json", dict(panel.labels.numbers))
        if batch.out_of_fold:
            write_json(batch.out / "out_of_fold.json", {"models": [str(run.named) for run in runs]})
        with progress("segment", len(cases)) as bar:
            tables = _segment_all(
                list(zip(cases, targets, strict=True)), batch, panel, _Memory(ledger, before, key), bar
            )
        for name, table in tables.items():
            if table:
                atomic_write_text(batch.out / f"{name}.csv", pd.DataFrame(table).to_csv(index=False))
    return ledger


class _Memory(NamedTuple):
    """What was done before, what is done now, and by which models and settings."""

    ledger: Ledger
    before: Before
    key: str


def _segment_all(
    pairs: list[tuple[Case, Path]], batch: Batch, panel: Panel | Folds, memory: _Memory, bar: Progress
) -> dict[str, list[dict[str, Any]]]:
    tables: dict[str, list[dict[str, Any]]] = {"agreement": [], "candidates": [], "provenance": []}
    stopped = False
    for case, target in pairs:
        inputs = content_of(list(case.images.values()))
        if stopped:
            memory.ledger.add(Entry(case.name, "skipped", "fail-fast", "an earlier case failed", 0.0, str(case.image)))
            continue
        if kept := memory.before.kept(case.name, inputs, memory.key):
            entry, rows = kept, memory.before.rows(case.name)
        else:
            entry, rows = _segment_one(case, target, batch, panel)
            memory.before.note(case.name, rows)
            entry = dataclasses.replace(entry, input_hash=inputs, key=memory.key)
        memory.ledger.add(entry)
        for name, more in rows.items():
            tables[name] += more
        if entry.message:
            warn(entry.message if entry.status == "failed" else f"{case.name}: look at it: {entry.message}")
        bar.advance(1, case.name)
        stopped = batch.fail_fast and entry.status == "failed"
    return tables


def _segment_one(
    case: Case, target: Path, batch: Batch, panel: Panel | Folds
) -> tuple[Entry, dict[str, list[dict[str, Any]]]]:
    started = time.monotonic()
    written: list[Path] = []
    try:
        images = {channel: read_image(path, batch.series) for channel, path in case.images.items()}
        doubts = panel.doubts(images)
        if doubts and batch.strict:
            raise ImageError(
                f"{case.image}: refused: {'; '.join(doubts)}; look at it, or leave --strict out", code="quality"
            )
        found = panel(images, case)
        for folder, mask in found.masks.items():
            place = batch.out / folder / target.relative_to(batch.out)
            write_masks(mask, place, panel.labels)
            written += mask_files(place, panel.labels).values()
    except (MedsegError, MemoryError, RuntimeError) as error:  # ITK and torch raise RuntimeError
        return failure(case.name, case.image, error, time.monotonic() - started), {}
    seconds = round(time.monotonic() - started, 3)
    tables = {"agreement": found.agreement, "candidates": found.candidates, "provenance": found.provenance}
    rows = {name: [{"case": case.name, **row} for row in table] for name, table in tables.items()}
    status, code = ("review", "quality") if doubts else ("ok", "")
    entry = Entry(case.name, status, code, "; ".join(doubts), seconds, str(case.image), str(target))
    return dataclasses.replace(entry, outputs="\n".join(map(str, written)), output_hash=content_of(written)), rows


def _targets(cases: list[Case], batch: Batch) -> list[Path]:
    """Where each mask goes: the image's path below the source, else its name; never onto an input."""
    targets: list[Path] = []
    for case in cases:
        target = _target(case, batch)
        if target in targets:  # two endings of one name
            target = target.with_name(case.image.name + target.name.removeprefix(stem(case.image)))
        targets.append(target)
    inputs = {path.resolve() for case in cases for path in case.images.values()}
    table = batch.source / "cases.csv"
    if inputs & {path.resolve() for path in targets} or (batch.out / "cases.csv").resolve() == table.resolve():
        raise ConfigError(f"{batch.out}: masks would be written over what is read; choose another OUT")
    return targets


def _target(case: Case, batch: Batch) -> Path:
    path = case.image
    suffix = batch.suffix or (".png" if image_suffix(path) in PICTURES else ".nii.gz")
    if path == batch.source:
        return batch.out / (stem(path.resolve()) + suffix)
    if len(case.images) > 1 or not path.is_relative_to(batch.source) or ".." in path.parts[len(batch.source.parts) :]:
        return batch.out / (case.name + suffix)
    return batch.out / path.relative_to(batch.source).parent / (stem(path) + suffix)


def warn_synthetic(run: Run, source: Path) -> None:
    """Say it loudly where a model of phantoms meets images that are none."""
    marked = any((folder / "phantom.json").is_file() for folder in [source, *source.resolve().parents][:4])
    if run.synthetic and not marked:
        banner(f"{run.named} was trained on SYNTHETIC PHANTOMS only. What it says of real images means nothing.")
