"""Sort slices by position; an error if they do not form a regular volume.

The order of a stack is that of its ImagePositionPatient along the normal of its ImageOrientationPatient, never that of
names or instance numbers.
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple, NoReturn

import numpy as np
import numpy.typing as npt

from medseg.errors import ImageError
from medseg.io.dicom.header import CONTRASTS, MOMENTS, SliceHeader

SPACING_TOLERANCE = 0.1  # fraction of the gap; positions are often rounded to 0.1 mm
DRIFT_TOLERANCE = 0.5  # pixels; larger shear needs resampling
SAME_POSITION = 1e-3  # mm; closer slices have the same position
ANGLE_TOLERANCE = 1e-3  # direction cosines have no unit; scanners write five or six digits


class SliceStack(NamedTuple):
    """The slices of one volume by rising position, the unit normal (3,) of the slices, gap in mm."""

    slices: list[SliceHeader]
    normal: npt.NDArray[Any]
    gap: float

    @property
    def files(self) -> list[Path]:
        """The file of each slice, without repetitions."""
        return list(dict.fromkeys(item.path for item in self.slices))


def group_slices(folder: Path, slices: Sequence[SliceHeader]) -> list[SliceStack]:
    """Group the slices of one series into a volume, or one for each time point in order.

    Raises ImageError: dicom-position, dicom-mixed, dicom-pixel-spacing, dicom-spacing, dicom-tilt.
    """
    _require_alike(folder, slices)
    repeated = len(slices) - _n_positions(slices)
    if not repeated:
        return [_stack(folder, slices)]
    times = [_stack(folder, group) for group in _times(folder, slices, repeated)]
    first, *others = ([item.position for item in time.slices] for time in times)
    if any(not np.allclose(first, other, atol=1e-2) for other in others):
        refuse(
            folder,
            slices,
            "its time points lie at different positions; export each as its own series",
            code="dicom-mixed",
        )
    return times


def refuse(folder: Path, slices: Sequence[SliceHeader], reason: str, *, code: str) -> NoReturn:
    """Raise an ImageError that names the series, never the patient."""
    raise ImageError(f"{folder}: series {slices[0].name}: {reason}", code=code)


def _require_alike(folder: Path, slices: Sequence[SliceHeader]) -> None:
    """Raise unless all slices have a position and a pixel size, and differ only in position."""
    first = slices[0]
    for item in slices:
        if len(item.position) != 3 or len(item.orientation) != 6:
            reason = "some slices have no position, so they cannot be sorted; convert them first"
            refuse(folder, slices, reason, code="dicom-position")
        axes = np.reshape(item.orientation, (2, 3))
        upright = np.allclose(axes @ axes.T, np.eye(2), atol=10 * ANGLE_TOLERANCE)  # False for NaN too
        if not (upright and np.isfinite(item.position).all()):
            reason = (
                f"{item.path.name} has axes {item.orientation} that are not orthogonal, or a position that is not a "
            )
            refuse(folder, slices, reason + "number; export the series again", code="dicom-position")
        if len(item.spacing) != 2 or not all(0 < value < np.inf for value in item.spacing):
            reason = f"{item.path.name} has no valid pixel spacing ({item.spacing or 'none'}); export the series again"
            refuse(folder, slices, reason, code="dicom-pixel-spacing")
        alike = np.allclose(item.orientation + item.spacing, first.orientation + first.spacing, atol=ANGLE_TOLERANCE)
        alike = alike and (item.space, item.inverse, item.frames) == (first.space, first.inverse, 1)
        if item.size != first.size or not alike:
            refuse(
                folder,
                slices,
                f"{item.path.name} differs from {first.path.name} in size, pixel spacing, orientation, frame of "
                "reference, number of frames or photometric interpretation; move files of other images (e.g. a scout "
                "view) away",
                code="dicom-mixed",
            )


def _normal(item: SliceHeader) -> npt.NDArray[Any]:
    normal = np.cross(item.orientation[:3], item.orientation[3:])
    unit: npt.NDArray[Any] = normal / np.linalg.norm(normal)
    return unit


def _heights(slices: Sequence[SliceHeader]) -> npt.NDArray[Any]:
    """Positions (N,) in mm along the normal of the stack."""
    heights: npt.NDArray[Any] = np.array([item.position for item in slices]) @ _normal(slices[0])
    return heights


def _n_positions(slices: Sequence[SliceHeader]) -> int:
    """Number of distinct positions along the normal."""
    return 1 + int((np.diff(np.sort(_heights(slices))) >= SAME_POSITION).sum())


def _times(folder: Path, slices: Sequence[SliceHeader], repeated: int) -> list[list[SliceHeader]]:
    """Slices by time point, by a tag whose groups have each position once."""
    varied = [
        name for name, *values in zip(CONTRASTS, *(s.contrast for s in slices), strict=True) if len({*values}) > 1
    ]
    if varied:
        refuse(
            folder,
            slices,
            f"{repeated} of {len(slices)} slices have the position of another and differ in {', '.join(varied)}; "
            "keep images of one kind in a folder",
            code="dicom-mixed",
        )
    n_positions = len(slices) - repeated
    for rank in range(len(MOMENTS)):
        if not all(item.moments[rank] for item in slices):
            continue
        in_order = sorted(slices, key=lambda item: float(item.moments[rank]))
        groups = [list(group) for _, group in itertools.groupby(in_order, key=lambda item: float(item.moments[rank]))]
        if len(groups) > 1 and all(len(g) == n_positions == _n_positions(g) for g in groups):
            return groups
    refuse(
        folder,
        slices,
        f"{repeated} of {len(slices)} slices have the position of another, and no tag separates complete time points "
        "(several acquisitions in one series, or a missing slice); keep one slice per position in a folder",
        code="dicom-spacing",
    )


def _stack(folder: Path, slices: Sequence[SliceHeader]) -> SliceStack:
    """Make one volume of slices at distinct positions."""
    first, normal = slices[0], _normal(slices[0])
    if len(slices) == 1:
        return SliceStack(list(slices), normal, first.thickness)
    slices = sorted(slices, key=lambda item: float(np.dot(item.position, normal)))
    positions = np.array([item.position for item in slices])  # (N, 3) mm
    heights = positions @ normal  # (N,) mm
    _require_even(folder, slices, heights)
    lean = positions - positions[0] - np.outer(heights - heights[0], normal)  # (N, 3) mm
    drift = np.linalg.norm(lean, axis=1).max()
    if drift > DRIFT_TOLERANCE * min(first.spacing):
        angle = np.degrees(np.arctan2(drift, heights[-1] - heights[0]))
        refuse(
            folder,
            slices,
            f"the slices lean by {angle:.1f}° ({drift:.1f} mm over the stack; gantry tilt), which a regular volume "
            "cannot store; correct the tilt first (dcm2niix does)",
            code="dicom-tilt",
        )
    return SliceStack(list(slices), normal, float((heights[-1] - heights[0]) / (len(slices) - 1)))


def _require_even(folder: Path, slices: Sequence[SliceHeader], heights: npt.NDArray[Any]) -> None:
    """Raise dicom-spacing unless the sorted, distinct `heights` (N,) in mm are evenly spaced."""
    gaps = np.diff(heights)
    usual = float(np.median(gaps))
    even = np.linspace(heights[0], heights[-1], len(heights))
    if np.abs(heights - even).max() > SPACING_TOLERANCE * (even[1] - even[0]):
        worst = int(np.abs(gaps - usual).argmax())
        refuse(
            folder,
            slices,
            f"the {len(heights)} slices are not evenly spaced: {gaps[worst]:.2f} mm between the positions "
            f"{heights[worst]:.2f} and {heights[worst + 1]:.2f} mm, elsewhere {usual:.2f} mm; "
            "a slice is missing or the series is mixed: copy it again, or resample it",
            code="dicom-spacing",
        )
