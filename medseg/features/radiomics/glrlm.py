"""How long runs of one grey level are: the run-length matrix (Galloway 1975; IBSI TP0I), all directions merged."""

from __future__ import annotations

import numpy as np

from medseg.features.radiomics.discretization import GrayLevels, directions
from medseg.features.radiomics.emphasis import Elements, emphasis, units
from medseg.typing import AnyArray

UNITS: dict[str, str] = units(
    "glrlm",
    "voxels of the run; the greatest number is voxels × directions",
    "22OV W4KF V3SW G3QZ HTZT GD3A IVPO 3KUM R5YN OVBL W92Y IC23 9ZK5 8CE5 SXLW HJ9O",
)


def glrlm_features(levels: GrayLevels) -> dict[str, float]:
    """Features of the runs within the label in all 4 or 13 directions."""
    return emphasis("glrlm", runs(levels))


def runs(levels: GrayLevels) -> Elements:
    """Level and length in voxels of every run."""
    padded = np.pad(levels.array, 1)
    steps = directions(padded.ndim)
    strides = [int(np.prod(padded.shape[axis + 1 :])) for axis in range(padded.ndim)]
    by_direction = [_runs(padded.ravel(), int(np.dot(step, strides))) for step in steps]
    level, length = (np.concatenate(arrays) for arrays in zip(*by_direction, strict=True))
    return Elements(level, length, int(np.count_nonzero(levels.array)) * len(steps))


def _runs(flat: AnyArray, stride: int) -> tuple[AnyArray, AnyArray]:
    """Level and length of the runs among every `stride`-th number of a padded array (V,): a line in one direction.

    The padding ends every run where a line leaves the array, and the first `stride` numbers are padding too, so that
    all lines can stand one behind the other.
    """
    rows = -(-flat.size // stride)
    lines = np.zeros(rows * stride, flat.dtype)
    lines[: flat.size] = flat
    lines = lines.reshape(rows, stride).T.ravel()
    starts = np.flatnonzero(lines[1:] != lines[:-1]) + 1
    lengths = np.diff(np.append(starts, lines.size))
    level = lines[starts]
    return level[level > 0], lengths[level > 0]
