"""What the readers of public datasets share: rows of a table, files linked or merged, the written dataset."""

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
    """The files that make up one mask: a pixel counts where any of them is at least `level`, or, of level 1, is drawn
    (`truth.drawn`: soft edges and what JPEG adds are cut at half); a plain label map is one file of level None, which
    is taken as it is.
    """

    files: tuple[Path, ...]
    level: int | None = None

    @property
    def plain(self) -> bool:
        """Whether the file can stand as it is."""
        return self.level is None and len(self.files) == 1 and self.files[0].suffix.lower() != ".gif"


@dataclass(frozen=True)
class DatasetCase:
    """A case of a public dataset. masks: "" for a label map, else by label; None for a label looked for and not there.

    make: writes a mask that no file holds, e.g. from contours, to the path it is given. stacked: `images` are one 4D
    file for every channel, whose volumes are the channels in their order.
    """

    case: str
    images: Mapping[str, Path]  # by channel, "" for the only one
    masks: Mapping[str, Mask | None] = field(default_factory=dict)
    facts: Mapping[str, str] = field(default_factory=dict)  # patient, label, split and others
    make: Callable[[Path], None] | None = None
    stacked: bool = False


@dataclass(frozen=True)
class DatasetIndex:
    """What a reader found: its rows, and what pixel values mean (labels.json), where a label map needs it."""

    rows: list[DatasetCase]
    values: Values = field(default_factory=dict)


def files_below(raw: Path, *patterns: str) -> list[Path]:
    """Files anywhere below `raw` whose name matches any pattern, whatever its case, sorted."""
    wanted = [pattern.lower() for pattern in patterns]
    found = [path for path in raw.rglob("*") if path.is_file() and not path.name.startswith(".")]
    return sorted(path for path in found if any(Path(path.name.lower()).match(pattern) for pattern in wanted))


def require_tree(found: Iterable[Any], raw: Path, tree: str) -> None:
    """`DataError` with the tree that was expected, where nothing was found."""
    if not list(found):
        raise DataError(f"{raw}: holds nothing of this dataset; expected below it:\n{tree}")


def raise_later(error: MedsegError) -> Callable[[Path], None]:
    """What `Row.make` is for a case that is known to be wrong: it fails and says why, the others go on."""

    def fail(target: Path) -> None:  # noqa: ARG001 - called as what writes a mask
        raise error

    return fail


def split_of(path: Path) -> str:
    """train, valid or test as the names of the folders, or of the file, say; blank where they say nothing."""
    for part in reversed([part.lower() for part in path.parts]):
        for word, split in (("train", "train"), ("valid", "valid"), ("test", "test")):
            if word in part:
                return split
    return ""


def table(file: Path) -> list[dict[str, str]]:
    """Rows of a CSV file with a heading, names and values stripped."""
    with file.open(newline="", encoding="utf-8-sig") as text:
        rows = csv.DictReader(text)
        return [{str(k).strip(): str(v or "").strip() for k, v in row.items() if k is not None} for row in rows]


def write_case(row: DatasetCase, out: Path) -> dict[str, str]:
    """Link a case's images into `out`/images, link or write its masks, and return its line of cases.csv.

    Raises `ImageError` where a mask cannot be read or its parts have different sizes.
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
    """Write each channel of a case's 4D file as a volume of its own, and return their columns.

    Raises `ImageError` where it has not as many volumes as channels.
    """
    path = next(iter(row.images.values()))
    volumes = frames(read_image(path))
    if len(volumes) != len(row.images):
        names = ", ".join(row.images)
        raise ImageError(
            f"{path}: holds {len(volumes)} volumes for {len(row.images)} channels ({names}); correct either"
        )
    columns = {}
    for channel, volume in zip(row.images, volumes, strict=True):
        target = out / "images" / f"{row.case}_{channel}.nii.gz"
        write_image(volume, target)
        columns[f"image_{channel}"] = target.relative_to(out).as_posix()
    return columns


def _ending(path: Path) -> str:
    return image_suffix(path) or path.suffix


def merged(mask: Mask) -> npt.NDArray[np.bool_]:
    """The pixels (Y, X) that any file of a mask shows."""
    result: npt.NDArray[np.bool_] | None = None
    for file in mask.files:
        grey = _grey(file)
        here = grey >= mask.level if mask.level is not None and mask.level > 1 else binarize(grey, file)
        if result is not None and here.shape != result.shape:
            raise ImageError(f"{file}: is {here.shape[::-1]} pixels, {mask.files[0]} is {result.shape[::-1]}")
        result = here if result is None else result | here
    assert result is not None
    return result


def _grey(file: Path) -> npt.NDArray[np.uint8]:
    if file.suffix.lower() == ".gif":  # which ITK does not read
        try:
            with Image.open(file) as opened:
                return np.array(opened.convert("L"))
        except OSError as error:
            raise ImageError(f"{file}: cannot be read ({error})", code="image-unreadable") from error
    array = sitk.GetArrayFromImage(read_image(file))
    return np.asarray(array if array.ndim == 2 else array[..., :3].max(axis=-1))


def link(source: Path, target: Path) -> None:
    """A symbolic link, or a copy where the file system has none; `DataError` where the target is there already."""
    target.parent.mkdir(parents=True, exist_ok=True)
    if target.is_symlink() or target.exists():
        raise DataError(f"{target}: two files of the dataset would have this name; the second is {source}")
    try:
        target.symlink_to(os.path.relpath(source.resolve(), target.parent.resolve()))
    except (OSError, ValueError):  # Windows: no right to make links, or another drive
        if source.is_dir():
            shutil.copytree(source, target)
        else:
            shutil.copy2(source, target)


def cases_csv(lines: list[dict[str, str]]) -> str:
    """The table of a dataset: names first, facts last."""
    first = ["case", "patient"]
    names = list(dict.fromkeys(name for line in lines for name in line))
    files = sorted((n for n in names if n.startswith(("image", "mask"))), key=lambda n: (n.startswith("mask"), n))
    rest = [name for name in names if name not in (*first, *files)]
    text = io.StringIO()
    writer = csv.DictWriter(text, [*first, *files, *rest], restval="", lineterminator="\n")
    writer.writeheader()
    writer.writerows(lines)
    return text.getvalue()
