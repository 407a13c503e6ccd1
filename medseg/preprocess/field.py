"""The part of an image that shows anatomy: found on a shrunken copy, and cropping to it.

A finder takes an image and returns a uint8 mask (1 inside) on its grid.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import numpy.typing as npt
import SimpleITK as sitk
from scipy import ndimage
from skimage.filters import threshold_otsu
from skimage.measure import CircleModel, ransac
from skimage.morphology import convex_hull_image

from medseg.errors import ImageError
from medseg.preprocess.geometry import Resample

Field = Callable[[sitk.Image], sitk.Image]
Bools = npt.NDArray[np.bool_]
Floats = npt.NDArray[np.float32]
SIDE = 256  # pixels of the longer side that a field is sought on


class Fundus:
    """The lit disc of a fundus photograph before its dark surround, also where the camera clips top and bottom.

    Lit is what is brighter than `share` of the way from the darkest to the 95th percentile of brightness.
    """

    def __init__(self, share: float = 0.12) -> None:
        self.share = share

    def __call__(self, image: sitk.Image) -> sitk.Image:
        """Photograph → mask."""
        small, grey = _small(image, brightest=True)
        low, high = np.percentile(grey, [0.5, 95])
        lit = grey > low + self.share * (high - low)
        return _back(_solid(lit, opening=2), small, image)


class Dermoscope:
    """What a round dermoscope shows: dark corners are left out; an image without them is all field.

    Corners are dark below `dark` of the skin's brightness (its 75th percentile). A circle is fitted to where they end,
    seen from outside, so that a dark lesion which touches them stays inside.
    """

    def __init__(self, dark: float = 0.45, least: float = 0.01) -> None:
        self.dark, self.least = dark, least

    def __call__(self, image: sitk.Image) -> sitk.Image:
        """Photograph → mask."""
        small, grey = _small(image, brightest=False)
        shadow = ndimage.gaussian_filter(grey, 1.5) < self.dark * np.percentile(grey, 75)
        parts, _ = ndimage.label(shadow)
        corners = {int(parts[y, x]) for y in (0, -1) for x in (0, -1)} - {0}
        outside = np.isin(parts, list(corners))
        field = np.ones(grey.shape, np.bool_)
        if outside.mean() >= self.least:
            circle = _circle(outside)
            # without a circle only what lies beyond the inscribed ellipse can be a corner
            field = ~(outside & (_radius(grey.shape) > 1.0)) if circle is None else circle
        return _back(field, small, image)


class Sector:
    """The echo area of an ultrasound image, without black margins and the text beside it."""

    def __init__(self, least: float = 0.03) -> None:
        self.least = least

    def __call__(self, image: sitk.Image) -> sitk.Image:
        """Image in 0..1 or 0..255 → mask."""
        small, grey = _small(image, brightest=True)
        top = 255.0 if grey.max() > 1.5 else 1.0
        lit = ndimage.gaussian_filter(grey / top, 2.0) > self.least
        return _back(convex_hull_image(_solid(lit, opening=3)), small, image)


class Head:
    """The head in MRI before air; of a skull-stripped volume the brain (what differs from its constant surround)."""

    STRIPPED = 0.4  # of the voxels are of one value: air is never so equal unless it was set to one
    LARGE = 0.02  # of the largest piece: smaller ones are noise

    def __call__(self, image: sitk.Image) -> sitk.Image:
        """Volume of any intensity → mask."""
        array = sitk.GetArrayFromImage(image).astype(np.float32)
        planes = tuple(range(1, array.ndim)) if array.ndim == 3 else None
        filled = np.ptp(array, axis=planes) > 0  # slices that hold anything, (Z,) or one number
        held = array[filled] if array.ndim == 3 else array
        if not np.any(filled):
            return _like(np.zeros(array.shape, np.bool_), image)
        if (held == held.ravel()[0]).mean() > self.STRIPPED:
            inside = _solid(array != held.ravel()[0], opening=0)
        else:
            smooth = ndimage.gaussian_filter(array, 0.5)
            split = _otsu(smooth)
            air, head = smooth[smooth <= split].mean(), smooth[smooth > split].mean()
            bright = smooth > air + 0.3 * (head - air)  # Otsu may lie right above the noise, or between tissues
            inside = _hulls(_large(bright, self.LARGE))  # with the fluid and bone that are as dark as air
        if array.ndim == 3:  # a slab is open at both ends, so that no hole of it is one in 3D
            inside = np.stack([ndimage.binary_fill_holes(part) for part in inside])
        return _like(inside, image)


class Body:
    """The body in CT (HU, or a window of it in 0..1) before air and table; air inside the body belongs to it."""

    def __init__(self, threshold: float = -400.0) -> None:
        self.threshold = threshold

    def __call__(self, image: sitk.Image) -> sitk.Image:
        """Volume or slice → mask."""
        array = sitk.GetArrayViewFromImage(image)
        limit = self.threshold if array.min() < -10 else _otsu(np.asarray(array, np.float32))
        tissue = ndimage.binary_opening(array > limit, iterations=1)
        body = _largest(tissue)
        if array.ndim == 2:
            return _like(ndimage.binary_fill_holes(body), image)
        filled = np.stack([ndimage.binary_fill_holes(part) for part in body])  # lungs open to air only at the ends
        return _like(filled, image)


class CropToField:
    """Crop to the box around the field, with a margin as a share of its size. A blank field leaves the image whole."""

    def __init__(self, field: Field, margin: float = 0.0) -> None:
        self.field, self.margin = field, margin

    def __call__(self, image: sitk.Image) -> sitk.Image:
        """Image → part of it; the origin says where it lay."""
        box = _box(self.field(image), self.margin)
        return image if box is None else image[box]


class FitField:
    """Crop to the field and resample so that it is `diameter` pixels wide: cameras become comparable."""

    def __init__(self, field: Field, diameter: int, margin: float = 0.0) -> None:
        if diameter < 8:
            raise ValueError(f"diameter {diameter}: must be at least 8 pixels")
        self.field, self.diameter, self.margin = field, int(diameter), margin

    def __call__(self, image: sitk.Image) -> sitk.Image:
        """2D image → 2D image; raises `ImageError` where no field is found."""
        mask = self.field(image)
        box = _box(mask, 0.0)
        if box is None:
            raise ImageError("no field of view is found: the image is dark or constant", code="image-field")
        wide = (box[0].stop - box[0].start) * image.GetSpacing()[0]
        step = wide / self.diameter
        cropped = image[_box(mask, self.margin) or box]
        return Resample([step, step, *[None] * (image.GetDimension() - 2)])(cropped)


def _small(image: sitk.Image, brightest: bool) -> tuple[sitk.Image, Floats]:
    """A copy of at most `SIDE` pixels a side, and its brightness: the highest or the mean of its colours."""
    factors = [max(1, -(-size // SIDE)) for size in image.GetSize()[:2]] + [1] * (image.GetDimension() - 2)
    factor = max(factors[:2])
    small = sitk.BinShrink(image, [factor, factor, *factors[2:]]) if factor > 1 else image
    array = sitk.GetArrayFromImage(small).astype(np.float32)
    if image.GetNumberOfComponentsPerPixel() > 1:
        colours = array[..., :3]
        array = colours.max(axis=-1) if brightest else colours.mean(axis=-1)
    return small, array


def _back(mask: Bools, small: sitk.Image, image: sitk.Image) -> sitk.Image:
    """A mask on the shrunken copy, on the image's own grid."""
    found = _like(mask, small)
    if small.GetSize() == image.GetSize():
        return found
    border = [1] * image.GetDimension()
    grown = sitk.ZeroFluxNeumannPad(found, border, border)  # edges of the copy may end before the image does
    reference = sitk.Image(image.GetSize(), sitk.sitkUInt8)
    reference.CopyInformation(image)
    return sitk.Resample(grown, reference, sitk.Transform(), sitk.sitkNearestNeighbor, 0.0, sitk.sitkUInt8)


def _like(mask: Bools, image: sitk.Image) -> sitk.Image:
    result = sitk.GetImageFromArray(mask.astype(np.uint8))
    result.CopyInformation(image)
    return result


def _largest(mask: Bools) -> Bools:
    parts, count = ndimage.label(mask)
    if count < 2:
        return mask
    return np.asarray(parts == 1 + int(np.argmax(np.bincount(parts.ravel())[1:])))


def _large(mask: Bools, share: float) -> Bools:
    """The pieces of at least `share` of the largest one's size."""
    parts, count = ndimage.label(mask)
    if count < 2:
        return mask
    sizes = np.bincount(parts.ravel())
    sizes[0] = 0
    return np.asarray((sizes >= share * sizes.max())[parts] & mask)


def _hulls(mask: Bools) -> Bools:
    """The convex hull of each slice."""
    planes = mask if mask.ndim == 3 else mask[None]
    hulls = np.stack([convex_hull_image(part) if part.any() else part for part in planes])
    return np.asarray(hulls if mask.ndim == 3 else hulls[0])


def _solid(mask: Bools, opening: int) -> Bools:
    """The largest piece without holes, after thin bridges are cut."""
    opened = ndimage.binary_opening(mask, iterations=opening) if opening else mask
    piece = _largest(opened if opened.any() else mask)
    return np.asarray(ndimage.binary_fill_holes(piece))


def _otsu(array: Floats) -> float:
    return float(threshold_otsu(array)) if array.max() > array.min() else float(array.max())


def _box(mask: sitk.Image, margin: float) -> tuple[slice, ...] | None:
    """Slices x y (z) around what is 1, wider by `margin` of each size."""
    stats = sitk.LabelShapeStatisticsImageFilter()
    stats.ComputePerimeterOff()
    stats.Execute(mask)
    if not stats.HasLabel(1):
        return None
    box = stats.GetBoundingBox(1)
    half = len(box) // 2
    result = []
    for first, size, whole in zip(box[:half], box[half:], mask.GetSize(), strict=True):
        more = round(size * margin)
        result.append(slice(max(0, first - more), min(whole, first + size + more)))
    return tuple(result)


def _radius(shape: tuple[int, ...]) -> Floats:
    """Distance from the middle, 1 on the inscribed ellipse."""
    axes = [np.linspace(-1, 1, size) for size in shape]
    return np.asarray(np.hypot(*np.meshgrid(*axes, indexing="ij")), np.float32)


def _circle(outside: Bools) -> Bools | None:
    """The circle inside which nothing of `outside` lies but what crosses it; None where no circle fits."""
    height, width = outside.shape
    middle = np.array([(height - 1) / 2, (width - 1) / 2])
    points = []
    for angle in np.linspace(0, 2 * np.pi, 240, endpoint=False):
        way = np.array([np.sin(angle), np.cos(angle)])
        reach = min((middle[0] / abs(way[0])) if way[0] else np.inf, (middle[1] / abs(way[1])) if way[1] else np.inf)
        steps = np.arange(reach, 0.4 * reach, -0.5)
        ys, xs = np.rint(middle[:, None] + way[:, None] * steps).astype(int)
        dark = outside[ys, xs]
        if dark[0] and not dark.all():
            points.append(middle + way * steps[int(np.argmin(dark))])
    if len(points) < 12:
        return None
    model, _ = ransac(
        np.array(points), CircleModel, min_samples=3, residual_threshold=2.5, max_trials=200,
        rng=np.random.default_rng(0),
    )  # fmt: skip
    if model is None or not 0.3 * min(height, width) < model.radius < 1.2 * max(height, width):
        return None
    ys, xs = np.indices(outside.shape)
    return np.asarray(np.hypot(ys - model.center[0], xs - model.center[1]) < model.radius - 1)
