"""Folds by patient, stratified by class."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from medseg.data.splits import stratified_group_folds
from medseg.diagnosis.sequence_dataset import UNKNOWN
from medseg.errors import DataError
from medseg.typing import IntArray


def patient_folds(y: IntArray, patients: npt.NDArray[Any], folds: int, seed: int) -> list[npt.NDArray[np.intp]]:
    """Rows of each fold, stratified, whole patients. `DataError` (few-patients) if a class has fewer than two."""
    known = y != UNKNOWN
    patients_per_class = [len(set(patients[y == k])) for k in np.unique(y[known])]
    count = min(folds, *patients_per_class)
    if count < 2:
        raise DataError(
            "out-of-fold calibration needs two training patients of each class that occurs; "
            f"there are {sorted(patients_per_class)}: add cases, or use classifier=sequence_lstm, "
            "which then goes without",
            code="few-patients",
        )
    return [fold for _, fold in stratified_group_folds(y, patients, count, seed)]
