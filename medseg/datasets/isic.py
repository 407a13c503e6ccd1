"""ISIC challenges 2016, 2017 and 2018: dermoscopy, lesion masks, and benign or malignant if known."""

from __future__ import annotations

import csv
from pathlib import Path

from medseg.datasets.base import DatasetCase, DatasetIndex, Mask, files_below, require_tree, split_of, table

TREE = """  ISIC-2017_Training_Data/ISIC_0000000.jpg
  ISIC-2017_Training_Part1_GroundTruth/ISIC_0000000_segmentation.png
  ISIC-2017_Training_Part3_GroundTruth.csv   (2018: ISIC2018_Task3_Training_GroundTruth.csv, …_LesionGroupings.csv)"""
YES = ("1", "1.0", "malignant")
# actinic keratosis and Bowen's disease (AKIEC) are precancerous or carcinoma in situ, and are treated
MALIGNANT = ("melanoma", "mel", "bcc", "akiec")


def read_isic(raw: Path) -> DatasetIndex:
    """Rows by image number; the split is that of the folder's name; label from the tables of part 3 or task 3.

    Photographs of the same lesion by the table of groupings (2018) have the same patient.
    """
    images = {path.stem: path for path in files_below(raw, "ISIC_*.jpg", "ISIC_*.jpeg")}
    require_tree(images, raw, TREE)
    masks = {path.stem.lower().removesuffix("_segmentation"): path for path in files_below(raw, "*_segmentation.png")}
    diagnoses, lesions = _diagnoses(raw), _lesions(raw)
    rows = []
    for name, path in images.items():
        mask = masks.get(name.lower())
        facts = {"patient": lesions.get(name, name), **diagnoses.get(name, {"label": ""})}
        facts["split"] = split_of(path.relative_to(raw))
        rows.append(DatasetCase(name, {"": path}, {"": Mask((mask,))} if mask else {}, facts))
    return DatasetIndex(rows, {"lesion": 255})


def _diagnoses(raw: Path) -> dict[str, dict[str, str]]:
    """Label of each image, benign or malignant, and for 2018 its diagnosis.

    Second column of a table without header (2016), `melanoma` (2017), a column for each diagnosis (2018: MEL NV BCC
    AKIEC BKL DF VASC; a row without any stays blank).
    """
    diagnoses = {}
    for file in files_below(raw, "*part3*groundtruth*.csv", "*task3*groundtruth*.csv"):
        with file.open(newline="", encoding="utf-8-sig") as text:
            lines = [[cell.strip() for cell in line] for line in csv.reader(text) if line]
        head = [cell.lower() for cell in lines[0]] if lines else []
        bare = not set(MALIGNANT) & set(head)
        for line in lines if bare else lines[1:]:
            yes = [column for column, cell in enumerate(line) if 0 < column < len(head) and cell.lower() in YES]
            ill = bool(yes) if bare else any(head[column] in MALIGNANT for column in yes)
            facts = {"label": "malignant" if ill else "benign"}
            if "mel" in head:
                facts = {"label": facts["label"] if yes else "", "diagnosis": lines[0][yes[0]] if yes else ""}
            diagnoses[line[0]] = facts
    return diagnoses


def _lesions(raw: Path) -> dict[str, str]:
    """The lesion that each image shows, from ISIC2018_Task3_Training_LesionGroupings.csv."""
    lines = [line for file in files_below(raw, "*lesiongroupings*.csv") for line in table(file)]
    return {line["image"]: line["lesion_id"] for line in lines if line.get("image") and line.get("lesion_id")}
