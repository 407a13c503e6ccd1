"""Quality checks of a raw image: blank, blurred, badly lit, or of the wrong colour or kind.

A check is `image → None`, or the reason for a review with the measured value and its limit. Each uses a downscaled copy
and needs no unit of brightness. Checks of 2D images use the middle slice of a stack, and the middle frame of a 4D
sequence. Limits are in configs/quality.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import cv2
import numpy as np
import numpy.typing as npt
import SimpleITK as sitk
from scipy import ndimage

from medseg.errors import ImageError
from medseg.preprocess.hair_removal import hair_mask
from medseg.preprocess.intensity import Photo
from medseg.typing import BoolArray, Float32Array

cv2.setNumThreads(0)  # its pool conflicts with torch's

Field = Callable[[sitk.Image], sitk.Image]
SIDE = 256  # pixels of the longer side of the copy of 2D images
COARSE = 128  # the same for fields of view, whose edge need not be exact
VOLUME = 112  # approximate voxels per side of the copy of volumes
RIM = 40  # the outer 1/40 of a field is ignored: its edge is not tissue
SLICE_POSITIONS = (0.3, 0.4, 0.5, 0.6, 0.7)  # fractions of a volume's length: the slices checked for blur
FULL = 0.98  # of the full range: saturated, after averaging
BLACK = 0.02


class Size:
    """Too few pixels: `minimum` along the shorter of the two long sides (a volume may have one slice)."""

    def __init__(self, minimum: int) -> None:
        if minimum < 1:
            raise ValueError(f"minimum {minimum}: must be at least 1 pixel")
        self.minimum = int(minimum)

    def __call__(self, image: sitk.Image) -> str | None:
        """Image of any kind."""
        size = image.GetSize()[: min(3, image.GetDimension())]
        if sorted(size)[-2] >= self.minimum:
            return None
        return f"has only {' × '.join(map(str, size))} pixels; at least {self.minimum} along both long sides are needed"


class Blank:
    """Blank image: the middle 99 % of the values span less than `minimum` of the full range; for volumes, which have no
    fixed range, less than a millionth of their largest value."""

    def __init__(self, minimum: float = 0.02) -> None:
        if not 0 < minimum < 1:
            raise ValueError(f"minimum {minimum}: must be between 0 and 1")
        self.minimum = float(minimum)

    def __call__(self, image: sitk.Image) -> str | None:
        """2D image or volume, grey or colour."""
        flat = image.GetDimension() == 2
        values = photo_array(image) if flat else sitk.GetArrayFromImage(shrunk(image)).astype(np.float32)
        low, high = (float(value) for value in np.percentile(values, [0.5, 99.5]))
        if high - low > (self.minimum if flat else 1e-6 * max(abs(low), abs(high))):
            return None
        return f"is blank: nearly all its values are {low:.3g}" + (" of 1" if flat else "")


class FieldOfViewFraction:
    """No anatomy: the field by `field` covers less than `minimum` or more than `maximum` of the image."""

    def __init__(self, field: Field, minimum: float, maximum: float = 1.0, what: str = "anatomy") -> None:
        if not 0 <= minimum < maximum <= 1:
            raise ValueError(
                f"minimum {minimum}, maximum {maximum}: shares of the image, minimum must be below maximum"
            )
        self.field, self.minimum, self.maximum, self.what = field, float(minimum), float(maximum), what

    def __call__(self, image: sitk.Image) -> str | None:
        """2D image or volume, as `field` accepts."""
        try:
            share = float(np.mean(sitk.GetArrayFromImage(self.field(shrunk(image, COARSE))) > 0))
        except ImageError as error:
            return f"{self.what} cannot be detected: {error}"
        if self.minimum <= share <= self.maximum:
            return None
        usual = f"{self.minimum:.0%} to {self.maximum:.0%}"
        return f"shows no {self.what}: the detected field covers {share:.0%} of the image, usual is {usual}"


class Blur:
    """Defocus or motion: fine detail (1 to 2 pixels) is below `minimum` times the detail four times as coarse.

    Detail is the root mean square of a difference of Gaussians inside `field`, on a copy of 256 pixels: the
    camera's resolution and gain, and the scene's contrast do not matter. Five slices of a volume are used.
    """

    def __init__(self, minimum: float, field: Field | None = None) -> None:
        if minimum <= 0:
            raise ValueError(f"minimum {minimum}: must be above 0")
        self.minimum, self.field = float(minimum), field

    def __call__(self, image: sitk.Image) -> str | None:
        """2D image or volume, grey or colour; blank images are not blurred."""
        energies = np.sum([_detail(plane, inside) for plane, inside in self._planes(image)], axis=0)
        if energies[1] <= energies[2]:
            return None
        ratio = float(np.sqrt(energies[0] / energies[1]))
        if ratio >= self.minimum:
            return None
        return f"is blurred: its fine detail is {ratio:.2f} of the coarse, in sharp images at least {self.minimum:g}"

    def _planes(self, image: sitk.Image) -> list[tuple[Float32Array, BoolArray]]:
        """Grey planes (Y, X) with masks of the pixels to use."""
        if image.GetDimension() > 2:
            planes = [_small(plane.astype(np.float32)) for plane in _slices(image)]
            return [(plane, np.ones(plane.shape, np.bool_)) for plane in planes]
        image = shrunk(image)
        grey, inside = photo_array(image).mean(axis=-1), inside_of(image, self.field)
        rim = max(1, min(inside.shape) // RIM)
        return [(grey, ndimage.binary_erosion(inside, iterations=rim, border_value=self.field is None))]


class Exposure:
    """Bad exposure inside `field`: more than `bright` of the pixels are saturated (in their strongest colour), more
    than `black` are black, or the 99th percentile is below `minimum` of the full range."""

    def __init__(self, bright: float, black: float, minimum: float, field: Field | None = None) -> None:
        if not (0 < bright <= 1 and 0 < black <= 1 and 0 < minimum < 1):
            raise ValueError(f"bright {bright}, black {black}, minimum {minimum}: must be shares between 0 and 1")
        self.bright, self.black, self.minimum, self.field = float(bright), float(black), float(minimum), field

    def __call__(self, image: sitk.Image) -> str | None:
        """2D image, grey or colour."""
        image = shrunk(flat(image))
        values = photo_array(image)[inside_of(image, self.field)].max(axis=-1)  # (N,)
        full, none, top = np.mean(values >= FULL), np.mean(values <= BLACK), np.percentile(values, 99)
        if full > self.bright:
            return f"is overexposed: {full:.0%} of the field is saturated, usual is at most {self.bright:.0%}"
        if top < self.minimum:
            usual = f"usual is {self.minimum:.0%} or more"
            return f"is underexposed: its brightest parts reach {top:.0%} of the range, {usual}"
        if none > self.black:
            return f"is mostly dark: {none:.0%} of the field is black, usual is at most {self.black:.0%}"
        return None


class Colour:
    """Grey where colour is expected, or the reverse: the difference of a pixel's strongest and weakest colour, as a
    share of the strongest, summed over the image, must lie in `minimum`..`maximum`."""

    def __init__(self, minimum: float = 0.0, maximum: float = 1.0) -> None:
        if not 0 <= minimum < maximum <= 1:
            raise ValueError(
                f"minimum {minimum}, maximum {maximum}: shares between 0 and 1, minimum must be below maximum"
            )
        self.minimum, self.maximum = float(minimum), float(maximum)

    def __call__(self, image: sitk.Image) -> str | None:
        """2D image, grey or colour."""
        values = photo_array(image)
        difference = float(np.ptp(values, axis=-1).sum() / max(float(values.max(axis=-1).sum()), 1e-6))
        if difference < self.minimum:
            usual = f"usual is {self.minimum:.0%} or more"
            return f"is grey where colour is expected: colours differ by {difference:.1%}, {usual}"
        if difference > self.maximum:
            usual = f"usual is at most {self.maximum:.0%}"
            return f"is coloured where grey is expected: colours differ by {difference:.1%}, {usual}"
        return None


class ColourOrder:
    """Channels in the wrong order (BGR), or no tissue. Tissue is redder than blue, and its blood and pigment absorb
    more of blue: mean red over mean blue inside `field`, times the spread of log blue over that of log red, is at least
    `minimum`. The spread does not change with the colour of the light."""

    DARK = 0.02  # added before the logarithm: noise of black

    def __init__(self, minimum: float = 1.0, field: Field | None = None) -> None:
        if minimum <= 0:
            raise ValueError(f"minimum {minimum}: must be above 0")
        self.minimum, self.field = float(minimum), field

    def __call__(self, image: sitk.Image) -> str | None:
        """2D image; grey images pass."""
        if image.GetNumberOfComponentsPerPixel() < 3:
            return None
        image = shrunk(flat(image))
        values = photo_array(image)[inside_of(image, self.field)]  # (N, 3)
        (red, _, blue), spread = values.mean(axis=0), np.log(values + self.DARK).std(axis=0)
        # 0.01: channels with little variation do not count
        ratio = (red + 1e-6) / (blue + 1e-6) * (spread[2] + 0.01) / (spread[0] + 0.01)
        if ratio >= self.minimum:
            return None
        return (
            f"is bluish where tissue is reddish (red over blue, in level and contrast, is {ratio:.2f}; usual is "
            f"at least {self.minimum:g}): are its channels in the order BGR?"
        )


class Hair:
    """More than `maximum` of the image is covered by hair; images below 128 pixels are too coarse and pass."""

    SMALLEST = 128

    def __init__(self, maximum: float) -> None:
        if not 0 < maximum < 1:
            raise ValueError(f"maximum {maximum}: must be between 0 and 1")
        self.maximum = float(maximum)

    def __call__(self, image: sitk.Image) -> str | None:
        """Dermoscopic image, grey or colour."""
        if max(image.GetSize()[:2]) < self.SMALLEST:
            return None
        share = float(np.mean(sitk.GetArrayFromImage(hair_mask(shrunk(flat(image))))))
        if share <= self.maximum:
            return None
        return f"is covered by hair: {share:.0%} of the image, usual is at most {self.maximum:.0%}; shave or part it"


def photo_array(image: sitk.Image) -> Float32Array:
    """The downscaled image (Y, X, 3) in 0..1, grey repeated three times; the middle slice of a stack."""
    return np.asarray(sitk.GetArrayFromImage(Photo(colour=True)(shrunk(flat(image)))), np.float32)


def inside_of(image: sitk.Image, field: Field | None) -> BoolArray:
    """Mask (Y, X) of the field on the downscaled image; all True without one, or if it is empty."""
    small = shrunk(flat(image))
    inside = np.ones(small.GetSize()[::-1], np.bool_)
    if field is not None:
        mask = sitk.GetArrayFromImage(field(shrunk(small, COARSE)))
        mask = cv2.resize(mask, small.GetSize(), interpolation=cv2.INTER_NEAREST) > 0
        inside = mask if mask.any() else inside
    return inside


def shrunk(image: sitk.Image, side: int = SIDE) -> sitk.Image:
    """A small copy: 2D images averaged to `side` pixels along the longer side, volumes every n-th voxel per axis."""
    image = still(image)
    size = image.GetSize()
    if image.GetDimension() == 3:
        steps = [max(1, count // VOLUME) for count in size]
        return image[:: steps[0], :: steps[1], :: steps[2]] if max(steps) > 1 else image
    if max(size) <= side:
        return image
    array = _small(sitk.GetArrayViewFromImage(image), side)
    return sitk.GetImageFromArray(array, isVector=array.ndim == 3)


def flat(image: sitk.Image) -> sitk.Image:
    """The 2D image, or the middle slice of a stack."""
    image = still(image)
    return image if image.GetDimension() == 2 else image[:, :, image.GetSize()[2] // 2]


def still(image: sitk.Image) -> sitk.Image:
    """The image, or the middle frame of a 4D sequence."""
    return image if image.GetDimension() < 4 else image[:, :, :, image.GetSize()[3] // 2]


def _small(array: npt.NDArray[Any], side: int = SIDE) -> npt.NDArray[Any]:
    """Values (Y, X[, C]) averaged so that the longer side has `side` pixels at most, in their own type."""
    scale = side / max(array.shape[:2])
    if scale >= 1:
        return array
    size = [max(1, round(count * scale)) for count in array.shape[1::-1]]  # x y
    known = array.dtype in (np.uint8, np.uint16, np.int16, np.float32, np.float64)
    small = cv2.resize(array if known else array.astype(np.float64), size, interpolation=cv2.INTER_AREA)
    return np.asarray(small if known or array.dtype.kind == "f" else np.rint(small).astype(array.dtype))


def _slices(image: sitk.Image) -> list[npt.NDArray[Any]]:
    """Five slices (Y, X) of the middle of a volume, across its coarsest axis; of equal axes, across the shortest."""
    image = still(image)
    spacing, size = image.GetSpacing(), image.GetSize()
    axis = max(range(3), key=lambda axis: (round(spacing[axis], 3), -size[axis]))
    values = sitk.GetArrayViewFromImage(image)  # (Z, Y, X[, C])
    planes = np.moveaxis(values[..., 0] if values.ndim > 3 else values, 2 - axis, 0)
    return [planes[index].copy() for index in sorted({int(len(planes) * share) for share in SLICE_POSITIONS})]


def _detail(plane: Float32Array, inside: BoolArray) -> tuple[float, float, float]:
    """Energy of fine and of coarse detail of a plane (Y, X) inside a mask, and the energy that rounding may cause."""
    if not inside.any():
        return 0.0, 0.0, 0.0
    fine, medium, coarse, slow = (cv2.GaussianBlur(plane, (0, 0), sigma) for sigma in (1, 2, 4, 8))
    energies = [float((values[inside] ** 2).mean(dtype=np.float64)) for values in (fine - medium, coarse - slow, plane)]
    return energies[0], energies[1], 1e-10 * energies[2]
