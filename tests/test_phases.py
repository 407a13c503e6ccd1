"""Breathing in any of the ways that sequences are kept: one 4D file, a file, a folder or a DICOM series a phase, with
phases missing.
"""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import SimpleITK as sitk

from medseg.commands.diagnose import DiagnoseRequest, diagnose_folder
from medseg.runs.run import open_run
from tests.dicom_files import SERIES, write_slice

Command = Callable[..., Any]


def phases(breathing: Path, kind: str) -> list[sitk.Image]:
    return [sitk.ReadImage(str(file)) for file in sorted((breathing / kind / "lung000").glob("*.nii.gz"))]


def save(images: list[sitk.Image], folder: Path, how: str, kept: list[int]) -> None:
    """The phases that are kept, as one 4D file, a file a phase, a file in a folder a phase, or a series a phase."""
    folder.mkdir(parents=True)
    if how == "4d":
        sitk.WriteImage(sitk.JoinSeries([images[k] for k in kept]), str(folder / "lung.nii.gz"))
    for k in kept if how == "series" else ():
        save_series(images[k], folder / f"lung/phase_{k:02d}", f"{SERIES}.{k}")
    for k in kept if how in ("files", "folders") else ():
        place = folder / (f"lung_frame{k:02d}" if how == "files" else f"lung/phase_{k:02d}")
        place.parent.mkdir(exist_ok=True)
        sitk.WriteImage(images[k], f"{place}.nii.gz")


def save_series(image: sitk.Image, folder: Path, uid: str) -> None:
    """A folder of CT slices."""
    stored = (sitk.GetArrayFromImage(image) + 1024).clip(0, 65535).astype(np.uint16)  # (Z, Y, X), HU + 1024
    x, y, _ = image.GetSpacing()
    size = {"Rows": stored.shape[1], "Columns": stored.shape[2], "PixelSpacing": [f"{y:.10g}", f"{x:.10g}"]}
    for z, plane in enumerate(stored):
        position = image.TransformIndexToPhysicalPoint((0, 0, z))
        pixels = {"PixelData": plane.tobytes(), "SeriesInstanceUID": uid}
        write_slice(folder / f"{z:03d}.dcm", z, position, **size, **pixels)


@pytest.mark.parametrize("how", ["4d", "files", "folders", "series"])
@pytest.mark.parametrize("gone", [[], [3]])
def test_a_sequence_is_one_case_however_it_is_kept(
    breathing: Path, classifier_run: Path, tmp_path: Path, how: str, gone: list[int]
) -> None:
    kept = [k for k in range(8) if k not in gone]
    save(phases(breathing, "images"), tmp_path / "images", how, kept)
    save(phases(breathing, "masks"), tmp_path / "masks", "folders" if how == "series" else how, kept)
    request = DiagnoseRequest(tmp_path / "images", tmp_path / "out.csv", tmp_path / "masks")
    assert diagnose_folder(request, open_run(classifier_run)).exit_status() == 0
    found = pd.read_csv(tmp_path / "out.csv")
    assert found["case"].nunique() == 1
    assert len(found) == len(kept)
    if how != "4d":
        assert found["frame"].tolist() == kept
    assert set(found["predicted"]) <= {"exhale", "inhale"}
    assert np.isfinite(found["signal_predicted"]).all()
