from pathlib import Path

import pytest

from medseg.data.cases import Case
from medseg.data.splits import evaluation_split, fold_cases, split_cases, split_table
from medseg.errors import DataError


def cases_of(labels: dict[str, str | None]) -> list[Case]:
    return [Case(p, p, {"c": Path(p)}, label=label) for p, label in labels.items()]


def test_a_split_is_by_patient_stratified_and_repeatable() -> None:
    cases = cases_of({f"b{n}": "benign" for n in range(20)} | {f"m{n}": "malignant" for n in range(10)})
    split = split_cases(cases, 0.2, seed=3)
    held = [case for case in split if case.split == "test"]
    assert [sum(c.label == name for c in held) for name in ("benign", "malignant")] == [4, 2]
    assert split == split_cases(cases, 0.2, seed=3)
    assert split != split_cases(cases, 0.2, seed=4)
    assert evaluation_split(split) == "test"
    assert set(split_table(split)["split"]) == {"train", "test"}


def test_frames_of_a_patient_never_part() -> None:
    cases = [Case(f"c{p}", f"P{p}", {"c": Path("x")}, frame=f) for p in range(5) for f in range(4)]
    split = split_cases(cases, 0.2, seed=1)
    assert len({(c.patient, c.split) for c in split}) == 5
    assert sorted(str(c.split) for c in split) == ["test"] * 4 + ["train"] * 16  # one patient is held out, whole


def test_a_few_patients_still_leave_one_for_the_report() -> None:
    split = split_cases(cases_of({"a": None, "b": None}), 0.2, seed=1)
    assert sorted(str(case.split) for case in split) == ["test", "train"]


def test_a_torn_patient_and_an_empty_side_are_errors() -> None:
    torn = [Case("a", "P", {"c": Path("x")}, split="train"), Case("b", "P", {"c": Path("x")}, split="test")]
    with pytest.raises(DataError, match="patient P is in test and train"):
        split_cases(torn, 0.2, 1)
    with pytest.raises(DataError, match="no case is in split 'train'"):
        split_cases([Case("a", "P", {"c": Path("x")}, split="test")], 0.2, 1)


def test_folds_test_each_patient_once_and_every_class_in_each() -> None:
    cases = [Case(f"c{n}", f"p{n // 2}", {"ct": Path("x")}, label="ill" if n < 8 else "well") for n in range(24)]
    held = []
    for fold in range(4):
        found = fold_cases(cases, 4, fold, seed=1)
        test = {case.patient for case in found if case.split == "test"}
        assert test.isdisjoint({case.patient for case in found if case.split == "train"})
        assert {case.label for case in found if case.split == "test"} == {"ill", "well"}
        held += sorted(test)
    assert sorted(held) == sorted({case.patient for case in cases})
    with pytest.raises(DataError, match="fold"):
        fold_cases(cases, 13, 0, seed=1)


def test_a_rule_may_be_tested_on_everything() -> None:
    cases = [Case("a", "a", {"ct": Path("x")}, split="train"), Case("b", "b", {"ct": Path("x")})]
    assert {case.split for case in split_cases(cases, 1.0, 1)} == {"test"}


def test_folds_differ_by_at_most_one_patient_of_each_class() -> None:
    labels = ["a"] * 13 + ["b"] * 7 + ["c"] * 5
    cases = [Case(f"c{n}", f"p{n}", {"ct": Path("x")}, label=label) for n, label in enumerate(labels)]
    for name, total in (("a", 13), ("b", 7), ("c", 5)):
        counts = [
            sum(case.split == "test" and case.label == name for case in fold_cases(cases, 5, fold, seed=2))
            for fold in range(5)
        ]
        assert sum(counts) == total
        assert max(counts) - min(counts) <= 1
    sizes = [sum(case.split == "test" for case in fold_cases(cases, 5, fold, seed=2)) for fold in range(5)]
    assert sizes == [5] * 5


def test_hold_out_of_patients_with_several_cases_keeps_each_on_one_side() -> None:
    cases = [
        Case(f"c{p}_{v}", f"P{p}", {"c": Path("x")}, label="ill" if p < 10 else "well")
        for p in range(20)
        for v in range(3)
    ]
    split = split_cases(cases, 0.2, seed=1)
    held = {case.patient for case in split if case.split == "test"}
    assert len(held) == 4  # a fifth of the patients, two of each class
    assert sum(int(patient[1:]) < 10 for patient in held) == 2
    assert [case.split for case in split] == ["test" if case.patient in held else "train" for case in cases]
