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
ON_OUTLINE = 1e-3  # pixels: a centre this close lies on the outline; DICOM's decimals are not finer


def read_lctsc(raw: Path) -> DatasetIndex:
    """One case per patient folder; the split is that of its name.

    A patient with an unreadable file or without one of the two series becomes a case that fails with its error.
    """
    series: dict[str, dict[str, Path]] = {}  # patient → modality → first file
    errors: dict[str, ImageError] = {}
    files = files_below(raw, "*.dcm")
    for folder in sorted({path.parent for path in files}):
        patient = next(iter(folder.relative_to(raw).parts), raw.name)
        first = next(path for path in files if path.parent == folder)
        try:
            patient, modality = _kind(first, patient)
        except ImageError as error:
            errors.setdefault(patient, error)
        else:
            series.setdefault(patient, {})[modality] = first
    require_tree(series, raw, TREE)
    rows = []
    for name in sorted({*series, *errors}):
        files_by_modality = series.get(name, {})
        missing = [modality_ for modality_ in ("CT", "RTSTRUCT") if modality_ not in files_by_modality]
        folder_ = next(iter(files_by_modality.values()), raw).parent
        missing_error = ImageError(
            f"{folder_}: {name} has no series {' and no '.join(missing)} below {raw}; unpack it too"
        )
        problem = errors.get(name) or (missing_error if missing else None)
        make = (
            raise_later(problem)
            if problem
            else partial(lungs, files_by_modality["RTSTRUCT"], files_by_modality["CT"].parent)
        )
        images = {"": files_by_modality["CT"].parent if "CT" in files_by_modality else folder_}
        rows.append(DatasetCase(name, images, {}, {"patient": name, "split": split_of(Path(name))}, make))
    return DatasetIndex(rows, NUMBERS)


def _kind(file: Path, patient: str) -> tuple[str, str]:
    """Patient and modality of a DICOM file; `patient` is used if the file has no ID."""
    header = _read(file, stop_before_pixels=True)
    return str(header.get("PatientID") or patient), str(header.get("Modality", ""))


def _read(file: Path, stop_before_pixels: bool = False) -> Any:
    """Read a DICOM dataset; `ImageError` if it is not one."""
    import pydicom

    try:
        return pydicom.dcmread(file, stop_before_pixels=stop_before_pixels)
    except (*BROKEN, EOFError, struct.error, zlib.error) as error:
        message = f"{file}: is not a readable DICOM file ({type(error).__name__}); copy it again or move it away"
        raise ImageError(message, code="image-unreadable") from None  # the cause may quote the header


def lungs(contours: Path, series: Path, target: Path) -> None:
    """Write the lungs of an RTSTRUCT on the grid of its CT series; `ImageError` for a lung without contours."""
    image = read_image(series)
    array = np.zeros(image.GetSize()[::-1], np.uint8)
    for label, polygons in _drawn(contours).items():
        inside = filled(polygons, image)
        if not inside.any():
            raise ImageError(
                f"{contours}: no contour of {NAMES[label][0]} lies in the scan {series}; it belongs to another scan"
            )
        array[inside] = NUMBERS[label]
    mask = from_array(array, image)
    write_image(mask, target)


def _drawn(contours: Path) -> dict[str, list[FloatArray]]:
    """The contours (n, 3) in mm of each lung of an RTSTRUCT; `ImageError` if a lung has none."""
    dataset, contours_by_label = _read(contours), {}
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
                raise ImageError(f"{contours}: structure {names[0]} has no contours; draw it or exclude the patient")
            contours_by_label[label] = [np.asarray(outline, np.float64).reshape(-1, 3) for outline in outlines]
    except BROKEN as error:
        message = f"{contours}: its structures cannot be read ({type(error).__name__}); copy or export it again"
        raise ImageError(message, code="image-unreadable") from None
    return contours_by_label


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

    A centre on an outline is inside if either side of it is: the mask is not shifted, and touching polygons leave no
    gap. Rounding does not matter for such centres: each is tested at four shifted positions.
    """
    starts = np.concatenate(polygons)
    ends = np.concatenate([np.roll(points, -1, axis=0) for points in polygons])
    corner = np.clip(np.floor(starts.min(axis=0)), 0, (width, height))  # x y of the crop's first pixel
    far = np.clip(np.ceil(starts.max(axis=0)) + 1, corner, (width, height))
    columns, rows = (far - corner).astype(int)
    shifts = [corner + np.array(step) * ON_OUTLINE for step in ((-1, -1), (-1, 1), (1, -1), (1, 1))]
    crop = np.any([_odd(starts - step, ends - step, rows, columns) for step in shifts], axis=0)
    (left, top), inside = corner.astype(int), np.zeros((height, width), bool)
    inside[top : top + rows, left : left + columns] = crop
    return inside


def _odd(starts: FloatArray, ends: FloatArray, height: int, width: int) -> BoolArray:
    """Pixels (Y, X) with an odd number of edges (n, 2) to the left of their centre in its row."""
    rows = np.arange(height)
    edge, row = np.nonzero((starts[:, 1:] <= rows) != (ends[:, 1:] <= rows))  # edges and the rows they cross
    (x, y), (dx, dy) = starts[edge].T, (ends - starts)[edge].T
    first = np.clip(np.ceil(x + (row - y) / dy * dx), 0, width).astype(int)  # first column to the right of the edge
    turns = np.zeros((height, width + 1), bool)
    np.bitwise_xor.at(turns, (row, first), True)
    return np.asarray(np.bitwise_xor.accumulate(turns, axis=1)[:, :width], bool)
