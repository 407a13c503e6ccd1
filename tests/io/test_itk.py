from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pytest
import SimpleITK as sitk

from medseg.errors import ImageError
from medseg.io import itk
from medseg.io.image import read_image


def test_quiet_hides_output_of_libraries(capfd: pytest.CaptureFixture[str]) -> None:
    with itk.quiet():
        os.write(1, b"Corrupt JPEG data: 2 extraneous bytes\n")
        os.write(2, b"TIFFReadDirectory: Warning, Unknown field with tag 42\n")
    os.write(1, b"answer")
    os.write(2, b"ours")
    assert capfd.readouterr() == ("answer", "ours")


def test_quiet_restores_standard_error_after_an_error(capfd: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(ValueError, match="inside"), itk.quiet():
        raise ValueError("inside")
    os.write(2, b"ours")
    assert capfd.readouterr().err == "ours"


def test_read_jpeg_with_missing_data_is_damaged(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    pixels = np.random.default_rng(0).integers(0, 255, (64, 64), dtype=np.uint8)
    sitk.WriteImage(sitk.GetImageFromArray(pixels), str(tmp_path / "a.jpg"))
    data = (tmp_path / "a.jpg").read_bytes()
    (tmp_path / "a.jpg").write_bytes(data[: len(data) // 2] + data[-2:])
    with pytest.raises(ImageError, match=r"its pixels are damaged .*premature end") as caught:
        read_image(tmp_path / "a.jpg")
    assert caught.value.code == "image-unreadable"
    assert capfd.readouterr() == ("", "")


def test_first_line_has_no_paths_and_addresses() -> None:
    noise = "Exception thrown in SimpleITK ImageFileReader_Execute: /b/itkX.cxx:12:\nITK ERROR: IO(0x55bb): too\n big"
    assert itk.first_line(RuntimeError(noise)) == "too big"
    assert itk.first_line(OSError(28, "No space left on device", "x")) == "No space left on device"
    assert itk.first_line(RuntimeError()) == "RuntimeError"


def test_read_image_larger_than_free_memory_raises_before_reading(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    sitk.WriteImage(sitk.Image([50, 40, 30], sitk.sitkFloat32), str(tmp_path / "a.nrrd"))
    monkeypatch.setattr(itk.psutil, "virtual_memory", lambda: type("Memory", (), {"available": 200_000})())
    with pytest.raises(ImageError, match=r"50×40×30 pixels need 0\.0 GB of memory, 0\.0 GB are free") as caught:
        read_image(tmp_path / "a.nrrd")
    assert caught.value.code == "image-memory"


def test_read_suffix_in_capitals_selects_the_reader(tmp_path: Path) -> None:
    for suffix in itk.READERS:
        sitk.WriteImage(sitk.Image([5, 4], sitk.sitkUInt8), str(tmp_path / f"a{suffix}"))
        (tmp_path / f"a{suffix}").rename(tmp_path / f"b{suffix.upper()}")
        assert read_image(tmp_path / f"b{suffix.upper()}").GetSize() == (5, 4)
