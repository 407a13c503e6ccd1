"""The scanner: order of brightness survives, the background stays dark, noise differs from case to case."""

from __future__ import annotations

import numpy as np

from medseg.datasets.synthesis.deformation import Slab
from medseg.datasets.synthesis.scanner import scan

SLAB = Slab((6, 60, 60), (1.0, 1.0, 1.0), 1)


def test_scan_keeps_the_order_of_brightness() -> None:
    signal = np.zeros((6, 60, 60), np.float32)
    signal[:, 10:50, 10:30], signal[:, 10:50, 30:50] = 0.3, 1.0
    for seed in range(20):
        image = scan(signal, SLAB, np.random.default_rng(seed))
        assert image.dtype == np.int16
        assert image.min() >= 0
        air, dark, bright = (
            float(np.median(block)) for block in (image[:, :8], image[:, 14:46, 14:26], image[:, 14:46, 34:46])
        )
        assert air < dark < bright


def test_scan_bias_field_and_noise_change_a_flat_signal() -> None:
    flat = np.ones((6, 60, 60), np.float32)
    first, second = (scan(flat, SLAB, np.random.default_rng(seed)).astype(float) for seed in (1, 2))
    assert first.std() > 0
    assert np.corrcoef(first.ravel(), second.ravel())[0, 1] < 0.9
