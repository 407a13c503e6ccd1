"""Slices in the order of their positions, or an error where they are no regular volume: nothing is guessed.

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

SPACING_TOLERANCE = 0.1  # of the gap; positions are often rounded to 0.1 mm
DRIFT_TOLERANCE = 0.5  # pixels; how far a stack may lean before straightening it would show
SAME = 1e-3  # mm; nearer slices lie at one position
ANGLE_TOLERANCE = 1e-3  # direction cosines have no unit; scanners write five or six digits


class SliceStack(NamedTuple):
    """The slices of one volume from its lowest position, the unit normal (3,) they are stacked along, gap in mm."""

    slices: list[SliceHeader]
    normal: npt.NDArray[Any]
    gap: float

    @property
    def files(self) -> list[Path]:
        """The file of each slice; one file once, where it holds all of them."""
        return list(dict.fromkeys(item.path for item in self.slices))


def group_slices(folder: Path, slices: Sequence[SliceHeader]) -> list[SliceStack]:
    """The volumes that the slices of one series make up: one, or one for each time point in its order.

    Raises ImageError: dicom-position, dicom-mixed, dicom-pixel-spacing, dicom-spacing, dicom-tilt.
    """
    _require_alike(folder, slices)
    repeated = len(slices) - _places(slices)
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


def refuse(folder: Path, slices: Sequence[SliceHeader], why: str, *, code: str) -> NoReturn:
    """Raise an ImageError that names the series, never the patient."""
    raise ImageError(f"{folder}: series {slices[0].name}: {why}", code=code)


def _require_alike(folder: Path, slices: Sequence[SliceHeader]) -> None:
    """Raise unless all slices state a place and a pixel size, and differ in their positions only."""
    first = slices[0]
    for item in slices:
        if len(item.position) != 3 or len(item.orientation) != 6:
            why = "some slices state no position, so that they cannot be put in order; convert them first"
            refuse(folder, slices, why, code="dicom-position")
        axes = np.reshape(item.orientation, (2, 3))
        upright = np.allclose(axes @ axes.T, np.eye(2), atol=10 * ANGLE_TOLERANCE)  # False for NaN too
        if not (upright and np.isfinite(item.position).all()):
            why = f"{item.path.name} states axes {item.orientation} that are no right angle, or a position that is no "
            refuse(folder, slices, why + "number; export the series again", code="dicom-position")
        if len(item.spacing) != 2 or not all(0 < value < np.inf for value in item.spacing):
            why = f"{item.path.name} states no usable pixel spacing ({item.spacing or 'none'}); export the series again"
            refuse(folder, slices, why, code="dicom-pixel-spacing")
        same = np.allclose(item.orientation + item.spacing, first.orientation + first.spacing, atol=ANGLE_TOLERANCE)
        same = same and (item.space, item.inverse, item.frames) == (first.space, first.inverse, 1)
        if item.size != first.size or not same:
            refuse(
                folder,
                slices,
                f"{item.path.name} differs from {first.path.name} in size, pixel spacing, orientation, frame of "
                "reference, number of frames or meaning of grey; move what is not part of the volume (such as a scout "
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


def _places(slices: Sequence[SliceHeader]) -> int:
    """Number of distinct positions along the normal."""
    return 1 + int((np.diff(np.sort(_heights(slices))) >= SAME).sum())


def _times(folder: Path, slices: Sequence[SliceHeader], repeated: int) -> list[list[SliceHeader]]:
    """Slices by time point, where a tag tells time points apart that hold each position once."""
    varied = [
        name for name, *values in zip(CONTRASTS, *(s.contrast for s in slices), strict=True) if len({*values}) > 1
    ]
    if varied:
        refuse(
            folder,
            slices,
            f"{repeated} of {len(slices)} slices lie where another one does and differ in {', '.join(varied)}; "
            "keep images of one kind in a folder",
            code="dicom-mixed",
        )
    places = len(slices) - repeated
    for rank in range(len(MOMENTS)):
        if not all(item.moments[rank] for item in slices):
            continue
        in_order = sorted(slices, key=lambda item: float(item.moments[rank]))
        groups = [list(group) for _, group in itertools.groupby(in_order, key=lambda item: float(item.moments[rank]))]
        if len(groups) > 1 and all(len(g) == places == _places(g) for g in groups):
            return groups
    refuse(
        folder,
        slices,
        f"{repeated} of {len(slices)} slices lie where another one does, and no tag tells complete time points apart "
        "(several acquisitions in one series, or a slice of one is missing); keep one slice a position in a folder",
        code="dicom-spacing",
    )


def _stack(folder: Path, slices: Sequence[SliceHeader]) -> SliceStack:
    """One volume of slices of distinct positions."""
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
            f"the slices lean by {angle:.1f}° ({drift:.1f} mm over the stack; gantry tilt), which no regular volume "
            "can hold; correct the tilt first (dcm2niix does)",
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
