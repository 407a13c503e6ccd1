from __future__ import annotations

import numpy as np
import pytest
import SimpleITK as sitk

from medseg.evaluation.surface_distance import hd95_mm, nsd, surface_distances


def cube(shape: tuple[int, ...], start: tuple[int, ...], size: int) -> np.ndarray:
    mask = np.zeros(shape, dtype=bool)
    mask[tuple(slice(first, first + size) for first in start)] = True
    return mask


def blobs(seed: int) -> tuple[np.ndarray, np.ndarray]:
    noise = np.random.default_rng(seed).normal(size=(12, 20, 18))
    smooth = sitk.GetArrayFromImage(sitk.DiscreteGaussian(sitk.GetImageFromArray(noise), 2.0))
    return smooth > 0.05, np.roll(smooth, 2, axis=2) > 0.08


def test_shifted_cube_is_as_far_as_it_was_shifted() -> None:
    a, b = cube((20, 20, 20), (5, 5, 5), 6), cube((20, 20, 20), (5, 5, 7), 6)
    # a shift by two voxels of 1.5 mm: the front face (more than 5 % of the surface) lies 3 mm away
    assert hd95_mm(a, b, (3.0, 1.0, 1.5)) == pytest.approx(3.0)
    assert nsd(a, b, (3.0, 1.0, 1.5), 3.0) == 1.0
    assert nsd(a, b, (3.0, 1.0, 1.5), 2.9) < 1.0


def test_nsd_of_single_voxels_counts_both_surfaces() -> None:
    a, b = np.zeros((9, 9), dtype=bool), np.zeros((9, 9), dtype=bool)
    a[4, 4] = b[4, 4] = b[0, 4] = True
    # surfaces: one voxel of a (at distance 0) and two of b (0 and 4): two of three are near
    assert nsd(a, b, (1.0, 1.0), 1.0) == pytest.approx(2 / 3)


@pytest.mark.parametrize("seed", [1, 2, 3])
def test_agrees_with_distance_maps_of_simpleitk(seed: int) -> None:
    spacing = (2.5, 0.8, 1.1)
    a, b = blobs(seed)
    images = [sitk.GetImageFromArray(mask.astype(np.uint8)) for mask in (a, b)]
    for image in images:
        image.SetSpacing(spacing[::-1])
    hausdorff = sitk.HausdorffDistanceImageFilter()
    hausdorff.Execute(*images)
    there, back = surface_distances(a, b, spacing)
    # SimpleITK measures from every voxel of the object, whose furthest one lies on its surface
    assert max(there.max(), back.max()) == pytest.approx(hausdorff.GetHausdorffDistance(), rel=1e-5)

    edges = [sitk.LabelContour(sitk.ConstantPad(image, [1] * 3, [1] * 3), fullyConnected=False) for image in images]
    maps = [
        sitk.GetArrayFromImage(sitk.SignedMaurerDistanceMap(edge, squaredDistance=False, useImageSpacing=True))
        for edge in edges
    ]
    on_a, on_b = (sitk.GetArrayFromImage(edge) > 0 for edge in edges)
    expected = np.abs(maps[1])[on_a], np.abs(maps[0])[on_b]
    np.testing.assert_allclose(np.sort(there), np.sort(expected[0]), atol=1e-4)
    assert hd95_mm(a, b, spacing) == pytest.approx(max(np.percentile(part, 95) for part in expected), abs=1e-4)
    near = [(part <= 2.0).sum() for part in expected]
    assert nsd(a, b, spacing, 2.0) == pytest.approx(sum(near) / (on_a.sum() + on_b.sum()))


def test_empty_masks_get_the_diagonal_or_nothing() -> None:
    full, empty = cube((3, 4, 12), (0, 0, 0), 2), np.zeros((3, 4, 12), dtype=bool)
    assert hd95_mm(empty, full, (1.0, 1.0, 1.0)) == pytest.approx(13.0)  # 3² + 4² + 12² = 13²
    assert hd95_mm(full, empty, (2.0, 2.0, 2.0)) == pytest.approx(26.0)
    assert nsd(empty, full, (1.0, 1.0, 1.0), 5.0) == 0.0
    assert np.isnan(hd95_mm(empty, empty, (1.0, 1.0, 1.0)))
    assert np.isnan(nsd(empty, empty, (1.0, 1.0, 1.0), 1.0))


def test_one_slice_of_a_volume_is_measured_as_the_same_2d_image() -> None:
    a, b = cube((16, 16), (3, 3), 8), cube((16, 16), (3, 5), 8)
    assert hd95_mm(a[None], b[None], (5.0, 1.0, 1.0)) == hd95_mm(a, b, (1.0, 1.0))
    assert nsd(a[None], b[None], (5.0, 1.0, 1.0), 1.0) == nsd(a, b, (1.0, 1.0), 1.0)


def test_objects_at_the_border_have_a_surface_there() -> None:
    whole = np.ones((5, 5), dtype=bool)
    there, _ = surface_distances(whole, whole, (1.0, 1.0))
    assert there.size == 16
