"""LCTSC: thoracic CT as DICOM series, lungs as contours of an RTSTRUCT."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import SimpleITK as sitk

from medseg.data.image import read_image, write_image
from medseg.data.sources.layout import Row, Source, files_below, require, split_of
from medseg.errors import ImageError

TREE = """  LCTSC-Train-S1-001/<study>/<CT series>/*.dcm
  LCTSC-Train-S1-001/<study>/<RTSTRUCT series>/*.dcm"""
NAMES = {"right_lung": ("lung_r", "right lung"), "left_lung": ("lung_l", "left lung")}
NUMBERS = {"right_lung": 1, "left_lung": 2}
ON_OUTLINE = 1e-3  # pixels: so near an outline a centre lies on it; DICOM's decimals are not finer


def read_lctsc(raw: Path) -> Source:
    """A case a patient's folder; the split is that of its name."""
    import pydicom

    series: dict[str, dict[str, Path]] = {}
    for folder in sorted({path.parent for path in files_below(raw, "*.dcm")}):
        first = pydicom.dcmread(next(iter(sorted(folder.glob("*.dcm")))), stop_before_pixels=True)
        patient = str(first.get("PatientID") or folder.relative_to(raw).parts[0])
        series.setdefault(patient, {})[str(first.get("Modality", ""))] = folder
    both = {name: parts for name, parts in series.items() if {"CT", "RTSTRUCT"} <= parts.keys()}
    require(both, raw, TREE)
    rows = []
    for name, parts in both.items():
        contours = sorted(parts["RTSTRUCT"].glob("*.dcm"))[0]
        facts = {"patient": name, "split": split_of(Path(name))}
        rows.append(Row(name, {"": parts["CT"]}, {}, facts, partial(lungs, contours, parts["CT"])))
    return Source(rows, NUMBERS)


def lungs(contours: Path, series: Path, target: Path) -> None:
    """Write the lungs of an RTSTRUCT on the grid of its CT series; `ImageError` names a lung that was not drawn."""
    import pydicom

    image = read_image(series)
    dataset = pydicom.dcmread(contours)
    named = {int(item.ROINumber): str(item.ROIName).lower() for item in dataset.StructureSetROISequence}
    array = np.zeros(image.GetSize()[::-1], np.uint8)
    for label, names in NAMES.items():
        rois = [item for item in dataset.ROIContourSequence if named.get(int(item.ReferencedROINumber)) in names]
        if not rois:
            raise ImageError(f"{contours}: has no structure {names[0]}; it has {', '.join(named.values())}")
        array[filled(rois[0], image)] = NUMBERS[label]
    mask = sitk.GetImageFromArray(array)
    mask.CopyInformation(image)
    write_image(mask, target)


def filled(roi: Any, image: sitk.Image) -> npt.NDArray[np.bool_]:
    """Voxels (Z, Y, X) whose centre lies inside a structure's contours, each in one axial slice."""
    width, height, depth = image.GetSize()
    slices: dict[int, list[npt.NDArray[np.float64]]] = {}
    for contour in roi.ContourSequence:
        points = np.asarray(contour.ContourData, np.float64).reshape(-1, 3)
        if len(points) < 3:
            continue
        index = np.array([image.TransformPhysicalPointToContinuousIndex(p.tolist()) for p in points])  # (n, 3) x y z
        slices.setdefault(round(float(index[:, 2].mean())), []).append(index[:, :2])
    inside = np.zeros((depth, height, width), bool)
    for number, polygons in slices.items():
        if 0 <= number < depth:
            inside[number] = within(polygons, height, width)
    return inside


def within(polygons: Sequence[npt.NDArray[np.float64]], height: int, width: int) -> npt.NDArray[np.bool_]:
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


def _odd(
    starts: npt.NDArray[np.float64], ends: npt.NDArray[np.float64], height: int, width: int
) -> npt.NDArray[np.bool_]:
    """Pixels (Y, X) with an odd number of edges (n, 2) to the left of their centre in its row."""
    rows = np.arange(height)
    edge, row = np.nonzero((starts[:, 1:] <= rows) != (ends[:, 1:] <= rows))  # which edge crosses which row
    (x, y), (dx, dy) = starts[edge].T, (ends - starts)[edge].T
    first = np.clip(np.ceil(x + (row - y) / dy * dx), 0, width).astype(int)  # column from which on the edge counts
    turns = np.zeros((height, width + 1), bool)
    np.bitwise_xor.at(turns, (row, first), True)
    return np.asarray(np.bitwise_xor.accumulate(turns, axis=1)[:, :width], bool)
