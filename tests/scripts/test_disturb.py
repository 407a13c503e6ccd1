"""Disturbances of a chest and a photograph with known masks, and the table of a made-up evaluation."""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import SimpleITK as sitk

sys.path.insert(0, str(Path(__file__).parents[2] / "scripts"))
from disturb import report
from disturbances import KINDS

RNG = np.random.default_rng(0)
Z, Y, X = np.indices((12, 96, 96)).astype(np.float32)
CHEST = np.hypot((Y - 44) / 30, (X - 48) / 42) < 1
LUNGS = (np.hypot((Y - 44) / 20, (X - 28) / 12) < 1) | (np.hypot((Y - 44) / 20, (X - 68) / 12) < 1)


def chest() -> tuple[sitk.Image, sitk.Image]:
    hu = np.where(LUNGS, -800, np.where(CHEST, 40, -1000)).astype(np.int16)
    hu[:, 92] = 60  # a couch
    pair = sitk.GetImageFromArray(hu), sitk.GetImageFromArray(np.where(LUNGS, 1 + (X > 48), 0).astype(np.uint8))
    for made in pair:
        made.SetSpacing((4.0, 4.0, 3.0))
    return pair


def photograph(kind: str) -> tuple[sitk.Image, sitk.Image]:
    y, x = np.indices((80, 100)).astype(np.float32)
    lesion = np.hypot(y - 40, x - 55) < 15
    grey = np.where(lesion, 60, 150).astype(np.uint8)
    values = np.stack([grey] * 3, -1) if kind == "photo" else grey
    return sitk.GetImageFromArray(values, isVector=kind == "photo"), sitk.GetImageFromArray(lesion.astype(np.uint8))


@pytest.mark.parametrize("name", KINDS["ct"])
def test_ct_disturbance_keeps_lungs_under_their_mask(name: str) -> None:
    image, mask = chest()
    results = KINDS["ct"][name](image, mask, RNG)
    for disturbed, labels in results:
        assert disturbed.GetSize() == labels.GetSize()
        values, numbers = sitk.GetArrayFromImage(disturbed), sitk.GetArrayFromImage(labels)
        assert set(np.unique(numbers)) == {0, 1, 2}
        assert np.median(values[numbers > 0]) == pytest.approx(-800, abs=60)
        inner = sitk.GetArrayFromImage(sitk.BinaryErode(labels > 0, [2] * labels.GetDimension())) > 0
        assert np.percentile(values[inner], 99) < -600
    if name != "none":
        assert any(
            disturbed.GetSize() != image.GetSize()
            or disturbed.GetSpacing() != image.GetSpacing()
            or (sitk.GetArrayFromImage(disturbed) != sitk.GetArrayFromImage(image)).any()
            for disturbed, _ in results
        )


@pytest.mark.parametrize(("kind", "name"), [(kind, name) for kind in ("photo", "ultrasound") for name in KINDS[kind]])
def test_photo_disturbance_keeps_the_lesion_under_its_mask(kind: str, name: str) -> None:
    image, mask = photograph(kind)
    ((disturbed, labels),) = KINDS[kind][name](image, mask, RNG)
    assert disturbed.GetSize() == labels.GetSize()
    values, inside = sitk.GetArrayFromImage(disturbed), sitk.GetArrayFromImage(labels) > 0
    grey = values.reshape((*inside.shape, -1)).mean(-1)
    assert inside.any()
    assert np.median(grey[inside]) < 0.55 * np.median(grey[~inside])
    if name != "none":
        assert values.shape != sitk.GetArrayFromImage(image).shape or (values != sitk.GetArrayFromImage(image)).any()


def test_thick_slices_keep_the_extent() -> None:
    image, mask = chest()
    ((disturbed, labels),) = KINDS["ct"]["slices 5 mm"](image, mask, RNG)
    assert disturbed.GetSize()[2] == 7
    assert disturbed.GetSpacing()[2] == 5
    assert labels.GetSpacing() == disturbed.GetSpacing()


def test_report_counts_a_low_dice_as_missed() -> None:
    rows = pd.DataFrame(
        [
            {"case": "none/a_00", "label": "one", "status": "ok", "dice": 0.9},
            {"case": "none/a_00", "label": "two", "status": "ok", "dice": 0.08},
            {"case": "none/b_00", "label": "one", "status": "missed", "dice": 0.0},
            {"case": "none/b_00", "label": "two", "status": "empty_both", "dice": None},
            {"case": "crop/a_00", "label": "one", "status": "ok", "dice": 0.5},
        ]
    )
    lines = report(rows, "ct").splitlines()
    assert lines[2:] == ["| none | 2 | 0.245 | 0.000 | 2 of 3 |", "| crop | 1 | 0.500 | 0.500 | 0 of 1 |"]
