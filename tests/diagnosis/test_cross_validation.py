"""Folds of rows, whole patients together."""

import numpy as np
import pytest

from medseg.data.splits import stratified_group_folds
from medseg.diagnosis.cross_validation import patient_folds
from medseg.diagnosis.sequence_dataset import UNKNOWN
from medseg.errors import DataError


def rows(seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Classes and patients of 120 rows; a third is of the rarer class."""
    random = np.random.default_rng(seed)
    patients = np.repeat([f"p{number}" for number in range(30)], 4)
    return np.repeat(random.permutation(30) < 10, 4).astype(int), patients


@pytest.mark.parametrize("seed", [None, 0, 1])
def test_stratified_group_folds_part_no_patient_and_spread_classes(seed: int | None) -> None:
    truth, patients = rows(7)
    folds = stratified_group_folds(truth, patients, 5, seed)
    assert sorted(np.concatenate([held for _, held in folds])) == list(range(120))
    for train, held in folds:
        assert not set(patients[train]) & set(patients[held])
        assert len(train) + len(held) == 120
        assert truth[held].sum() == 8  # two of ten patients, four rows each


def test_stratified_group_folds_are_the_same_again_and_others_with_another_seed() -> None:
    truth, patients = rows(7)
    first, same, other = (
        [held.tolist() for _, held in stratified_group_folds(truth, patients, 5, s)] for s in (0, 0, 1)
    )
    assert first == same != other


def test_patient_folds_counts_patients_with_known_classes() -> None:
    truth, patients = np.array([0, 0, 1, 1, UNKNOWN, UNKNOWN]), np.array(list("abcdef"))
    folds = patient_folds(truth, patients, 5, 0)
    assert len(folds) == 2
    assert all({0, 1} <= set(truth[fold].tolist()) for fold in folds)
    with pytest.raises(DataError, match="two training patients"):
        patient_folds(truth, np.array(list("aacdef")), 5, 0)
