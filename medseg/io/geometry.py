"""Checks of image geometry (finite spacing and origin, orthogonal axes) and of two images' common grid."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import SimpleITK as sitk

from medseg.errors import ImageError
from medseg.io.integrity.verify import misplaced

RIGHT_ANGLE = 1e-2  # cosine, half a degree: rounding in text headers is far smaller


def require_valid_geometry(image: sitk.Image, path: Path) -> None:
    """Raise ImageError image-space, with the invalid value, for an invalid spacing, origin or direction."""
    spacing, origin = np.array(image.GetSpacing()), np.array(image.GetOrigin())
    if not np.isfinite(spacing).all() or (spacing <= 0).any():
        misplaced(path, f"the spacing is {spacing.tolist()}")
    if not np.isfinite(origin).all():
        misplaced(path, f"the origin is {origin.tolist()}")
    axes = np.reshape(image.GetDirection(), (image.GetDimension(), -1))  # one column an axis
    if not np.isfinite(axes).all() or np.abs(axes.T @ axes - np.eye(len(axes))).max() > RIGHT_ANGLE:
        misplaced(path, f"the axes {axes.T.round(4).tolist()} are not at right angles and of length 1")


def from_array(array: npt.NDArray[Any], like: sitk.Image) -> sitk.Image:
    """Make an image of `array`, [Z,] Y, X[, C], with the geometry of `like`."""
    image = sitk.GetImageFromArray(array, isVector=array.ndim > like.GetDimension())
    image.CopyInformation(like)
    return image


GRID_TOLERANCE = 1e-3  # voxels; rounding in text headers and 32-bit NIfTI fields is far smaller

GEOMETRY = ("Spacing", "Direction", "Origin")


def grid_difference(a: sitk.Image, b: sitk.Image) -> str | None:
    """Return None if both grids agree within 1e-3 voxel at every corner, else a description of the difference."""
    if a.GetSize() != b.GetSize():
        return f"the sizes differ: {a.GetSize()} and {b.GetSize()} voxels"
    apart = max_grid_offset(a, b)
    if apart <= GRID_TOLERANCE:
        return None
    values = {name: (getattr(a, f"Get{name}")(), getattr(b, f"Get{name}")()) for name in GEOMETRY}
    name = next((name for name, pair in values.items() if not np.allclose(*pair, rtol=1e-6, atol=1e-6)), GEOMETRY[-1])
    first, second = map(_numbers, values[name])
    return f"the {name.lower()}s differ: {first} and {second}, so that voxels lie up to {apart:.3g} of a voxel apart"


ONE_ONTO_OTHER = "; resample one onto the other"
MASK_ONTO_IMAGE = "; resample the mask onto the image first"


def require_same_grid(
    a: sitk.Image,
    b: sitk.Image,
    subject: str = "image and mask",
    remedy: str = MASK_ONTO_IMAGE,
    code: str = "grid-mismatch",
) -> None:
    """Raise ImageError, "`subject`: difference `remedy`", if two images are on different grids."""
    if difference := grid_difference(a, b):
        raise ImageError(f"{subject}: {difference}{remedy}", code=code)


def max_grid_offset(a: sitk.Image, b: sitk.Image) -> float:
    """Largest distance of the corners of two grids of the same size, in voxels of the first."""
    steps, other = (np.reshape(i.GetDirection(), (i.GetDimension(), -1)) * np.array(i.GetSpacing()) for i in (a, b))
    edges = np.array(list(itertools.product(*((-0.5, size - 0.5) for size in a.GetSize())))).T  # (axes, corners)
    shift = (other - steps) @ edges + np.subtract(b.GetOrigin(), a.GetOrigin())[:, None]  # mm
    return float(np.abs(np.linalg.solve(steps, shift)).max())


def _numbers(values: Sequence[float]) -> str:
    return "(" + ", ".join(f"{value:.8g}" for value in values) + ")"
