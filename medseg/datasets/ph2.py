"""PH2: 200 dermoscopic images, each with a lesion mask and a diagnosis."""

from __future__ import annotations

from pathlib import Path

from medseg.datasets.base import DatasetCase, DatasetIndex, Mask, files_below, require_tree

TREE = """  PH2 Dataset images/IMD002/IMD002_Dermoscopic_Image/IMD002.bmp
  PH2 Dataset images/IMD002/IMD002_lesion/IMD002_lesion.bmp
  PH2_dataset.txt"""
DIAGNOSES = {"0": "common nevus", "1": "atypical nevus", "2": "melanoma"}


def read_ph2(raw: Path) -> DatasetIndex:
    """Rows by image; label malignant for melanoma, the diagnosis in a separate column."""
    images = {path.stem: path for path in files_below(raw, "IMD*.bmp") if path.parent.name.endswith("_Image")}
    require_tree(images, raw, TREE)
    masks = {path.stem.removesuffix("_lesion"): path for path in files_below(raw, "IMD*_lesion.bmp")}
    diagnoses = _diagnoses(raw)
    rows = []
    for name, path in images.items():
        diagnosis = diagnoses.get(name, "")
        label = "" if not diagnosis else "malignant" if diagnosis == "melanoma" else "benign"
        facts = {"patient": name, "label": label, "diagnosis": diagnosis}
        rows.append(DatasetCase(name, {"": path}, {"": Mask((masks[name],), level=1)} if name in masks else {}, facts))
    return DatasetIndex(rows, {"lesion": 255})


def _diagnoses(raw: Path) -> dict[str, str]:
    """The column `Clinical Diagnosis` of PH2_dataset.txt, a table drawn with ||."""
    diagnoses = {}
    for file in files_below(raw, "PH2_dataset.txt"):
        lines = [[cell.strip() for cell in line.strip().strip("|").split("||")] for line in _text(file).splitlines()]
        head = next((line for line in lines if "Clinical Diagnosis" in line), [])
        for line in lines:
            if line and line[0].startswith("IMD") and len(line) == len(head):
                diagnoses[line[0]] = DIAGNOSES.get(line[head.index("Clinical Diagnosis")], "")
    return diagnoses


def _text(file: Path) -> str:
    return file.read_text(encoding="utf-8", errors="replace")
