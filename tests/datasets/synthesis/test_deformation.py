"""Slabs and where they lie: sizes in mm, the middle near the wished place, smooth and invertible displacement."""

from __future__ import annotations

import numpy as np
import pytest

from medseg.datasets.synthesis import deformation
from medseg.datasets.synthesis.deformation import Slab, sample_positions, sample_slab, smooth_noise

SLAB = Slab((5, 40, 30), (3.0, 2.0, 2.0), 3)


def test_sample_slab_covers_the_wished_plane() -> None:
    for seed in range(30):
        slab = sample_slab(((60, 80), (90, 100)), np.random.default_rng(seed))
        height, depth, width = (n * d for n, d in zip(slab.size, slab.spacing, strict=True))
        assert 58 < width < 82
        assert 88 < depth < 102
        assert 12 < height < 125
        assert 0.8 <= slab.spacing[0] / slab.samples <= 1.5


def test_slab_empty_image_has_its_grid_and_middle_at_the_origin() -> None:
    image = SLAB.empty
    assert image.GetSize() == (30, 40, 5)
    assert image.GetSpacing() == (2.0, 2.0, 3.0)
    assert image.TransformContinuousIndexToPhysicalPoint((14.5, 19.5, 2.0)) == pytest.approx((0, 0, 0))


def test_sample_positions_without_change_are_the_grid(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(deformation, "_matrix", lambda _rng: np.eye(3))
    monkeypatch.setattr(deformation, "DISPLACEMENT_MM", (0.0, 0.0))
    mm = sample_positions(SLAB, np.array([50.0, 60.0, 70.0]), np.random.default_rng(1))
    assert mm.shape == (3, 15, 40, 30)
    np.testing.assert_allclose(mm[:, 7].mean(axis=(1, 2)), (50, 60, 70), atol=1e-4)
    np.testing.assert_allclose(np.diff(mm[0], axis=0), 1.0, atol=1e-4)  # a slice of 3 mm is three thin ones
    np.testing.assert_allclose(np.diff(mm[1], axis=1), 2.0, atol=1e-4)
    np.testing.assert_allclose(np.diff(mm[2], axis=2), 2.0, atol=1e-4)


def test_sample_positions_of_any_seed_do_not_fold() -> None:
    for seed in range(20):
        mm = sample_positions(SLAB, np.zeros(3), np.random.default_rng(seed))
        steps = np.stack([np.gradient(mm, axis=axis) for axis in (1, 2, 3)], axis=-1)  # (3, Z, Y, X, 3)
        volume = np.linalg.det(np.moveaxis(steps, 0, -2))
        assert (volume > 0).all()


def test_smooth_noise_is_smooth_and_has_unit_variance_everywhere() -> None:
    noise = np.stack([smooth_noise((8, 21, 30), (10, 10, 6), np.random.default_rng(seed)) for seed in range(3000)])
    np.testing.assert_allclose(noise.std(axis=0), 1.0, atol=0.08)  # a standard error of 0.013
    assert np.abs(np.diff(noise, axis=-1)).mean() < 0.3
