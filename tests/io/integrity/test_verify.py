from __future__ import annotations

import gzip
import os
import struct
import time
import tracemalloc
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import SimpleITK as sitk

from medseg.errors import ImageError
from medseg.io.image import SUFFIXES, image_suffix, read_image
from medseg.io.integrity import verify
from tests.conftest import posix

VOLUME = sitk.GetImageFromArray(np.random.default_rng(0).integers(-900, 900, (3, 6, 7), dtype=np.int16))
GREY = sitk.GetImageFromArray(np.random.default_rng(1).integers(0, 255, (9, 11), dtype=np.uint8))


def write(image: sitk.Image, compress: bool = False) -> Callable[[Path], None]:
    return lambda path: sitk.WriteImage(image, str(path), useCompression=compress)


def write_two_members(path: Path) -> None:
    """bgzip and pigz write gzip files of several members."""
    write(VOLUME)(path)
    data = gzip.decompress(path.read_bytes())
    path.write_bytes(gzip.compress(data[:400]) + gzip.compress(data[400:]))


def write_big_endian(path: Path) -> None:
    header = bytearray(352)
    struct.pack_into(">i", header, 0, 348)
    struct.pack_into(">8h", header, 40, 3, 4, 3, 2, 1, 1, 1, 1)
    struct.pack_into(">2h", header, 70, 4, 16)
    struct.pack_into(">8f", header, 76, 1, 1, 1, 1, 1, 1, 1, 1)
    struct.pack_into(">f", header, 108, 352)
    header[344:348] = b"n+1\0"
    path.write_bytes(bytes(header) + bytes(48))


def write_detached(encoding: str) -> Callable[[Path], None]:
    def write_pair(path: Path) -> None:
        header = "NRRD0004\ntype: short\ndimension: 3\nsizes: 7 6 3\nendian: little\n"
        path.write_text(f"{header}encoding: {encoding}\ndata file: a.data\n")
        data = sitk.GetArrayFromImage(VOLUME).tobytes()
        path.with_name("a.data").write_bytes(data if encoding == "raw" else gzip.compress(data))

    return write_pair


def write_slices(path: Path) -> None:
    """A MetaImage whose slices are files of their own."""
    write(VOLUME)(path)
    header = path.read_text().replace("ElementDataFile = a.raw", "ElementDataFile = LIST\na0.raw\na1.raw\na2.raw")
    path.write_text(header)
    path.with_name("a.raw").unlink()
    for number, pixels in enumerate(sitk.GetArrayFromImage(VOLUME)):
        path.with_name(f"a{number}.raw").write_bytes(pixels.tobytes())


def write_big_tiff(path: Path) -> None:
    """4×4 grey pixels in one tile, big-endian BigTIFF."""
    entries = [(256, 4), (257, 4), (258, 8), (259, 1), (262, 1), (322, 4), (323, 4), (324, 16), (325, 16)]
    directory = b"".join(struct.pack(">HHQQ", tag, 16, 1, value) for tag, value in entries)
    path.write_bytes(
        struct.pack(">2sHHHQ", b"MM", 43, 8, 0, 32) + bytes(16) + struct.pack(">Q", len(entries)) + directory + bytes(8)
    )


# name of the case: (file name, file to cut where it is another, how it is written)
FORMATS: dict[str, tuple[str, str, Callable[[Path], None]]] = {
    "nifti gzip": ("a.nii.gz", "", write(VOLUME)),
    "nifti gzip float": ("a.nii.gz", "", write(sitk.Cast(VOLUME, sitk.sitkFloat32))),
    "nifti gzip of several members": ("a.nii.gz", "", write_two_members),
    "nifti": ("a.nii", "", write(VOLUME)),
    "nifti float": ("a.nii", "", write(sitk.Cast(VOLUME, sitk.sitkFloat64))),
    "nifti big-endian": ("a.nii", "", write_big_endian),
    "mha": ("a.mha", "", write(VOLUME)),
    "mha compressed": ("a.mha", "", write(VOLUME, compress=True)),
    "mhd header": ("a.mhd", "", write(VOLUME)),
    "mhd data": ("a.mhd", "a.raw", write(VOLUME)),
    "mhd compressed data": ("a.mhd", "a.zraw", write(VOLUME, compress=True)),
    "mhd slices": ("a.mhd", "a2.raw", write_slices),
    "nrrd raw": ("a.nrrd", "", write(VOLUME)),
    "nrrd gzip": ("a.nrrd", "", write(VOLUME, compress=True)),
    "nrrd detached header": ("a.nrrd", "", write_detached("raw")),
    "nrrd detached raw": ("a.nrrd", "a.data", write_detached("raw")),
    "nrrd detached gzip": ("a.nrrd", "a.data", write_detached("gzip")),
    "png": ("a.png", "", write(GREY)),
    "jpg": ("a.jpg", "", write(GREY)),
    "tif": ("a.tif", "", write(GREY)),
    "tif pages": ("a.tif", "", write(VOLUME, compress=True)),
    "bmp": ("a.bmp", "", write(GREY)),
}


@pytest.fixture(params=FORMATS)
def sample(request: pytest.FixtureRequest, tmp_path: Path) -> tuple[Path, Path]:
    """A good file, and the one of its files that a test may spoil."""
    name, cut, write_file = FORMATS[request.param]
    write_file(tmp_path / name)
    return tmp_path / name, tmp_path / (cut or name)


def test_verify_has_a_check_for_every_suffix() -> None:
    assert set(verify._CHECKS) == set(SUFFIXES)


def test_verify_complete_file_passes(sample: tuple[Path, Path]) -> None:
    assert read_image(sample[0]).GetNumberOfPixels() > 0


def test_verify_file_cut_anywhere_is_truncated(sample: tuple[Path, Path], capfd: pytest.CaptureFixture[str]) -> None:
    path, cut = sample
    data = cut.read_bytes()
    # a text header without its last line break is still whole
    end = len(data) - 1 if data.endswith(b"\n") and data[:4] in (b"Obje", b"NRRD") else len(data)
    for length in sorted({*range(1, min(60, end)), *range(60, end, 17), *range(end - 12, end)}):
        cut.write_bytes(data[:length])
        with pytest.raises(ImageError) as caught:
            verify.verify(path, image_suffix(path))
        assert caught.value.code == "image-truncated", (length, str(caught.value))
        assert str(caught.value).startswith(f"{path}: the file is truncated")
    with pytest.raises(ImageError, match=r"\d+ bytes expected, \d+ found; copy or download it again"):
        read_image(path)
    assert capfd.readouterr() == ("", "")


def test_verify_truncated_file_states_expected_and_found_bytes(tmp_path: Path) -> None:
    write(VOLUME)(tmp_path / "a.nii")
    write(VOLUME)(tmp_path / "a.nii.gz")
    plain = (tmp_path / "a.nii").read_bytes()
    (tmp_path / "a.nii").write_bytes(plain[:400])
    with pytest.raises(ImageError, match=f"{352 + 252} bytes expected, 400 found"):
        read_image(tmp_path / "a.nii")
    # a stream that ends well, but too early: what a careless re-compression of a truncated file leaves
    (tmp_path / "a.nii.gz").write_bytes(gzip.compress(plain[:400]))
    with pytest.raises(ImageError, match=r"counted after decompression\): 604 bytes expected, 400 found"):
        read_image(tmp_path / "a.nii.gz")


def test_empty_file(sample: tuple[Path, Path]) -> None:
    path, cut = sample
    cut.write_bytes(b"")
    with pytest.raises(ImageError) as caught:
        read_image(path)
    assert caught.value.code == ("image-empty" if cut == path else "image-truncated")


def test_verify_content_of_another_suffix_is_unreadable(sample: tuple[Path, Path]) -> None:
    path, _ = sample
    path.write_bytes(b"<!DOCTYPE html>" + bytes(700))
    with pytest.raises(ImageError) as caught:
        read_image(path)
    assert caught.value.code == "image-unreadable"
    assert "it begins with b'<!" in str(caught.value)


@pytest.mark.parametrize("name", ["nifti gzip", "mha compressed", "mhd compressed data", "nrrd gzip", "png"])
def test_verify_changed_byte_in_checksummed_data_is_unreadable(tmp_path: Path, name: str) -> None:
    file, cut, write_file = FORMATS[name]
    write_file(tmp_path / file)
    spoiled = tmp_path / (cut or file)
    data = bytearray(spoiled.read_bytes())
    data[-20 if name == "png" else -3] ^= 0xFF  # in the last chunk, or in the checksum
    spoiled.write_bytes(data)
    with pytest.raises(ImageError) as caught:
        read_image(tmp_path / file)
    assert caught.value.code == "image-unreadable"
    assert "damaged" in str(caught.value)


def test_missing_data_file(tmp_path: Path) -> None:
    write(VOLUME)(tmp_path / "a.mhd")
    (tmp_path / "a.raw").unlink()
    with pytest.raises(ImageError, match=r"a\.raw is missing") as caught:
        read_image(tmp_path / "a.mhd")
    assert caught.value.code == "image-missing"


def test_verify_gzip_without_its_suffix_is_unreadable(tmp_path: Path) -> None:
    write(VOLUME)(tmp_path / "a.nii.gz")
    (tmp_path / "a.nii.gz").rename(tmp_path / "a.nii")
    with pytest.raises(ImageError, match=r"needs the suffix \.nii\.gz"):
        read_image(tmp_path / "a.nii")


@pytest.mark.parametrize("dims", [(0, 1, 1), (9, 1, 1), (3, 0, 5), (3, -4, 5)])
def test_verify_invalid_header_is_unreadable(tmp_path: Path, dims: tuple[int, ...]) -> None:
    write(VOLUME)(tmp_path / "a.nii")
    data = bytearray((tmp_path / "a.nii").read_bytes())
    struct.pack_into("<3h", data, 40, *dims)
    (tmp_path / "a.nii").write_bytes(data)
    with pytest.raises(ImageError, match="header is invalid"):
        read_image(tmp_path / "a.nii")


def test_nifti2(tmp_path: Path) -> None:
    header = bytearray(544)
    struct.pack_into("<i8s2h", header, 0, 540, b"n+2\0\r\n\x1a\n", 16, 32)
    struct.pack_into("<8q", header, 16, 3, 5, 4, 3, 1, 1, 1, 1)
    struct.pack_into("<8d", header, 104, *[1] * 8)
    struct.pack_into("<q", header, 168, 544)
    path = tmp_path / "a.nii"
    path.write_bytes(bytes(header) + bytes(240))
    verify.verify(path, ".nii")
    path.write_bytes(bytes(header) + bytes(239))
    with pytest.raises(ImageError, match="784 bytes expected, 783 found"):
        verify.verify(path, ".nii")


def test_big_tiff_tile(tmp_path: Path) -> None:
    write_big_tiff(tmp_path / "a.tif")
    verify.verify(tmp_path / "a.tif", ".tif")
    data = bytearray((tmp_path / "a.tif").read_bytes())
    data[-9] = 255  # the tile's length
    (tmp_path / "a.tif").write_bytes(data)
    with pytest.raises(ImageError, match=f"{16 + 255} bytes expected, {len(data)} found"):
        verify.verify(tmp_path / "a.tif", ".tif")


def test_tiff_pages_of_different_sizes(tmp_path: Path) -> None:
    """ITK takes the first page's size for all of them, and writes past its memory."""
    write(VOLUME)(tmp_path / "a.tif")
    data = bytearray((tmp_path / "a.tif").read_bytes())
    width = data.rindex(struct.pack("<HHII", 256, 3, 1, 7)) + 8  # in the last page
    data[width] = 5
    (tmp_path / "a.tif").write_bytes(data)
    with pytest.raises(ImageError, match="its pages differ in size"):
        read_image(tmp_path / "a.tif")


def test_verify_appended_bytes_are_accepted(tmp_path: Path) -> None:
    write(sitk.Cast(VOLUME, sitk.sitkFloat32))(tmp_path / "a.nii")
    data = (tmp_path / "a.nii").read_bytes()
    (tmp_path / "a.nii").write_bytes(data + b"\xff" * 8)  # as floats these are NaN
    verify.verify(tmp_path / "a.nii", ".nii")


def test_verify_gzip_is_streamed(tmp_path: Path) -> None:
    write(sitk.Image([256, 256, 256], sitk.sitkUInt8))(tmp_path / "a.nii.gz")  # 16 MiB of zeros, 16 KiB on disk
    tracemalloc.start()
    verify.verify(tmp_path / "a.nii.gz", ".nii.gz")
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 8 << 20


def test_verify_decompression_bomb_stops_early(tmp_path: Path) -> None:
    """A whole volume, and 4 GB of zeros after it in 4 MB: neither the time nor the memory of 4 GB is spent."""
    write(VOLUME)(tmp_path / "a.nii")
    zeros = gzip.compress(bytes(1 << 24))
    (tmp_path / "a.nii.gz").write_bytes(gzip.compress((tmp_path / "a.nii").read_bytes()) + zeros * 256)
    started = time.process_time()
    with pytest.raises(ImageError, match="exceed the 604 bytes") as caught:
        read_image(tmp_path / "a.nii.gz")
    assert caught.value.code == "image-excess"
    assert time.process_time() - started < 1


def test_verify_too_short_stream_is_not_decompressed(tmp_path: Path) -> None:
    write(VOLUME, compress=True)(tmp_path / "a.mha")
    content = (tmp_path / "a.mha").read_bytes().replace(b"DimSize = 7 6 3", b"DimSize = 70000 60000 30000")
    (tmp_path / "a.mha").write_bytes(content)
    with pytest.raises(ImageError, match="the most that its compressed data can decode to") as caught:
        read_image(tmp_path / "a.mha")
    assert caught.value.code == "image-truncated"


@posix
@pytest.mark.parametrize("data", ["/dev/zero", ".", "pipe"])
def test_verify_data_file_that_is_not_a_file_is_unreadable(tmp_path: Path, data: str) -> None:
    os.mkfifo(tmp_path / "pipe")
    write(VOLUME)(tmp_path / "a.mhd")
    (tmp_path / "a.mhd").write_text((tmp_path / "a.mhd").read_text().replace("a.raw", data))
    with pytest.raises(ImageError, match="is a folder, a pipe or a device"):
        read_image(tmp_path / "a.mhd")


def test_verify_stops_at_first_missing_data_file(tmp_path: Path) -> None:
    write(VOLUME)(tmp_path / "a.mhd")
    (tmp_path / "a.mhd").write_text((tmp_path / "a.mhd").read_text().replace("a.raw", "a%d.raw 0 999999999999 1"))
    with pytest.raises(ImageError, match=r"a0\.raw is missing") as caught:
        read_image(tmp_path / "a.mhd")
    assert caught.value.code == "image-missing"
