"""LCTSC: thoracic CT as DICOM series, lungs as contours of an RTSTRUCT."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import SimpleITK as sitk
from PIL import Image, ImageDraw

from medseg.data.image import read_image, write_image
from medseg.data.sources.layout import Row, Source, files_below, require, split_of
from medseg.errors import ImageError

TREE = """  LCTSC-Train-S1-001/<study>/<CT series>/*.dcm
  LCTSC-Train-S1-001/<study>/<RTSTRUCT series>/*.dcm"""
NAMES = {"right_lung": ("lung_r", "right lung"), "left_lung": ("lung_l", "left lung")}
NUMBERS = {"right_lung": 1, "left_lung": 2}


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


def filled(roi: Any, image: sitk.Image) -> Any:
    """Voxels (Z, Y, X) whose centre lies in an odd number of a structure's contours, each in one axial slice."""
    width, height, depth = image.GetSize()
    inside = np.zeros((depth, height, width), bool)
    for contour in roi.ContourSequence:
        points = np.asarray(contour.ContourData, np.float64).reshape(-1, 3)
        index = np.array([image.TransformPhysicalPointToContinuousIndex(p.tolist()) for p in points])  # (n, 3) x y z
        number = round(float(index[:, 2].mean()))
        if not 0 <= number < depth or len(points) < 3:
            continue
        plane = Image.new("1", (width, height))
        ImageDraw.Draw(plane).polygon([tuple(p) for p in index[:, :2]], fill=1)
        inside[number] ^= np.array(plane)
    return inside
