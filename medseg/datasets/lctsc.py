"""LCTSC: thoracic CT as DICOM series, lungs as contours of an RTSTRUCT."""

from __future__ import annotations

import struct
import zlib
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import SimpleITK as sitk

from medseg.datasets.base import DatasetCase, DatasetIndex, files_below, raise_later, require_tree, split_of
from medseg.errors import ImageError
from medseg.io.dicom.header import BROKEN
from medseg.io.geometry import from_array
from medseg.io.image import read_image, write_image
from medseg.typing import BoolArray, FloatArray

TREE = """  LCTSC-Train-S1-001/<study>/<CT series>/*.dcm
  LCTSC-Train-S1-001/<study>/<RTSTRUCT series>/*.dcm"""
NAMES = {"right_lung": ("lung_r", "right lung"), "left_lung": ("lung_l", "left lung")}
NUMBERS = {"right_lung": 1, "left_lung": 2}
ON_OUTLINE = 1e-3  # pixels: so near an outline a centre lies on it; DICOM's decimals are not finer


def read_lctsc(raw: Path) -> DatasetIndex:
    """A case a patient's folder; the split is that of its name.

    A patient with a file that cannot be read, or without one of the two series, is a case that fails and says so.
    """
    series: dict[str, dict[str, Path]] = {}  # patient → modality → its first file
    wrong: dict[str, ImageError] = {}
    files = files_below(raw, "*.dcm")
    for folder in sorted({path.parent for path in files}):
        patient = next(iter(folder.relative_to(raw).parts), raw.name)
        first = next(path for path in files if path.parent == folder)
        try:
            patient, modality = _kind(first, patient)
        except ImageError as error:
            wrong.setdefault(patient, error)
        else:
            series.setdefault(patient, {})[modality] = first
    require_tree(series, raw, TREE)
    rows = []
    for name in sorted({*series, *wrong}):
        parts = series.get(name, {})
        missing = [kind for kind in ("CT", "RTSTRUCT") if kind not in parts]
        some = next(iter(parts.values()), raw).parent
        alone = ImageError(f"{some}: {name} has no series {' and no '.join(missing)} below {raw}; unpack it too")
        problem = wrong.get(name) or (alone if missing else None)
        make = raise_later(problem) if problem else partial(lungs, parts["RTSTRUCT"], parts["CT"].parent)
        images = {"": parts["CT"].parent if "CT" in parts else some}
        rows.append(DatasetCase(name, images, {}, {"patient": name, "split": split_of(Path(name))}, make))
    return DatasetIndex(rows, NUMBERS)


def _kind(file: Path, patient: str) -> tuple[str, str]:
    """Patient and modality of a DICOM file; `patient` is for one that does not tell."""
    header = _read(file, stop_before_pixels=True)
    return str(header.get("PatientID") or patient), str(header.get("Modality", ""))


def _read(file: Path, stop_before_pixels: bool = False) -> Any:
    """A DICOM dataset; `ImageError` where it is none."""
    import pydicom

    try:
        return pydicom.dcmread(file, stop_before_pixels=stop_before_pixels)
    except (*BROKEN, EOFError, struct.error, zlib.error) as error:
        why = f"{file}: is no readable DICOM file ({type(error).__name__}); copy it again or move it away"
        raise ImageError(why, code="image-unreadable") from None  # the cause may quote the header


def lungs(contours: Path, series: Path, target: Path) -> None:
    """Write the lungs of an RTSTRUCT on the grid of its CT series; `ImageError` names a lung that was not drawn."""
    image = read_image(series)
    array = np.zeros(image.GetSize()[::-1], np.uint8)
    for label, polygons in _drawn(contours).items():
        inside = filled(polygons, image)
        if not inside.any():
            raise ImageError(f"{contours}: no contour of {NAMES[label][0]} lies in the scan {series}; it is another's")
        array[inside] = NUMBERS[label]
    mask = from_array(array, image)
    write_image(mask, target)


def _drawn(contours: Path) -> dict[str, list[FloatArray]]:
    """The contours (n, 3) in mm of each lung of an RTSTRUCT; `ImageError` where one has none."""
    dataset, found = _read(contours), {}
    try:
        named = {int(roi.ROINumber): str(roi.ROIName).lower() for roi in dataset.get("StructureSetROISequence") or []}
        drawn = {named.get(int(roi.ReferencedROINumber)): roi for roi in dataset.get("ROIContourSequence") or []}
        for label, names in NAMES.items():
            rois = [drawn[name] for name in names if name in drawn]
            if not rois:
                raise ImageError(
                    f"{contours}: has no structure {names[0]}; it has {', '.join(named.values()) or 'none'}"
                )
            outlines = [contour.ContourData for roi in rois[:1] for contour in roi.get("ContourSequence") or []]
            if not outlines:
                raise ImageError(f"{contours}: structure {names[0]} has no contours; draw it or leave the patient out")
            found[label] = [np.asarray(outline, np.float64).reshape(-1, 3) for outline in outlines]
    except BROKEN as error:
        why = f"{contours}: its structures cannot be read ({type(error).__name__}); copy or export it again"
        raise ImageError(why, code="image-unreadable") from None
    return found


def filled(contours: Sequence[FloatArray], image: sitk.Image) -> BoolArray:
    """Voxels (Z, Y, X) whose centre lies inside a structure's contours (n, 3) in mm, each in one axial slice."""
    width, height, depth = image.GetSize()
    slices: dict[int, list[FloatArray]] = {}
    for points in contours:
        if len(points) < 3:
            continue
        index = np.array([image.TransformPhysicalPointToContinuousIndex(p.tolist()) for p in points])  # (n, 3) x y z
        slices.setdefault(round(float(index[:, 2].mean())), []).append(index[:, :2])
    inside = np.zeros((depth, height, width), bool)
    for number, polygons in slices.items():
        if 0 <= number < depth:
            inside[number] = within(polygons, height, width)
    return inside


def within(polygons: Sequence[FloatArray], height: int, width: int) -> BoolArray:
    """Pixels (Y, X) whose centre lies inside closed polygons (n, 2) of x, y in pixels: the even-odd rule over all.

    A centre on an outline is inside where either side of it is: the mask is not shifted, and what touches leaves no
    gap. Which side rounding leaves such a centre on does not matter: each is looked at from four places beside it.
    """
    starts = np.concatenate(polygons)
    ends = np.concatenate([np.roll(points, -1, axis=0) for points in polygons])
    corner = np.clip(np.floor(starts.min(axis=0)), 0, (width, height))  # x y of the part of the slice that is looked at
    far = np.clip(np.ceil(starts.max(axis=0)) + 1, corner, (width, height))
    columns, rows = (far - corner).astype(int)
    beside = [corner + np.array(step) * ON_OUTLINE for step in ((-1, -1), (-1, 1), (1, -1), (1, 1))]
    part = np.any([_odd(starts - step, ends - step, rows, columns) for step in beside], axis=0)
    (left, top), inside = corner.astype(int), np.zeros((height, width), bool)
    inside[top : top + rows, left : left + columns] = part
    return inside


def _odd(starts: FloatArray, ends: FloatArray, height: int, width: int) -> BoolArray:
    """Pixels (Y, X) with an odd number of edges (n, 2) to the left of their centre in its row."""
    rows = np.arange(height)
    edge, row = np.nonzero((starts[:, 1:] <= rows) != (ends[:, 1:] <= rows))  # which edge crosses which row
    (x, y), (dx, dy) = starts[edge].T, (ends - starts)[edge].T
    first = np.clip(np.ceil(x + (row - y) / dy * dx), 0, width).astype(int)  # column from which on the edge counts
    turns = np.zeros((height, width + 1), bool)
    np.bitwise_xor.at(turns, (row, first), True)
    return np.asarray(np.bitwise_xor.accumulate(turns, axis=1)[:, :width], bool)
