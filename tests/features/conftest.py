"""The digital phantom of IBSI, whose measures were published (reference manual, section 5.1, arXiv 1612.07003)."""

from collections.abc import Callable

import numpy as np
import pytest
import SimpleITK as sitk

PHANTOM = """1 4 4 1 1/1 4 6 1 1/4 1 6 4 1/4 4 6 4 1
1 4 4 1 1/1 1 6 1 1/0 1 3 1 1/4 4 6 1 1
1 4 4 0 0/1 1 1 1 1/1 1 0 1 1/1 1 6 1 1
1 4 4 0 0/1 1 1 1 1/1 1 1 1 1/1 1 6 1 1"""
"""A line a slice, z from top to bottom; rows are y, numbers in a row x; 0 lies outside the region of interest."""


@pytest.fixture
def phantom() -> tuple[sitk.Image, sitk.Image]:
    """The phantom and its mask, 5 × 4 × 4 voxels of 2 mm, label 1."""
    values = np.array([[row.split() for row in part.split("/")] for part in PHANTOM.split("\n")], np.float32)
    images = sitk.GetImageFromArray(values), sitk.GetImageFromArray(np.uint8(values > 0))
    for image in images:
        image.SetSpacing((2, 2, 2))
    return images


@pytest.fixture
def agree() -> Callable[[dict[str, float], dict[str, float]], None]:
    """Asserts that measures are what was published, to its three digits."""

    def check(found: dict[str, float], published: dict[str, float]) -> None:
        rounded = {name: f"{found[name]:.3g}" for name in published}
        assert rounded == {name: f"{value:.3g}" for name, value in published.items()}

    return check
