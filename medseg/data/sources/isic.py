"""ISIC challenges 2016, 2017 and 2018: dermoscopy, a lesion mask each, benign or malignant where it was told."""

from __future__ import annotations

import csv
from pathlib import Path

from medseg.data.sources.layout import Mask, Row, Source, files_below, require, split_of

TREE = """  ISIC-2017_Training_Data/ISIC_0000000.jpg
  ISIC-2017_Training_Part1_GroundTruth/ISIC_0000000_segmentation.png
  ISIC-2017_Training_Part3_GroundTruth.csv"""
ILL = ("1", "1.0", "malignant")


def read_isic(raw: Path) -> Source:
    """Rows by image number; the split is that of the folder's name; label from the tables of task 3 (melanoma)."""
    images = {path.stem: path for path in files_below(raw, "ISIC_*.jpg", "ISIC_*.jpeg")}
    require(images, raw, TREE)
    found = {path.stem.lower().removesuffix("_segmentation"): path for path in files_below(raw, "*_segmentation.png")}
    labels = _labels(raw)
    rows = []
    for name, path in images.items():
        mask = found.get(name.lower())
        facts = {"patient": name, "label": labels.get(name, ""), "split": split_of(path.relative_to(raw))}
        rows.append(Row(name, {"": path}, {"": Mask((mask,))} if mask else {}, facts))
    return Source(rows, {"lesion": 255})


def _labels(raw: Path) -> dict[str, str]:
    """benign or malignant by image: second column of a table without heading (2016), `melanoma` or MEL (2017, 2018)."""
    labels = {}
    for file in files_below(raw, "*part3*groundtruth*.csv", "*task3*groundtruth*.csv"):
        with file.open(newline="", encoding="utf-8-sig") as text:
            lines = [line for line in csv.reader(text) if line]
        head = [cell.strip().lower() for cell in lines[0]]
        column = next((head.index(name) for name in ("melanoma", "mel") if name in head), None)
        for line in lines if column is None else lines[1:]:
            value = line[column or 1].strip().lower()
            labels[line[0].strip()] = "malignant" if value in ILL else "benign"
    return labels
