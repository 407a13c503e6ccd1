"""What a diagnosis says of each case, for a person and for a program: diagnosis, chances, set, reasons, measures."""

from __future__ import annotations

from collections.abc import Container, Iterable
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import numpy.typing as npt
import pandas as pd
import SimpleITK as sitk

from medseg.classifier import Classifier
from medseg.data.cases import Case
from medseg.data.labels import Labels
from medseg.ledger import atomic_write_bytes
from medseg.masks import MaskOf
from medseg.tables import Tables

SHOWN = 12  # measures of a case, those that the model selected first
SIDE = 480  # pixels of the longer side of a picture
COLOURS = ((230, 159, 0), (86, 180, 233), (0, 158, 115), (204, 121, 167), (240, 228, 66))  # of outlines, sRGB
Json = dict[str, Any]
Window = tuple[float, float] | None  # darkest and brightest value shown; None: the 0.5th and 99.5th percentile


def diagnoses(classifier: Classifier, tables: Tables, found: pd.DataFrame) -> Json:
    """All that is said of some cases, as one object. units: unit and definition of each measure it shows."""
    said = sheets(classifier, tables, found)
    return {
        "classes": list(classifier.inputs.classes),
        "use": classifier.use,
        "units": shown_units(tables, [sheet["measures"] for sheet in said]),
        "cases": said,
    }


def shown_units(tables: Tables, measures: Iterable[list[Json]]) -> dict[str, str]:
    """Unit and definition of each measure in some cases' rows, by name; blank where the tables do not say."""
    return {row["name"]: tables.meaning(row["name"]) for rows in measures for row in rows}


def sheets(classifier: Classifier, tables: Tables, found: pd.DataFrame) -> list[Json]:
    """One object a row of `found`, which `classifier` said of `tables`; no NaN, so that it is JSON.

    measures: the value beside mean and standard deviation of the training cases. rule: what the clinic's rule makes of
    them, line by line.
    """
    rows = classifier.rows(tables)
    said = {
        name: classifier.calibrations[name].probabilities(chances) for name, chances in classifier.said(rows).items()
    }
    names = list(classifier.inputs.classes)
    moments = _moments(classifier)
    kept = [rows.names[column] for column in classifier.members.kept]
    base = dict.fromkeys(name.removesuffix(".slope") for name in kept)
    chosen = [name for name in base if name in classifier.inputs.names][:SHOWN]
    sheets = []
    for number, (_, row) in enumerate(found.iterrows()):
        measured = {str(name): _plain(value) for name, value in rows.measures.iloc[number].items()}
        sheet: Json = {
            "case": str(row["case"]),
            "frame": int(row["frame"]),
            "label": None if pd.isna(row["label"]) else str(row["label"]),
            "diagnosis": _plain(row["predicted"]),
            "probability": _plain(row["probability"]),
            "set": str(row["set"]).split(" | "),
            "abstain": bool(row["abstain"]),
            "why": row["why"],
            "review": row["review"],
            "models": {model: _chances(names, p[number], row["predicted"]) for model, p in said.items()},
            "measures": [{"name": name, "value": measured[name], **moments[name]} for name in chosen],
            "rule": None,
        }
        if classifier.rule is not None:
            lines = classifier.rule.sheet({str(name): value for name, value in rows.measures.iloc[number].items()})
            sheet["rule"] = [{key: _plain(value) for key, value in line.items()} for line in lines]
        sheets.append(sheet)
    return sheets


def _chances(classes: list[str], chances: npt.NDArray[np.float64], diagnosis: Any) -> dict[str, float | None]:
    """Probabilities by class; none where no diagnosis is given."""
    return {name: None if pd.isna(diagnosis) else _plain(p) for name, p in zip(classes, chances, strict=True)}


def _moments(classifier: Classifier) -> dict[str, Json]:
    moments = classifier.inputs.moments
    if moments is None:
        return {name: {"mean": None, "sd": None} for name in classifier.inputs.names}
    both = zip(classifier.inputs.names, moments.mean, moments.sd, strict=False)
    return {name: {"mean": _plain(mean), "sd": _plain(sd)} for name, mean, sd in both}


def _plain(value: Any) -> Any:
    """Numbers for JSON: what is undefined is null."""
    if value is None or isinstance(value, str):
        return value
    return float(value) if np.isfinite(value) else None


def picture(image: sitk.Image, mask: sitk.Image, labels: Labels, window: Window = None) -> bytes:
    """PNG of an image with the outlines of its mask; of a volume the axial slice with the largest mask."""
    if image.GetDimension() == 3:
        turned, flat = (sitk.DICOMOrient(part, "LPS") for part in (image, mask))
        areas = (sitk.GetArrayViewFromImage(flat) > 0).sum(axis=(1, 2))
        number = int(areas.argmax()) if areas.any() else len(areas) // 2
        image, mask = turned[:, :, number], flat[:, :, number]
    pixels = sitk.GetArrayFromImage(image).astype(np.float32)
    low, high = window or np.percentile(pixels, [0.5, 99.5])
    grey = np.clip((pixels - low) / max(float(high - low), 1e-9), 0, 1) * 255
    canvas = np.rint(grey if grey.ndim == 3 else np.repeat(grey[..., None], 3, axis=2)).astype(np.uint8)[..., :3]
    scale = SIDE / max(canvas.shape[:2])
    size = tuple(max(1, round(side * scale)) for side in canvas.shape[1::-1])
    smooth = cv2.INTER_AREA if scale < 1 else cv2.INTER_LINEAR
    canvas = np.ascontiguousarray(cv2.resize(canvas, size, interpolation=smooth))
    coded = sitk.GetArrayFromImage(mask)
    for place, name in enumerate(labels.numbers):
        layer = cv2.resize(labels.layer(coded, name).astype(np.uint8), size, interpolation=cv2.INTER_NEAREST)
        curves, _ = cv2.findContours(layer, cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_NONE)
        cv2.drawContours(canvas, curves, -1, COLOURS[place % len(COLOURS)], 1)
    return _png(canvas)


def _png(canvas: npt.NDArray[np.uint8]) -> bytes:
    done, content = cv2.imencode(".png", canvas[..., ::-1])
    assert done
    return bytes(content)


def pictured(mask_of: MaskOf, folder: Path, labels: Labels, wanted: Container[str], window: Window = None) -> MaskOf:
    """The same masks; a picture of each case that is wanted goes to folder/<case>.png, of sequences the first frame."""

    def draw(case: Case, image: sitk.Image) -> sitk.Image:
        mask = mask_of(case, image)
        target = folder / f"{case.id}.png"
        if case.id in wanted and image.GetDimension() < 4 and (case.frame or 0) == 0:
            atomic_write_bytes(target, picture(image, mask, labels, window))
        return mask

    return draw
