"""Channels of a case in separate files, by the suffixes of their names."""

from pathlib import Path

import numpy as np
import pytest
import SimpleITK as sitk

from medseg.data.readers import read_cases
from medseg.errors import DataError


def write_photo(path: Path) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    sitk.WriteImage(sitk.GetImageFromArray(np.zeros((4, 4), np.uint8)), str(path))
    return path


def test_read_cases_channel_suffix_ignores_case(tmp_path: Path) -> None:
    for name in ("p1_FLAIR", "p1_T1c", "p2_flair", "p2_t1c", "p1_seg"):
        write_photo(tmp_path / f"{name}.png")
    images_by_case = {case.id: case.images for case in read_cases(tmp_path, ["flair", "t1c"])}
    assert {name: [path.stem for path in images.values()] for name, images in images_by_case.items()} == {
        "p1": ["p1_FLAIR", "p1_T1c"],
        "p2": ["p2_flair", "p2_t1c"],
    }
    write_photo(tmp_path / "p1_flair.png")
    with pytest.raises(DataError, match="are both channel 'flair' of p1; keep one"):
        read_cases(tmp_path, ["flair", "t1c"])


@pytest.mark.parametrize("inside", [".", "images"])
def test_read_cases_without_channel_suffix_raises_with_names(tmp_path: Path, inside: str) -> None:
    file = write_photo(tmp_path / inside / "p1.nrrd")
    with pytest.raises(DataError) as caught:
        read_cases(tmp_path, ["flair", "t1c"])
    assert f"{file}: matches none of the channels flair, t1c" in str(caught.value)
    assert "p1_flair.nrrd, p1_t1c.nrrd" in str(caught.value)
