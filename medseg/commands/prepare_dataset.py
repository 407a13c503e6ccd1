"""`medseg data prepare`: a public dataset in its official layout as a dataset that medseg reads, without copies."""

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
MADE = ("images", "masks", "labels.json", "prepare.csv", "prepare.json", "duplicates.csv")  # in OUT, before cases.csv


def prepare_dataset(name: str, raw: Path, out: Path) -> CaseLog:
    """Write OUT: images/ and masks/ (links where the files can stand as they are), cases.csv, labels.json.

    One entry a case in OUT/prepare.csv: failed where it cannot be used, review where it repeats another patient's
    image (duplicates.csv). What an earlier try left in OUT without coming to cases.csv is made anew. Raises `DataError`
    for an unknown name, a folder that holds nothing of the dataset and an OUT that holds one already, or other things.
    """
    if name not in SOURCES:
        raise DataError(f"{name}: no such dataset{did_you_mean(name, list(SOURCES))} (known: {', '.join(SOURCES)})")
    if not raw.is_dir():
        raise DataError(f"{raw}: no such folder")
    left = _left_behind(out)
    source = SOURCES[name](raw)
    for path in left:
        shutil.rmtree(path) if path.is_dir() and not path.is_symlink() else path.unlink()
    ledger, lines, prints = CaseLog(out / "prepare.csv"), [], PerceptualHashes()
    ledger.amend([])  # from here on OUT is known as begun
    with progress("prepare", len(source.rows)) as bar:
        for row in source.rows:
            image = next(iter(row.images.values()))
            with case_errors(ledger, row.case, image):
                lines.append(write_case(row, out))
                prints.add(row.case, row.facts.get("patient", row.case), image)
            bar.advance(1, row.case)
    if not lines:
        warn(f"{out}: no case could be used, so that there is no cases.csv; {ledger.file} says why")
        return ledger
    if source.values:
        write_json(out / "labels.json", dict(source.values))
    report_duplicates(prints, out / "duplicates.csv", ledger)
    atomic_write_text(out / "cases.csv", cases_csv(lines))  # last: it says that the dataset is whole
    say(f"{len(lines)} cases in {out / 'cases.csv'}; look at them with medseg data check {out} organ=NAME")
    return ledger


def _left_behind(out: Path) -> list[Path]:
    """What a try that was cut short left in `out`; `DataError` where something else is there."""
    found = sorted(out.iterdir()) if out.is_dir() else []
    if out / "cases.csv" in found:
        raise DataError(
            f"{out}: is not empty: it holds a dataset already (cases.csv); delete it or choose a new folder"
        )
    strange = [path.name for path in found if path.name not in MADE and not path.name.startswith(DRAFT)]
    if strange or (found and out / "prepare.csv" not in found):
        raise DataError(f"{out}: is not empty ({(strange or [found[0].name])[0]}); choose a new folder")
    return found


def report_duplicates(prints: PerceptualHashes, file: Path, ledger: CaseLog) -> None:
    """Write the pairs that show the same, and mark cases that repeat another patient's image."""
    twins = prints.twins()
    if not twins:
        return
    lines = ["case_a,case_b,kind,same_patient", *(f"{t.one},{t.other},{t.kind},{t.same_patient}" for t in twins)]
    atomic_write_text(file, "\n".join(lines) + "\n")
    reasons: dict[str, str] = {}
    for twin in twins:
        for case, other in ((twin.one, twin.other), (twin.other, twin.one)):
            if not twin.same_patient:
                reasons.setdefault(case, f"{twin.kind} duplicate of {other}, which is another patient's")
    ledger.review(reasons)
    warn(f"{len(twins)} pairs of images show the same, {len(reasons)} cases of other patients among them: see {file}")
