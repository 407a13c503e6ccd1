"""Reading a dataset folder in any of the layouts we know, or a bare folder of images."""

from __future__ import annotations

import json
import math
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from medseg.data.cases import SPLIT_NAMES, Case, Columns, frame_of
from medseg.data.tables import _records
from medseg.errors import DataError
from medseg.io.image import find_images, is_image, printable, stem
from medseg.utils.files import unfit_name

MASK_FOLDERS = ("masks", "labels")
ABSENT = "absent"
FEATURES = "features.csv"  # of a dataset that was measured already
DEFAULT_COLUMNS = Columns()
NUMBERS: dict[type, str] = {int: "whole number", float: "number"}


def read_cases(
    root: Path, channels: list[str], columns: Columns = DEFAULT_COLUMNS, pattern: str | None = None
) -> list[Case]:
    """Every case of `root`: a dataset folder, a bare folder of images or a single one.

    `pattern` is a glob that images must match. `DataError` names what is missing and the layouts that are read.
    """
    if not root.exists():
        raise DataError(f"{root}: no such folder")
    if (root / "cases.csv").is_file():
        cases = _from_table(root / "cases.csv", channels, columns)
    elif (root / "dataset.json").is_file():
        from medseg.data.nnunet import read_nnunet

        cases = read_nnunet(root, channels)
    elif (root / "images").is_dir():
        cases = _from_folders(root, channels, columns)
    else:
        cases = _bare(_channels(index_by_stem(root, find_images(root), strict=False), root, channels))
    if pattern is not None:
        chosen = set(find_images(root, pattern))
        cases = [case for case in cases if case.image in chosen]
    values = columns.mask_values or _stated_values(root)
    if values is not None:
        listed = {str(name): tuple(v if isinstance(v, list) else [v]) for name, v in values.items()}
        cases = [replace(case, values=listed) for case in cases]
    if not cases:
        matching = f" that matches {pattern}" if pattern else ""
        raise DataError(
            f"{root}: no case found{matching}. A dataset is cases.csv; or images/ and masks/ or labels/; "
            "or nnU-Net's dataset.json, imagesTr, labelsTr; or a folder of images"
        )
    return cases


def _stated_values(root: Path) -> Mapping[str, Any] | None:
    """Pixel values by label name from the dataset's labels.json or nnU-Net's dataset.json, where it has one."""
    if (root / "dataset.json").is_file() and not (root / "cases.csv").is_file():
        from medseg.data.nnunet import read_label_names

        return read_label_names(root)
    file = root / "labels.json"
    if not file.is_file():
        return None
    try:
        return {str(name): value for name, value in json.loads(file.read_text(encoding="utf-8")).items()}
    except (OSError, ValueError, AttributeError) as error:
        raise DataError(f'{file}: must hold names and pixel values such as {{"lesion": 255}} ({error})') from error


def _bare(images: dict[str, dict[str, Path]]) -> list[Case]:
    """Images by their names; names that end in a frame's number make up one sequence."""
    split = {name: frame_of(name) for name in images}
    return [Case(split[name][0], split[name][0], files, frame=split[name][1]) for name, files in images.items()]


def _from_table(file: Path, channels: list[str], columns: Columns) -> list[Case]:
    header, rows = _records(file)
    plain = len(channels) == 1 and f"image_{channels[0]}" not in header
    image_columns = {c: "image" if plain else f"image_{c}" for c in channels}
    for needed in ["case", *image_columns.values()]:
        if needed not in header:
            raise DataError(f"{file}: column {needed!r} is missing; it has {', '.join(header)}")
    cases = []
    for where, row in rows:
        _require_case(row["case"], where)
        images = {c: _path(file.parent, row[column], where, column) for c, column in image_columns.items()}
        mask = file.parent / row["mask"] if row.get("mask") else None
        cases.append(
            Case(
                id=row["case"],
                patient=row.get(columns.patient) or row["case"],
                images=images,
                mask=mask,
                masks=_label_files(file.parent, row),
                label=row.get(columns.label),
                frame=_number(row, "frame", where, int),
                time=_number(row, "time", where, float),
                signal=_number(row, "signal", where, float),
                split=parse_split(row.get(columns.split), where),
            )
        )
    _refuse_twins([case.name for case in cases], file)
    return cases


def cases_from_features(file: Path, columns: Columns) -> list[Case]:
    """The cases of a table of features, a row or several each; their images need not be there."""
    header, rows = _records(file)
    if "case" not in header:
        raise DataError(f"{file}: column 'case' is missing; it has {', '.join(header)}")
    first: dict[str, Case] = {}
    for where, row in rows:
        _require_case(row["case"], where)
        label, split = row.get(columns.label), parse_split(row.get(columns.split), where)
        patient = row.get(columns.patient) or row["case"]
        first.setdefault(row["case"], Case(row["case"], patient, {"table": file}, label=label, split=split))
    return list(first.values())


def _require_case(name: str | None, where: str) -> None:
    """A case's name becomes that of its mask: it stays below the output folder, in one line."""
    if not name:
        raise DataError(f"{where}: no case name")
    if printable(name) != name or ".." in Path(name).parts or Path(name).is_absolute():
        raise DataError(f"{where}: case={printable(name)!r} names a place elsewhere or holds a line break; rename it")
    if unfit_name(name):
        raise DataError(f"{where}: case={name!r} can be no file's name on Windows; rename it")


def _label_files(folder: Path, row: dict[str, Any]) -> dict[str, Path | None]:
    """Files of the columns mask_<label>; `absent` is a label that was looked for and is not there."""
    files = {name.removeprefix("mask_"): text for name, text in row.items() if name.startswith("mask_") and text}
    return {name: None if text.lower() == ABSENT else folder / text for name, text in files.items()}


def _from_folders(root: Path, channels: list[str], columns: Columns) -> list[Case]:
    images = _channels(index_by_stem(root / "images", find_images(root / "images")), root / "images", channels)
    folder = next((root / name for name in MASK_FOLDERS if (root / name).is_dir()), None)
    files = index_by_stem(folder, [p for p in folder.rglob("*") if is_image(p)]) if folder else {}
    masks = _masks_of(list(images), files, columns)
    if folder and not any(one or any(several.values()) for one, several in masks.values()):
        raise DataError(
            f"{folder}: no mask is named like an image (image {next(iter(images), 'none')!r}, mask "
            f"{next(iter(files), 'none')!r}); say what follows the image's name with data.mask_suffix=…"
        )
    facts: dict[str, dict[str, Any]] = {}
    if (root / "labels.csv").is_file():
        (first, *_), rows = _records(root / "labels.csv")
        named = [(Path(str(row[first])), row) for _, row in rows]
        facts = {(path.parent / stem(path)).as_posix(): row for path, row in named}
    cases = []
    for name, paths in images.items():
        short = name.rpartition("/")[2]
        if facts and columns.split in next(iter(facts.values())) and name not in facts and short not in facts:
            raise DataError(f"{root / 'labels.csv'}: no row for {name}, so its split is not known; add one")
        row = facts.get(name, facts.get(short, {}))
        case, frame = frame_of(name)
        cases.append(
            Case(
                id=case,
                patient=row.get(columns.patient) or case,
                frame=frame,
                images=paths,
                mask=masks[name][0],
                masks=masks[name][1],
                label=row.get(columns.label),
                split=parse_split(row.get(columns.split), f"{root / 'labels.csv'}, {name}"),
            )
        )
    return cases


def _channels(files: dict[str, Path], folder: Path, channels: list[str]) -> dict[str, dict[str, Path]]:
    """Case name → channel → file. One channel is the file of the case's name; several `<case>_<channel>`, any case."""
    if len(channels) == 1:
        return {name: {channels[0]: path} for name, path in files.items()}
    found: dict[str, dict[str, Path]] = {}
    for name, path in files.items():
        channel = max((c for c in channels if name.lower().endswith(f"_{c.lower()}")), key=len, default=None)
        case = name[: -len(channel) - 1] if channel else ""
        if channel and found.setdefault(case, {}).setdefault(channel, path) != path:
            raise DataError(f"{path} and {found[case][channel]} are both channel {channel!r} of {case}; keep one")
    if files and not found:
        name, path = next(iter(files.items()))
        wanted = ", ".join(f"{name}_{c}{path.name[len(stem(path)) :]}" for c in channels)
        raise DataError(f"{path}: is none of the channels {', '.join(channels)}; a case has a file for each: {wanted}")
    for case, channel in [(case, c) for case, images in sorted(found.items()) for c in channels if c not in images]:
        raise DataError(f"{folder}: {case} has no file {case}_{channel}.* for channel {channel!r}")
    return {case: {channel: images[channel] for channel in channels} for case, images in sorted(found.items())}


def _masks_of(
    names: list[str], files: dict[str, Path], columns: Columns
) -> dict[str, tuple[Path | None, dict[str, Path | None]]]:
    """Per case its label map, or a file for each label where `columns.mask_suffix` names each label's."""
    suffix = columns.mask_suffix or ""
    if isinstance(suffix, str):
        return {name: (files.get(name + suffix), {}) for name in names}
    found = {name: {label: files.get(name + end) for label, end in suffix.items()} for name in names}
    if columns.missing_mask == "unannotated":
        found = {name: {label: path for label, path in row.items() if path} for name, row in found.items()}
    return {name: (None, row) for name, row in found.items()}


def index_by_stem(root: Path, paths: Iterable[Path], strict: bool = True) -> dict[str, Path]:
    """Name of each file: its path below `root` without ending; two of one name are an error, or keep their endings."""
    named: dict[str, Path] = {}
    for path in paths:
        name = printable((path.relative_to(root).parent / stem(path)).as_posix() if path != root else stem(path))
        if name in named and not strict:
            name = printable(path.relative_to(root).as_posix())
        if name in named:
            raise DataError(f"{path} and {named[name]} have one name; keep one of them")
        named[name] = path
    return named


def _path(folder: Path, text: str | None, where: str, column: str) -> Path:
    """Relative to the table. A file that is not there fails when it is read, as one case among others."""
    if not text:
        raise DataError(f"{where}: no {column}")
    return folder / text


def _number(row: dict[str, Any], column: str, where: str, kind: type) -> Any:
    if row.get(column) is None:
        return None
    try:
        number = kind(row[column])
    except ValueError as error:
        raise DataError(f"{where}: {column}={row[column]!r} is no {NUMBERS[kind]}") from error
    if not math.isfinite(number):
        raise DataError(f"{where}: {column}={row[column]!r} is not finite")
    return number


def parse_split(text: str | None, where: str) -> str | None:
    """Train, valid or test by any of its names; `DataError`, which begins with `where`, for another."""
    if text is not None and text.lower() not in SPLIT_NAMES:
        raise DataError(f"{where}: split {text!r} must be train, valid or test")
    return None if text is None else SPLIT_NAMES[text.lower()]


def _refuse_twins(names: list[str], file: Path) -> None:
    twins = sorted(name for name, count in Counter(names).items() if count > 1)
    if twins:
        named = ", ".join(twins[:5])
        raise DataError(f"{file}: {named} stands there more than once; rows of one case need different frames")
