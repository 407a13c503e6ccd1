"""Label names of a folder of masks, from labels.json or from the values in the masks."""

from __future__ import annotations

import json
from collections.abc import Iterable
from pathlib import Path

import numpy as np
import SimpleITK as sitk

from medseg.errors import DataError, ImageError
from medseg.io.image import read_mask

SEARCHED_FOLDERS = 3  # the folder of the masks and two parents


def read_label_names(masks: Path) -> dict[str, int] | None:
    """Read names and values from labels.json in the folder of masks or a parent; None without such a file."""
    folders = [masks, *masks.resolve().parents][:SEARCHED_FOLDERS]
    file = next((file for folder in folders if (file := folder / "labels.json").is_file()), None)
    if file is None:
        return None
    try:
        content = json.loads(file.read_text(encoding="utf-8"))
        return {str(name): int(value) for name, value in content.items()}
    except (OSError, ValueError, TypeError, AttributeError) as error:
        raise DataError(f'{file}: must hold names and values such as {{"lesion": 1}} ({error})') from error


def infer_labels(paths: Iterable[Path]) -> dict[str, int]:
    """Name a label after each value in the readable masks; unreadable masks raise their error when they are used."""
    values: set[int] = set()
    for path in paths:
        try:
            values |= values_of(read_mask(path))
        except ImageError:
            continue
    if not values:
        raise DataError("no mask with a label was found")
    return {f"label_{value}": value for value in sorted(values)}


def values_of(mask: sitk.Image) -> set[int]:
    """Return the label values in a mask, without background."""
    return set(np.unique(sitk.GetArrayViewFromImage(mask)).tolist()) - {0}
