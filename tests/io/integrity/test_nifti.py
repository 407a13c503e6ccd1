"""NIfTI headers that ITK would guess at raise; valid ones pass."""

from __future__ import annotations

import struct
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import pytest
import SimpleITK as sitk

from medseg.io.geometry import grid_difference
from medseg.io.image import read_image
from medseg.io.integrity.nifti import layout
from medseg.io.integrity.photo import SpaceError
from tests.zoo.kind import VOLUME, volume
from tests.zoo.volumes import floats, nifti

TURNED = struct.pack("<2h6f", 1, 2, 0, 0, 1, 0, 0, 0)  # qform and sform codes, and the qform of the volume


def read(tmp_path: Path, fields: Mapping[int, bytes]) -> sitk.Image:
    (tmp_path / "a.nii").write_bytes(nifti(fields=fields))
    return read_image(tmp_path / "a.nii")


def test_layout_gives_length_and_floats() -> None:
    assert layout(nifti()[:540]) == (352 + VOLUME.nbytes, None)
    end, watch = layout(nifti(VOLUME.astype(np.float32))[:540])
    assert end == 352 + 2 * VOLUME.nbytes
    assert watch is not None
    assert watch.total == VOLUME.size


@pytest.mark.parametrize(
    ("fields", "words"),
    [
        ({76: floats(1, 8, 0, 12)}, r"its voxels measure \(8, 0, 12\)"),
        ({76: floats(1, -8, 8, 12)}, r"its voxels measure \(-8, 8, 12\)"),
        ({76: floats(1, 4, 8, 12)}, r"\(4, 8, 12\) by pixdim and \(8, 8, 12\) by the sform"),
        ({280: floats(float("nan"))}, "its sform is"),
        ({252: struct.pack("<2h6f", 1, 0, 0.9, 0.9, 0, 0, 0, 0)}, "its qform is"),
        ({252: TURNED, 280: floats(8)}, "disagree on left and right"),
    ],
)
def test_layout_with_invalid_space_raises_space_error(fields: dict[int, bytes], words: str) -> None:
    with pytest.raises(SpaceError, match=words):
        layout(nifti(fields=fields)[:540])


def test_layout_with_disagreeing_handedness_raises_space_error(tmp_path: Path) -> None:
    """ITK alone mirrors the volume at a negative pixdim although the sform, which counts, says that it is not."""
    (tmp_path / "raw.nii").write_bytes(nifti(fields={76: floats(1, -8, 8, 12)}))
    assert sitk.ReadImage(str(tmp_path / "raw.nii")).GetDirection()[0] == -1
    with pytest.raises(SpaceError):
        layout((tmp_path / "raw.nii").read_bytes()[:540])


@pytest.mark.parametrize("codes", [(0, 1), (1, 1), (1, 2), (1, 0)])
def test_layout_with_valid_space_passes(tmp_path: Path, codes: tuple[int, int]) -> None:
    image = read(tmp_path, {252: struct.pack("<2h6f", *codes, 0, 0, 1, 0, 0, 0)})
    assert grid_difference(image, volume()) is None
    np.testing.assert_array_equal(sitk.GetArrayFromImage(image), VOLUME)


def test_layout_axis_of_one_voxel_needs_no_size() -> None:
    layout(nifti(VOLUME[:1], fields={76: floats(1, 8, 8, 0)})[:540])


@pytest.mark.parametrize(
    ("fields", "words"),
    [
        ({112: floats(0, 7)}, "has the intercept 7 but no slope"),
        ({112: floats(1, float("nan"))}, "scaled by 1 and nan"),
        ({108: floats(100)}, "puts the pixels at byte 100, inside the header"),
        ({344: bytes(4)}, "an Analyze file or half of a pair"),
        ({70: struct.pack("<h", 9999)}, "datatype 9999"),
    ],
)
def test_layout_with_invalid_values_raises(fields: dict[int, bytes], words: str) -> None:
    with pytest.raises(ValueError, match=words):
        layout(nifti(fields=fields)[:540])


def test_layout_uses_datatype_instead_of_bits() -> None:
    assert layout(nifti(fields={72: struct.pack("<h", 8)})[:540]).end == 352 + VOLUME.nbytes
