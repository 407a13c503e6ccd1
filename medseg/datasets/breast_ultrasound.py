"""Breast ultrasound: BUSI and BUS-BRA."""

from __future__ import annotations

import re
from pathlib import Path

from medseg.datasets.base import DatasetCase, DatasetIndex, Mask, files_below, require_tree, table

BUSI_TREE = """  Dataset_BUSI_with_GT/benign/benign (1).png
  Dataset_BUSI_with_GT/benign/benign (1)_mask.png"""
BUSBRA_TREE = """  Images/bus_0001-l.png
  Masks/mask_0001-l.png
  bus_data.csv"""
CLASSES = ("benign", "malignant", "normal")


def read_busi(raw: Path) -> DatasetIndex:
    """The class is the folder's name; several tumour masks of an image are merged. Patients are unknown."""
    files = [path for path in files_below(raw, "*.png") if path.parent.name.lower() in CLASSES]
    images = [path for path in files if "_mask" not in path.stem]
    require_tree(images, raw, BUSI_TREE)
    rows = []
    for path in images:
        mask_files = tuple(p for p in files if p.parent == path.parent and re.fullmatch(_masks_of(path.stem), p.stem))
        name = re.sub(r"[^\w\-]+", "_", path.stem).strip("_")
        facts = {"patient": name, "label": path.parent.name.lower()}
        rows.append(DatasetCase(name, {"": path}, {"": Mask(mask_files, level=1)} if mask_files else {}, facts))
    return DatasetIndex(rows, {"tumour": 255})


def _masks_of(stem: str) -> str:
    return re.escape(stem) + r"_mask(_\d+)?"


def read_busbra(raw: Path) -> DatasetIndex:
    """Patient and pathology from bus_data.csv."""
    images = {path.stem.removeprefix("bus_"): path for path in files_below(raw, "bus_*.png")}
    require_tree(images, raw, BUSBRA_TREE)
    masks = {path.stem.removeprefix("mask_"): path for path in files_below(raw, "mask_*.png")}
    records: dict[str, dict[str, str]] = {}
    for file in files_below(raw, "bus_data.csv"):
        records |= {line.get("ID", "").removeprefix("bus_"): line for line in table(file)}
    rows = []
    for name, path in images.items():
        line = records.get(name, {})
        facts = {"patient": line.get("Case") or name.split("-")[0], "label": line.get("Pathology", "").lower()}
        facts["birads"] = line.get("BIRADS", "")
        rows.append(
            DatasetCase(path.stem, {"": path}, {"": Mask((masks[name],), level=1)} if name in masks else {}, facts)
        )
    return DatasetIndex(rows, {"tumour": 255})
