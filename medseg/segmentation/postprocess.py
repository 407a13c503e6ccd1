"""Rules a label map is cleaned by. A step takes and returns a uint8 mask (SimpleITK image)."""

from __future__ import annotations

from collections.abc import Callable

import SimpleITK as sitk


class KeepLargest:
    """Keep each label's largest connected component (faces touching); other pieces become background."""

    def __init__(self, labels: list[int] | None = None) -> None:
        self.labels = labels  # None: every label

    def __call__(self, mask: sitk.Image) -> sitk.Image:
        """Mask → mask."""
        return _each_label(mask, self.labels, _largest)


class FillHoles:
    """Fill background that a label encloses; other labels are never overwritten."""

    def __init__(self, labels: list[int] | None = None) -> None:
        self.labels = labels

    def __call__(self, mask: sitk.Image) -> sitk.Image:
        """Mask → mask."""
        return _each_label(mask, self.labels, sitk.BinaryFillhole)


def _largest(part: sitk.Image) -> sitk.Image:
    return sitk.RelabelComponent(sitk.ConnectedComponent(part), sortByObjectSize=True) == 1


def _each_label(mask: sitk.Image, labels: list[int] | None, change: Callable[[sitk.Image], sitk.Image]) -> sitk.Image:
    """Apply `change` to each label as a binary image, within the label's bounding box, which makes it cheap."""
    stats = sitk.LabelShapeStatisticsImageFilter()
    stats.ComputePerimeterOff()
    stats.Execute(mask)
    result = sitk.Image(mask)
    for label in labels if labels is not None else stats.GetLabels():
        if not stats.HasLabel(label):
            continue
        box = stats.GetBoundingBox(label)
        half = len(box) // 2
        window = tuple(slice(first, first + size) for first, size in zip(box[:half], box[half:], strict=True))
        region = result[window]
        part = region == label
        changed = sitk.Cast(change(part), sitk.sitkUInt8)
        region = region * (part == 0)
        result[window] = region + changed * (region == 0) * label
    return result
