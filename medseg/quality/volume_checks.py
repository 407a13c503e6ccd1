"""Quality checks of raw volumes with units: CT is in HU, MRI is not. Interface and limits as in `image_checks`."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
import SimpleITK as sitk

from medseg.quality.image_checks import shrunk

UNSIGNED = 60000.0  # −1000 read as unsigned 16-bit integer is 64536
OFFSET = 1000.0  # between HU and stored values; 1024 in some scanners


class Hounsfield:
    """Values that are impossible or missing in CT in HU: air below `air` HU in at least `air_share` of the voxels, soft
    tissue within `soft` (low, high) in at least `soft_share`, nothing beyond `limits` (lowest value, 99th percentile).
    """

    def __init__(
        self, air: float, air_share: float, soft: Sequence[float], soft_share: float, limits: Sequence[float]
    ) -> None:
        if not (0 <= air_share < 1 and 0 <= soft_share < 1 and air < soft[0] < soft[1] and limits[0] < limits[1]):
            raise ValueError(
                f"air {air}, shares {air_share} and {soft_share}, soft {list(soft)}, limits {list(limits)}: shares "
                "must lie in 0..1, HU must rise from air to soft tissue and from the lower limit to the upper"
            )
        self.air, self.air_share, self.soft_share = float(air), float(air_share), float(soft_share)
        self.soft, self.limits = (float(soft[0]), float(soft[1])), (float(limits[0]), float(limits[1]))

    def __call__(self, image: sitk.Image) -> str | None:
        """CT, 2D, 3D or 4D."""
        values = _values(image)
        low, high = float(values.min()), float(np.percentile(values, 99))
        if np.mean(values > UNSIGNED) >= self.air_share:
            return f"has values up to {values.max():g}: HU below 0 seem to be stored as unsigned integers"
        if self._shifted(values):
            return (
                f"has values from {low:g} to {high:g} that look like HU + {OFFSET:g} (or not like CT): "
                f"subtract {OFFSET:g}, or read it from DICOM"
            )
        if low < self.limits[0] or high > self.limits[1]:
            return f"has values from {low:g} to {high:g}; in HU, {self.limits[0]:g} to {self.limits[1]:g} are usual"
        air, soft = float(np.mean(values < self.air)), float(np.mean(_within(values, *self.soft)))
        if air < self.air_share:
            return (
                f"is not CT in HU: {air:.1%} of its voxels are air below {self.air:g} HU; usual: {self.air_share:.0%} "
                f"or more (its values are {low:g} to {high:g})"
            )
        if soft < self.soft_share:
            return (
                f"shows hardly any soft tissue: {soft:.1%} of its voxels lie in {self.soft[0]:g} to {self.soft[1]:g} "
                f"HU, usual is {self.soft_share:.0%} or more"
            )
        return None

    def _shifted(self, values: npt.NDArray[np.float32]) -> bool:
        """Return whether soft tissue and air have values of HU + 1000; bone has few voxels in that range."""
        tissue = np.mean(_within(values, self.soft[0] + OFFSET, self.soft[1] + OFFSET))
        air = np.mean(_within(values, -OFFSET / 10, self.air + OFFSET))
        return bool(tissue >= self.soft_share and air >= self.air_share)


class NotHounsfield:
    """CT where MRI is expected: `share` of the voxels or more are below `lowest`, like air in HU, unlike z-scores."""

    def __init__(self, lowest: float, share: float) -> None:
        if not (lowest < 0 < share < 1):
            raise ValueError(f"lowest {lowest}, share {share}: lowest must be below 0, share between 0 and 1")
        self.lowest, self.share = float(lowest), float(share)

    def __call__(self, image: sitk.Image) -> str | None:
        """MRI, 2D, 3D or 4D, of any range."""
        values = _values(image)
        share = float(np.mean(values < self.lowest))
        if share < self.share:
            return None
        return (
            f"looks like CT, not MRI: {share:.1%} of its voxels are below {self.lowest:g}, like air in HU; "
            f"usual is less than {self.share:.1%}"
        )


def _values(image: sitk.Image) -> npt.NDArray[np.float32]:
    return np.asarray(sitk.GetArrayFromImage(shrunk(image)), np.float32)


def _within(values: npt.NDArray[np.float32], low: float, high: float) -> npt.NDArray[np.bool_]:
    return (values >= low) & (values <= high)
