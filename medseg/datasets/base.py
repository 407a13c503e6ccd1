"""Shared code of the readers of public datasets: tables, linked and merged files, the written dataset."""

from __future__ import annotations

import csv
import io
import os
import shutil
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import SimpleITK as sitk
from PIL import Image

from medseg.data.ground_truth import binarize
from medseg.errors import DataError, ImageError, MedsegError
from medseg.io.image import frames, image_suffix, read_image, write_image

ABSENT = "absent"
Values = Mapping[str, int | list[int]]


@dataclass(frozen=True)
class Mask:
    """The files of one mask. A pixel is foreground if any file is at least `level` there; with level 1 the files are
    binarised by `binarize` (at half intensity, which removes soft edges and JPEG artefacts). A label map is one file of
    level None and stays unchanged.
    """

    files: tuple[Path, ...]
    level: int | None = None

    @property
    def plain(self) -> bool:
        """Return whether the file can be linked unchanged."""
        return self.level is None and len(self.files) == 1 and self.files[0].suffix.lower() != ".gif"


@dataclass(frozen=True)
class DatasetCase:
    """A case of a public dataset. masks: "" for a label map, else by label; None for a label that is absent.

    make: writes a mask without a file, e.g. from contours, to its path. stacked: `images` are the same 4D file for
    every channel; its volumes are the channels in order.
    """

    case: str
    images: Mapping[str, Path]  # by channel, "" for the only one
    masks: Mapping[str, Mask | None] = field(default_factory=dict)
    facts: Mapping[str, str] = field(default_factory=dict)  # patient, label, split and others
    make: Callable[[Path], None] | None = None
    stacked: bool = False


@dataclass(frozen=True)
class DatasetIndex:
    """Cases of a dataset, and the labels of pixel values (labels.json) if a label map needs them."""

    rows: list[DatasetCase]
    values: Values = field(default_factory=dict)


def files_below(raw: Path, *patterns: str) -> list[Path]:
    """Files anywhere below `raw` whose name matches any pattern, ignoring case, sorted."""
    lowered = [pattern.lower() for pattern in patterns]
    files = [path for path in raw.rglob("*") if path.is_file() and not path.name.startswith(".")]
    return sorted(path for path in files if any(Path(path.name.lower()).match(pattern) for pattern in lowered))


def require_tree(items: Iterable[Any], raw: Path, tree: str) -> None:
    """Raise `DataError` with the expected tree if `items` is empty."""
    if not list(items):
        raise DataError(f"{raw}: has no files of this dataset; expected below it:\n{tree}")


def raise_later(error: MedsegError) -> Callable[[Path], None]:
    """A `DatasetCase.make` for a broken case: it raises `error`, so that the other cases continue."""

    def fail(target: Path) -> None:  # noqa: ARG001 - signature of `DatasetCase.make`
        raise error

    return fail


def split_of(path: Path) -> str:
    """train, valid or test from the names of the file and its folders; blank if they have none."""
    for name in reversed([name.lower() for name in path.parts]):
        for word, split in (("train", "train"), ("valid", "valid"), ("test", "test")):
            if word in name:
                return split
    return ""


def table(file: Path) -> list[dict[str, str]]:
    """Rows of a CSV file with a header, names and values stripped."""
    with file.open(newline="", encoding="utf-8-sig") as text:
        rows = csv.DictReader(text)
        return [{str(k).strip(): str(v or "").strip() for k, v in row.items() if k is not None} for row in rows]


def write_case(row: DatasetCase, out: Path) -> dict[str, str]:
    """Link a case's images into `out`/images, link or write its masks, and return its row of cases.csv.

    Raises `ImageError` if a mask cannot be read or its files have different sizes.
    """
    line: dict[str, str] = {"case": row.case, **row.facts}
    if row.stacked:
        line |= split_4d(row, out)
    for channel, path in () if row.stacked else row.images.items():
        end = f"_{channel}" if channel else ""
        target = out / "images" / f"{row.case}{end}{'' if path.is_dir() else _ending(path)}"
        link(path, target)
        line["image" + end] = target.relative_to(out).as_posix()
    for label, mask in row.masks.items():
        end = f"_{label}" if label else ""
        if mask is None:
            line["mask" + end] = ABSENT
            continue
        target = out / "masks" / f"{row.case}{end}{_ending(mask.files[0]) if mask.plain else '.png'}"
        if mask.plain:
            link(mask.files[0], target)
        else:
            write_image(sitk.GetImageFromArray(merged(mask).astype(np.uint8) * 255), target)
        line["mask" + end] = target.relative_to(out).as_posix()
    if row.make is not None:
        target = out / "masks" / f"{row.case}.nii.gz"
        target.parent.mkdir(parents=True, exist_ok=True)
        row.make(target)
        line["mask"] = target.relative_to(out).as_posix()
    return line


def split_4d(row: DatasetCase, out: Path) -> dict[str, str]:
    """Write each channel of a case's 4D file as a separate volume, and return their columns.

    Raises `ImageError` if the numbers of volumes and channels differ.
    """
    path = next(iter(row.images.values()))
    volumes = frames(read_image(path))
    if len(volumes) != len(row.images):
        names = ", ".join(row.images)
        raise ImageError(f"{path}: has {len(volumes)} volumes for {len(row.images)} channels ({names}); correct either")
    columns = {}
    for channel, volume in zip(row.images, volumes, strict=True):
        target = out / "images" / f"{row.case}_{channel}.nii.gz"
        write_image(volume, target)
        columns[f"image_{channel}"] = target.relative_to(out).as_posix()
    return columns


def _ending(path: Path) -> str:
    return image_suffix(path) or path.suffix


def merged(mask: Mask) -> npt.NDArray[np.bool_]:
    """Union (Y, X) of the files of a mask."""
    result: npt.NDArray[np.bool_] | None = None
    for file in mask.files:
        grey = _grey(file)
        pixels = grey >= mask.level if mask.level is not None and mask.level > 1 else binarize(grey, file)
        if result is not None and pixels.shape != result.shape:
            raise ImageError(f"{file}: is {pixels.shape[::-1]} pixels, {mask.files[0]} is {result.shape[::-1]}")
        result = pixels if result is None else result | pixels
    assert result is not None
    return result


def _grey(file: Path) -> npt.NDArray[np.uint8]:
    if file.suffix.lower() == ".gif":  # not supported by ITK
        try:
            with Image.open(file) as opened:
                return np.array(opened.convert("L"))
        except OSError as error:
            raise ImageError(f"{file}: cannot be read ({error})", code="image-unreadable") from error
    array = sitk.GetArrayFromImage(read_image(file))
    return np.asarray(array if array.ndim == 2 else array[..., :3].max(axis=-1))


def link(source: Path, target: Path) -> None:
    """Make a symbolic link, or a copy if the file system has none; `DataError` if the target exists."""
    target.parent.mkdir(parents=True, exist_ok=True)
    if target.is_symlink() or target.exists():
        raise DataError(f"{target}: two files of the dataset have this name; the second is {source}")
    try:
        target.symlink_to(os.path.relpath(source.resolve(), target.parent.resolve()))
    except (OSError, ValueError):  # Windows: no permission for links, or another drive
        if source.is_dir():
            shutil.copytree(source, target)
        else:
            shutil.copy2(source, target)


def cases_csv(lines: list[dict[str, str]]) -> str:
    """Text of cases.csv: case and patient, then files, then other columns."""
    first = ["case", "patient"]
    names = list(dict.fromkeys(name for line in lines for name in line))
    files = sorted((n for n in names if n.startswith(("image", "mask"))), key=lambda n: (n.startswith("mask"), n))
    other_columns = [name for name in names if name not in (*first, *files)]
    text = io.StringIO()
    writer = csv.DictWriter(text, [*first, *files, *other_columns], restval="", lineterminator="\n")
    writer.writeheader()
    writer.writerows(lines)
    return text.getvalue()
