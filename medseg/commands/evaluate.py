"""`medseg evaluate`: compare a folder of masks with a folder of reference masks by case and label."""

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
NO_PATIENTS = "Each case counts as a patient: the reference masks have no cases.csv with columns patient and mask."


@dataclass(frozen=True)
class MaskPairs:
    """Masks and reference masks by name, with their labels."""

    masks: Path
    truth: Path
    predicted: Mapping[str, Path]
    references: Mapping[str, Path]
    labels: Mapping[str, int]


def evaluate_folders(
    masks: Path, truth: Path, labels: Mapping[str, int] | None, tolerance_mm: float
) -> tuple[pd.DataFrame, dict[str, Any], list[Entry]]:
    """Compare masks with reference masks of the same name; return rows, summary (metrics.json) and problems.

    A name is the path below the folder without suffix; formats may differ. Two single files are one pair. `labels`
    None: from labels.json in or next to `masks`, else one label per mask value. A reference without a mask counts as
    missed (Dice 0); a pair that cannot be compared is excluded from the means and counted in "n_failed". Raises
    DataError if no name is shared, MedsegError (exit status 1) if no pair could be compared.
    """
    return _evaluate(pair_masks(masks, truth, labels), tolerance_mm, CaseLog(None))


def pair_masks(masks: Path, truth: Path, labels: Mapping[str, int] | None) -> MaskPairs:
    """Pair masks with reference masks; `labels` and errors as in `evaluate_folders`."""
    predicted, references = _pair(masks, truth)
    known = labels or read_label_names(masks) or infer_labels([*predicted.values(), *references.values()])
    return MaskPairs(masks, truth, predicted, references, known)


def _evaluate(pairs: MaskPairs, tolerance_mm: float, log: CaseLog) -> tuple[pd.DataFrame, dict[str, Any], list[Entry]]:
    """As `evaluate_folders`; each mask gets an entry in `log`."""
    predicted, labels = pairs.predicted, pairs.labels
    one_file_per_label = all(_label_suffix(name, labels) for name in pairs.references)
    patients = _patients(pairs.truth)

    def compare(job: Job) -> CaseResult:
        case, case_labels = _case_and_labels(job.name, labels, one_file_per_label)
        patient = patients.get(job.input.resolve(), job.name)
        rows = _compare(predicted.get(job.name), job.input, case_labels, tolerance_mm)
        result = {"rows": [{"case": case + suffix, "patient": patient} | row for suffix, row in rows]}
        if job.name in predicted:
            return CaseResult(result)
        text = f"{job.input}: no mask has this name in {pairs.masks}; counted as missed"
        return CaseResult(result, status="failed", code="no-prediction", message=text)

    jobs = [
        Job(name, path, [*([predicted[name]] if name in predicted else []), path])
        for name, path in pairs.references.items()
    ]
    rows = [row for _, result in run_serial(jobs, compare, log, "evaluate") for row in result["rows"]]
    if not rows:
        raise MedsegError(
            f"no pair could be compared; the first error: {log.entries[0].message}", code="nothing-compared"
        )
    n_failed = sum(entry.status == "failed" and entry.code != "no-prediction" for entry in log.entries)
    _log_unmatched(predicted, pairs.references, pairs.truth, log)
    frame = pd.DataFrame(rows)
    summary = summarise(frame, labels, tolerance_mm) | {"report_split": None, "n_failed": n_failed}
    problems = [entry for entry in log.entries if entry.status != "ok"]
    return frame, summary if patients else summary | {"note": NO_PATIENTS}, problems


def _log_unmatched(predicted: Mapping[str, Path], references: Mapping[str, Path], truth: Path, log: CaseLog) -> None:
    """Log masks without a reference mask as skipped."""
    for name in sorted(predicted.keys() - references.keys()):
        text = f"{predicted[name]}: no reference mask has this name in {truth}; not counted"
        log.add(Entry(name, "skipped", "no-truth", text, input=str(predicted[name])))
        warn(text)


def _label_suffix(name: str, labels: Mapping[str, int]) -> str | None:
    """The label at the end of the name of a file for one label: ``eye1_haemorrhages`` → haemorrhages."""
    return next((label for label in sorted(labels, key=len, reverse=True) if name.endswith(f"_{label}")), None)


def _case_and_labels(name: str, labels: Mapping[str, int], one_file_per_label: bool) -> tuple[str, Mapping[str, int]]:
    """Case and labels of a file: all labels, or the one in its name with value 1."""
    label = _label_suffix(name, labels) if one_file_per_label else None
    return (name, labels) if label is None else (name.removesuffix(f"_{label}"), {label: 1})


def evaluate_and_write(masks: Path, truth: Path, out: Path | None, tolerance_mm: float) -> tuple[dict[str, Any], int]:
    """Print a table; write evaluation.csv, metrics.json and the case log to `out` if given.

    Returns the summary and the exit status.
    """
    if out is not None and (out / "manifest.json").is_file():
        raise ConfigError(f"{out}: is a model, whose metrics.json would be overwritten; choose another output")
    pairs = pair_masks(masks, truth, None)
    if out is None:
        log = CaseLog(None)
        _, summary, problems = _evaluate(pairs, tolerance_mm, log)
    else:
        summary, problems, log = _evaluate_into(out, pairs, tolerance_mm)
    rows = {**summary["labels"], "mean over labels": summary["macro"]}
    table(
        f"{summary['n_cases']} cases, {summary['n_patients']} patients",
        ["label", *SCORES, "n", "missed"],
        [
            [name, *(scores[key]["mean"] for key in SCORES), scores["dice"]["n"], scores.get("missed")]
            for name, scores in rows.items()
        ],
    )
    return summary | {"problems": [asdict(problem) for problem in problems]}, log.exit_status()


def _evaluate_into(out: Path, pairs: MaskPairs, tolerance_mm: float) -> tuple[dict[str, Any], list[Entry], CaseLog]:
    file, settings = out / "evaluation_cases.csv", {"labels": dict(pairs.labels), "tolerance_mm": tolerance_mm}
    with lock_output(out):
        resumed = file.is_file()
        with CaseLog(file, key=settings_key([], settings)) as log:
            try:
                rows, summary, problems = _evaluate(pairs, tolerance_mm, log)
            except MedsegError as error:
                for name in WRITTEN if resumed and error.code == "nothing-compared" else ():
                    (out / name).unlink(missing_ok=True)  # results of masks that no longer exist
                raise
            write_evaluation(rows, summary, out)
    return summary, problems, log


def write_evaluation(rows: pd.DataFrame, summary: Mapping[str, Any], out: Path) -> None:
    """Write evaluation.csv and metrics.json to the folder `out`, each atomically."""
    atomic_write_text(out / "evaluation.csv", rows.to_csv(index=False, lineterminator="\n"))
    write_json(out / "metrics.json", summary)


def _pair(masks: Path, truth: Path) -> tuple[dict[str, Path], dict[str, Path]]:
    """Masks and reference masks by name; of two single files both get the reference's name."""
    predicted, references = (index_by_stem(root, find_images(root)) for root in (masks, truth))
    for root, files in ((masks, predicted), (truth, references)):
        if root.name.endswith(SEG) or (not files and next(root.rglob(f"*{SEG}"), None)):
            raise DataError(
                f"{root}: a DICOM SEG can be read only together with its image; write masks for evaluation as NIfTI",
                hint="output_format=nifti",
            )
    if masks.is_file() and truth.is_file():
        predicted = dict(zip(references, predicted.values(), strict=True))
    if not predicted.keys() & references.keys():
        raise DataError(
            f"{masks}: no mask has the name of a reference in {truth} (mask {next(iter(predicted), 'none')!r}, "
            f"reference {next(iter(references), 'none')!r}); paths below the folders must be the same, except for the "
            "suffix"
        )
    return predicted, references


def _compare(
    predicted: Path | None, truth: Path, labels: Mapping[str, int], tolerance_mm: float
) -> Iterator[tuple[str, dict[str, Any]]]:
    """Yield (suffix of the case's name, row) for each label and each frame of a sequence."""
    reference_frames = _read(truth, labels)
    predicted_frames = _read(predicted, labels) if predicted else [frame * 0 for frame in reference_frames]
    difference = grid_difference(predicted_frames[0], reference_frames[0])
    if len(predicted_frames) != len(reference_frames):
        difference = f"{len(predicted_frames)} frames against {len(reference_frames)}"
    if difference:
        raise ImageError(
            f"{predicted}: is not on the grid of its reference {truth}: {difference}", code="image-geometry"
        )
    for number, (mask, reference) in enumerate(zip(predicted_frames, reference_frames, strict=True)):
        for row in compare_masks(mask, reference, labels, tolerance_mm):
            yield f"_frame{number:03d}" if len(reference_frames) > 1 else "", row


def _read(path: Path, labels: Mapping[str, int]) -> list[sitk.Image]:
    """Read the frames of a mask; a mask of one label may use the value 255, as masks of 2D images often do."""
    mask = read_mask(path)
    values = list(labels.values())
    if len(values) == 1 and values_of(mask) == {255}:
        return [sitk.Cast(frame == 255, sitk.sitkUInt8) * values[0] for frame in frames(mask)]
    return frames(mask)


def _patients(truth: Path) -> dict[Path, str]:
    """Patient of each mask file, from the cases.csv in the reference folder or its parent."""
    for folder in (truth, truth.parent):
        if (folder / "cases.csv").is_file():
            cases = read_table(folder / "cases.csv").replace("", np.nan)
            if {"mask", "patient"} <= set(cases.columns):
                rows = cases.dropna(subset=["mask", "patient"])
                return {
                    (folder / mask).resolve(): patient
                    for mask, patient in zip(rows["mask"], rows["patient"], strict=True)
                }
    return {}
