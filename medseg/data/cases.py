"""Cases: what a dataset folder holds, read in any of the layouts we know, and split by patient."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from medseg.data.image import find_images, is_image, stem
from medseg.errors import DataError

SPLIT_NAMES = {
    "train": "train",
    "training": "train",
    "val": "valid",
    "valid": "valid",
    "validation": "valid",
    "test": "test",
}
MASK_FOLDERS = ("masks", "labels")


@dataclass(frozen=True)
class Case:
    """One image, or one frame of a sequence, and what is known of it.

    Rows that share an `id` and differ in `frame` form one sequence; rows that share a `patient` never part.
    """

    id: str
    patient: str
    images: dict[str, Path]
    mask: Path | None = None
    label: str | None = None
    frame: int | None = None
    time: float | None = None  # s
    signal: float | None = None  # respiratory signal, larger = more air
    split: str | None = None

    @property
    def name(self) -> str:
        """Unique within a dataset: the id, with the frame where there is one."""
        return self.id if self.frame is None else f"{self.id}_frame{self.frame:03d}"

    @property
    def image(self) -> Path:
        """The first channel's file."""
        return next(iter(self.images.values()))


@dataclass(frozen=True)
class Columns:
    """How a user's tables name things."""

    split: str = "split"
    label: str = "label"
    patient: str = "patient"
    mask_suffix: str | None = None


def read_cases(root: Path, channels: list[str], columns: Columns = Columns()) -> list[Case]:
    """Every case of the dataset folder `root`; `DataError` names what is missing and the layouts that are read."""
    if not root.is_dir():
        raise DataError(f"data.root={root}: no such folder")
    if (root / "cases.csv").is_file():
        cases = _from_table(root / "cases.csv", channels, columns)
    elif (root / "dataset.json").is_file():
        from medseg.data.sources.nnunet import read_nnunet

        cases = read_nnunet(root, channels)
    elif (root / "images").is_dir():
        cases = _from_folders(root, channels[0], columns)
    else:
        cases = [Case(name, name, {channels[0]: path}) for name, path in _by_name(root, find_images(root)).items()]
    if not cases:
        raise DataError(
            f"data.root={root}: no case found. A dataset is cases.csv; or images/ and masks/ or labels/; "
            "or nnU-Net's dataset.json, imagesTr, labelsTr; or a folder of images"
        )
    return cases


def read_table(file: Path) -> pd.DataFrame:
    """A CSV file as columns of stripped text."""
    try:
        table = pd.read_csv(file, dtype=str, keep_default_na=False, encoding="utf-8-sig")
    except (OSError, ValueError, UnicodeError) as error:
        raise DataError(f"{file}: cannot be read as CSV in UTF-8 ({error})") from error
    stripped: pd.DataFrame = table.apply(lambda column: column.str.strip())
    return stripped


def _records(table: pd.DataFrame) -> list[dict[str, Any]]:
    """Rows as dicts; a blank is None."""
    return [{str(key): value or None for key, value in row.items()} for row in table.to_dict("records")]


def _from_table(file: Path, channels: list[str], columns: Columns) -> list[Case]:
    table = read_table(file)
    image_columns = {c: f"image_{c}" if f"image_{c}" in table.columns else "image" for c in channels}
    for needed in ["case", *image_columns.values()]:
        if needed not in table.columns:
            raise DataError(f"{file}: column {needed!r} is missing; it has {', '.join(map(str, table.columns))}")
    cases = []
    for number, row in enumerate(_records(table), start=2):
        where = f"{file}, line {number}"
        if row["case"] is None:
            raise DataError(f"{where}: no case name")
        images = {c: _existing(file.parent, row[column], where, column) for c, column in image_columns.items()}
        mask = _existing(file.parent, row["mask"], where, "mask") if row.get("mask") else None
        cases.append(
            Case(
                id=row["case"],
                patient=row.get(columns.patient) or row["case"],
                images=images,
                mask=mask,
                label=row.get(columns.label),
                frame=_number(row, "frame", where, int),
                time=_number(row, "time", where, float),
                signal=_number(row, "signal", where, float),
                split=_split_name(row.get(columns.split), where),
            )
        )
    _refuse_twins([case.name for case in cases], file)
    return cases


def _from_folders(root: Path, channel: str, columns: Columns) -> list[Case]:
    images = _by_name(root / "images", find_images(root / "images"))
    folder = next((root / name for name in MASK_FOLDERS if (root / name).is_dir()), None)
    masks = _by_name(folder, [p for p in folder.rglob("*") if is_image(p)]) if folder else {}
    suffix = columns.mask_suffix or ""
    if folder and not any(name + suffix in masks for name in images):
        raise DataError(
            f"{folder}: no mask is named like an image (image {next(iter(images), 'none')!r}, mask "
            f"{next(iter(masks), 'none')!r}); say what follows the image's name with data.mask_suffix=…"
        )
    facts: dict[str, dict[str, Any]] = {}
    if (root / "labels.csv").is_file():
        table = read_table(root / "labels.csv")
        facts = {str(row["case"]): row for row in _records(table.rename(columns={table.columns[0]: "case"}))}
    cases = []
    for name, path in images.items():
        row = facts.get(name, facts.get(stem(path), {}))
        cases.append(
            Case(
                id=name,
                patient=row.get(columns.patient) or name,
                images={channel: path},
                mask=masks.get(name + suffix),
                label=row.get(columns.label),
                split=_split_name(row.get(columns.split), f"{root / 'labels.csv'}, {name}"),
            )
        )
    return cases


def _by_name(root: Path, paths: Iterable[Path]) -> dict[str, Path]:
    """Name of each file: its path below `root` without ending; two files of one name are an error."""
    named: dict[str, Path] = {}
    for path in paths:
        name = str(path.relative_to(root).parent / stem(path)) if path != root else stem(path)
        if name in named:
            raise DataError(f"{path} and {named[name]} have one name; keep one of them")
        named[name] = path
    return named


def _existing(folder: Path, text: str | None, where: str, column: str) -> Path:
    if not text:
        raise DataError(f"{where}: no {column}")
    path = folder / text
    if not path.exists():
        raise DataError(f"{where}: {column} {text} does not exist (paths are relative to the table)")
    return path


def _number(row: dict[str, Any], column: str, where: str, kind: type) -> Any:
    if row.get(column) is None:
        return None
    try:
        return kind(row[column])
    except ValueError as error:
        raise DataError(f"{where}: {column}={row[column]!r} is no number") from error


def _split_name(text: str | None, where: str) -> str | None:
    if text is None:
        return None
    if text.lower() not in SPLIT_NAMES:
        raise DataError(f"{where}: split {text!r} must be train, valid or test")
    return SPLIT_NAMES[text.lower()]


def _refuse_twins(names: list[str], file: Path) -> None:
    twins = sorted({name for name in names if names.count(name) > 1})
    if twins:
        raise DataError(
            f"{file}: {', '.join(twins[:5])} stands there more than once; rows of one case need different frames"
        )


def split_cases(cases: list[Case], holdout: float, seed: int) -> list[Case]:
    """Cases with a split each, by patient: the given one, else `holdout` of the patients to test, per class alike.

    Raises `DataError` where a patient stands on both sides or a side is empty.
    """
    if any(case.split for case in cases):
        cases = [replace(case, split=case.split or "train") for case in cases]
    else:
        held = _hold_out(cases, holdout, seed)
        cases = [replace(case, split="test" if case.patient in held else "train") for case in cases]
    sides: dict[str, set[str]] = {}
    for case in cases:
        sides.setdefault(case.patient, set()).add(str(case.split))
    torn = [patient for patient, names in sides.items() if len(names) > 1]
    if torn:
        raise DataError(
            f"patient {torn[0]} is in {' and '.join(sorted(sides[torn[0]]))}: a patient must be on one side"
        )
    if not any(case.split == "train" for case in cases):
        raise DataError("no case is in split 'train'")
    return cases


def report_split(cases: list[Case]) -> str | None:
    """The split whose numbers are reported: test, else valid, else none."""
    names = {case.split for case in cases}
    return next((name for name in ("test", "valid") if name in names), None)


def _hold_out(cases: list[Case], share: float, seed: int) -> set[str]:
    """Patients held out, drawn from each class alike; a class is the patient's set of labels."""
    classes: dict[str, set[str]] = {}
    for case in cases:
        classes.setdefault(case.patient, set()).add(case.label or "")
    groups: dict[tuple[str, ...], list[str]] = {}
    for patient, labels in sorted(classes.items()):
        groups.setdefault(tuple(sorted(labels)), []).append(patient)
    rng = np.random.default_rng(seed)
    held: set[str] = set()
    for _, patients in sorted(groups.items()):
        wanted = round(share * len(patients))
        held |= {str(name) for name in rng.permutation(patients)[:wanted]}
    if not held and share > 0 and len(classes) > 1:
        held = {str(rng.permutation(sorted(classes))[0])}
    return held


def split_table(cases: list[Case]) -> pd.DataFrame:
    """split.csv: where each case stood, with its files."""
    rows = [
        {"case": c.id, "patient": c.patient, "frame": c.frame, "split": c.split, "image": str(c.image.resolve()),
         "mask": str(c.mask.resolve()) if c.mask else None, "label": c.label}
        for c in cases
    ]  # fmt: skip
    return pd.DataFrame(rows)
