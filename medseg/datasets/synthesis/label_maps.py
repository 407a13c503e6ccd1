"""Label maps and the table of their structures (labels.csv: value, structure, tissue, side)."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import SimpleITK as sitk
from numpy.typing import NDArray

from medseg.datasets.base import table
from medseg.errors import DataError
from medseg.io.image import read_image
from medseg.typing import ByteArray

TISSUES = {"csf": 1, "gm": 2, "wm": 3}
TABLE = "labels.csv"
MAX_STRUCTURES = 255  # an index of a structure is one byte


@dataclass(frozen=True)
class Structure:
    """A row of the table. name: without its side, e.g. "thalamus"; tissue: number of `TISSUES`, 0 for others."""

    value: int
    name: str
    tissue: int
    side: str


@dataclass(frozen=True)
class LabelTable:
    """The structures of all maps; elsewhere a structure is its index in this table."""

    file: Path
    structures: tuple[Structure, ...]

    @property
    def tissues(self) -> ByteArray:
        """Tissue of each structure, (S,)."""
        return np.array([structure.tissue for structure in self.structures], np.uint8)

    @property
    def swapped(self) -> ByteArray:
        """Index of each structure's twin on the other side, (S,); its own index if it has none."""
        twin = {"left": "right", "right": "left"}
        index = {(s.name, s.side): i for i, s in enumerate(self.structures)}
        others = [index.get((s.name, twin.get(s.side, s.side)), i) for i, s in enumerate(self.structures)]
        return np.array(others, np.uint8)


@dataclass(frozen=True)
class LabelMap:
    """A head: index of the structure of each voxel (Z, Y, X) in patient axes LPS, and the spacing z, y, x in mm."""

    name: str
    structures: ByteArray
    spacing: tuple[float, float, float]


def map_files(folder: Path) -> list[Path]:
    """The maps of a folder: the images in its subfolder labels/, or in itself if there is none."""
    inside = folder / "labels" if (folder / "labels").is_dir() else folder
    files = sorted(p for p in inside.iterdir() if p.name.lower().endswith((".nii.gz", ".nii", ".mha", ".nrrd")))
    if not files:
        raise DataError(f"{inside}: contains no label map; put files such as map_01.nii.gz there")
    return files


def read_label_table(folder: Path) -> LabelTable:
    """Read labels.csv of a folder of label maps.

    Raises `DataError` with the file and the value for a missing file or column, a value that is no whole number or
    stands there twice, and for an unknown tissue.
    """
    file = folder / TABLE
    if not file.is_file():
        raise DataError(f"{file}: no such file; it names the structures: columns value, structure, tissue, side")
    rows = table(file)
    missing = [name for name in ("value", "structure", "tissue") if not rows or name not in rows[0]]
    if missing:
        raise DataError(f"{file}: has no column {missing[0]!r}; it needs value, structure and tissue")
    structures = tuple(_structure(row, file) for row in rows)
    values = [structure.value for structure in structures]
    if twice := sorted({value for value in values if values.count(value) > 1}):
        raise DataError(f"{file}: the value {twice[0]} stands there twice; keep one row for each")
    if len(values) > MAX_STRUCTURES:
        raise DataError(f"{file}: has {len(values)} structures; at most {MAX_STRUCTURES} are possible")
    return LabelTable(file, structures)


def _structure(row: dict[str, str], file: Path) -> Structure:
    try:
        value = int(row["value"])
    except ValueError as error:
        raise DataError(f"{file}: the value {row['value']!r} is not a whole number") from error
    tissue = row["tissue"].lower()
    if tissue not in (*TISSUES, "other"):
        known = ", ".join([*TISSUES, "other"])
        raise DataError(f"{file}: the value {value} has the tissue {row['tissue']!r}; choose one of {known}")
    side = row.get("side", "").lower()
    words = [word for word in row["structure"].lower().split() if not (side in ("left", "right") and word == side)]
    return Structure(value, " ".join(words), TISSUES.get(tissue, 0), side)


def read_label_map(file: Path, labels: LabelTable) -> LabelMap:
    """Read a map and replace its values by indices. Raises `DataError` for values that the table does not name."""
    image = sitk.DICOMOrient(_volume(file), "LPS")
    values = np.rint(sitk.GetArrayFromImage(image)).astype(np.int64)  # (Z, Y, X)
    named = np.array([structure.value for structure in labels.structures])
    order = np.argsort(named)
    index = order[np.searchsorted(named, values, sorter=order).clip(max=len(named) - 1)]
    if (unknown := np.unique(values[named[index] != values])).size:
        numbers = ", ".join(map(str, unknown[:5].tolist())) + (" …" if unknown.size > 5 else "")
        plural = "s" * (unknown.size > 1)
        raise DataError(
            f"{file}: has the value{plural} {numbers}, which {labels.file} does not name; add a row for each"
        )
    x, y, z = image.GetSpacing()
    return LabelMap(_stem(file), index.astype(np.uint8), (z, y, x))


def _volume(file: Path) -> sitk.Image:
    image = read_image(file)
    if image.GetDimension() != 3 or image.GetNumberOfComponentsPerPixel() > 1:
        raise DataError(f"{file}: is no volume of one value per voxel, so it is no label map")
    return image


def _stem(file: Path) -> str:
    return file.name.split(".")[0]


def mirrored(structures: ByteArray, labels: LabelTable) -> ByteArray:
    """A map (Z, Y, X) mirrored across x, left and right structures swapped, so that left stays the patient's left."""
    return np.asarray(labels.swapped[structures[..., ::-1]])


def tissue_shares(structures: ByteArray, labels: LabelTable) -> list[NDArray[np.float32]]:
    """For each tissue 1 where the map (Z, Y, X) has it, else 0."""
    tissues = labels.tissues[structures]
    return [(tissues == number).astype(np.float32) for number in TISSUES.values()]
