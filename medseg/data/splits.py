"""Split cases into training and test patients."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import numpy.typing as npt
import pandas as pd

from medseg.data.cases import Case
from medseg.errors import DataError

IndexArray = npt.NDArray[np.intp]


def split_cases(cases: list[Case], holdout: float, seed: int) -> list[Case]:
    """Assign each case a split, by patient: its own if given, else a fraction `holdout` to test, stratified by class.

    With `holdout` 1 every case is tested, whatever split it has: for methods without training.

    Raises `DataError` where a patient is in several splits or no case is in train.
    """
    if holdout == 1:
        return [replace(case, split="test") for case in cases]
    if any(case.split for case in cases):
        cases = [replace(case, split=case.split or "train") for case in cases]
    else:
        held = _hold_out(cases, holdout, seed)
        cases = [replace(case, split="test" if case.patient in held else "train") for case in cases]
    splits_of_patient: dict[str, set[str]] = {}
    for case in cases:
        splits_of_patient.setdefault(case.patient, set()).add(str(case.split))
    in_several_splits = [patient for patient, names in splits_of_patient.items() if len(names) > 1]
    if in_several_splits:
        raise DataError(
            f"patient {in_several_splits[0]} is in {' and '.join(sorted(splits_of_patient[in_several_splits[0]]))}: "
            "a patient must be in one split; correct the split column"
        )
    if not any(case.split == "train" for case in cases):
        raise DataError(
            "no case is in split 'train'; data.split_column=none draws the test patients, and data.test_fraction=1 "
            "evaluates a segmenter without training on all cases"
        )
    return cases


def fold_cases(cases: list[Case], folds: int, fold: int, seed: int) -> list[Case]:
    """Cases with `fold` of `folds` in split test and the rest in train, by patient; each patient is tested once.

    With as many folds as patients, each fold leaves one patient out. Raises `DataError` for fewer
    patients than folds.
    """
    patients = sorted({case.patient for case in cases})
    if not 0 <= fold < folds <= len(patients):
        raise DataError(f"data.fold={fold} of data.n_folds={folds}: {len(patients)} patients allow folds 0 to fewer")
    held: set[str] = set()
    offset = 0
    for group in _classes(cases):  # class by class, so that classes are spread evenly over the folds
        shuffled = np.random.default_rng(seed).permutation(group)
        held |= {str(name) for position, name in enumerate(shuffled, offset) if position % folds == fold}
        offset += len(group)
    return [replace(case, split="test" if case.patient in held else "train") for case in cases]


def stratified_group_folds(
    classes: npt.ArrayLike, groups: npt.ArrayLike, folds: int, seed: int | None = None
) -> list[tuple[IndexArray, IndexArray]]:
    """(training rows, held-out rows) of each fold of N rows: by group (N,), stratified by class (N,).

    With a seed, groups of equal composition are shuffled. `fold_cases` balances better where a patient is one row:
    there no two folds differ by more than a patient of any class, and as many folds as patients are allowed.
    """
    from sklearn.model_selection import StratifiedGroupKFold

    splitter = StratifiedGroupKFold(folds, shuffle=seed is not None, random_state=seed)
    truth = np.asarray(classes)
    return list(splitter.split(np.zeros(len(truth)), truth, np.asarray(groups)))


def evaluation_split(cases: list[Case]) -> str | None:
    """The split that is evaluated: test, else valid, else None."""
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


def _hold_out(cases: list[Case], fraction: float, seed: int) -> set[str]:
    """Draw the patients to hold out, stratified by class."""
    groups = _classes(cases)
    rng = np.random.default_rng(seed)
    held: set[str] = set()
    for patients in groups:
        n_held_out = round(fraction * len(patients))
        held |= {str(name) for name in rng.permutation(patients)[:n_held_out]}
    all_patients = sorted(name for patients in groups for name in patients)
    if not held and fraction > 0 and len(all_patients) > 1:
        held = {str(rng.permutation(all_patients)[0])}
    return held


def split_table(cases: list[Case]) -> pd.DataFrame:
    """The table split.csv: the split of each case, with its files."""
    rows = [
        {"case": c.id, "patient": c.patient, "frame": c.frame, "split": c.split, "image": str(c.image.resolve()),
         "mask": ";".join(str(path.resolve()) for path in c.truth_files()) or None, "label": c.label}
        for c in cases
    ]  # fmt: skip
    return pd.DataFrame(rows)
