"""nnU-Net raw and Medical Segmentation Decathlon folders: dataset.json, imagesTr, labelsTr, imagesTs."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

from medseg.data.cases import Case, frame_of
from medseg.data.image import is_image, stem
from medseg.data.sources.layout import Mask, Row, Source, require
from medseg.errors import DataError

TREE = """  dataset.json
  imagesTr/CASE_0000.nii.gz
  labelsTr/CASE.nii.gz"""


def read_nnunet(root: Path, channels: list[str]) -> list[Case]:
    """Cases of `imagesTr` with their masks. nnU-Net names channels CASE_0000, MSD has one file a case."""
    folder = root / "imagesTr"
    if not folder.is_dir():
        raise DataError(f"{root}: dataset.json without a folder imagesTr beside it")
    masks = {stem(path): path for path in (root / "labelsTr").glob("*") if is_image(path)}
    files: dict[str, dict[str, Path]] = {}
    for path in sorted(p for p in folder.iterdir() if is_image(p)):
        name, _, number = stem(path).rpartition("_")
        numbered = bool(name) and len(number) == 4 and number.isdigit() and stem(path) not in masks
        case, position = (name, int(number)) if numbered else (stem(path), 0)
        if position < len(channels):
            files.setdefault(case, {})[channels[position]] = path
    for case, images in files.items():
        for position, channel in enumerate(channels):
            if channel not in images:
                raise DataError(f"{folder}: {case} has no file {case}_{position:04d}.* for channel {channel!r}")
    found = []
    for case, images in files.items():
        sequence, frame = frame_of(case)
        found.append(Case(sequence, sequence, images, masks.get(case), frame=frame))
    return found


def as_source(root: Path) -> Source:
    """The cases of an nnU-Net raw or MSD folder, channels by their names in dataset.json."""
    values = stated_labels(root) if (root / "dataset.json").is_file() else None
    require(values or [], root, TREE)
    content = json.loads((root / "dataset.json").read_text(encoding="utf-8"))
    named = content.get("channel_names") or content.get("modality") or {"0": "image"}
    channels = [re.sub(r"\W+", "_", str(named[key])).lower() for key in sorted(named, key=int)]
    rows = []
    for case in read_nnunet(root, channels):
        images = dict(case.images) if len(channels) > 1 else {"": case.image}
        masks = {"": Mask((case.mask,))} if case.mask is not None else {}
        rows.append(Row(case.name, images, masks, {"patient": case.patient, "split": "train"}))
    return Source(rows, values or {})


def stated_labels(root: Path) -> dict[str, Any] | None:
    """Pixel values by label name from dataset.json, in nnU-Net's order (name: value) or MSD's (value: name)."""
    try:
        labels = json.loads((root / "dataset.json").read_text(encoding="utf-8")).get("labels")
        if labels is None:
            return None
        pairs = [(name, value) if not str(name).isdigit() else (value, int(name)) for name, value in labels.items()]
    except (OSError, ValueError, AttributeError) as error:
        raise DataError(f'{root / "dataset.json"}: must state labels such as {{"labels": {{"lesion": 1}}}}') from error
    return {str(name): value for name, value in pairs if value != 0}
