"""Postprocessing steps. Each takes and returns a uint8 mask (SimpleITK image)."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import numpy.typing as npt
import SimpleITK as sitk
from scipy import ndimage

from medseg.errors import ImageError
from medseg.io.geometry import from_array
from medseg.segmentation.connected_components import select_components
from medseg.typing import BoolArray


class KeepLargest:
    """Keep each label's largest connected component (face connectivity); the others become background.

    With `slice_share`, a single slice (a 2D image or a volume of one slice) keeps every component of at least that
    share of the largest one: a section through an organ may have several parts.
    """

    def __init__(self, labels: list[int] | None = None, slice_share: float | None = None) -> None:
        if slice_share is not None and not 0 < slice_share <= 1:
            raise ValueError(f"slice_share {slice_share}: must be above 0 and at most 1")
        self.labels, self.slice_share = labels, slice_share  # None: every label

    def __call__(self, mask: sitk.Image) -> sitk.Image:
        """Mask → mask."""
        flat = mask.GetDimension() == 2 or 1 in mask.GetSize()
        if self.slice_share is None or not flat:
            return _each_label(mask, self.labels, _largest)
        share = self.slice_share
        return _each_label(
            mask,
            self.labels,
            lambda label_mask: select_components(label_mask, lambda sizes, _: sizes >= share * max(sizes)),
        )


class FillHoles:
    """Fill background that a label encloses; other labels are never overwritten.

    With `axial`, background that is enclosed within one axial slice of a volume is filled too.
    """

    def __init__(self, labels: list[int] | None = None, axial: bool = False) -> None:
        self.labels, self.axial = labels, axial

    def __call__(self, mask: sitk.Image) -> sitk.Image:
        """Mask → mask."""
        filled = _each_label(mask, self.labels, _filled)
        if not self.axial or mask.GetDimension() < 3:
            return filled
        cosines = np.reshape(mask.GetDirection(), (3, 3))  # physical x y z by index i j k
        axis = 2 - int(np.abs(cosines[2]).argmax())  # array axis (z, y, x) closest to the patient's longitudinal axis
        return _each_label(filled, self.labels, lambda label_mask: _filled_across(label_mask, axis))


class MinimumSize:
    """Remove connected components (face connectivity) smaller than `mm2` in 2D or `mm3` in 3D.

    Photographs have spacing 1, so mm² means pixels. With `keep_largest` each label's largest component is always kept.
    """

    def __init__(
        self,
        mm2: float | None = None,
        mm3: float | None = None,
        labels: list[int] | None = None,
        keep_largest: bool = False,
    ) -> None:
        if mm2 is None and mm3 is None:
            raise ValueError("minimum size: give mm2 (2D images), mm3 (3D images) or both")
        self.least = {2: mm2, 3: mm3}
        self.labels, self.keep_largest = labels, keep_largest

    def __call__(self, mask: sitk.Image) -> sitk.Image:
        """Mask → mask; raises `ImageError` (image-dimension) for a dimension without a minimum."""
        least = self.least.get(mask.GetDimension())
        if least is None:
            raise ImageError(
                f"the minimum size has no value for a {mask.GetDimension()}D mask; give mm2 for 2D, mm3 for 3D",
                code="image-dimension",
            )
        # 1e-6: keep a component of exactly the minimum despite rounding of the spacing
        voxels = least / float(np.prod(mask.GetSpacing())) * (1 - 1e-6)
        return _each_label(mask, self.labels, lambda label_mask: _large(label_mask, voxels, self.keep_largest))


class Inside:
    """Keep label `inner` only inside label `outer`, including holes of `outer` (such as those that `inner` makes).

    A connected component (face connectivity) of `inner` is kept whole if it overlaps or touches that region; with
    `cut` its voxels outside the region are removed. If `outer` is absent, all of `inner` is removed.
    """

    def __init__(self, inner: int, outer: int, cut: bool = False) -> None:
        if inner == outer:
            raise ValueError(f"inner and outer are both label {inner}; they must differ")
        self.inner, self.outer, self.cut = inner, outer, cut

    def __call__(self, mask: sitk.Image) -> sitk.Image:
        """Mask → mask."""
        inner = mask == self.inner
        return mask * sitk.Cast((inner == 0) + self.between(inner, mask == self.outer), mask.GetPixelID())

    def between(self, inner: sitk.Image, outer: sitk.Image) -> sitk.Image:
        """Filter a binary `inner`; for labels that may overlap, which have no common label map."""
        region = sitk.BinaryFillhole(outer)
        if self.cut:
            return inner * region
        components = sitk.GetArrayFromImage(sitk.ConnectedComponent(inner))
        reach = sitk.BinaryDilate(region, [1] * inner.GetDimension(), sitk.sitkCross)
        touched = np.unique(components[sitk.GetArrayViewFromImage(reach) > 0])
        return _like(np.isin(components, touched[touched > 0]), inner)


class LateralSplit:
    """Assign a paired organ to the patient's sides: `left` on the patient's left, whatever labels the input has.

    Both labels, and `merged` if a network has one label for the pair, are united. The organs are the two largest
    connected components that lie side by side along the patient's lateral axis (physical x, + to the left, whatever
    the orientation); fused organs are eroded until they separate. Every other voxel joins the nearest organ. If the
    input's border differs from that by a sliver (less than `sliver` of an organ), it is kept. If one organ is missing
    (no second component of at least `least` of the first), the labels are kept.
    """

    def __init__(
        self, left: int, right: int, merged: int | None = None, least: float = 0.15, sliver: float = 0.05
    ) -> None:
        if len({left, right, merged}) < 3:
            raise ValueError(f"left={left}, right={right}, merged={merged}: must be three different labels")
        self.left, self.right, self.merged, self.least, self.sliver = left, right, merged, least, sliver
        self._pair = [left, right] if merged is None else [left, right, merged]

    def __call__(self, mask: sitk.Image) -> sitk.Image:
        """Mask → mask without the label `merged`."""
        pair = _like(np.isin(sitk.GetArrayViewFromImage(mask), self._pair), mask)
        shape = _shapes(pair)
        if not shape.HasLabel(1):
            return sitk.Image(mask)
        box = _window(shape.GetBoundingBox(1))
        inner = mask[box]
        labels = sitk.GetArrayFromImage(inner)
        cores = _two_cores(pair[box], self.least)
        if cores is None:
            labels[labels == self.merged] = self._only_side(mask, shape.GetCentroid(1)[0], labels)
        else:
            sides = np.where(sitk.GetArrayFromImage(_territories(pair[box], cores)) == 1, self.left, self.right)
            labels = self._divide(labels, sides.astype(np.uint8))
        result = sitk.Image(mask)
        result[box] = sitk.Cast(_like(labels, inner), mask.GetPixelID())
        return result

    def _divide(self, labels: npt.NDArray[np.uint8], sides: npt.NDArray[np.uint8]) -> npt.NDArray[np.uint8]:
        """Relabel by `sides`, except slivers connected to a label that extends across from its own side."""
        divided = labels.copy()
        if self.merged is not None:
            divided[labels == self.merged] = sides[labels == self.merged]
        for label, other_label in ((self.left, self.right), (self.right, self.left)):
            limit = self.sliver * np.isin(labels, self._pair)[sides == other_label].sum()
            home = (labels == label) & (sides == label)
            strays = sitk.GetArrayFromImage(
                sitk.ConnectedComponent(_binary((labels == label) & (sides == other_label)))
            )
            sizes = np.bincount(strays.ravel())
            hanging = np.unique(strays[_grown(home)])
            keep = np.isin(strays, [n for n in hanging if n and sizes[n] < limit])
            divided[(strays > 0) & ~keep] = other_label
        return divided

    def _only_side(self, mask: sitk.Image, x: float, labels: npt.NDArray[np.uint8]) -> int:
        """Side of a single organ with its centre at `x` mm: the majority of its labels, else by the image's middle."""
        left, right = (int((labels == label).sum()) for label in (self.left, self.right))
        if left or right:
            return self.left if left >= right else self.right
        middle = mask.TransformContinuousIndexToPhysicalPoint([(size - 1) / 2 for size in mask.GetSize()])
        return self.left if x > middle[0] else self.right


def _two_cores(pair: sitk.Image, least: float) -> sitk.Image | None:
    """Cores of the two organs of a binary pair: 1 left, 2 right; None if there is only one.

    The pair is eroded by growing distances until two connected components lie side by side.
    """
    edge = [1] * pair.GetDimension()  # erode an organ at the image's edge too
    distance = sitk.SignedMaurerDistanceMap(
        sitk.ConstantPad(pair, edge, edge, 0), insideIsPositive=True, squaredDistance=False, useImageSpacing=True
    )
    distance = sitk.Crop(distance, edge, edge)
    deepest = float(sitk.GetArrayViewFromImage(distance).max())
    for worn in (0.0, *np.geomspace(min(pair.GetSpacing()), max(deepest, min(pair.GetSpacing())), 12)[:-1]):
        solid = pair if worn == 0 else distance > worn
        components = sitk.RelabelComponent(sitk.ConnectedComponent(solid), sortByObjectSize=True)
        stats = _shapes(components)
        if stats.GetNumberOfLabels() < 2 or stats.GetNumberOfPixels(2) < least * stats.GetNumberOfPixels(1):
            continue
        gap = np.subtract(stats.GetCentroid(1), stats.GetCentroid(2))
        if abs(gap[0]) < np.linalg.norm(gap) / 2:  # above or in front of one another: components of one organ
            continue
        first, second = (1, 2) if gap[0] > 0 else (2, 1)
        return sitk.Cast((components == first) + (components == second) * 2, sitk.sitkUInt8)
    return None


def _territories(pair: sitk.Image, cores: sitk.Image) -> sitk.Image:
    """Assign each voxel to a core by a watershed from the cores, deep voxels first."""
    depth = sitk.SignedMaurerDistanceMap(pair, squaredDistance=False, useImageSpacing=True)  # negative inside
    return sitk.MorphologicalWatershedFromMarkers(depth, cores, markWatershedLine=False)


def _largest(mask: BoolArray) -> BoolArray:
    return select_components(mask, lambda sizes, _: np.arange(len(sizes)) == np.argmax(sizes))


def _filled(mask: BoolArray) -> BoolArray:
    """A hole is a connected component of the background that does not touch the border."""
    filled = select_components(~mask, lambda _, borders: ~borders)
    filled |= mask
    return filled


def _large(mask: BoolArray, voxels: float, keep_largest: bool) -> BoolArray:
    def enough(sizes: npt.NDArray[np.int64], _: BoolArray) -> BoolArray:
        largest = np.arange(len(sizes)) == np.argmax(sizes)
        return np.asarray((sizes >= voxels) | (largest & keep_largest))

    return select_components(mask, enough)


def _filled_across(mask: BoolArray, axis: int) -> BoolArray:
    """Fill the holes of each plane across `axis`, (Z, Y, X)."""
    planes = np.moveaxis(mask, axis, 0)
    return np.moveaxis(np.stack([ndimage.binary_fill_holes(plane) for plane in planes]), 0, axis)


def _shapes(mask: sitk.Image) -> sitk.LabelShapeStatisticsImageFilter:
    """Each label's size (voxels), centre (mm) and bounding box."""
    stats = sitk.LabelShapeStatisticsImageFilter()
    stats.ComputePerimeterOff()
    stats.Execute(mask)
    return stats


def _window(box: tuple[int, ...]) -> tuple[slice, ...]:
    half = len(box) // 2
    return tuple(slice(first, first + size) for first, size in zip(box[:half], box[half:], strict=True))


def _binary(array: npt.NDArray[np.bool_]) -> sitk.Image:
    return sitk.GetImageFromArray(array.astype(np.uint8))


def _like(array: npt.NDArray[np.generic], image: sitk.Image) -> sitk.Image:
    return from_array(array.astype(np.uint8), image)


def _grown(array: npt.NDArray[np.bool_]) -> npt.NDArray[np.bool_]:
    """Dilate by one voxel (face connectivity)."""
    grown = sitk.BinaryDilate(_binary(array), [1] * array.ndim, sitk.sitkCross)
    return np.asarray(sitk.GetArrayFromImage(grown) > 0)


def _each_label(mask: sitk.Image, labels: list[int] | None, change: Callable[[BoolArray], BoolArray]) -> sitk.Image:
    """Apply `change` to each label as a binary array, cropped to its bounding box for speed."""
    stats = _shapes(mask)
    array = sitk.GetArrayFromImage(mask)
    for label in labels if labels is not None else stats.GetLabels():
        if not stats.HasLabel(label):
            continue
        region = array[_window(stats.GetBoundingBox(label))[::-1]]
        changed = change(region == label)
        for region_plane, plane in zip(region, changed, strict=True):  # plane by plane, to save memory
            region_plane[region_plane == label] = 0
            region_plane[plane & (region_plane == 0)] = label
    return from_array(array, mask)
