import numpy as np
import pytest
import SimpleITK as sitk

from medseg.preprocess.resize import LongSide, Resize, at_long_side


def checks(shape: tuple[int, ...]) -> sitk.Image:
    """A chessboard of single pixels: its mean is one half everywhere."""
    return sitk.GetImageFromArray((np.indices(shape).sum(0) % 2).astype(np.float32))


def test_resize_keeps_extent_and_averages() -> None:
    small = Resize([10, 5])(checks((40, 60)))
    assert small.GetSize() == (10, 5)
    assert small.GetSpacing() == (6, 8)
    assert sitk.GetArrayFromImage(small) == pytest.approx(0.5, abs=0.01)
    centre = small.TransformContinuousIndexToPhysicalPoint((4.5, 2.0))
    assert centre == pytest.approx((29.5, 19.5))


def test_resize_keeps_the_number_of_slices() -> None:
    assert Resize([8, 8])(checks((3, 16, 24))).GetSize() == (8, 8, 3)


def test_long_side_keeps_the_aspect() -> None:
    assert LongSide(30)(checks((40, 60))).GetSize() == (30, 20)
    assert LongSide(120)(checks((40, 60))).GetSize() == (120, 80)


def test_colour_stays_colour() -> None:
    colour = sitk.GetImageFromArray(np.full((8, 8, 3), (0.2, 0.4, 0.6), np.float32), isVector=True)
    assert sitk.GetArrayFromImage(Resize([4, 4])(colour))[2, 2] == pytest.approx([0.2, 0.4, 0.6])


@pytest.mark.parametrize("size", [[8], [0, 4], [8, 8, 8]])
def test_resize_invalid_size_raises(size: list[int]) -> None:
    with pytest.raises(ValueError, match="two numbers of pixels"):
        Resize(size)


@pytest.mark.parametrize("old", [7, 19, 59, 61, 100, 257])
@pytest.mark.parametrize("new", [1, 3, 10, 64])
def test_to_size_is_exact_and_keeps_positions(old: int, new: int) -> None:
    image = sitk.PhysicalPointSource(sitk.sitkVectorFloat32, (old, 20), (5.0, -3.0), (0.7, 1.1), (0, 1, -1, 0))
    ramp = sitk.VectorIndexSelectionCast(image, 1)  # grows along x
    small = Resize([new, 20])(ramp)
    assert small.GetSize() == (new, 20)
    points = sitk.PhysicalPointSource(
        sitk.sitkVectorFloat64, small.GetSize(), small.GetOrigin(), small.GetSpacing(), small.GetDirection()
    )
    resized, expected = sitk.GetArrayFromImage(small), sitk.GetArrayFromImage(points)[..., 1]
    # the outermost values of an enlarged image, and of bins that end before the image does, repeat their neighbour's
    inner = (expected > -3 + 0.35 * old / min(old, new)) & (expected < -3 + 0.7 * (old - 1) - 0.7 * (old / new + 1))
    assert np.abs(resized - expected)[inner].max(initial=0) < 1e-3


def test_long_side_is_measured_in_mm() -> None:
    image = checks((40, 60))
    image.SetSpacing((1.0, 3.0))  # 60 x 120 mm
    small = LongSide(30)(image)
    assert small.GetSize() == (15, 30)
    assert small.GetSpacing() == (4.0, 4.0)


def test_to_size_same_size_only_casts() -> None:
    image = sitk.GetImageFromArray(np.arange(12, dtype=np.uint8).reshape(3, 4))
    same = Resize([4, 3])(image)
    assert same.GetPixelID() == sitk.sitkFloat32
    assert np.array_equal(sitk.GetArrayFromImage(same), sitk.GetArrayFromImage(image))


@pytest.mark.parametrize("colour", [False, True])
def test_at_long_side_gives_one_size_for_every_camera(colour: bool) -> None:
    y, x = np.mgrid[:60, :80]
    grey = np.where(np.hypot(y - 30, x - 40) < 15, 60, 200).astype(np.uint8)
    mask = (grey == 60).astype(np.uint8)
    for times in (1, 2, 3):
        large = np.kron(grey, np.ones((times, times), np.uint8))
        shown = np.stack([large] * 3, axis=-1) if colour else large
        image = sitk.GetImageFromArray(shown, isVector=colour)
        resized, flat = at_long_side(
            image, sitk.GetImageFromArray(np.kron(mask, np.ones((times, times), np.uint8))), 80
        )
        assert resized.GetSize() == flat.GetSize() == (80, 60)
        assert resized.GetPixelID() == image.GetPixelID()
        assert resized.GetSpacing() == flat.GetSpacing() == (1.0, 1.0)
        assert resized.GetOrigin() == flat.GetOrigin() == image.GetOrigin()
        np.testing.assert_array_equal(sitk.GetArrayFromImage(flat), mask)
        pixels = sitk.GetArrayFromImage(resized)
        np.testing.assert_array_equal(pixels[..., 0] if colour else pixels, grey)


def test_at_long_side_keeps_scale_and_volumes() -> None:
    image, mask = sitk.Image([200, 100], sitk.sitkUInt16), sitk.Image([200, 100], sitk.sitkUInt8)
    image.SetSpacing((0.1, 0.1))
    mask.CopyInformation(image)
    resized, flat = at_long_side(image, mask, 50)
    assert resized.GetSpacing() == flat.GetSpacing() == pytest.approx((0.4, 0.4))
    volume, inside = sitk.Image([20, 10, 5], sitk.sitkInt16), sitk.Image([20, 10, 5], sitk.sitkUInt8)
    assert at_long_side(volume, inside, 8)[0] is volume
