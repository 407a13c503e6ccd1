"""`medseg data prepare`: convert a public dataset's official layout to one that medseg reads, without copies."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

from medseg.batch.case_log import CaseLog
from medseg.batch.runner import case_errors
from medseg.config.checks import did_you_mean
from medseg.data.duplicates import PerceptualHashes
from medseg.datasets.base import DatasetIndex, cases_csv, write_case
from medseg.datasets.brain_mri import read_brats, read_ibsr18, read_mrbrains
from medseg.datasets.breast_ultrasound import read_busbra, read_busi
from medseg.datasets.fundus import read_diaretdb1, read_drive, read_idrid_grading, read_idrid_seg
from medseg.datasets.isic import read_isic
from medseg.datasets.lctsc import read_lctsc
from medseg.datasets.nnunet import as_source
from medseg.datasets.ph2 import read_ph2
from medseg.errors import DataError
from medseg.utils.console import progress, say, warn
from medseg.utils.files import DRAFT, atomic_write_text, write_json

SOURCES: dict[str, Callable[[Path], DatasetIndex]] = {
    "isic2016": read_isic, "isic2017": read_isic, "isic2018": read_isic, "ph2": read_ph2,
    "idrid_seg": read_idrid_seg, "idrid_grading": read_idrid_grading, "diaretdb1": read_diaretdb1, "drive": read_drive,
    "busi": read_busi, "busbra": read_busbra, "brats": read_brats, "ibsr18": read_ibsr18, "mrbrains": read_mrbrains,
    "lctsc": read_lctsc, "nnunet": as_source,
}  # fmt: skip
OUTPUTS = (
    "images",
    "masks",
    "labels.json",
    "prepare.csv",
    "prepare.json",
    "duplicates.csv",
)  # before cases.csv


def prepare_dataset(name: str, raw: Path, out: Path) -> CaseLog:
    """Write images/ and masks/ (links if no conversion is needed), cases.csv and labels.json to `out`.

    One entry per case in prepare.csv: failed if it cannot be used, review if its image duplicates another patient's
    (duplicates.csv). An unfinished earlier output is replaced. Raises `DataError` for an unknown name, a `raw` folder
    without the dataset, or an `out` with a dataset or other files.
    """
    if name not in SOURCES:
        raise DataError(f"{name}: no such dataset{did_you_mean(name, list(SOURCES))} (known: {', '.join(SOURCES)})")
    if not raw.is_dir():
        raise DataError(f"{raw}: no such folder")
    leftovers = _unfinished_output(out)
    source = SOURCES[name](raw)
    for path in leftovers:
        shutil.rmtree(path) if path.is_dir() and not path.is_symlink() else path.unlink()
    log, lines, prints = CaseLog(out / "prepare.csv"), [], PerceptualHashes()
    log.amend([])  # marks `out` as an unfinished output
    with progress("prepare", len(source.rows)) as bar:
        for row in source.rows:
            image = next(iter(row.images.values()))
            with case_errors(log, row.case, image):
                lines.append(write_case(row, out))
                prints.add(row.case, row.facts.get("patient", row.case), image)
            bar.advance(1, row.case)
    if not lines:
        warn(f"{out}: no case could be used, so cases.csv is not written; {log.file} gives the reasons")
        return log
    if source.values:
        write_json(out / "labels.json", dict(source.values))
    report_duplicates(prints, out / "duplicates.csv", log)
    atomic_write_text(out / "cases.csv", cases_csv(lines))  # last: it marks the dataset as complete
    say(f"{len(lines)} cases in {out / 'cases.csv'}; check them with medseg data check {out} organ=NAME")
    return log


def _unfinished_output(out: Path) -> list[Path]:
    """Files of an interrupted run in `out`; `DataError` if it contains anything else."""
    paths = sorted(out.iterdir()) if out.is_dir() else []
    if out / "cases.csv" in paths:
        raise DataError(f"{out}: is not empty: it contains a dataset (cases.csv); delete it or choose a new folder")
    other_names = [path.name for path in paths if path.name not in OUTPUTS and not path.name.startswith(DRAFT)]
    if other_names or (paths and out / "prepare.csv" not in paths):
        raise DataError(f"{out}: is not empty ({(other_names or [paths[0].name])[0]}); choose a new folder")
    return paths


def report_duplicates(prints: PerceptualHashes, file: Path, log: CaseLog) -> None:
    """Write the duplicate pairs, and mark cases whose image duplicates another patient's for review."""
    twins = prints.twins()
    if not twins:
        return
    lines = ["case_a,case_b,kind,same_patient", *(f"{t.one},{t.other},{t.kind},{t.same_patient}" for t in twins)]
    atomic_write_text(file, "\n".join(lines) + "\n")
    reasons: dict[str, str] = {}
    for twin in twins:
        for case, other in ((twin.one, twin.other), (twin.other, twin.one)):
            if not twin.same_patient:
                reasons.setdefault(case, f"{twin.kind} duplicate of {other} of another patient")
    log.review(reasons)
    warn(f"{len(twins)} pairs of duplicate images, {len(reasons)} cases among them of different patients: see {file}")
