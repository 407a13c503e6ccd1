"""What the numbers in a folder of masks mean, without the settings that made them."""

from __future__ import annotations

import json
from collections.abc import Iterable
from pathlib import Path

import numpy as np
import SimpleITK as sitk

from medseg.errors import DataError, ImageError
from medseg.io.image import read_mask

ABOVE = 3  # folders: the one of the masks, and two above it


def read_label_names(masks: Path) -> dict[str, int] | None:
    """Names and values from labels.json in the folder of masks or close above it; None where there is none."""
    folders = [masks, *masks.resolve().parents][:ABOVE]
    file = next((file for folder in folders if (file := folder / "labels.json").is_file()), None)
    if file is None:
        return None
    try:
        content = json.loads(file.read_text(encoding="utf-8"))
        return {str(name): int(value) for name, value in content.items()}
    except (OSError, ValueError, TypeError, AttributeError) as error:
        raise DataError(f'{file}: must hold names and values such as {{"lesion": 1}} ({error})') from error


def infer_labels(paths: Iterable[Path]) -> dict[str, int]:
    """A label named after each value in any readable mask; the unreadable ones are told of when they are used."""
    found: set[int] = set()
    for path in paths:
        try:
            found |= values_of(read_mask(path))
        except ImageError:
            continue
    if not found:
        raise DataError("no mask with a label was found")
    return {f"label_{value}": value for value in sorted(found)}


def values_of(mask: sitk.Image) -> set[int]:
    """The label values in a mask, background left out."""
    return set(np.unique(sitk.GetArrayViewFromImage(mask)).tolist()) - {0}
