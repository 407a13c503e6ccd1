import numpy as np
import pytest
import SimpleITK as sitk

from medseg.preprocess.geometry import Orient, Resample, SliceAxis, grid_of, match_mask


def ramp(size: tuple[int, ...] = (12, 10, 8), spacing: tuple[float, ...] = (1.0, 1.5, 3.0)) -> sitk.Image:
    """Intensity = physical x + 2y (+ 3z), so that any right resampling keeps it."""
    image = sitk.PhysicalPointSource(sitk.sitkVectorFloat32, size, [5.0] * len(size), spacing)
    components = [sitk.VectorIndexSelectionCast(image, axis) * (axis + 1) for axis in range(len(size))]
    return sum(components[1:], components[0])


def inner_error(image: sitk.Image) -> float:
    """Largest departure from the ramp, away from the border."""
    points = sitk.PhysicalPointSource(
        sitk.sitkVectorFloat64, image.GetSize(), image.GetOrigin(), image.GetSpacing(), image.GetDirection()
    )
    expected = sitk.GetArrayFromImage(points) @ np.arange(1, image.GetDimension() + 1)
    inner = (slice(1, -1),) * image.GetDimension()
    return float(np.abs(sitk.GetArrayFromImage(image) - expected)[inner].max())


@pytest.mark.parametrize("spacing", [(2.0, 2.0, None), (0.5, None, 1.5), (3.3, 4.0, 7.0)])
def test_resample_keeps_physical_positions(spacing: tuple[float | None, ...]) -> None:
    image = ramp((24, 20, 16))
    result = Resample(spacing)(image)
    assert inner_error(result) < 1e-3
    for axis, expected in enumerate(spacing):
        assert result.GetSpacing()[axis] == pytest.approx(expected or image.GetSpacing()[axis])


def test_resample_averages_when_shrinking() -> None:
    noise = sitk.GetImageFromArray(np.random.default_rng(0).normal(size=(8, 64, 64)).astype(np.float32))
    result = sitk.GetArrayFromImage(Resample((4.0, 4.0, None))(noise))
    assert result.shape == (8, 16, 16)
    assert result.std() == pytest.approx(1 / 4, rel=0.15)  # the mean of 16 independent values


def test_resample_2d_colour_image() -> None:
    image = sitk.GetImageFromArray(np.full((20, 30, 3), 7, np.uint8), isVector=True)
    result = Resample((2.0, 2.0, None))(image)
    assert result.GetSize() == (15, 10)
    assert np.all(sitk.GetArrayFromImage(result) == 7)


@pytest.mark.parametrize("orientation", ["LPS", "RAS", "PIR", "SLA", "ARI"])
def test_orient_permutes_axes_and_keeps_positions(orientation: str) -> None:
    image = sitk.DICOMOrient(ramp(), orientation)
    result = Orient()(image)
    assert result.GetDirection() == (1, 0, 0, 0, 1, 0, 0, 0, 1)
    assert inner_error(result) < 1e-4


def test_grid_of_covers_the_same_extent() -> None:
    image = ramp()
    grid = grid_of(image, (2.0, 3.0, 6.0))
    assert grid.GetSize() == (6, 5, 4)
    half = [-0.5] * 3
    assert grid.TransformContinuousIndexToPhysicalPoint(half) == pytest.approx(
        image.TransformContinuousIndexToPhysicalPoint(half)
    )


def test_match_mask_follows_the_image_without_new_labels() -> None:
    array = np.zeros((8, 10, 12), np.uint8)
    array[:, :, :4], array[:, :, 8:] = 1, 3
    mask = sitk.GetImageFromArray(array)
    mask.SetSpacing((1.0, 1.5, 3.0))
    grid = grid_of(mask, (0.7, 1.1, 2.0))
    result = sitk.GetArrayFromImage(match_mask(mask, grid))
    assert set(np.unique(result)) == {0, 1, 3}
    assert result.mean(where=result == 1) == 1
    assert (result == 1).mean() == pytest.approx(4 / 12, abs=0.06)


def test_slice_axis_of_a_slab_is_last() -> None:
    slab = sitk.Image([60, 10, 50], sitk.sitkFloat32)
    slab[30, 5, 20] = 1.0
    turned = SliceAxis()(slab)
    assert turned.GetSize() == (60, 50, 10)
    assert turned[30, 20, 5] == 1.0
    point = slab.TransformIndexToPhysicalPoint((30, 5, 20))
    assert turned.TransformPhysicalPointToIndex(point) == (30, 20, 5)


def test_slice_axis_of_a_full_head_is_axial() -> None:
    assert SliceAxis()(sitk.Image([240, 240, 155], sitk.sitkUInt8)).GetSize() == (240, 240, 155)
    assert SliceAxis(0)(sitk.Image([4, 5, 6], sitk.sitkUInt8)).GetSize() == (5, 6, 4)
    assert SliceAxis()(sitk.Image([9, 7], sitk.sitkUInt8)).GetSize() == (9, 7)
