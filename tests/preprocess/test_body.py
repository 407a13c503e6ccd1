"""The body on a chest phantom: known lungs and body, disturbed as other scanners do."""

import time

import numpy as np
import pytest
import SimpleITK as sitk

from medseg.preprocess.field_of_view import Body

Y, X = np.indices((128, 128)).astype(np.float32)
CHEST = np.hypot((Y - 64) / 36, (X - 64) / 52) < 1
LUNGS = (np.hypot((Y - 64) / 26, (X - 40) / 18) < 1) | (np.hypot((Y - 64) / 26, (X - 88) / 18) < 1)


def chest(air: float = -1000.0, noise: float = 0.0) -> np.ndarray:
    hu = np.where(LUNGS, -820.0, np.where(CHEST, 30.0, air))
    return (hu + np.random.default_rng(0).normal(0, 1, hu.shape) * noise).astype(np.float32)


def body(hu: np.ndarray) -> np.ndarray:
    return sitk.GetArrayFromImage(Body()(sitk.GetImageFromArray(hu.astype(np.float32)))) > 0


def expect(found: np.ndarray, inside: np.ndarray, lungs: np.ndarray) -> None:
    assert found[lungs].mean() > 0.995
    assert 2 * (found & inside).sum() / (found.sum() + inside.sum()) > 0.98


@pytest.mark.parametrize("air", [-1000.0, -1024.0, -2000.0, -3024.0, -960.0])
@pytest.mark.parametrize("noise", [0.0, 40.0])
def test_body_of_a_slice_with_any_air_and_noise(air: float, noise: float) -> None:
    expect(body(chest(air, noise)), CHEST, LUNGS)


@pytest.mark.parametrize("padding", [-1024.0, -2000.0, -3024.0])
def test_body_that_a_circular_field_cuts_keeps_open_lungs(padding: float) -> None:
    circle = np.hypot(Y - 64, X - 64) < 34  # cuts both lungs
    hu = np.where(circle, chest(noise=10.0), padding)
    expect(body(hu), CHEST & circle, LUNGS & circle)


@pytest.mark.parametrize("window", [np.s_[:, 40:], np.s_[:, :88], np.s_[40:, 40:], np.s_[60:, :], np.s_[44:84, 30:98]])
def test_body_in_a_crop_keeps_lungs_open_to_the_edge(window: tuple[slice, slice]) -> None:
    found = body(chest(noise=10.0)[window])
    assert found[LUNGS[window]].mean() > 0.99
    assert found[~CHEST[window]].mean() < 0.02 if (~CHEST[window]).any() else True


def test_body_without_couch_and_tubes() -> None:
    hu = chest()
    couch = (np.abs(Y - 108) < 1.5) & (np.abs(X - 64) < 50)
    tube = np.hypot(Y - 12, X - 100) < 2
    hu[couch | tube] = 150.0
    found = body(hu)
    expect(found, CHEST, LUNGS)
    assert not found[couch | tube].any()


def test_body_in_other_units() -> None:
    hu = chest(noise=15.0)
    for values in ((hu + 1000).clip(0) / 1400, ((hu + 1000) / 1400).clip(0, 1) * 255, (hu + 1024).clip(0)):
        expect(body(values.clip(0)), CHEST, LUNGS)


def test_body_of_a_coronal_volume_fills_axial_slices() -> None:
    volume = np.repeat(chest()[None], 20, 0)  # (Z, Y, X); lungs open at both ends of z
    image = sitk.GetImageFromArray(volume)
    coronal = sitk.PermuteAxes(image, [0, 2, 1])
    found = sitk.GetArrayFromImage(sitk.PermuteAxes(Body()(coronal), [0, 2, 1])) > 0
    expect(found, np.repeat(CHEST[None], 20, 0), np.repeat(LUNGS[None], 20, 0))


def test_body_of_a_large_volume_is_fast() -> None:
    fine = np.kron(chest(), np.ones((4, 4), np.float32)).astype(np.int16)  # 512 × 512
    image = sitk.GetImageFromArray(np.repeat(fine[None], 60, 0))
    start = time.process_time()
    found = sitk.GetArrayFromImage(Body()(image)) > 0
    assert time.process_time() - start < 3  # a fifth of a whole CT; measured 0.4 s
    expect(found[30], np.kron(CHEST, np.ones((4, 4), bool)), np.kron(LUNGS, np.ones((4, 4), bool)))
