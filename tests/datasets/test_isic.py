"""Diagnoses and lesions of ISIC 2018."""

import csv
from pathlib import Path

from medseg.commands.prepare_dataset import prepare_dataset
from medseg.data.ground_truth import read_ground_truth
from medseg.data.readers import read_cases
from medseg.io.image import read_image
from medseg.io.labels import Labels
from tests.commands.test_prepare_dataset import isic2018, text

KINDS = ("MEL", "NV", "BCC", "AKIEC", "BKL", "DF", "VASC")


def test_read_isic_2018_keeps_diagnosis_and_lesion(tmp_path: Path) -> None:
    isic2018(tmp_path / "raw")
    prepare_dataset("isic2018", tmp_path / "raw", tmp_path / "out")
    with (tmp_path / "out" / "cases.csv").open() as file:
        rows = {row["case"]: row for row in csv.DictReader(file)}
    assert [rows[f"ISIC_002430{n}"]["diagnosis"] for n in range(8)] == [*KINDS, "NV"]
    assert rows["ISIC_0024301"]["patient"] == rows["ISIC_0024307"]["patient"] == "HAM_0003577"
    assert rows["ISIC_0024302"]["patient"] == "ISIC_0024302"  # not in the table: by itself
    case = next(case for case in read_cases(tmp_path / "out", ["photo"]) if case.annotated)
    assert case.id == "ISIC_0000000"
    mask = read_ground_truth(case, read_image(case.image), Labels({"lesion": 1})).mask
    assert mask[5, 3] == 1


def test_read_isic_row_without_diagnosis_has_no_label(tmp_path: Path) -> None:
    isic2018(tmp_path / "raw")
    file = tmp_path / "raw" / "ISIC2018_Task3_Training_GroundTruth" / "ISIC2018_Task3_Training_GroundTruth.csv"
    text(file, "image,MEL,NV,BCC,AKIEC,BKL,DF,VASC", "ISIC_0024300,0.0,0.0,0.0,0.0,0.0,0.0,0.0")
    prepare_dataset("isic2018", tmp_path / "raw", tmp_path / "out")
    assert {case.label for case in read_cases(tmp_path / "out", ["photo"])} == {None}
