"""Cases, and how they are split by patient."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np
import pandas as pd

from medseg.errors import DataError

SPLIT_NAMES = {
    "train": "train",
    "training": "train",
    "val": "valid",
    "valid": "valid",
    "validation": "valid",
    "test": "test",
}

# what a frame of a sequence may be called: frame_003, phase07, time_12, phase50%; t1 and t2 are MRI weightings
FRAME = re.compile(r"(?:^|[_\-. ])(?:frame|phase|time)[_\-]?(\d{1,4})(?:pct|%)?$", re.IGNORECASE)


@dataclass(frozen=True)
class Case:
    """One image, or one frame of a sequence, and what is known of it.

    Rows that share an `id` and differ in `frame` form one sequence; rows that share a `patient` never part.
    """

    id: str
    patient: str
    images: dict[str, Path]
    mask: Path | None = None  # a label map
    masks: Mapping[str, Path | None] = field(default_factory=dict)  # a file a label; None: looked at, not there
    values: Mapping[str, tuple[int, ...]] | None = None  # what the pixels of `mask` mean, by label name
    label: str | None = None
    frame: int | None = None
    time: float | None = None  # s
    signal: float | None = None  # respiratory signal, larger = more air
    split: str | None = None

    @property
    def name(self) -> str:
        """Unique within a dataset: the id, with the frame where there is one."""
        return self.id if self.frame is None else f"{self.id}_frame{self.frame:03d}"

    @property
    def image(self) -> Path:
        """The first channel's file."""
        return next(iter(self.images.values()))

    @property
    def annotated(self) -> bool:
        """Whether any label is known in it."""
        return self.mask is not None or bool(self.masks)

    def truth_files(self) -> list[Path]:
        """The mask files there are."""
        return [path for path in (self.mask, *self.masks.values()) if path is not None]


@dataclass(frozen=True)
class Columns:
    """How a user's tables name things."""

    split: str = "split"
    label: str = "label"
    patient: str = "patient"
    mask_suffix: str | Mapping[str, str] | None = None  # after the image's name; or a suffix for each label
    missing_mask: str = "unannotated"  # of a label's own file that is not there: unannotated | absent
    mask_values: Mapping[str, int | list[int]] | None = None  # pixel values of each label, by name


def frame_of(name: str) -> tuple[str, int | None]:
    """The sequence and frame that a name means: ``P1/frame_003`` → (P1, 3); ``scan12`` → (scan12, None)."""
    folder, _, file = name.rpartition("/")
    found = FRAME.search(file)
    if found is None:
        return name, None
    rest = file[: found.start()]
    case = "/".join(part for part in (folder, rest) if part)
    return case or name, int(found.group(1))


def split_cases(cases: list[Case], holdout: float, seed: int) -> list[Case]:
    """Cases with a split each, by patient: the given one, else `holdout` of the patients to test, per class alike.

    With `holdout` 1 every case is tested, whatever split it has: for rules that learn nothing.

    Raises `DataError` where a patient stands on both sides or a side is empty.
    """
    if holdout == 1:
        return [replace(case, split="test") for case in cases]
    if any(case.split for case in cases):
        cases = [replace(case, split=case.split or "train") for case in cases]
    else:
        held = _hold_out(cases, holdout, seed)
        cases = [replace(case, split="test" if case.patient in held else "train") for case in cases]
    sides: dict[str, set[str]] = {}
    for case in cases:
        sides.setdefault(case.patient, set()).add(str(case.split))
    torn = [patient for patient, names in sides.items() if len(names) > 1]
    if torn:
        raise DataError(
            f"patient {torn[0]} is in {' and '.join(sorted(sides[torn[0]]))}: a patient must be on one side"
        )
    if not any(case.split == "train" for case in cases):
        raise DataError(
            "no case is in split 'train'; data.split_column=none draws who is held out, and data.holdout=1 measures a "
            "segmenter that learns nothing on all"
        )
    return cases


def fold_cases(cases: list[Case], folds: int, fold: int, seed: int) -> list[Case]:
    """Cases with `fold` of `folds` in split test and the rest in train, by patient; each patient is tested once.

    As many folds as patients is leave one patient out. Raises `DataError` where there are fewer patients than folds.
    """
    patients = sorted({case.patient for case in cases})
    if not 0 <= fold < folds <= len(patients):
        raise DataError(f"data.fold={fold} of data.folds={folds}: {len(patients)} patients allow folds 0 to fewer")
    held: set[str] = set()
    offset = 0
    for group in _classes(cases):  # classes one after the other, so that each fold has its share of each
        shuffled = np.random.default_rng(seed).permutation(group)
        held |= {str(name) for place, name in enumerate(shuffled, offset) if place % folds == fold}
        offset += len(group)
    return [replace(case, split="test" if case.patient in held else "train") for case in cases]


def report_split(cases: list[Case]) -> str | None:
    """The split whose numbers are reported: test, else valid, else none."""
    names = {case.split for case in cases}
    return next((name for name in ("test", "valid") if name in names), None)


def _classes(cases: list[Case]) -> list[list[str]]:
    """Patients of each class; a class is the patient's set of labels."""
    classes: dict[str, set[str]] = {}
    for case in cases:
        classes.setdefault(case.patient, set()).add(case.label or "")
    groups: dict[tuple[str, ...], list[str]] = {}
    for patient, labels in sorted(classes.items()):
        groups.setdefault(tuple(sorted(labels)), []).append(patient)
    return [patients for _, patients in sorted(groups.items())]


def _hold_out(cases: list[Case], share: float, seed: int) -> set[str]:
    """Patients held out, drawn from each class alike."""
    groups = _classes(cases)
    rng = np.random.default_rng(seed)
    held: set[str] = set()
    for patients in groups:
        wanted = round(share * len(patients))
        held |= {str(name) for name in rng.permutation(patients)[:wanted]}
    everyone = sorted(name for patients in groups for name in patients)
    if not held and share > 0 and len(everyone) > 1:
        held = {str(rng.permutation(everyone)[0])}
    return held


def split_table(cases: list[Case]) -> pd.DataFrame:
    """split.csv: where each case stood, with its files."""
    rows = [
        {"case": c.id, "patient": c.patient, "frame": c.frame, "split": c.split, "image": str(c.image.resolve()),
         "mask": ";".join(str(path.resolve()) for path in c.truth_files()) or None, "label": c.label}
        for c in cases
    ]  # fmt: skip
    return pd.DataFrame(rows)
