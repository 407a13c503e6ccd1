from __future__ import annotations

from pathlib import Path

import numpy as np
import pydicom
import pytest
import SimpleITK as sitk
from pydicom.uid import ImplicitVRLittleEndian

from medseg.io.image import read_image
from tests.dicom_files import stored, write_enhanced, write_series, write_slice

TYPES = [(16, 16, 0), (16, 12, 0), (16, 16, 1), (8, 8, 0)]  # bits allocated, bits stored, signed


def values_of(folder: Path) -> np.ndarray:
    return sitk.GetArrayFromImage(read_image(folder))


@pytest.mark.parametrize(("allocated", "bits", "signed"), TYPES)
@pytest.mark.parametrize("slices", [1, 3])
def test_pixel_values_hu_are_not_inverted(tmp_path: Path, allocated: int, bits: int, signed: int, slices: int) -> None:
    kind = np.dtype(f"{'i' if signed else 'u'}{allocated // 8}")
    pixels = (np.arange(256) - 128 * signed).astype(kind)
    facts = {"BitsAllocated": allocated, "BitsStored": bits, "HighBit": bits - 1, "PixelRepresentation": signed}
    facts |= {"RescaleSlope": "2", "PhotometricInterpretation": "MONOCHROME1", "PixelData": pixels.tobytes()}
    write_series(tmp_path, tuple(range(slices)), **facts)
    np.testing.assert_array_equal(values_of(tmp_path)[-1].ravel(), pixels.astype(int) * 2 - 1024)


def test_pixel_values_monochrome1_radiograph_is_inverted(tmp_path: Path) -> None:
    facts = {"Modality": "DX", "BitsStored": 12, "HighBit": 11, "RescaleIntercept": "0"}
    write_slice(tmp_path / "a", 0, (0, 0, 0), PhotometricInterpretation="MONOCHROME1", **facts)
    np.testing.assert_array_equal(values_of(tmp_path)[0], 4095 - stored(0).astype(int))


@pytest.mark.parametrize("padding", [0xF830, 63000])
def test_pixel_values_padding_becomes_the_lowest_scanned_value(tmp_path: Path, padding: int) -> None:
    pixels = stored(1)
    pixels[:4] = padding
    for syntax in (None, ImplicitVRLittleEndian):
        coding = {} if syntax is None else {"syntax": syntax}
        write_series(tmp_path / str(syntax), (0, 1), PixelData=pixels.tobytes(), PixelPaddingValue=padding, **coding)
        values = values_of(tmp_path / str(syntax))
        assert (values[:, :4] == 256 + 64 - 1024).all()
        np.testing.assert_array_equal(values[0, 4:], stored(1)[4:].astype(int) - 1024)


def test_pixel_values_signed_padding_and_range(tmp_path: Path) -> None:
    pixels = stored(0).astype(np.int16)
    pixels[0], pixels[1] = -2000, -1990
    facts = {"PixelRepresentation": 1, "PixelPaddingValue": -2000, "PixelPaddingRangeLimit": -1990}
    write_series(tmp_path, (0, 1), PixelData=pixels.tobytes(), **facts)
    values = values_of(tmp_path)
    assert (values[:, :2] == 32 - 1024).all()
    np.testing.assert_array_equal(values[0, 2:], stored(0)[2:].astype(int) - 1024)


def test_pixel_values_padding_value_of_tissue_is_kept(tmp_path: Path) -> None:
    write_series(tmp_path, (0, 1), PixelPaddingValue=300)
    np.testing.assert_array_equal(values_of(tmp_path)[1], stored(1).astype(int) - 1024)


def test_pixel_values_padding_with_rescaling_by_slice(tmp_path: Path) -> None:
    pixels = stored(1)
    pixels[0] = 0
    write_series(tmp_path, (0, 1), PixelData=pixels.tobytes(), PixelPaddingValue=0, RescaleIntercept="-100")
    for number, path in enumerate(sorted(tmp_path.iterdir(), reverse=True)):
        data = pydicom.dcmread(path)
        data.RescaleSlope = str(0.25 * (1 + number))
        data.save_as(path)
    values = values_of(tmp_path)
    assert (values[:, 0] == 0.25 * (256 + 16) - 100).all()
    np.testing.assert_allclose(values[1, 1:], stored(1)[1:] * 0.5 - 100)


def test_pixel_values_of_enhanced_images(tmp_path: Path) -> None:
    write_enhanced(tmp_path / "ct.dcm", (0, 1), PhotometricInterpretation="MONOCHROME1", PixelPaddingValue=511)
    values = values_of(tmp_path)
    np.testing.assert_array_equal(values[0], stored(0).astype(int) - 1024)
    assert values[1].max() == 510 * 2 - 1024  # stored 511, the highest of all, is padding
    assert values[1, -1, -1] == -1024
