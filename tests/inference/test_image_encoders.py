"""ImageNet's encoder of images: scaling, padding, slices, and the network's own numbers."""

import numpy as np
import pytest
import SimpleITK as sitk
import torch

from medseg.inference.image_encoders import ImageNetEncoder, value_limits
from medseg.segmentation.efficientnet_lite import EfficientNetLite0


@pytest.fixture(scope="module")
def encoder() -> ImageNetEncoder:
    return ImageNetEncoder(64, device="cpu")


def test_imagenet_encoder_of_padded_colour_image_equals_network(encoder: ImageNetEncoder) -> None:
    picture = np.random.default_rng(0).integers(0, 256, (40, 64, 3)).astype(np.uint8)
    [encode] = encoder.frames(None, sitk.GetImageFromArray(picture, isVector=True))
    found = encode()
    network = EfficientNetLite0()
    network.load_imagenet()
    padded = np.zeros((1, 3, 64, 64), np.float32)
    padded[0, :, :40] = np.moveaxis(picture, -1, 0) / 255
    with torch.inference_mode():
        expected = network.eval().levels(torch.from_numpy(padded))[-1].numpy()
    assert found.values.shape == (320, 1, 2, 2)
    assert np.allclose(found.values[:, 0], expected[0], atol=1e-4)
    assert found.grid.GetSize() == (64, 40)


def test_imagenet_encoder_of_grey_equals_the_folded_network(encoder: ImageNetEncoder) -> None:
    grey = np.random.default_rng(1).integers(0, 256, (64, 64)).astype(np.uint8)
    [encode] = encoder.frames(None, sitk.GetImageFromArray(grey))
    network = EfficientNetLite0(in_channels=1)
    network.load_imagenet()
    with torch.inference_mode():
        expected = network.eval().levels(torch.from_numpy(grey[None, None] / np.float32(255)))[-1].numpy()
    assert np.allclose(encode().values[:, 0], expected[0], atol=1e-3)


def test_imagenet_encoder_scales_values_by_the_whole_image_not_by_the_slice(encoder: ImageNetEncoder) -> None:
    volume = np.random.default_rng(2).normal(0, 400, (3, 64, 64)).astype(np.int16)
    volume[1] = volume[0] // 10
    [encode] = encoder.frames(None, sitk.GetImageFromArray(volume))
    maps = encode().values  # (320, 3, 2, 2)
    [shifted] = encoder.frames(None, sitk.GetImageFromArray((volume * 2 + 7).astype(np.int16)))
    assert np.allclose(maps, shifted().values, atol=1e-3)  # any gain and offset
    assert np.abs(maps[:, 0] - maps[:, 1]).max() > 0.1  # a fainter slice stays fainter


def test_imagenet_encoder_encodes_axial_slices_from_below(encoder: ImageNetEncoder) -> None:
    volume = sitk.GetImageFromArray(np.random.default_rng(3).normal(size=(4, 64, 64)).astype(np.float32))
    [encode] = encoder.frames(None, volume)
    [turned] = encoder.frames(None, sitk.DICOMOrient(volume, "ASR"))
    assert np.allclose(encode().values, turned().values, atol=1e-3)


def test_value_limits_are_percentiles_of_finite_values() -> None:
    assert value_limits(sitk.Image((4, 4), sitk.sitkUInt8)) == (0, 255)
    values = np.arange(1001, dtype=np.float32)[None]
    values[0, 500] = np.nan
    low, high = value_limits(sitk.GetImageFromArray(values))
    assert (low, high) == pytest.approx((5, 995), abs=1)
    assert value_limits(sitk.Image((4, 4), sitk.sitkInt16)) == (0, 1)  # constant: no division by zero
