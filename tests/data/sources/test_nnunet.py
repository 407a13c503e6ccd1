from pathlib import Path

import numpy as np
import pytest
import SimpleITK as sitk

from medseg.data.folders import read_cases
from medseg.errors import DataError


def volume(path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    sitk.WriteImage(sitk.GetImageFromArray(np.zeros((2, 4, 4), np.uint8)), str(path))


def test_nnunet_raw_has_numbered_channels(tmp_path: Path) -> None:
    (tmp_path / "dataset.json").write_text("{}")
    for name in ("imagesTr/p_1_0000", "imagesTr/p_1_0001", "labelsTr/p_1", "imagesTr/q_0000", "imagesTr/q_0001"):
        volume(tmp_path / f"{name}.nii.gz")
    p, q = read_cases(tmp_path, ["flair", "t1c"])
    assert (p.id, p.images["t1c"].name) == ("p_1", "p_1_0001.nii.gz")
    assert p.mask == tmp_path / "labelsTr" / "p_1.nii.gz"
    assert (q.id, q.mask) == ("q", None)
    (tmp_path / "imagesTr" / "q_0001.nii.gz").unlink()
    with pytest.raises(DataError, match=r"q has no file q_0001\.\* for channel 't1c'"):
        read_cases(tmp_path, ["flair", "t1c"])


def test_decathlon_has_one_file_a_case(tmp_path: Path) -> None:
    (tmp_path / "dataset.json").write_text("{}")
    volume(tmp_path / "imagesTr" / "lung_0001.nii.gz")
    volume(tmp_path / "labelsTr" / "lung_0001.nii.gz")
    (case,) = read_cases(tmp_path, ["ct"])
    assert case.id == "lung_0001"
    assert case.mask is not None


def test_without_images_it_says_so(tmp_path: Path) -> None:
    (tmp_path / "dataset.json").write_text("{}")
    with pytest.raises(DataError, match="imagesTr"):
        read_cases(tmp_path, ["ct"])
