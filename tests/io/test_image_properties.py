"""Property tests of readers and writers: written images are read back, corrupted files raise an ImageError."""

from __future__ import annotations

import random
import tempfile
from pathlib import Path

import numpy as np
import pytest
import SimpleITK as sitk
from hypothesis import given, settings
from hypothesis import strategies as st

from medseg.commands.explain import CODES
from medseg.errors import ImageError
from medseg.io.geometry import grid_difference
from medseg.io.image import SUFFIXES, read_image, write_image
from tests.zoo import pictures, volumes

VOLUMES = [".nii.gz", ".nii", ".mha", ".mhd", ".nrrd"]
FLAT = [suffix for suffix in SUFFIXES if suffix not in VOLUMES]
LOSSY = (".jpg", ".jpeg")
TYPES = ["uint8", "int16", "uint16", "int32", "float32", "float64"]
FEW = settings(max_examples=25, deadline=None, derandomize=True)
NAMES = "good-1.nii.gz good-4.nii big-endian.nii type-f8.nii.gz good-2.mha compressed.mha good-5.mhd good-3.nrrd"
NAMES += " detached.nrrd compressed.nrrd good-1.png palette.png grey-alpha.png good-2.jpg exif-6.jpg good-4.tif"
NAMES += " tiled.tif big.tif exif-5.tif good-3.bmp grey.bmp runs.bmp"
BASES = {s.name: s for s in [*volumes.GOOD, *pictures.RIGHT] if s.name in NAMES.split()}
WORDS = [
    b"\xff\xff\xff\xff",
    b"\0\0\0\0",
    b"\x7f\xff\xff\xff",
    b"\xff\xff\xff\x7f",
    b"nan ",
    b"-1  ",
    b"9999",
    b"\n\n\n\n",
]

sizes = st.lists(st.integers(1, 7), min_size=2, max_size=3)
steps = st.floats(0.05, 20)
turns = st.floats(-np.pi, np.pi)


@st.composite
def images(draw: st.DrawFn) -> sitk.Image:
    """2D or 3D, of any type, spacing, origin and orthogonal direction, mirrored or not."""
    size, kind = draw(sizes), draw(st.sampled_from(TYPES))
    rng = np.random.default_rng(draw(st.integers(0, 1 << 30)))
    image = sitk.GetImageFromArray(rng.integers(0, 200, size).astype(kind))
    axes = image.GetDimension()
    image.SetSpacing([draw(steps) for _ in range(axes)])
    image.SetOrigin([draw(st.floats(-500, 500)) for _ in range(axes)])
    turn = sitk.Euler2DTransform((0, 0), draw(turns)) if axes == 2 else None
    turn = turn or sitk.Euler3DTransform((0, 0, 0), draw(turns), draw(turns), draw(turns))
    matrix = np.reshape(turn.GetMatrix(), (axes, axes)) @ np.diag([draw(st.sampled_from([-1, 1])) for _ in range(axes)])
    image.SetDirection(matrix[:, draw(st.permutations(range(axes)))].ravel().tolist())
    return image


@FEW
@given(images(), st.sampled_from(VOLUMES))
def test_write_then_read_volume_keeps_pixels_and_geometry(image: sitk.Image, suffix: str) -> None:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / f"a{suffix}"
        write_image(image, path)
        back = read_image(path)
    assert grid_difference(back, image) is None
    assert back.GetPixelID() == image.GetPixelID()
    np.testing.assert_array_equal(sitk.GetArrayFromImage(back), sitk.GetArrayFromImage(image))


@FEW
@given(sizes.map(lambda size: size[:2]), st.sampled_from(FLAT), st.booleans(), st.integers(0, 1 << 30))
def test_write_then_read_photo_keeps_pixels(size: list[int], suffix: str, colour: bool, seed: int) -> None:
    pixels = np.random.default_rng(seed).integers(0, 255, [*size, 3] if colour else size, dtype=np.uint8)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / f"a{suffix}"
        write_image(sitk.GetImageFromArray(pixels, isVector=colour), path)
        back = sitk.GetArrayFromImage(read_image(path))
    assert back.shape == pixels.shape
    if suffix not in LOSSY:
        np.testing.assert_array_equal(back, pixels)


def corrupted(content: bytes, seed: int) -> bytes:
    """The file cut off, or with a few bytes changed, put in or left out, mostly in its header."""
    rng = random.Random(seed)
    if rng.random() < 0.15:
        return content[: rng.randrange(len(content))]
    data, head = bytearray(content), rng.choice([64, 400, 2000, len(content)])
    for _ in range(rng.choice([1, 1, 2, 4, 10])):
        position = rng.randrange(min(head, len(data) - 16))
        change = rng.randrange(4)
        if change == 0:
            data[position] ^= 1 << rng.randrange(8)
        elif change == 1:
            data[position : position + 4] = rng.choice(WORDS)
        elif change == 2:
            data[position:position] = rng.choice(WORDS)[:2]
        else:
            del data[position : position + rng.randrange(1, 9)]
    return bytes(data)


def read_spoilt(name: str, seed: int) -> str:
    """The code of the error that a spoilt file gives; blank where it is still an image. Nothing else may happen."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / name
        BASES[name].make(path)
        path.write_bytes(corrupted(path.read_bytes(), seed))
        try:
            image = read_image(path)
        except ImageError as error:
            return error.code if str(path) in str(error) else f"{error.code} does not name the file"
        assert np.isfinite(sitk.GetArrayViewFromImage(image)).all()
        assert np.isfinite([*image.GetSpacing(), *image.GetOrigin(), *image.GetDirection()]).all()
        return ""


@pytest.mark.parametrize("name", BASES)
@settings(max_examples=8, deadline=None, derandomize=True)
@given(seed=st.integers(0, 1 << 30))
def test_read_image_corrupted_file_is_an_image_or_an_image_error(name: str, seed: int) -> None:
    assert read_spoilt(name, seed) in ("", *CODES)


@pytest.mark.torture
@pytest.mark.parametrize("name", BASES)
def test_read_image_a_thousand_corrupted_files_each(name: str, capfd: pytest.CaptureFixture[str]) -> None:
    outcomes = {read_spoilt(name, seed) for seed in range(1000)}
    assert outcomes <= {"", *CODES}
    assert capfd.readouterr() == ("", "")
