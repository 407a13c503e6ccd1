"""Fundus photographs: IDRiD (segmentation and grading), DIARETDB1, DRIVE."""

from __future__ import annotations

import re
from pathlib import Path

from medseg.datasets.base import DatasetCase, DatasetIndex, Mask, files_below, require_tree, split_of, table

IDRID_TREE = """  1. Original Images/a. Training Set/IDRiD_01.jpg
  2. All Segmentation Groundtruths/a. Training Set/3. Hard Exudates/IDRiD_01_EX.tif"""
GRADING_TREE = """  1. Original Images/a. Training Set/IDRiD_001.jpg
  2. Groundtruths/a. IDRiD_Disease Grading_Training Labels.csv"""
DIARETDB1_TREE = """  ddb1_fundusimages/image001.png
  ddb1_groundtruth/hardexudates/image001.png"""
DRIVE_TREE = """  training/images/21_training.tif
  training/1st_manual/21_manual1.gif"""
IDRID = {
    "_MA": "microaneurysms", "_HE": "haemorrhages", "_EX": "hard_exudates", "_SE": "soft_exudates", "_OD": "optic_disc",
}  # fmt: skip
DIARETDB1 = {
    "hardexudates": "hard_exudates", "softexudates": "soft_exudates", "hemorrhages": "haemorrhages",
    "redsmalldots": "microaneurysms",
}  # fmt: skip
CONSENSUS = 191  # of 255: agreement of 75 % of the four experts, the level of DIARETDB1's evaluation


def read_idrid_seg(raw: Path) -> DatasetIndex:
    """One mask file per type of lesion; a type without a file is absent.

    The images of this part have two digits; those of the grading and localisation parts have three and no outlines. An
    image without any file, and a type without files in the whole set, were not annotated.
    """
    images = [path for path in files_below(raw, "IDRiD_*.jpg") if re.fullmatch(r"IDRiD_\d\d", path.stem, re.IGNORECASE)]
    require_tree(images, raw, IDRID_TREE)
    masks = {path.stem.lower(): path for path in files_below(raw, "IDRiD_*.tif")}
    require_tree(masks, raw, IDRID_TREE)
    annotated = {end: label for end, label in IDRID.items() if any(name.endswith(end.lower()) for name in masks)}
    rows = []
    for path in images:
        files = {label: masks.get((path.stem + end).lower()) for end, label in annotated.items()}
        lesion_masks = {label: Mask((file,), level=1) if file else None for label, file in files.items()}
        lesion_masks = lesion_masks if any(lesion_masks.values()) else {}
        rows.append(
            DatasetCase(
                path.stem, {"": path}, lesion_masks, {"patient": path.stem, "split": split_of(path.relative_to(raw))}
            )
        )
    return DatasetIndex(rows)


def read_idrid_grading(raw: Path) -> DatasetIndex:
    """Grades of retinopathy 0 … 4 as label, and risk of macular oedema; names repeat between the two sets."""
    images = {(split_of(path.relative_to(raw)), path.stem): path for path in files_below(raw, "IDRiD_*.jpg")}
    require_tree(images, raw, GRADING_TREE)
    tables = files_below(raw, "*grading*labels*.csv")
    require_tree(tables, raw, GRADING_TREE)
    rows = []
    for file in tables:
        split = split_of(Path(file.name))
        for line in table(file):
            name = line.get("Image name", "")
            if (split, name) not in images:
                continue
            facts = {"patient": f"{split}_{name}", "label": line.get("Retinopathy grade", ""), "split": split}
            facts["macular_oedema_risk"] = line.get("Risk of macular edema", "")
            rows.append(DatasetCase(f"{split}_{name}", {"": images[split, name]}, {}, facts))
    return DatasetIndex(rows)


def read_diaretdb1(raw: Path) -> DatasetIndex:
    """Experts' consensus per type of lesion, with a threshold of 75 %; the split is from the lists of the dataset."""
    images = [path for path in files_below(raw, "image*.png") if path.parent.name == "ddb1_fundusimages"]
    require_tree(images, raw, DIARETDB1_TREE)
    marks = {(path.parent.name, path.stem): path for path in files_below(raw, "image*.png") if path not in images}
    splits = {}
    for file in files_below(raw, "*train*.txt", "*test*.txt"):
        for name in re.findall(r"image\d+", file.read_text(encoding="utf-8", errors="replace")):
            splits[name] = split_of(Path(file.name))
    rows = []
    for path in images:
        files = {label: marks.get((folder, path.stem)) for folder, label in DIARETDB1.items()}
        lesion_masks = {label: Mask((file,), level=CONSENSUS) if file else None for label, file in files.items()}
        facts = {"patient": path.stem, "split": splits.get(path.stem, "")}
        rows.append(DatasetCase(path.stem, {"": path}, lesion_masks, facts))
    return DatasetIndex(rows)


def read_drive(raw: Path) -> DatasetIndex:
    """Vessels by the first observer; the file number is the patient's."""
    images = files_below(raw, "*_training.tif", "*_test.tif")
    require_tree(images, raw, DRIVE_TREE)
    manual = {path.stem.split("_")[0]: path for path in files_below(raw, "*_manual1.gif")}
    rows = []
    for path in images:
        number = path.stem.split("_")[0]
        vessel_masks = {"": Mask((manual[number],), level=1)} if number in manual else {}
        facts = {"patient": number, "split": split_of(path.relative_to(raw))}
        rows.append(DatasetCase(path.stem, {"": path}, vessel_masks, facts))
    return DatasetIndex(rows, {"vessels": 255})
