"""Does an image that was read lie somewhere? Finite spacing and origin, axes at right angles."""

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

RIGHT_ANGLE = 1e-2  # cosine: what rounding in text headers stays far below, half a degree


def require_valid_geometry(image: sitk.Image, path: Path) -> None:
    """Raise ImageError image-space, naming the value that makes no sense."""
    spacing, origin = np.array(image.GetSpacing()), np.array(image.GetOrigin())
    if not np.isfinite(spacing).all() or (spacing <= 0).any():
        misplaced(path, f"the spacing is {spacing.tolist()}")
    if not np.isfinite(origin).all():
        misplaced(path, f"the origin is {origin.tolist()}")
    axes = np.reshape(image.GetDirection(), (image.GetDimension(), -1))  # one column an axis
    if not np.isfinite(axes).all() or np.abs(axes.T @ axes - np.eye(len(axes))).max() > RIGHT_ANGLE:
        misplaced(path, f"the axes {axes.T.round(4).tolist()} are not at right angles and of length 1")


def from_array(array: npt.NDArray[Any], like: sitk.Image) -> sitk.Image:
    """An image of the values of `array`, [Z,] Y, X[, C], that lies where `like` lies."""
    image = sitk.GetImageFromArray(array, isVector=array.ndim > like.GetDimension())
    image.CopyInformation(like)
    return image


GRID_TOLERANCE = 1e-3  # voxels; what rounding in text headers and 32-bit NIfTI fields stays far below

PLACE = ("Spacing", "Direction", "Origin")


def grid_difference(a: sitk.Image, b: sitk.Image) -> str | None:
    """None where no voxel lies more than 1e-3 voxel from its fellow, corners included, else a sentence with numbers."""
    if a.GetSize() != b.GetSize():
        return f"the sizes differ: {a.GetSize()} and {b.GetSize()} voxels"
    apart = max_grid_offset(a, b)
    if apart <= GRID_TOLERANCE:
        return None
    values = {name: (getattr(a, f"Get{name}")(), getattr(b, f"Get{name}")()) for name in PLACE}
    name = next((name for name, pair in values.items() if not np.allclose(*pair, rtol=1e-6, atol=1e-6)), PLACE[-1])
    first, second = map(_numbers, values[name])
    return f"the {name.lower()}s differ: {first} and {second}, so that voxels lie up to {apart:.3g} of a voxel apart"


ONE_ONTO_OTHER = "; resample one onto the other"
MASK_ONTO_IMAGE = "; resample the mask onto the image first"


def require_same_grid(
    a: sitk.Image,
    b: sitk.Image,
    what: str = "image and mask",
    remedy: str = MASK_ONTO_IMAGE,
    code: str = "grid-mismatch",
) -> None:
    """Raise ImageError, "`what`: how they differ `remedy`", where two images do not lie on one grid."""
    if difference := grid_difference(a, b):
        raise ImageError(f"{what}: {difference}{remedy}", code=code)


def max_grid_offset(a: sitk.Image, b: sitk.Image) -> float:
    """How far the outermost edges of two grids of one size are apart, in voxels of the first along its axes."""
    steps, other = (np.reshape(i.GetDirection(), (i.GetDimension(), -1)) * np.array(i.GetSpacing()) for i in (a, b))
    edges = np.array(list(itertools.product(*((-0.5, size - 0.5) for size in a.GetSize())))).T  # (axes, corners)
    shift = (other - steps) @ edges + np.subtract(b.GetOrigin(), a.GetOrigin())[:, None]  # mm
    return float(np.abs(np.linalg.solve(steps, shift)).max())


def _numbers(values: Sequence[float]) -> str:
    return "(" + ", ".join(f"{value:.8g}" for value in values) + ")"
