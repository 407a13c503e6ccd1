"""Means over regions of known cells, and the rim around a known square."""

import numpy as np
import pytest
import SimpleITK as sitk

from medseg.inference.region_pooling import Encoding, structure_and_rim


def encoding(shape: tuple[int, int, int], cell: tuple[int, int, int], grid: sitk.Image) -> Encoding:
    return Encoding(np.random.default_rng(0).normal(size=(5, *shape)).astype(np.float32), grid, cell)


def test_encoding_mean_leaves_out_the_padding_of_the_last_cells() -> None:
    maps = encoding((1, 2, 2), (1, 32, 32), sitk.Image((48, 32), sitk.sitkFloat32))  # half a cell, and an empty row
    expected = (2 * maps.values[:, 0, 0, 0] + maps.values[:, 0, 0, 1]) / 3
    assert np.allclose(maps.mean(), expected, atol=1e-6)


def test_encoding_means_of_a_grid_of_another_size_are_in_the_same_place() -> None:
    maps = encoding((1, 2, 2), (1, 32, 32), sitk.Image((64, 64), sitk.sitkFloat32))
    regions = sitk.GetImageFromArray(np.kron([[1, 2], [3, 2]], np.ones((100, 100))).astype(np.uint16))
    regions.SetSpacing((0.32, 0.32))
    regions.SetOrigin((-0.34, -0.34))  # the same extent
    one, two, three, none = maps.means(regions, 4)
    assert np.allclose(one, maps.values[:, 0, 0, 0], atol=1e-6)
    assert np.allclose(two, maps.values[:, 0, :, 1].mean(axis=1), atol=1e-6)
    assert np.allclose(three, maps.values[:, 0, 1, 0], atol=1e-6)
    assert np.isnan(none).all()


def test_encoding_means_equal_those_of_each_region_alone() -> None:
    """Regions that cross cells and lie in a few slices, against a plain loop over all pixels."""
    rng = np.random.default_rng(1)
    maps = encoding((3, 2, 3), (2, 4, 4), sitk.Image((10, 8, 6), sitk.sitkFloat32))
    numbers = rng.integers(0, 4, (6, 8, 10)).astype(np.uint16)
    numbers[:3][numbers[:3] == 3] = 0
    found = maps.means(sitk.GetImageFromArray(numbers), 3)
    cells = maps.values.repeat(2, axis=1).repeat(4, axis=2).repeat(4, axis=3)[:, :6, :8, :10]
    for number in (1, 2, 3):
        assert np.allclose(found[number - 1], cells[:, numbers == number].mean(axis=1), atol=1e-5)


def test_structure_and_rim_of_square_is_an_eighth_of_the_longer_side_wide() -> None:
    mask = np.zeros((64, 80), np.uint8)
    mask[30:34, 40:44] = 2
    regions = sitk.GetArrayFromImage(structure_and_rim(sitk.GetImageFromArray(mask), per_slice=False))
    assert (regions[mask > 0] == 1).all()
    assert (regions[mask == 0] != 1).all()
    assert np.flatnonzero(regions[31] == 2).tolist() == [*range(30, 40), *range(44, 54)]
    assert regions[30 - 8, 40 - 8] == 0  # 11.3 pixels from the corner
    assert regions[30 - 7, 40 - 7] == 2  # 9.9 pixels


@pytest.mark.parametrize("order", ["LPS", "LPI", "ASR"])
def test_structure_and_rim_per_slice_numbers_axial_slices_from_below(order: str) -> None:
    mask = np.zeros((3, 16, 16), np.uint8)
    mask[0, 4:8, 4:8] = 1
    mask[2, 8:10, 8:10] = 1
    turned = sitk.DICOMOrient(sitk.GetImageFromArray(mask), order)
    regions = structure_and_rim(turned, per_slice=True)
    array = sitk.GetArrayFromImage(sitk.DICOMOrient(regions, "LPS"))
    assert [set(np.unique(layer)) for layer in array] == [{0, 1, 2}, {0}, {0, 5, 6}]
    assert ((array % 2 == 1) == (mask > 0)).all()
