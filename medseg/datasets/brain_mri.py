"""Brain MRI: BraTS, IBSR18, MRBrainS 2013 and 2018."""

from __future__ import annotations

import re
from collections import Counter
from pathlib import Path

from medseg.datasets.base import DatasetCase, DatasetIndex, Mask, Values, files_below, raise_later, require_tree, table
from medseg.errors import DataError

BRATS_TREE = """  HGG/BraTS19_XXX_1/BraTS19_XXX_1_flair.nii.gz   (or without HGG and LGG)
  HGG/BraTS19_XXX_1/BraTS19_XXX_1_t1ce.nii.gz
  HGG/BraTS19_XXX_1/BraTS19_XXX_1_seg.nii.gz
  HGG/brats_2013_pat0001_1/VSD.Brain.XX.O.MR_Flair.54512/VSD.Brain.XX.O.MR_Flair.54512.mha   (2015)"""
IBSR_TREE = """  IBSR_01/IBSR_01_ana.nii.gz   (or IBSR_01_ana_strip.nii.gz)
  IBSR_01/IBSR_01_segTRI_ana.nii.gz"""
MRBRAINS_TREE = """  TrainingData/1/T1.nii, T2_FLAIR.nii, LabelsForTesting.nii   (2013)
  training/1/pre/T1.nii.gz, training/1/segm.nii.gz            (2018)"""
CHANNELS = {"flair": "flair", "t2f": "flair", "t1": "t1", "t1n": "t1", "t1ce": "t1c", "t1c": "t1c", "t1gd": "t1c"}
CHANNELS |= {"t2": "t2", "t2w": "t2"}


def read_brats(raw: Path) -> DatasetIndex:
    """Channels flair, t1, t1c, t2 of every year's names; grade HGG or LGG as label.

    Until 2022 the enhancing tumour is 4 (2015 also has 3, not enhancing), from 2023 on it is 3, which the names tell.
    """
    cases: dict[Path, dict[str, Path]] = {}
    for path in files_below(raw, "*.nii.gz", "*.nii", "VSD.*.mha"):
        folder, name_ = _parse_path(path)
        cases.setdefault(folder, {})[name_] = path
    cases = {folder: files for folder, files in cases.items() if CHANNELS.keys() & files.keys()}
    require_tree(cases, raw, BRATS_TREE)
    grades = _grades(raw)
    names = Counter(folder.name for folder in cases)
    rows, recent = [], any({"t1n", "t2f", "t2w"} & files.keys() for files in cases.values())
    for folder, files in sorted(cases.items()):
        images = {CHANNELS[name]: path for name, path in sorted(files.items()) if name in CHANNELS}
        grade_folder = next((name_ for name_ in folder.parts if name_ in ("HGG", "LGG")), "")
        prefix = (
            f"{grade_folder}_" if names[folder.name] > 1 else ""
        )  # 2015 numbers both grades from brats_2013_pat0001_1
        facts = {"patient": prefix + _patient(folder.name), "label": grades.get(folder.name, grade_folder)}
        candidates = _mask_candidates(folder, files)
        masks = {"": Mask((candidates[0],))} if len(candidates) == 1 else {}
        ambiguous = DataError(
            f"{folder}: which is the mask, {' or '.join(p.name for p in candidates)}? Move the others away"
        )
        make = raise_later(ambiguous) if len(candidates) > 1 else None
        rows.append(DatasetCase(prefix + folder.name, images, masks, facts, make))
    enhancing, core, whole = (3, [1, 3], [1, 2, 3]) if recent else (4, [1, 3, 4], [1, 2, 3, 4])
    return DatasetIndex(rows, {"whole_tumour": whole, "tumour_core": core, "enhancing": enhancing})


def _parse_path(path: Path) -> tuple[Path, str]:
    """Folder of a case and lower-case sequence name of a file; 2015 has a folder per file and calls the mask OT."""
    if path.suffix.lower() == ".mha":
        match = re.search(r"\.(?:mr_)?(\w+)\.\d+\.mha$", path.name.lower())
        name = match.group(1) if match else path.stem
        folder = path.parent.parent if path.parent.name == path.stem else path.parent
        return folder, "seg" if name == "ot" else name
    return path.parent, re.split(r"[_-]", path.name.lower().removesuffix(".gz").removesuffix(".nii"))[-1]


def _mask_candidates(folder: Path, files: dict[str, Path]) -> list[Path]:
    """Masks of a case: CASE_seg, else files with seg in their name (2020: case 355 has W39_1998.09.19_Segm.nii)."""
    if "seg" in files:
        return [files["seg"]]
    others = [path for name, path in sorted(files.items()) if name not in CHANNELS]
    return [path for path in others if "seg" in path.name.lower().removeprefix(folder.name.lower())]


def _patient(name: str) -> str:
    """BraTS-GLI-00005-001 is the second visit of 00005; brats_tcia_pat153_0109 (2015) one of several of pat153."""
    visit = re.fullmatch(r"(BraTS-\w+-\d+)-\d{3}|(brats_\w+_pat\d+)_\d+", name)
    return (visit.group(1) or visit.group(2)) if visit else name


def _grades(raw: Path) -> dict[str, str]:
    grades = {}
    for file in files_below(raw, "name_mapping*.csv"):
        for line in table(file):
            for key, value in line.items():
                if key.startswith("BraTS") and value:
                    grades[value] = line.get("Grade", "")
    return grades


def read_ibsr18(raw: Path) -> DatasetIndex:
    """T1 with CSF 1, grey 2 and white matter 3."""
    images = files_below(raw, "IBSR_??_ana.nii*", "IBSR_??_ana_strip.nii*")
    require_tree(images, raw, IBSR_TREE)
    masks = {path.name[:7]: path for path in files_below(raw, "IBSR_??_segTRI*.nii*")}
    masks |= {path.name[:7]: path for path in files_below(raw, "IBSR_??_segTRI_ana.nii*")}  # before segTRI_fill_ana
    first = {path.name[:7]: path for path in reversed(images)}  # the whole head before the stripped one
    rows = [
        DatasetCase(name, {"": path}, {"": Mask((masks[name],))} if name in masks else {}, {"patient": name})
        for name, path in sorted(first.items())
    ]
    return DatasetIndex(rows, {"csf": 1, "gm": 2, "wm": 3})


def read_mrbrains(raw: Path) -> DatasetIndex:
    """T1 and FLAIR of 2013 (three tissues) or 2018 (ten labels, merged to tissues)."""
    masks = files_below(raw, "LabelsForTesting.nii*", "segm.nii*")
    require_tree(masks, raw, MRBRAINS_TREE)
    rows = []
    for mask in masks:
        folder = mask.parent / "pre" if (mask.parent / "pre").is_dir() else mask.parent
        names_by_channel = {"t1": ("T1.nii", "T1.nii.gz"), "flair": ("T2_FLAIR.nii", "T2_FLAIR.nii.gz", "FLAIR.nii.gz")}
        images = {
            c: next((folder / n for n in names if (folder / n).is_file()), None)
            for c, names in names_by_channel.items()
        }
        existing = {channel: path for channel, path in images.items() if path is not None}
        rows.append(DatasetCase(mask.parent.name, existing, {"": Mask((mask,))}, {"patient": mask.parent.name}))
    values: Values = {"csf": 1, "gm": 2, "wm": 3}
    if any(mask.name.startswith("segm") for mask in masks):
        # cortical and deep grey matter; white matter and its lesions; outer CSF and ventricles; others are not tissue
        values = {"csf": [5, 6], "gm": [1, 2], "wm": [3, 4], "background": [7, 8, 9, 10]}
    return DatasetIndex(rows, values)
