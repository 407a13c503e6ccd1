"""Checks of a raw image before anything is done to it: is it blank, blurred, badly lit, of the wrong colour or kind?

A check is `image → None`, or why the image should be looked at, with the number found and its limit. Each looks at a
shrunken copy and needs no unit of brightness. A stack is judged by its middle slice where a picture is expected, a 4D
sequence by its middle frame. Limits stand in configs/quality.
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

cv2.setNumThreads(0)  # its pool would fight with torch's

Field = Callable[[sitk.Image], sitk.Image]
SIDE = 256  # pixels of the longer side of the copy that pictures are judged on
COARSE = 128  # the same for fields of view, whose edge need not be exact here
VOLUME = 112  # voxels of each side of the copy that volumes are judged on, about
RIM = 40  # the outer 1/40 of a field is no part of it: its edge is neither sharp nor blurred tissue
PLACES = (0.3, 0.4, 0.5, 0.6, 0.7)  # of a volume's length: the slices that tell of blur
FULL = 0.98  # of the full range: as bright as can be, after averaging
BLACK = 0.02


class Size:
    """Too few pixels: `least` along the shorter of the two long sides (a volume may have one slice)."""

    def __init__(self, least: int) -> None:
        if least < 1:
            raise ValueError(f"least {least}: must be at least 1 pixel")
        self.least = int(least)

    def __call__(self, image: sitk.Image) -> str | None:
        """Image of any kind."""
        size = image.GetSize()[: min(3, image.GetDimension())]
        if sorted(size)[-2] >= self.least:
            return None
        return f"has only {' × '.join(map(str, size))} pixels; at least {self.least} along both long sides are needed"


class Blank:
    """Nothing to see: the middle 99 % of the values span less than `least` of the full range; a volume has no range of
    its own, there all of them must differ by less than a millionth."""

    def __init__(self, least: float = 0.02) -> None:
        if not 0 < least < 1:
            raise ValueError(f"least {least}: must be between 0 and 1")
        self.least = float(least)

    def __call__(self, image: sitk.Image) -> str | None:
        """Picture or volume, grey or colour."""
        flat = image.GetDimension() == 2
        values = picture(image) if flat else sitk.GetArrayFromImage(shrunk(image)).astype(np.float32)
        low, high = (float(value) for value in np.percentile(values, [0.5, 99.5]))
        if high - low > (self.least if flat else 1e-6 * max(abs(low), abs(high))):
            return None
        return f"is blank: nearly all its values are {low:.3g}" + (" of 1" if flat else "")


class FieldOfViewFraction:
    """No anatomy: the field that `field` finds covers less than `least` or more than `most` of the image."""

    def __init__(self, field: Field, least: float, most: float = 1.0, what: str = "anatomy") -> None:
        if not 0 <= least < most <= 1:
            raise ValueError(f"least {least}, most {most}: shares of the image, least must be below most")
        self.field, self.least, self.most, self.what = field, float(least), float(most), what

    def __call__(self, image: sitk.Image) -> str | None:
        """Picture or volume, as `field` takes it."""
        try:
            share = float(np.mean(sitk.GetArrayFromImage(self.field(shrunk(image, COARSE))) > 0))
        except ImageError as error:
            return f"{self.what} cannot be looked for: {error}"
        if self.least <= share <= self.most:
            return None
        usual = f"{self.least:.0%} to {self.most:.0%}"
        return f"shows no {self.what}: what was found covers {share:.0%} of the image, usual is {usual}"


class Blur:
    """Out of focus or moved: fine detail (1 to 2 pixels) is below `least` times the detail four times as coarse.

    Detail is the root mean square of a difference of Gaussians inside `field`, on a copy of 256 pixels: neither the
    camera's pixels, nor its gain, nor the contrast of the scene count. Of a volume five slices are taken.
    """

    def __init__(self, least: float, field: Field | None = None) -> None:
        if least <= 0:
            raise ValueError(f"least {least}: must be above 0")
        self.least, self.field = float(least), field

    def __call__(self, image: sitk.Image) -> str | None:
        """Picture or volume, grey or colour; a blank one is not blurred."""
        energies = np.sum([_detail(plane, inside) for plane, inside in self._planes(image)], axis=0)
        if energies[1] <= energies[2]:
            return None
        found = float(np.sqrt(energies[0] / energies[1]))
        if found >= self.least:
            return None
        return f"is blurred: its fine detail is {found:.2f} of the coarse, in sharp images at least {self.least:g}"

    def _planes(self, image: sitk.Image) -> list[tuple[Float32Array, BoolArray]]:
        """Grey planes (Y, X) with where to look."""
        if image.GetDimension() > 2:
            planes = [_small(plane.astype(np.float32)) for plane in _slices(image)]
            return [(plane, np.ones(plane.shape, np.bool_)) for plane in planes]
        image = shrunk(image)
        grey, inside = picture(image).mean(axis=-1), inside_of(image, self.field)
        rim = max(1, min(inside.shape) // RIM)
        return [(grey, ndimage.binary_erosion(inside, iterations=rim, border_value=self.field is None))]


class Exposure:
    """Badly lit, inside `field`: more than `bright` of the pixels as bright as can be (their strongest colour), more
    than `black` without light, or not even the brightest hundredth reaches `least` of the full range."""

    def __init__(self, bright: float, black: float, least: float, field: Field | None = None) -> None:
        if not (0 < bright <= 1 and 0 < black <= 1 and 0 < least < 1):
            raise ValueError(f"bright {bright}, black {black}, least {least}: must be shares between 0 and 1")
        self.bright, self.black, self.least, self.field = float(bright), float(black), float(least), field

    def __call__(self, image: sitk.Image) -> str | None:
        """Picture, grey or colour."""
        image = shrunk(flat(image))
        values = picture(image)[inside_of(image, self.field)].max(axis=-1)  # (N,)
        full, none, top = np.mean(values >= FULL), np.mean(values <= BLACK), np.percentile(values, 99)
        if full > self.bright:
            return f"is overexposed: {full:.0%} of the field is as bright as can be, usual is at most {self.bright:.0%}"
        if top < self.least:
            return (
                f"is underexposed: its brightest parts reach {top:.0%} of the range, usual is {self.least:.0%} or more"
            )
        if none > self.black:
            return f"is mostly dark: {none:.0%} of the field is black, usual is at most {self.black:.0%}"
        return None


class Colour:
    """Grey where colour is expected, or the reverse: the difference of a pixel's strongest and weakest colour, as a
    share of the strongest, summed over the picture, must lie in `least`..`most`."""

    def __init__(self, least: float = 0.0, most: float = 1.0) -> None:
        if not 0 <= least < most <= 1:
            raise ValueError(f"least {least}, most {most}: shares between 0 and 1, least must be below most")
        self.least, self.most = float(least), float(most)

    def __call__(self, image: sitk.Image) -> str | None:
        """Picture, grey or colour."""
        values = picture(image)
        found = float(np.ptp(values, axis=-1).sum() / max(float(values.max(axis=-1).sum()), 1e-6))
        if found < self.least:
            return f"is grey where colour is expected: colours differ by {found:.1%}, usual is {self.least:.0%} or more"
        if found > self.most:
            return (
                f"is coloured where grey is expected: colours differ by {found:.1%}, usual is at most {self.most:.0%}"
            )
        return None


class ColourOrder:
    """Channels in the wrong order (BGR), or no tissue. Tissue is redder than blue, and its blood and pigment absorb
    more of blue: mean red over mean blue inside `field`, times the spread of log blue over that of log red, is at least
    `least`. The spread does not change with the colour of the light."""

    DARK = 0.02  # added before the logarithm: noise of black

    def __init__(self, least: float = 1.0, field: Field | None = None) -> None:
        if least <= 0:
            raise ValueError(f"least {least}: must be above 0")
        self.least, self.field = float(least), field

    def __call__(self, image: sitk.Image) -> str | None:
        """Picture; grey has no say."""
        if image.GetNumberOfComponentsPerPixel() < 3:
            return None
        image = shrunk(flat(image))
        values = picture(image)[inside_of(image, self.field)]  # (N, 3)
        (red, _, blue), spread = values.mean(axis=0), np.log(values + self.DARK).std(axis=0)
        # 0.01: what hardly varies has no say
        found = (red + 1e-6) / (blue + 1e-6) * (spread[2] + 0.01) / (spread[0] + 0.01)
        if found >= self.least:
            return None
        return (
            f"is bluish where tissue is reddish (red over blue, in level and contrast, is {found:.2f}; usual is "
            f"at least {self.least:g}): are its channels in the order BGR?"
        )


class Hair:
    """More than `most` of the picture is covered by hair; pictures below 128 pixels are too coarse to tell."""

    SMALLEST = 128

    def __init__(self, most: float) -> None:
        if not 0 < most < 1:
            raise ValueError(f"most {most}: must be between 0 and 1")
        self.most = float(most)

    def __call__(self, image: sitk.Image) -> str | None:
        """Dermoscopic picture, grey or colour."""
        if max(image.GetSize()[:2]) < self.SMALLEST:
            return None
        share = float(np.mean(sitk.GetArrayFromImage(hair_mask(shrunk(flat(image))))))
        if share <= self.most:
            return None
        return f"is covered by hair: {share:.0%} of the picture, usual is at most {self.most:.0%}; shave or part it"


def picture(image: sitk.Image) -> Float32Array:
    """The shrunken picture (Y, X, 3) in 0..1, grey three times; the middle slice of a stack."""
    return np.asarray(sitk.GetArrayFromImage(Photo(colour=True)(shrunk(flat(image)))), np.float32)


def inside_of(image: sitk.Image, field: Field | None) -> BoolArray:
    """Where the field is on the shrunken picture (Y, X); everywhere without one, or where none is found."""
    small = shrunk(flat(image))
    inside = np.ones(small.GetSize()[::-1], np.bool_)
    if field is not None:
        found = sitk.GetArrayFromImage(field(shrunk(small, COARSE)))
        found = cv2.resize(found, small.GetSize(), interpolation=cv2.INTER_NEAREST) > 0
        inside = found if found.any() else inside
    return inside


def shrunk(image: sitk.Image, side: int = SIDE) -> sitk.Image:
    """A small copy: pictures averaged to `side` pixels along the longer side, volumes every n-th voxel of each axis."""
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
    """The picture, or the middle slice of a stack of them."""
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
    return [planes[place].copy() for place in sorted({int(len(planes) * share) for share in PLACES})]


def _detail(plane: Float32Array, inside: BoolArray) -> tuple[float, float, float]:
    """Energy of fine and of coarse detail of a plane (Y, X) inside a mask, and what rounding alone may give."""
    if not inside.any():
        return 0.0, 0.0, 0.0
    fine, less, coarse, slow = (cv2.GaussianBlur(plane, (0, 0), sigma) for sigma in (1, 2, 4, 8))
    energies = [float((values[inside] ** 2).mean(dtype=np.float64)) for values in (fine - less, coarse - slow, plane)]
    return energies[0], energies[1], 1e-10 * energies[2]
