"""Hair in dermoscopy: detects thin lines darker or lighter than the skin on both sides, and fills them from the sides.

Lengths are fractions of the image's longer side, so that a setting fits every camera; images longer than `WORK`
pixels are processed on a copy of that size.
"""

from __future__ import annotations

import cv2
import numpy as np
import numpy.typing as npt
import SimpleITK as sitk
from skimage.morphology import skeletonize

from medseg.errors import ImageError
from medseg.io.geometry import from_array
from medseg.preprocess.intensity import Photo
from medseg.preprocess.ruler_detection import ANGLES, detect_rulers
from medseg.typing import BoolArray, ByteArray, Float32Array

cv2.setNumThreads(0)  # its pool conflicts with other threads

WORK = 1024  # pixels of the longer side
SEGMENT_LENGTH = 0.022  # length over which a hair is nearly straight
SHORTEST = (0.03, 0.06)  # dark, light: light lines must be longer, because creases and reflections are light too


class RemoveHair:
    """Fill dark and light hair from the skin beside it; an image with hardly any is unchanged.

    `width` (fraction of the longer side) is that of the thickest hair. A hair is at least `contrast` (of 0..1) darker
    or lighter than both its sides, and length × mean contrast is at least `strength`. The image is unchanged if the
    fraction of hair pixels is below `least`.
    """

    def __init__(
        self, width: float = 0.01, dark: bool = True, light: bool = True, contrast: float = 0.02,
        strength: float = 0.0015, least: float = 0.001,
    ) -> None:  # fmt: skip
        if not (0 < width <= 0.05 and 0 < contrast < 1 and strength >= 0 and 0 <= least < 1):
            raise ValueError(
                f"width={width}, contrast={contrast}, strength={strength}, least={least}: width must lie in 0..0.05, "
                "contrast between 0 and 1, strength and least be 0 or more"
            )
        self.width, self.dark, self.light = float(width), dark, light
        self.contrast, self.strength, self.least = float(contrast), float(strength), float(least)

    def __call__(self, image: sitk.Image) -> sitk.Image:
        """2D photograph, colour or grey → the same grid and pixel type; ImageError (hair-dimension) for volumes."""
        small = _shrunk(image)
        hair = self._find(_colours(small))
        if not hair.any() or hair.all() or hair.mean() < self.least:
            return sitk.Image(image)
        pixels = sitk.GetArrayFromImage(small).astype(np.float32)
        filled = _fill(pixels.reshape(*hair.shape, -1), hair)  # (Y, X, C)
        array = sitk.GetArrayFromImage(image)
        rows = array.reshape(*array.shape[:2], -1)
        inside = _enlarged(hair.astype(np.float32), array.shape[:2]) > 0.5
        values = _enlarged(filled, array.shape[:2])[inside]
        rows[inside] = np.rint(values) if np.issubdtype(array.dtype, np.integer) else values
        return from_array(array, image)

    def mask(self, image: sitk.Image) -> sitk.Image:
        """2D photograph → uint8 mask on its grid, 1 where hair is."""
        hair = self._find(_colours(_shrunk(image)))
        inside = _enlarged(hair.astype(np.float32), image.GetSize()[::-1]) > 0.5
        return from_array(inside.astype(np.uint8), image)

    def _find(self, colours: Float32Array) -> BoolArray:
        """Colours (Y, X, 3) in 0..1 → hair with its soft edges (Y, X)."""
        side = max(colours.shape[:2])
        smooth = cv2.GaussianBlur(colours, (0, 0), max(0.5, side / WORK))
        grey = np.rint(smooth.mean(axis=-1) * 255).astype(np.uint8)
        hair = np.zeros(grey.shape, np.bool_)
        if min(grey.shape) < 3:
            return hair
        (dark, angle), (bright, turned) = _line_response(grey, self.width), _line_response(255 - grey, self.width)
        min_contrast = max(1, round(self.contrast * 255))
        if self.dark:
            lines = (dark >= min_contrast) & ~detect_rulers(dark >= min_contrast, angle, grey)
            hairs = self._hairs(_alone(lines, dark, angle, bright, self.width), dark, smooth, light=False)
            hair |= _with_soft_edges(hairs, grey, min_contrast, self.width)
        if self.light:
            lines = _alone(bright >= min_contrast, bright, turned, dark, self.width)
            hair |= _with_soft_edges(
                self._hairs(lines, bright, smooth, light=True), 255 - grey, min_contrast, self.width
            )
        return hair

    def _hairs(self, lines: BoolArray, response: ByteArray, smooth: Float32Array, light: bool) -> BoolArray:
        """The connected lines that are long, strong and coloured like hair, and not the dermoscope's rim."""
        side = max(lines.shape)
        count, components = cv2.connectedComponents(lines.astype(np.uint8), connectivity=8)
        ridge = skeletonize(lines)
        label = components[ridge]
        pixels = np.bincount(label, minlength=count)
        length = 1.1 * pixels / side  # a step along a diagonal is longer: 1.1 on average over directions
        contrast = np.bincount(label, response[ridge] / 255, minlength=count) / np.maximum(pixels, 1)
        keep = (length >= max(SHORTEST[light], 12 / side)) & (length * contrast >= self.strength * (1 + light))
        if not light:
            keep &= _hair_coloured(smooth, lines, ridge, components)
        keep[0] = False
        for number in np.flatnonzero(keep & (length > 0.06)):
            keep[number] = not _on_rim(np.argwhere((components == number) & ridge), lines.shape)
        return np.asarray(keep[components])


def hair_mask(image: sitk.Image) -> sitk.Image:
    """2D photograph, any pixel type → uint8 mask on its grid, 1 where dark or light hair is."""
    return RemoveHair().mask(image)


def _colours(image: sitk.Image) -> Float32Array:
    return np.asarray(sitk.GetArrayFromImage(Photo(colour=True)(image))[..., :3], np.float32)


def _shrunk(image: sitk.Image) -> sitk.Image:
    """The image, or a copy whose longer side is `WORK` pixels, averaged."""
    if image.GetDimension() != 2:
        raise ImageError(
            f"has {image.GetDimension()} dimensions; hair is removed from 2D photographs only: remove this step",
            code="hair-dimension",
        )
    side = max(image.GetSize())
    if side <= WORK:
        return image
    size = [max(1, round(count * WORK / side)) for count in image.GetSize()]
    array = sitk.GetArrayFromImage(image)
    array = array if array.dtype in (np.uint8, np.float32) else array.astype(np.float32)
    shrunk = cv2.resize(array, size, interpolation=cv2.INTER_AREA)
    return sitk.GetImageFromArray(shrunk, isVector=array.ndim == 3)


def _enlarged(array: Float32Array, shape: tuple[int, ...]) -> Float32Array:
    """Resize an array (y, x[, C]) to the original grid (Y, X)."""
    if array.shape[:2] == tuple(shape[:2]):
        return array
    large = cv2.resize(array, (shape[1], shape[0]), interpolation=cv2.INTER_LINEAR)
    return np.asarray(large, np.float32).reshape(*shape[:2], *array.shape[2:])


def _line_response(grey: ByteArray, width: float) -> tuple[ByteArray, ByteArray]:
    """Difference of a pixel to the brighter sides along a straight line segment, and the line's direction.

    Each direction compares the grey with the pixels at `distance` on both sides, less half of their difference (an edge
    is not a line), and opens the result along the line: dots, mesh and weave are shorter.
    """
    side = max(grey.shape)
    widest = _widest(side, width)
    length = max(9, 2 * round(SEGMENT_LENGTH * side / 2) + 1)
    margin = widest + 1
    padded = cv2.copyMakeBorder(grey, margin, margin, margin, margin, cv2.BORDER_REPLICATE)
    strongest, direction = np.zeros_like(grey), np.zeros_like(grey)
    for number in range(ANGLES):
        angle = np.pi * number / ANGLES
        response = np.zeros_like(grey)
        for distance in {max(2, round(widest / 2)), widest}:
            left, right = _sides(padded, margin, number, distance)
            uneven = np.right_shift(cv2.absdiff(left, right), 1)
            response = cv2.max(response, cv2.subtract(cv2.subtract(cv2.min(left, right), grey), uneven))
        response = cv2.morphologyEx(response, cv2.MORPH_CLOSE, _bar(3, angle))
        response = cv2.morphologyEx(response, cv2.MORPH_OPEN, _bar(length, angle))
        response = cv2.morphologyEx(response, cv2.MORPH_CLOSE, _bar(2 * widest + 1, angle))  # where hairs cross
        direction[response > strongest] = number
        strongest = cv2.max(strongest, response)
    return strongest, direction


def _widest(side: int, width: float) -> int:
    """Distance in pixels from the middle of the thickest hair to the skin at its side."""
    return max(2, round(0.6 * width * side))


def _alone(lines: BoolArray, response: ByteArray, angle: ByteArray, opposite: ByteArray, width: float) -> BoolArray:
    """Lines without those of a mesh or weave, which have opposite lines of half the strength on both sides."""
    side = max(lines.shape)
    widest = _widest(side, width)
    near = cv2.dilate(opposite, _disc(widest))
    rim = widest + 1
    padded = cv2.copyMakeBorder(near, rim, rim, rim, rim, cv2.BORDER_REPLICATE)
    between = np.zeros_like(response)
    for number in range(ANGLES):
        selected = angle == number
        between[selected] = cv2.min(*_sides(padded, widest + 1, number, widest))[selected]
    window = (2 * max(2, round(SEGMENT_LENGTH * side / 2)) + 1,) * 2
    mesh = cv2.blur(np.float32(lines & (between > response // 2)), window)
    return np.asarray(lines & (mesh <= 0.5 * cv2.blur(np.float32(lines), window)))


def _with_soft_edges(hairs: BoolArray, grey: ByteArray, min_contrast: int, width: float) -> BoolArray:
    """Extend detected hair to its soft edges: slightly all around, and further where it is still dark."""
    side = max(hairs.shape)
    dark = cv2.morphologyEx(grey, cv2.MORPH_BLACKHAT, _disc(_widest(side, width))) >= min_contrast
    middle = hairs.astype(np.uint8)
    near, far = (cv2.dilate(middle, _disc(max(1, round(share * side)))) > 0 for share in (0.001, 0.003))
    return np.asarray(near | (far & dark))


def _sides(padded: ByteArray, margin: int, number: int, distance: float) -> tuple[ByteArray, ByteArray]:
    """Values at `distance` pixels on both sides of a line of direction `number`; `padded` is wider by `margin`."""
    angle = np.pi * number / ANGLES
    dy, dx = round(np.cos(angle) * distance), round(-np.sin(angle) * distance)
    height, width = padded.shape[0] - 2 * margin, padded.shape[1] - 2 * margin
    left, right = ((margin + sign * dy, margin + sign * dx) for sign in (1, -1))
    return padded[left[0] :, left[1] :][:height, :width], padded[right[0] :, right[1] :][:height, :width]


def _bar(length: int, angle: float) -> ByteArray:
    """A line through the middle of a square of `length` pixels, as a structuring element."""
    half = length // 2
    bar = np.zeros((length, length), np.uint8)
    dx, dy = round(np.cos(angle) * half), round(np.sin(angle) * half)
    cv2.line(bar, (half - dx, half - dy), (half + dx, half + dy), 1)
    return bar


def _disc(radius: int) -> ByteArray:
    return np.asarray(cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (2 * radius + 1, 2 * radius + 1)), np.uint8)


def _hair_coloured(
    smooth: Float32Array, lines: BoolArray, ridge: BoolArray, components: npt.NDArray[np.int32]
) -> BoolArray:
    """For each component whether it absorbs every colour, like pigment (ink transmits blue, blood red)."""
    side = 2 * max(3, round(0.012 * max(lines.shape))) + 1
    free = 1 - cv2.dilate(lines.astype(np.uint8), _disc(1)).astype(np.float32)
    around = cv2.blur(smooth * free[..., None], (side, side)) / (cv2.blur(free, (side, side))[..., None] + 1e-6)
    density = np.log((around[ridge] + 0.02) / (smooth[ridge] + 0.02))  # (N, 3)
    label, count = components[ridge], int(components.max()) + 1
    red, green, blue = (np.bincount(label, density[:, channel], minlength=count) for channel in range(3))
    highest = np.maximum(np.maximum(red, green), blue)
    return np.asarray((red >= 0.2 * highest) & (blue >= 0.7 * np.maximum(red, green)) & (highest > 0))


def _on_rim(points: npt.NDArray[np.int64], shape: tuple[int, ...]) -> bool:
    """Return whether points (N, 2) lie on a large circle about the image's middle, like the dermoscope's rim."""
    side = max(shape)
    relative = (points - (np.array(shape[:2]) - 1) / 2) / side
    ones = np.ones(len(points))
    (y, x, offset), *_ = np.linalg.lstsq(np.column_stack([2 * relative, ones]), (relative**2).sum(axis=1), rcond=None)
    radius = np.sqrt(max(0.0, offset + y**2 + x**2))
    off = np.hypot(relative[:, 0] - y, relative[:, 1] - x) - radius
    return bool(0.35 < radius < 0.8 and np.hypot(y, x) < 0.15 and np.sqrt((off**2).mean()) < 0.004)


def _fill(pixels: Float32Array, hair: BoolArray) -> Float32Array:
    """Pixels (Y, X, C) with hair replaced by the Gaussian-weighted mean of the skin around it.

    The Gaussian grows until a tenth of its weight is free: the middle of a crossing takes its colour from further away.
    """
    filled, missing = pixels.copy(), hair.copy()
    free = (~hair).astype(np.float32)
    sigma = 1.5
    while missing.any():
        weight = cv2.GaussianBlur(free, (0, 0), sigma)
        mean = cv2.GaussianBlur(pixels * free[..., None], (0, 0), sigma).reshape(pixels.shape)
        now = missing & (weight > (0.1 if sigma < max(hair.shape) / 8 else 0.0))
        filled[now] = mean[now] / weight[now, None]
        missing &= ~now
        sigma *= 1.5
    return filled
