import numpy as np
import pytest
import SimpleITK as sitk

from medseg.preprocess.resize import LongSide, Resize


def checks(shape: tuple[int, ...]) -> sitk.Image:
    """A chessboard of single pixels: its mean is one half everywhere."""
    return sitk.GetImageFromArray((np.indices(shape).sum(0) % 2).astype(np.float32))


def test_the_extent_stays_and_shrinking_averages() -> None:
    small = Resize([10, 5])(checks((40, 60)))
    assert small.GetSize() == (10, 5)
    assert small.GetSpacing() == (6, 8)
    assert sitk.GetArrayFromImage(small) == pytest.approx(0.5, abs=0.01)
    centre = small.TransformContinuousIndexToPhysicalPoint((4.5, 2.0))
    assert centre == pytest.approx((29.5, 19.5))


def test_slices_of_a_volume_stay_as_many() -> None:
    assert Resize([8, 8])(checks((3, 16, 24))).GetSize() == (8, 8, 3)


def test_the_longer_side_decides_and_the_aspect_stays() -> None:
    assert LongSide(30)(checks((40, 60))).GetSize() == (30, 20)
    assert LongSide(120)(checks((40, 60))).GetSize() == (120, 80)


def test_colour_stays_colour() -> None:
    colour = sitk.GetImageFromArray(np.full((8, 8, 3), (0.2, 0.4, 0.6), np.float32), isVector=True)
    assert sitk.GetArrayFromImage(Resize([4, 4])(colour))[2, 2] == pytest.approx([0.2, 0.4, 0.6])


@pytest.mark.parametrize("size", [[8], [0, 4], [8, 8, 8]])
def test_a_size_is_two_numbers(size: list[int]) -> None:
    with pytest.raises(ValueError, match="two numbers of pixels"):
        Resize(size)
