import numpy as np
import pytest
import SimpleITK as sitk

from medseg.errors import ImageError
from medseg.preprocess.bias import N4


@pytest.mark.parametrize("slices", [10, 40])
def test_a_known_field_is_taken_out(slices: int) -> None:
    """Two tissues times a smooth field: the variation within each falls below 40 % of what it was."""
    z, y, x = np.indices((slices, 64, 64)).astype(np.float32)
    brain = np.hypot(y - 32, x - 32) < 28
    tissue = np.where(np.hypot(y - 32, x - 32) < 16, 1.0, 0.6)
    field = np.exp(0.35 * np.cos(np.pi * x / 80) + 0.3 * np.sin(np.pi * y / 90))
    noise = np.random.default_rng(0).normal(0, 0.005, tissue.shape)
    image = sitk.GetImageFromArray((np.where(brain, tissue * field, 0) + noise).astype(np.float32))
    image.SetSpacing((1.0, 1.5, 4.0))
    mask = sitk.GetImageFromArray(brain.astype(np.uint8))
    mask.CopyInformation(image)
    corrected = N4(field=lambda _image: mask)(image)
    assert corrected.GetSpacing() == image.GetSpacing()
    before, after = sitk.GetArrayFromImage(image), sitk.GetArrayFromImage(corrected)
    for part in (brain & (tissue == 1.0), brain & (tissue == 0.6)):
        spread = [array[part].std() / array[part].mean() for array in (before, after)]
        assert spread[1] < 0.4 * spread[0]


def test_an_empty_field_is_said() -> None:
    with pytest.raises(ImageError, match="field"):
        noise = np.random.default_rng(0).random((8, 20, 20)).astype(np.float32)
        N4(field=lambda image: sitk.Image(image.GetSize(), sitk.sitkUInt8))(sitk.GetImageFromArray(noise))
