"""Does an image that was read lie somewhere? Finite spacing and origin, axes at right angles."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import SimpleITK as sitk

from medseg.data.payload import misplaced

RIGHT_ANGLE = 1e-2  # cosine: what rounding in text headers stays far below, half a degree


def require_space(image: sitk.Image, path: Path) -> None:
    """Raise ImageError image-space, naming the value that makes no sense."""
    spacing, origin = np.array(image.GetSpacing()), np.array(image.GetOrigin())
    if not np.isfinite(spacing).all() or (spacing <= 0).any():
        misplaced(path, f"the spacing is {spacing.tolist()}")
    if not np.isfinite(origin).all():
        misplaced(path, f"the origin is {origin.tolist()}")
    axes = np.reshape(image.GetDirection(), (image.GetDimension(), -1))  # one column an axis
    if not np.isfinite(axes).all() or np.abs(axes.T @ axes - np.eye(len(axes))).max() > RIGHT_ANGLE:
        misplaced(path, f"the axes {axes.T.round(4).tolist()} are not at right angles and of length 1")
