"""Merge label maps of several models."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import SimpleITK as sitk

from medseg.io.geometry import from_array, require_same_grid


def merge_maps(maps: Sequence[tuple[sitk.Image, dict[str, int]]]) -> tuple[sitk.Image, dict[str, int]]:
    """Merge (label map, names) on one grid into one label map and its names; earlier maps have priority.

    Labels are renumbered in order of first appearance; equal names share a number. Raises ImageError (image-grid).
    """
    names = merge_names([labels for _, labels in maps])
    first = maps[0][0]
    merged = np.zeros(sitk.GetArrayViewFromImage(first).shape, np.uint8)
    for image, labels in reversed(maps):  # maps with priority are painted last
        array = sitk.GetArrayViewFromImage(image)
        require_same_grid(image, first, "label maps on different grids cannot be merged", "", code="image-grid")
        for name, number in labels.items():
            merged[array == number] = names[name]
    return from_array(merged, first), names


def merge_names(maps: Sequence[Mapping[str, int]]) -> dict[str, int]:
    """Number the labels of several maps for a merged one."""
    return {name: number for number, name in enumerate(dict.fromkeys(name for names in maps for name in names), 1)}
