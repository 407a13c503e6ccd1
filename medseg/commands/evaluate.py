"""`medseg evaluate`: a folder of masks against a folder of truth, case by case and label by label."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import SimpleITK as sitk

from medseg.batch.case_log import CaseLog
from medseg.batch.entry import Entry
from medseg.batch.resume import settings_key
from medseg.batch.runner import CaseResult, Job, run_serial
from medseg.data.readers import index_by_stem
from medseg.data.tables import read_table
from medseg.errors import ConfigError, DataError, ImageError, MedsegError
from medseg.evaluation.overlap import SCORES, compare_masks, summarise
from medseg.io.dicom.seg_writer import SUFFIX as SEG
from medseg.io.geometry import grid_difference
from medseg.io.image import find_images, frames, read_mask
from medseg.io.label_names import infer_labels, read_label_names, values_of
from medseg.utils.console import table, warn
from medseg.utils.files import atomic_write_text, write_json
from medseg.utils.locks import lock_output

WRITTEN = ("evaluation.csv", "metrics.json")
EACH_CASE = "Each case counts as a patient: no cases.csv with the columns patient and mask stands by the truth."


@dataclass(frozen=True)
class MaskPairs:
    """Masks and truths by name, with the labels that they hold."""

    masks: Path
    truth: Path
    predicted: Mapping[str, Path]
    wanted: Mapping[str, Path]
    labels: Mapping[str, int]


def evaluate_folders(
    masks: Path, truth: Path, labels: Mapping[str, int] | None, tolerance_mm: float
) -> tuple[pd.DataFrame, dict[str, Any], list[Entry]]:
    """Evaluation rows, their summary (metrics.json) and what went wrong, for masks paired with truth by name.

    A name is the path below the folder without its ending: trees mirror each other, formats may differ. Two files are
    one pair. `labels` None: those of labels.json in or beside `masks`, else one for each value found. A truth without
    a mask is missed (Dice 0); a pair that cannot be compared is left out of the means and counted in "n_failed".
    Raises DataError where no name is shared, MedsegError (exit status 1) where no pair could be compared.
    """
    return _evaluate(pair_masks(masks, truth, labels), tolerance_mm, CaseLog(None))


def pair_masks(masks: Path, truth: Path, labels: Mapping[str, int] | None) -> MaskPairs:
    """What is to be compared; `labels` and errors as in `evaluate_folders`."""
    predicted, wanted = _pair(masks, truth)
    known = labels or read_label_names(masks) or infer_labels([*predicted.values(), *wanted.values()])
    return MaskPairs(masks, truth, predicted, wanted, known)


def _evaluate(
    pairs: MaskPairs, tolerance_mm: float, ledger: CaseLog
) -> tuple[pd.DataFrame, dict[str, Any], list[Entry]]:
    """As `evaluate_folders`; each mask is an entry of `ledger`."""
    predicted, labels = pairs.predicted, pairs.labels
    layered = all(_ending(name, labels) for name in pairs.wanted)
    patients = _patients(pairs.truth)

    def compare(job: Job) -> CaseResult:
        case, own = _layer(job.name, labels, layered)
        who = patients.get(job.input.resolve(), job.name)
        found = _compare(predicted.get(job.name), job.input, own, tolerance_mm)
        made = {"rows": [{"case": case + frame, "patient": who} | row for frame, row in found]}
        if job.name in predicted:
            return CaseResult(made)
        text = f"{job.input}: has no mask of this name in {pairs.masks}; counted as missed"
        return CaseResult(made, status="failed", code="no-prediction", message=text)

    jobs = [
        Job(name, path, [*([predicted[name]] if name in predicted else []), path])
        for name, path in pairs.wanted.items()
    ]
    rows = [row for _, made in run_serial(jobs, compare, ledger, "evaluate") for row in made["rows"]]
    if not rows:
        raise MedsegError(f"no pair could be compared; the first: {ledger.entries[0].message}", code="nothing-compared")
    n_failed = sum(entry.status == "failed" and entry.code != "no-prediction" for entry in ledger.entries)
    _surplus(predicted, pairs.wanted, pairs.truth, ledger)
    frame = pd.DataFrame(rows)
    summary = summarise(frame, labels, tolerance_mm) | {"report_split": None, "n_failed": n_failed}
    problems = [entry for entry in ledger.entries if entry.status != "ok"]
    return frame, summary if patients else summary | {"note": EACH_CASE}, problems


def _surplus(predicted: Mapping[str, Path], wanted: Mapping[str, Path], truth: Path, ledger: CaseLog) -> None:
    """Masks that have no truth are named, not counted."""
    for name in sorted(predicted.keys() - wanted.keys()):
        text = f"{predicted[name]}: has no truth of this name in {truth}; not counted"
        ledger.add(Entry(name, "skipped", "no-truth", text, input=str(predicted[name])))
        warn(text)


def _ending(name: str, labels: Mapping[str, int]) -> str | None:
    """The label that a file of its own is named after: ``eye1_haemorrhages`` → haemorrhages."""
    return next((label for label in sorted(labels, key=len, reverse=True) if name.endswith(f"_{label}")), None)


def _layer(name: str, labels: Mapping[str, int], layered: bool) -> tuple[str, Mapping[str, int]]:
    """The case of a file, and the labels it holds: all, or the one it is named after, which is then drawn as 1."""
    label = _ending(name, labels) if layered else None
    return (name, labels) if label is None else (name.removesuffix(f"_{label}"), {label: 1})


def evaluate_and_write(masks: Path, truth: Path, out: Path | None, tolerance_mm: float) -> tuple[dict[str, Any], int]:
    """The command: a table on the screen; in `out`, where one is given, evaluation.csv, metrics.json and the ledger.

    Gives the summary and the exit status.
    """
    if out is not None and (out / "manifest.json").is_file():
        raise ConfigError(f"{out}: is a model, whose metrics.json would be written over; choose another output")
    pairs = pair_masks(masks, truth, None)
    if out is None:
        ledger = CaseLog(None)
        _, summary, problems = _evaluate(pairs, tolerance_mm, ledger)
    else:
        summary, problems, ledger = _evaluate_into(out, pairs, tolerance_mm)
    shown = {**summary["labels"], "mean over labels": summary["macro"]}
    table(
        f"{summary['n_cases']} cases, {summary['n_patients']} patients",
        ["label", *SCORES, "n", "missed"],
        [
            [name, *(found[key]["mean"] for key in SCORES), found["dice"]["n"], found.get("missed")]
            for name, found in shown.items()
        ],
    )
    return summary | {"problems": [asdict(problem) for problem in problems]}, ledger.exit_status()


def _evaluate_into(out: Path, pairs: MaskPairs, tolerance_mm: float) -> tuple[dict[str, Any], list[Entry], CaseLog]:
    file, key = out / "evaluation_cases.csv", {"labels": dict(pairs.labels), "tolerance_mm": tolerance_mm}
    with lock_output(out):
        before = file.is_file()
        with CaseLog(file, key=settings_key([], key)) as ledger:
            try:
                rows, summary, problems = _evaluate(pairs, tolerance_mm, ledger)
            except MedsegError as error:
                for name in WRITTEN if before and error.code == "nothing-compared" else ():
                    (out / name).unlink(missing_ok=True)  # numbers of masks that are no more
                raise
            write_evaluation(rows, summary, out)
    return summary, problems, ledger


def write_evaluation(rows: pd.DataFrame, summary: Mapping[str, Any], out: Path) -> None:
    """evaluation.csv and metrics.json in the folder `out`, each written whole or not at all."""
    atomic_write_text(out / "evaluation.csv", rows.to_csv(index=False, lineterminator="\n"))
    write_json(out / "metrics.json", summary)


def _pair(masks: Path, truth: Path) -> tuple[dict[str, Path], dict[str, Path]]:
    """The masks and the truths by name; two single files share the truth's name."""
    predicted, wanted = (index_by_stem(root, find_images(root)) for root in (masks, truth))
    for root, found in ((masks, predicted), (truth, wanted)):
        if root.name.endswith(SEG) or (not found and next(root.rglob(f"*{SEG}"), None)):
            raise DataError(
                f"{root}: a DICOM SEG is read beside its image only, which is not given here; have medseg segment "
                "write masks to be compared as NIfTI",
                hint="output_format=nifti",
            )
    if masks.is_file() and truth.is_file():
        predicted = dict(zip(wanted, predicted.values(), strict=True))
    if not predicted.keys() & wanted.keys():
        raise DataError(
            f"{masks}: no mask is named like a truth in {truth} (mask {next(iter(predicted), 'none')!r}, truth "
            f"{next(iter(wanted), 'none')!r}); the path below the folder, without its ending, must be the same"
        )
    return predicted, wanted


def _compare(
    predicted: Path | None, truth: Path, labels: Mapping[str, int], tolerance_mm: float
) -> Iterator[tuple[str, dict[str, Any]]]:
    """(what follows the case's name, row) of each label, and of each frame of a sequence."""
    wanted = _read(truth, labels)
    given = _read(predicted, labels) if predicted else [frame * 0 for frame in wanted]
    difference = grid_difference(given[0], wanted[0])
    if len(given) != len(wanted):
        difference = f"{len(given)} frames against {len(wanted)}"
    if difference:
        raise ImageError(f"{predicted}: is not on the grid of its truth {truth}: {difference}", code="image-geometry")
    for number, (a, b) in enumerate(zip(given, wanted, strict=True)):
        for row in compare_masks(a, b, labels, tolerance_mm):
            yield f"_frame{number:03d}" if len(wanted) > 1 else "", row


def _read(path: Path, labels: Mapping[str, int]) -> list[sitk.Image]:
    """The frames of a mask; one of a single label may be drawn in black and white (255), as photographs' masks are."""
    mask = read_mask(path)
    values = list(labels.values())
    if len(values) == 1 and values_of(mask) == {255}:
        return [sitk.Cast(frame == 255, sitk.sitkUInt8) * values[0] for frame in frames(mask)]
    return frames(mask)


def _patients(truth: Path) -> dict[Path, str]:
    """Patient of each mask file, from the dataset's cases.csv in the folder of truth or the one above it."""
    for folder in (truth, truth.parent):
        if (folder / "cases.csv").is_file():
            cases = read_table(folder / "cases.csv").replace("", np.nan)
            if {"mask", "patient"} <= set(cases.columns):
                known = cases.dropna(subset=["mask", "patient"])
                return {
                    (folder / mask).resolve(): patient
                    for mask, patient in zip(known["mask"], known["patient"], strict=True)
                }
    return {}
