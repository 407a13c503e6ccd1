"""Read a dataset folder in any supported layout, or a plain folder of images."""

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
FEATURES = "features.csv"  # of a dataset of extracted features
DEFAULT_COLUMNS = Columns()
NUMBER_KINDS: dict[type, str] = {int: "whole number", float: "number"}


def read_cases(
    root: Path, channels: list[str], columns: Columns = DEFAULT_COLUMNS, pattern: str | None = None
) -> list[Case]:
    """All cases of `root`: a dataset folder, a plain folder of images or a single image.

    `pattern` is a glob that images must match. `DataError` names what is missing and the supported layouts.
    """
    if not root.exists():
        raise DataError(f"{root}: no such folder; check the path")
    if (root / "cases.csv").is_file():
        cases = _from_table(root / "cases.csv", channels, columns)
    elif (root / "dataset.json").is_file():
        from medseg.data.nnunet import read_nnunet

        cases = read_nnunet(root, channels)
    elif (root / "images").is_dir():
        cases = _from_folders(root, channels, columns)
    else:
        cases = _image_folder(_group_channels(index_by_stem(root, find_images(root), strict=False), root, channels))
    if pattern is not None:
        selected = set(find_images(root, pattern))
        cases = [case for case in cases if case.image in selected]
    values = columns.mask_values or _stated_values(root)
    if values is not None:
        pixel_values = {str(name): tuple(v if isinstance(v, list) else [v]) for name, v in values.items()}
        cases = [replace(case, values=pixel_values) for case in cases]
    if not cases:
        filter_text = f" that matches {pattern}" if pattern else ""
        raise DataError(
            f"{root}: no case found{filter_text}. A dataset is cases.csv; or images/ and masks/ or labels/; "
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


def _image_folder(images: dict[str, dict[str, Path]]) -> list[Case]:
    """Cases by the images' names; names that end in a frame number form one sequence."""
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
                split=_split(row, columns, where),
            )
        )
    _require_unique([case.name for case in cases], file)
    return cases


def cases_from_features(file: Path, columns: Columns) -> list[Case]:
    """The cases of a features table with one or more rows each; their images need not exist."""
    header, rows = _records(file)
    if "case" not in header:
        raise DataError(f"{file}: column 'case' is missing; it has {', '.join(header)}")
    first: dict[str, Case] = {}
    for where, row in rows:
        _require_case(row["case"], where)
        label, split = row.get(columns.label), _split(row, columns, where)
        patient = row.get(columns.patient) or row["case"]
        first.setdefault(row["case"], Case(row["case"], patient, {"table": file}, label=label, split=split))
    return list(first.values())


def _require_case(name: str | None, where: str) -> None:
    """Check a case's name, from which the mask's path is made: below the output folder, in one line."""
    if not name:
        raise DataError(f"{where}: no case name; fill the column case")
    if printable(name) != name or ".." in Path(name).parts or Path(name).is_absolute():
        raise DataError(
            f"{where}: case={printable(name)!r} leads out of the output folder or contains a line break; rename it"
        )
    if unfit_name(name):
        raise DataError(f"{where}: case={name!r} is not a valid file name on Windows; rename it")


def _label_files(folder: Path, row: dict[str, Any]) -> dict[str, Path | None]:
    """Files of the columns mask_<label>; `absent` marks a label that the annotators did not find."""
    files = {name.removeprefix("mask_"): text for name, text in row.items() if name.startswith("mask_") and text}
    return {name: None if text.lower() == ABSENT else folder / text for name, text in files.items()}


def _from_folders(root: Path, channels: list[str], columns: Columns) -> list[Case]:
    images = _group_channels(index_by_stem(root / "images", find_images(root / "images")), root / "images", channels)
    folder = next((root / name for name in MASK_FOLDERS if (root / name).is_dir()), None)
    files = index_by_stem(folder, [p for p in folder.rglob("*") if is_image(p)]) if folder else {}
    masks = _masks_of(list(images), files, columns)
    if folder and not any(label_map or any(label_files.values()) for label_map, label_files in masks.values()):
        raise DataError(
            f"{folder}: no mask is named like an image (image {next(iter(images), 'none')!r}, mask "
            f"{next(iter(files), 'none')!r}); set the suffix after the image's name with data.mask_suffix=…"
        )
    row_of_image: dict[str, dict[str, Any]] = {}
    if (root / "labels.csv").is_file():
        (first, *_), rows = _records(root / "labels.csv")
        paths_and_rows = [(Path(str(row[first])), row) for _, row in rows]
        row_of_image = {(path.parent / stem(path)).as_posix(): row for path, row in paths_and_rows}
    cases = []
    for name, paths in images.items():
        file_name = name.rpartition("/")[2]
        if (
            row_of_image
            and columns.split in next(iter(row_of_image.values()))
            and name not in row_of_image
            and file_name not in row_of_image
        ):
            raise DataError(f"{root / 'labels.csv'}: no row for {name}, so its split is unknown; add one")
        row = row_of_image.get(name, row_of_image.get(file_name, {}))
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
                split=_split(row, columns, f"{root / 'labels.csv'}, {name}"),
            )
        )
    return cases


def _group_channels(files: dict[str, Path], folder: Path, channels: list[str]) -> dict[str, dict[str, Path]]:
    """Case name → channel → file. Several channels: files are named `<case>_<channel>`, in any case."""
    if len(channels) == 1:
        return {name: {channels[0]: path} for name, path in files.items()}
    by_case: dict[str, dict[str, Path]] = {}
    for name, path in files.items():
        channel = max((c for c in channels if name.lower().endswith(f"_{c.lower()}")), key=len, default=None)
        case = name[: -len(channel) - 1] if channel else ""
        if channel and by_case.setdefault(case, {}).setdefault(channel, path) != path:
            raise DataError(f"{path} and {by_case[case][channel]} are both channel {channel!r} of {case}; keep one")
    if files and not by_case:
        name, path = next(iter(files.items()))
        expected = ", ".join(f"{name}_{c}{path.name[len(stem(path)) :]}" for c in channels)
        raise DataError(
            f"{path}: matches none of the channels {', '.join(channels)}; a case needs a file for each: {expected}"
        )
    for case, channel in [(case, c) for case, images in sorted(by_case.items()) for c in channels if c not in images]:
        raise DataError(f"{folder}: {case} has no file {case}_{channel}.* for channel {channel!r}; add it")
    return {case: {channel: images[channel] for channel in channels} for case, images in sorted(by_case.items())}


def _masks_of(
    names: list[str], files: dict[str, Path], columns: Columns
) -> dict[str, tuple[Path | None, dict[str, Path | None]]]:
    """The label map of each case, or a file for each label if `columns.mask_suffix` gives a suffix for each."""
    suffix = columns.mask_suffix or ""
    if isinstance(suffix, str):
        return {name: (files.get(name + suffix), {}) for name in names}
    files_of_case = {
        name: {label: files.get(name + label_suffix) for label, label_suffix in suffix.items()} for name in names
    }
    if columns.missing_mask == "unannotated":
        files_of_case = {
            name: {label: path for label, path in row.items() if path} for name, row in files_of_case.items()
        }
    return {name: (None, row) for name, row in files_of_case.items()}


def index_by_stem(root: Path, paths: Iterable[Path], strict: bool = True) -> dict[str, Path]:
    """Files by name: the path below `root` without suffix; equal names are an error, or keep their suffixes."""
    by_name: dict[str, Path] = {}
    for path in paths:
        name = printable((path.relative_to(root).parent / stem(path)).as_posix() if path != root else stem(path))
        if name in by_name and not strict:
            name = printable(path.relative_to(root).as_posix())
        if name in by_name:
            raise DataError(f"{path} and {by_name[name]} have one name without suffix; keep one of them")
        by_name[name] = path
    return by_name


def _path(folder: Path, text: str | None, where: str, column: str) -> Path:
    """A path relative to the table. A missing file fails later, when its case is read."""
    if not text:
        raise DataError(f"{where}: no {column}; fill in the path")
    return folder / text


def _number(row: dict[str, Any], column: str, where: str, kind: type) -> Any:
    if row.get(column) is None:
        return None
    try:
        number = kind(row[column])
    except ValueError as error:
        raise DataError(f"{where}: {column}={row[column]!r} is not a {NUMBER_KINDS[kind]}; correct it") from error
    if not math.isfinite(number):
        raise DataError(f"{where}: {column}={row[column]!r} is not finite; correct it")
    return number


def _split(row: Mapping[str, str | None], columns: Columns, where: str) -> str | None:
    """The split of a row, as it states, or test for the fold that is held out and train for the others."""
    if columns.fold is None:
        return parse_split(row.get(columns.split), where)
    text = row.get(columns.fold)
    if text is None:
        raise DataError(f"{where}: has no fold in column {columns.fold!r}; state one, or unset data.fold_column")
    return "test" if text == str(columns.held_out_fold) else "train"


def parse_split(text: str | None, where: str) -> str | None:
    """Train, valid or test from any of their names; `DataError`, which begins with `where`, for other text."""
    if text is not None and text.lower() not in SPLIT_NAMES:
        raise DataError(f"{where}: split {text!r} must be train, valid or test")
    return None if text is None else SPLIT_NAMES[text.lower()]


def _require_unique(names: list[str], file: Path) -> None:
    duplicates = sorted(name for name, count in Counter(names).items() if count > 1)
    if duplicates:
        listed = ", ".join(duplicates[:5])
        raise DataError(f"{file}: {listed} occurs more than once; rows of one case need different frames")
