"""Scale intensities to 0..1, the range of augmentation and networks."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import SimpleITK as sitk

from medseg.errors import DataError, ImageError, MedsegError
from medseg.io.geometry import from_array, require_same_grid
from medseg.preprocess.geometry import as_float
from medseg.typing import Float32Array

Field = Callable[[sitk.Image], sitk.Image]  # image → uint8 mask on its grid, 1 inside


class Window:
    """Clip to `low`..`high` (HU in CT) and scale to 0..1."""

    def __init__(self, low: float, high: float) -> None:
        if not low < high:
            raise ValueError(f"window {low}..{high}: low must be below high")
        self.low, self.high = float(low), float(high)

    def __call__(self, image: sitk.Image) -> sitk.Image:
        """Image of any intensity → 32-bit image in 0..1; ImageError (image-channels) for colour."""
        channels = image.GetNumberOfComponentsPerPixel()
        if channels > 1:
            raise ImageError(
                f"has {channels} values per pixel, an intensity window needs one; save one channel",
                code="image-channels",
            )
        return sitk.IntensityWindowing(as_float(image), self.low, self.high, 0.0, 1.0)


class Percentiles:
    """Clip to two percentiles of the image itself and scale to 0..1; a constant image becomes 0."""

    def __init__(self, low: float = 0.5, high: float = 99.5) -> None:
        if not 0 <= low < high <= 100:
            raise ValueError(f"percentiles {low}..{high}: need 0 <= low < high <= 100")
        self.low, self.high = float(low), float(high)

    def __call__(self, image: sitk.Image) -> sitk.Image:
        """Image of any intensity → 32-bit image in 0..1."""
        low, high = np.percentile(sitk.GetArrayViewFromImage(image), [self.low, self.high])
        if high <= low:
            return sitk.Cast(image, sitk.sitkFloat32) * 0.0
        return Window(float(low), float(high))(image)


class ZScore:
    """Mean 0 and standard deviation 1 inside `field` (None: the whole image), then −clip..clip scaled to 0..1.

    The mean becomes 0.5 and outside the field everything is 0. Components of a vector image are scaled one by one, a
    constant one becomes 0.5. `clip` is in standard deviations: 5, because a bright tumour lies at 4 to 5 in FLAIR.
    """

    def __init__(self, field: Field | None = None, clip: float = 5.0) -> None:
        if not clip > 0:
            raise ValueError(f"clip={clip}: must be above 0 standard deviations")
        self.field, self.clip = field, float(clip)

    def __call__(self, image: sitk.Image) -> sitk.Image:
        """Image of any intensity → 32-bit image in 0..1; ImageError (field-empty) if the field is empty."""
        array = sitk.GetArrayFromImage(image).astype(np.float32, copy=False)  # ([Z,] Y, X[, C]), our own
        inside = inside_field(image, self.field)  # ([Z,] Y, X)
        values = array[inside]  # (N,) or (N, C)
        mean, sd = values.mean(axis=0, dtype=np.float64), values.std(axis=0, dtype=np.float64)
        scale = np.where(sd > 1e-6 * np.maximum(np.abs(mean), 1e-30), 1 / np.maximum(sd, 1e-30), 0.0)
        del values
        array -= mean.astype(np.float32)
        array *= scale.astype(np.float32)
        array /= 2 * self.clip
        array += 0.5
        np.clip(array, 0, 1, out=array)
        array[~inside] = 0
        return like_image(array, image)


class Photo:
    """Photographs and screenshots of any pixel type → 0..1 by the type's range; 3 components if `colour`, else 1.

    uint8 is divided by 255; other integers by the maximum of the smallest of 8, 12 or 16 bits that fits, because 12-bit
    cameras write 16-bit files; floats within 0..1 stay, others are scaled by their own range. Alpha is blended with
    black. With `colour` grey is repeated; without it, colours whose components agree within 3 of 255 (JPEG artefacts
    of grey) become their mean.
    """

    def __init__(self, colour: bool) -> None:
        self.colour = colour

    def __call__(self, image: sitk.Image) -> sitk.Image:
        """Grey, grey + alpha, RGB or RGBA → 32-bit image in 0..1; ImageError (image-channels) for other channels."""
        channels = image.GetNumberOfComponentsPerPixel()
        if channels > 4:
            raise ImageError(
                f"has {channels} channels, not 1 to 4 (grey or RGB, each with alpha); save it as RGB or grey",
                code="image-channels",
            )
        array = sitk.GetArrayViewFromImage(image)
        array = array[..., None] if channels == 1 else array  # ([Z,] Y, X, C)
        values = _unit_range(array[..., :-1] if channels in (2, 4) else array)
        if channels in (2, 4):
            values = values * _unit_alpha(array[..., -1:])
        if self.colour:
            return like_image(np.repeat(values, 3, axis=-1) if values.shape[-1] == 1 else values, image)
        return like_image(_grey(values), image)


class Nyul:
    """Map the histogram landmarks of an image to those of the training images (Nyúl and Udupa 1999).

    The outermost `percentiles` inside `field` are mapped to 0.1 and 0.9, the landmarks between to their mean
    positions in the training images. Between landmarks the map is linear; beyond, it continues with the slope of the
    last interval and is clipped to 0..1. Outside the field everything is 0. Needs fitting.
    """

    def __init__(
        self, field: Field | None = None, percentiles: Sequence[float] = (1, 10, 20, 30, 40, 50, 60, 70, 80, 90, 99)
    ) -> None:
        rising = [float(value) for value in percentiles]
        if len(rising) < 2 or sorted(set(rising)) != rising or rising[0] < 0 or rising[-1] > 100:
            raise ValueError(f"percentiles {rising}: need at least two, rising, within 0..100")
        self.field, self.percentiles = field, rising
        self.standard: Float32Array | None = None  # of each percentile, 0.1..0.9

    def fit(self, images: Iterable[sitk.Image]) -> dict[str, Any]:
        """Training images, one at a time → {"landmarks": [...]}; DataError (nyul-constant) if all are constant."""
        standardised = []
        for image in images:
            marks = self._landmarks(image)[1]
            if marks[-1] > marks[0]:
                standardised.append(0.1 + 0.8 * (marks - marks[0]) / (marks[-1] - marks[0]))
        if not standardised:
            raise DataError("all training images are constant, so there are no landmarks", code="nyul-constant")
        return {"landmarks": [float(value) for value in np.mean(standardised, axis=0)]}

    def restore(self, state: dict[str, Any]) -> None:
        """Restore the result of `fit`; MedsegError (step-state) if it was fitted with other percentiles."""
        landmarks = np.asarray(state["landmarks"], np.float32)
        if len(landmarks) != len(self.percentiles):
            raise MedsegError(
                f"{len(landmarks)} landmarks were fitted, but the step has {len(self.percentiles)} percentiles; "
                "use the percentiles it was trained with",
                code="step-state",
            )
        self.standard = landmarks

    def __call__(self, image: sitk.Image) -> sitk.Image:
        """Image of one channel → 32-bit image in 0..1; a constant image becomes 0."""
        if self.standard is None:
            raise MedsegError("Nyul is not fitted; fit it on training images first", code="step-unfitted")
        inside, marks = self._landmarks(image)
        array = sitk.GetArrayFromImage(image).astype(np.float32, copy=False)
        result = np.zeros_like(array)
        if marks[-1] > marks[0]:
            # equal landmarks (many voxels of one value) are separated by a tiny step
            tiny = (marks[-1] - marks[0]) * 1e-6 * np.arange(len(marks))
            result[inside] = np.clip(_piecewise(array[inside], marks + tiny, self.standard), 0, 1)
        return like_image(result, image)

    def _landmarks(self, image: sitk.Image) -> tuple[npt.NDArray[np.bool_], npt.NDArray[np.float64]]:
        """Mask of the field, and the intensities at its percentiles."""
        channels = image.GetNumberOfComponentsPerPixel()
        if channels > 1:
            raise ImageError(
                f"has {channels} channels; landmarks need one: use ZScore for colour", code="image-channels"
            )
        inside = inside_field(image, self.field)
        marks = np.percentile(sitk.GetArrayViewFromImage(image)[inside], self.percentiles)
        return inside, np.asarray(marks, np.float64)


def inside_field(image: sitk.Image, field: Field | None) -> npt.NDArray[np.bool_]:
    """Mask of the field, ([Z,] Y, X); all True without one. ImageError: field-empty, field-grid."""
    if field is None:
        return np.ones(image.GetSize()[::-1], np.bool_)
    mask = field(image)
    require_same_grid(mask, image, "the field is not on the image's grid", "", code="field-grid")
    inside: npt.NDArray[np.bool_] = sitk.GetArrayFromImage(mask) > 0
    if not inside.any():
        raise ImageError(
            "the field has no voxel: the image is blank or its object was not detected; check the image, "
            "or use the step without a field",
            code="field-empty",
        )
    return inside


def like_image(array: npt.NDArray[np.floating], image: sitk.Image) -> sitk.Image:
    """An array ([Z,] Y, X[, C]) as a 32-bit image with the geometry of `image`."""
    return from_array(array.astype(np.float32, copy=False), image)


def _piecewise(values: Float32Array, marks: npt.NDArray[np.float64], standard: Float32Array) -> Float32Array:
    """Map linearly between landmarks; beyond, with the slope of the last interval."""
    slopes = np.diff(standard) / np.diff(marks)
    moved = np.interp(values, marks, standard)
    moved += np.minimum(values - marks[0], 0) * slopes[0] + np.maximum(values - marks[-1], 0) * slopes[-1]
    return np.asarray(moved, np.float32)


def _unit_range(array: npt.NDArray[Any]) -> Float32Array:
    """Colours of any type in 0..1, all components with the same range, so that hues stay."""
    low, high = float(array.min()), float(array.max())
    if low >= 0 and (array.dtype == np.uint8 or (np.issubdtype(array.dtype, np.integer) and high <= 65535)):
        return np.asarray(array.astype(np.float32) / np.float32(_full_scale(array.dtype, high)), np.float32)
    if low >= 0 and high <= 1:
        return array.astype(np.float32)
    return ((array.astype(np.float64) - low) / max(high - low, 1e-30)).astype(np.float32)


def _unit_alpha(alpha: npt.NDArray[Any]) -> Float32Array:
    """Opacity in 0..1; the most opaque pixel of a float image beyond 1 is fully opaque."""
    high = float(alpha.max())
    full = _full_scale(alpha.dtype, high) if np.issubdtype(alpha.dtype, np.integer) else max(high, 1.0)
    return np.asarray(np.clip(alpha.astype(np.float32) / np.float32(full), 0, 1), np.float32)


def _full_scale(dtype: np.dtype[Any], high: float) -> float:
    return 255.0 if dtype == np.uint8 else next((full for full in (255.0, 4095.0, 65535.0) if high <= full), high)


def _grey(values: Float32Array) -> Float32Array:
    """Colours ([Z,] Y, X, C) as one component ([Z,] Y, X), if they are grey."""
    if values.shape[-1] == 1:
        return values[..., 0]
    difference = float(np.ptp(values, axis=-1).max())
    if difference > 3.5 / 255:
        raise ImageError(
            f"is a colour image (components differ by up to {difference * 255:.0f} of 255), but grey is needed; "
            "save it as grey, or train a model for colour with organ.colour_channels=3",
            code="image-channels",
        )
    return np.asarray(values.mean(axis=-1), np.float32)
