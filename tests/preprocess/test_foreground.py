import numpy as np
import pytest
import SimpleITK as sitk

from medseg.preprocess.foreground import (
    enlarge,
    fill_slices,
    hull,
    large_components,
    largest,
    opened,
    rounded,
    thumbnail,
)

Y, X = np.indices((120, 160)).astype(np.float32)


def overlap(mask: np.ndarray, truth: np.ndarray) -> float:
    return float((mask & truth).sum() / (mask | truth).sum())


@pytest.mark.parametrize("shape", [(100, 130), (517, 803), (6, 90, 70)])
def test_enlarge_keeps_the_position_of_a_mask(shape: tuple[int, ...]) -> None:
    position = np.indices(shape).astype(np.float32)
    truth = np.hypot((position[-2] / shape[-2] - 0.4) / 0.3, (position[-1] / shape[-1] - 0.55) / 0.35) < 1
    image = sitk.GetImageFromArray(truth.astype(np.float32))
    image.SetSpacing([0.5, 2.0, 3.0][: len(shape)])
    image.SetOrigin([4.0, 5.0, 6.0][: len(shape)])
    values, steps = thumbnail(image, 64)
    assert max(values.shape[-2:]) < 2 * 64
    full = enlarge(values > 0.5, image, steps)
    assert full.GetOrigin() == image.GetOrigin()
    assert full.GetPixelID() == sitk.sitkUInt8
    assert overlap(sitk.GetArrayFromImage(full) > 0, truth) > 0.96


def test_enlarge_mask_at_the_border_stays_there() -> None:
    image = sitk.Image([533, 401], sitk.sitkFloat32)
    values, steps = thumbnail(image, 100)
    half = np.zeros(values.shape, bool)
    half[:, values.shape[1] // 2 :] = True
    full = sitk.GetArrayFromImage(enlarge(half, image, steps))
    assert full[:, -1].all()
    assert full[[0, -1], 300:].all()
    assert sitk.GetArrayFromImage(enlarge(np.ones_like(half), image, steps)).all()


@pytest.mark.parametrize("centre", [(60, 80), (50, 90)])
@pytest.mark.parametrize("radii", [(50, 50), (70, 70), (52, 70)])
def test_rounded_restores_a_disc_with_dark_area_and_cuts(centre: tuple[int, int], radii: tuple[int, int]) -> None:
    disc = np.hypot((Y - centre[0]) / radii[0], (X - centre[1]) / radii[1]) <= 1
    disc[:8] = disc[112:] = False  # cut above and below, inside the image
    bite = np.hypot(Y - centre[0] - 10, X - centre[1] - radii[1]) < 18
    assert overlap(rounded(disc & ~bite), disc) > 0.98


def test_rounded_of_other_shapes_is_the_hull() -> None:
    box = (np.abs(Y - 60) < 40) & (np.abs(X - 80) < 60)
    assert np.array_equal(rounded(box), box)
    wedge = (np.abs(Y - 60) < X - 20) & (X < 70)
    assert np.array_equal(hull(wedge), wedge)
    assert overlap(rounded(wedge), wedge) > 0.9


def test_large_components_selects_by_size() -> None:
    mask = np.zeros((20, 30), bool)
    mask[2:12, 2:12], mask[2:7, 20:25], mask[15, 15] = True, True, True
    assert largest(mask).sum() == 100
    assert large_components(mask, 0.1).sum() == 125
    assert not largest(np.zeros((4, 4), bool)).any()
    assert not large_components(np.zeros((4, 4), bool), 0.1).any()


def test_opened_keeps_corners_and_removes_thin_lines() -> None:
    mask = np.ones((20, 20), bool)
    assert opened(mask, 3).all()
    mask[:, 10:] = False
    mask[9] = True
    assert np.array_equal(opened(mask, 2)[:, 12:], np.zeros((20, 8), bool))


def test_fill_slices_fills_a_tunnel() -> None:
    tube = np.ones((4, 9, 9), bool)
    tube[:, 3:6, 3:6] = False
    assert fill_slices(tube).all()
