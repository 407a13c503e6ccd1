"""A tiny head: boxes of skull, CSF, grey and white matter, a left and a right thalamus of different size."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import SimpleITK as sitk
from numpy.typing import NDArray

from medseg.datasets.synthesis import generator

ROWS = (
    "value,structure,tissue,side",
    "0,background,other,",
    "24,CSF,CSF,mid",
    "4,left lateral ventricle,CSF,left",
    "43,right lateral ventricle,CSF,right",
    "3,left cerebral cortex,GM,left",
    "42,right cerebral cortex,GM,right",
    "2,left cerebral white matter,WM,left",
    "41,right cerebral white matter,WM,right",
    "10,left thalamus,GM,left",
    "49,right thalamus,GM,right",
    '515,"bone, cortical",other,',
)


def tiny_head(scale: int = 1) -> NDArray[np.int16]:
    """(Z, Y, X) = (20, 24, 22) · scale in LPS; the patient's right lies at small x."""
    head = np.zeros((20, 24, 22), np.int16)
    head[1:-1, 1:-1, 1:-1] = 515
    head[2:-2, 2:-2, 2:-2] = 24
    for side, (cortex, white, thalamus, ventricle) in {"right": (42, 41, 49, 43), "left": (3, 2, 10, 4)}.items():
        half = slice(4, 11) if side == "right" else slice(11, 18)
        head[4:-4, 4:-4, half] = cortex
        inner = slice(6, 11) if side == "right" else slice(11, 16)
        head[6:-6, 6:-6, inner] = white
        head[8:-8, 8:-8, 9 if side == "right" else 12] = ventricle
        head[9:11, 10:14, 8 if side == "right" else slice(13, 15)] = thalamus
    return np.kron(head, np.ones((scale,) * 3, np.int16)).astype(np.int16)


@pytest.fixture
def make_maps(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., Path]:
    """`make_maps(count, rows)` → a folder of label maps of 66 × 72 × 60 mm with their table; slabs fit them."""
    monkeypatch.setattr(generator, "PLANE_MM", dict.fromkeys(("head", "brain"), ((74.0, 80.0), (80.0, 86.0))))

    def make(count: int = 2, rows: tuple[str, ...] = ROWS, scale: int = 3) -> Path:
        folder = tmp_path / "maps"
        (folder / "labels").mkdir(parents=True)
        (folder / "labels.csv").write_text("\n".join(rows) + "\n", encoding="utf-8")
        for number in range(count):
            sitk.WriteImage(sitk.GetImageFromArray(tiny_head(scale)), str(folder / "labels" / f"map_{number}.nii.gz"))
        return folder

    return make
