"""What other scanners and cameras do to an image, by name; masks are transformed alike. Used by disturb.py.

A disturbance is (image, mask, rng) → a list of (image, mask), of SimpleITK images; labels of the mask are numbers.
"""

# ruff: noqa: ARG001  # all disturbances have one signature; few are random

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import cv2
import numpy as np
import SimpleITK as sitk

from medseg.io.geometry import from_array
from medseg.preprocess.field_of_view import Body

Pair = tuple[sitk.Image, sitk.Image]
Disturbance = Callable[[sitk.Image, sitk.Image, np.random.Generator], list[Pair]]


def unchanged(image: sitk.Image, mask: sitk.Image, rng: np.random.Generator) -> list[Pair]:
    return [(image, mask)]


# CT, (Z, Y, X) in HU


def _arrays(image: sitk.Image, mask: sitk.Image) -> tuple[np.ndarray, np.ndarray]:
    return sitk.GetArrayFromImage(image).astype(np.float32), sitk.GetArrayFromImage(mask)


def _hu(values: np.ndarray, like: sitk.Image) -> sitk.Image:
    return from_array(np.rint(values).astype(np.int16), like)


def _distance(shape: tuple[int, ...]) -> np.ndarray:
    """Distance of each pixel (Y, X) from the middle, in half widths."""
    y, x = np.indices(shape[-2:]).astype(np.float32)
    return np.hypot(y - (shape[-2] - 1) / 2, x - (shape[-1] - 1) / 2) / (min(shape[-2:]) / 2)


def padding(image: sitk.Image, mask: sitk.Image, rng: np.random.Generator, hu: float) -> list[Pair]:
    """Padding outside the round field of the scanner."""
    values, _ = _arrays(image, mask)
    values[..., _distance(values.shape) > 1] = hu
    return [(_hu(values, image), mask)]


def circular_field(image: sitk.Image, mask: sitk.Image, rng: np.random.Generator, radius: float) -> list[Pair]:
    """A round field smaller than the body, −2000 HU around it."""
    values, labels = _arrays(image, mask)
    beyond = _distance(values.shape) > radius
    values[..., beyond], labels[..., beyond] = -2000, 0
    return [(_hu(values, image), from_array(labels, mask))]


def _around(image: sitk.Image) -> np.ndarray:
    """Everything outside the body, a voxel away from it."""
    body = sitk.GetArrayFromImage(sitk.BinaryDilate(Body()(image), [2, 2, 0])) > 0
    return ~body


def other_air(image: sitk.Image, mask: sitk.Image, rng: np.random.Generator, hu: float, noise: float) -> list[Pair]:
    """Other air and no couch around the body."""
    values, _ = _arrays(image, mask)
    around = _around(image)
    values[around] = (hu + rng.normal(0, 1, values.shape) * noise)[around]
    return [(_hu(values, image), mask)]


def couch(image: sitk.Image, mask: sitk.Image, rng: np.random.Generator) -> list[Pair]:
    """A couch below the body: a shell of 100 HU with foam of −930 HU, the whole width."""
    values, _ = _arrays(image, mask)
    around = _around(image)
    rows = np.flatnonzero((~around).any((0, 2)))
    y = np.arange(values.shape[1])[None, :, None]
    top = min(rows[-1] + 2, values.shape[1] - 12)
    values[around & (y >= top) & (y < top + 10)] = -930
    values[around & ((y == top) | (y == top + 10))] = 100
    return [(_hu(values, image), mask)]


def shift(image: sitk.Image, mask: sitk.Image, rng: np.random.Generator, hu: float) -> list[Pair]:
    return [(_hu(_arrays(image, mask)[0] + hu, image), mask)]


def noise(image: sitk.Image, mask: sitk.Image, rng: np.random.Generator, hu: float) -> list[Pair]:
    values, _ = _arrays(image, mask)
    return [(_hu(values + rng.normal(0, hu, values.shape), image), mask)]


def kernel(image: sitk.Image, mask: sitk.Image, rng: np.random.Generator, sharpen: float) -> list[Pair]:
    """A sharp reconstruction kernel (overshoot `sharpen`), or a smooth one (below 0: that share of blur)."""
    values, _ = _arrays(image, mask)
    smooth = np.stack([cv2.GaussianBlur(plane, (0, 0), 1.2) for plane in values])
    return [(_hu(values + sharpen * (values - smooth), image), mask)]


def _resampled(image: sitk.Image, mask: sitk.Image, spacing: list[float]) -> Pair:
    size = [max(1, round(n * s / t)) for n, s, t in zip(image.GetSize(), image.GetSpacing(), spacing, strict=True)]
    smooth = [
        t / 2.355 if t > s else 0.0 for s, t in zip(image.GetSpacing(), spacing, strict=True)
    ]  # mm: a slice's width
    blurred = sitk.DiscreteGaussian(sitk.Cast(image, sitk.sitkFloat32), [max(1e-6, s**2) for s in smooth])
    grid = (size, sitk.Transform())
    shared = (image.GetOrigin(), spacing, image.GetDirection())
    fine = sitk.Resample(blurred, *grid, sitk.sitkLinear, *shared, -1000.0)
    coarse = sitk.Resample(mask, *grid, sitk.sitkNearestNeighbor, *shared, 0)
    return sitk.Cast(sitk.Round(fine), sitk.sitkInt16), coarse


def thick_slices(image: sitk.Image, mask: sitk.Image, rng: np.random.Generator, mm: float) -> list[Pair]:
    return [_resampled(image, mask, [*image.GetSpacing()[:2], mm])]


def pixel_size(image: sitk.Image, mask: sitk.Image, rng: np.random.Generator, mm: float) -> list[Pair]:
    """Another pixel size, stated in the header."""
    return [_resampled(image, mask, [mm, mm, image.GetSpacing()[2]])]


def lost_spacing(image: sitk.Image, mask: sitk.Image, rng: np.random.Generator, factor: float) -> list[Pair]:
    """A header with a wrong pixel size, as after a conversion: `factor` times the true one."""
    pair = sitk.Image(image), sitk.Image(mask)
    for made in pair:
        made.SetSpacing([s * factor for s in made.GetSpacing()[:2]] + [made.GetSpacing()[2]])
    return [pair]


def _with_labels(mask: sitk.Image, least: int) -> list[int]:
    """Slices in which each label has `least` pixels."""
    labels = sitk.GetArrayFromImage(mask)
    numbers = [n for n in np.unique(labels) if n]
    enough = np.all([(labels == n).sum((1, 2)) >= least for n in numbers], 0)
    return [int(z) for z in np.flatnonzero(enough)]


def single_slices(image: sitk.Image, mask: sitk.Image, rng: np.random.Generator, count: int) -> list[Pair]:
    """Axial slices as images of their own, without neighbours, that show every label."""
    numbers = _with_labels(mask, 200)
    chosen = [numbers[i] for i in np.linspace(0, len(numbers) - 1, count).astype(int)]
    return [(image[:, :, z], mask[:, :, z]) for z in chosen]


def slab(image: sitk.Image, mask: sitk.Image, rng: np.random.Generator, count: int) -> list[Pair]:
    """Neighbouring slices in the middle of the labels."""
    numbers = _with_labels(mask, 200)
    first = numbers[len(numbers) // 2]
    return [(image[:, :, first : first + count], mask[:, :, first : first + count])]


def crop(image: sitk.Image, mask: sitk.Image, rng: np.random.Generator, inside: float) -> list[Pair]:
    """A crop that loses the fraction `inside` of the labels' box on each side in plane: they reach the edge."""
    rows, columns = (np.flatnonzero(sitk.GetArrayViewFromImage(mask).any(axes)) for axes in ((0, 2), (0, 1)))
    windows = []
    for line in (columns, rows):
        cut = round(inside * (line[-1] - line[0]))
        windows.append(slice(int(line[0]) + cut, int(line[-1]) + 1 - cut))
    return [(image[windows[0], windows[1]], mask[windows[0], windows[1]])]


def foreign_slices(
    image: sitk.Image, mask: sitk.Image, rng: np.random.Generator, count: int, field: float
) -> list[Pair]:
    """Single slices as public sets have them: 512² pixels without a size, a round field, padding, a couch and noise.

    `field`: side of the field as a multiple of the body's longer side; below 1 the body reaches the edge.
    """
    pairs = []
    for one, labels in single_slices(*couch(image, mask, rng)[0], rng, count):
        low, size = _body_box(one)
        middle, side = low + size / 2, field * size.max()
        step = side / 512 * one.GetSpacing()[0]
        origin = one.TransformContinuousIndexToPhysicalPoint([float(v) for v in middle - side / 2])
        grid = ((512, 512), sitk.Transform())
        place = (origin, (step, step), one.GetDirection())
        fine = sitk.Resample(sitk.Cast(one, sitk.sitkFloat32), *grid, sitk.sitkLinear, *place, -1000.0)
        coded = sitk.GetArrayFromImage(sitk.Resample(labels, *grid, sitk.sitkNearestNeighbor, *place, 0))
        values = sitk.GetArrayFromImage(fine) + rng.normal(0, 20, (512, 512))
        beyond = _distance(values.shape) > 1
        values[beyond], coded[beyond] = -2000, 0
        pairs.append((sitk.GetImageFromArray(np.rint(values).astype(np.int16)), sitk.GetImageFromArray(coded)))
    return pairs


def _body_box(image: sitk.Image) -> tuple[np.ndarray, np.ndarray]:
    """First pixel and size, x y, of the body in a slice."""
    inside = np.argwhere(sitk.GetArrayViewFromImage(Body()(image)) > 0)[:, ::-1]
    return inside.min(0), inside.max(0) - inside.min(0) + 1


# photographs (Y, X, 3) and ultrasound (Y, X), 8 bits


def _pixels(change: Callable[[np.ndarray, np.random.Generator], np.ndarray]) -> Disturbance:
    """A disturbance of values alone, from a function of (Y, X[, 3]) in 0..255."""

    def disturbed(image: sitk.Image, mask: sitk.Image, rng: np.random.Generator) -> list[Pair]:
        values = change(sitk.GetArrayFromImage(image).astype(np.float32), rng)
        return [(from_array(values.clip(0, 255).astype(np.uint8), image), mask)]

    return disturbed


def _vignette(values: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    return values * (1 - 0.6 * (_distance(values.shape[:2]) / np.sqrt(2)).clip(0, 1) ** 2)[..., None]


def _frame(values: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    return np.where((_distance(values.shape[:2]) > 1.05)[..., None], 5, values)


def _ruler(values: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    values, (height, width) = values.copy(), values.shape[:2]
    step = max(3, width // 40)
    for number, x in enumerate(range(step, width - step, step)):
        length = height // 12 if number % 5 == 0 else height // 24
        values[height - length :, x : x + max(1, width // 250)] = 30
    return values


def _sticker(values: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    values, (height, width) = values.copy(), values.shape[:2]
    cv2.circle(values, (int(0.97 * width), int(0.12 * height)), int(0.16 * min(height, width)), (40, 90, 200), -1)
    return values


def _jpeg(values: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    _, code = cv2.imencode(".jpg", values.clip(0, 255).astype(np.uint8), [cv2.IMWRITE_JPEG_QUALITY, 30])
    return cv2.imdecode(code, cv2.IMREAD_UNCHANGED).astype(np.float32)


def zoom(image: sitk.Image, mask: sitk.Image, rng: np.random.Generator, share: float) -> list[Pair]:
    """The middle `share` of each side; the labels' middle stays in it."""
    starts, sizes = [], [max(2, round(share * n)) for n in image.GetSize()[:2]]
    labels = np.argwhere(sitk.GetArrayViewFromImage(mask) > 0)
    middle = labels.mean(0)[::-1] if len(labels) else np.array(image.GetSize()[:2]) / 2
    for axis in (0, 1):
        start = round((image.GetSize()[axis] - sizes[axis]) / 2)
        low, high = middle[axis] - 0.75 * sizes[axis], middle[axis] - 0.25 * sizes[axis]
        start = int(np.clip(start, low, high))
        starts.append(int(np.clip(start, 0, image.GetSize()[axis] - sizes[axis])))
    return [tuple(sitk.RegionOfInterest(one, sizes, starts) for one in (image, mask))]  # type: ignore[list-item]


def letterbox(image: sitk.Image, mask: sitk.Image, rng: np.random.Generator, share: float) -> list[Pair]:
    """Black bars left and right, each `share` of the width."""
    bar = [round(share * image.GetSize()[0]), 0]
    return [(sitk.ConstantPad(image, bar, bar, 0), sitk.ConstantPad(mask, bar, bar, 0))]


def callipers(image: sitk.Image, mask: sitk.Image, rng: np.random.Generator) -> list[Pair]:
    """Crosses at the ends of the labels' box, a dotted line between them, and text in a corner."""
    values = sitk.GetArrayFromImage(image)
    points = np.argwhere(sitk.GetArrayViewFromImage(mask) > 0)
    if len(points):
        ends = [points[points[:, 1].argmin()][::-1], points[points[:, 1].argmax()][::-1]]
        for end in ends:
            cv2.drawMarker(values, [int(v) for v in end], (230,) * 3, cv2.MARKER_CROSS, 9, 1)
        for part in np.linspace(0, 1, 20):
            x, y = (ends[0] + part * (ends[1] - ends[0])).astype(int)
            values[y, x] = 230
    cv2.putText(values, "D1 12.4mm", (4, values.shape[0] - 6), cv2.FONT_HERSHEY_SIMPLEX, 0.35, (230,) * 3, 1)
    return [(from_array(values, image), mask)]


KINDS: dict[str, dict[str, Disturbance]] = {
    "ct": {
        "none": unchanged,
        "padding -2000": partial(padding, hu=-2000),
        "padding -3024": partial(padding, hu=-3024),
        "circular field": partial(circular_field, radius=0.6),
        "air -1000, no couch": partial(other_air, hu=-1000, noise=0),
        "air -950": partial(other_air, hu=-950, noise=15),
        "couch": couch,
        "HU +50": partial(shift, hu=50),
        "HU -50": partial(shift, hu=-50),
        "noise 30": partial(noise, hu=30),
        "sharp kernel": partial(kernel, sharpen=1.0),
        "smooth kernel": partial(kernel, sharpen=-1.0),
        "slices 5 mm": partial(thick_slices, mm=5.0),
        "single slices": partial(single_slices, count=10),
        "slab of 5": partial(slab, count=5),
        "pixels .6 mm": partial(pixel_size, mm=0.6),
        "pixels 1.3 mm": partial(pixel_size, mm=1.3),
        "spacing x .7": partial(lost_spacing, factor=0.7),
        "spacing x 1.4": partial(lost_spacing, factor=1.4),
        "crop": partial(crop, inside=0.05),
        "foreign slices": partial(foreign_slices, count=10, field=1.1),
        "foreign slices, tight": partial(foreign_slices, count=10, field=0.95),
    },
    "photo": {
        "none": unchanged,
        "warm cast": _pixels(lambda values, _: values * (1.15, 1.0, 0.75)),
        "cold cast": _pixels(lambda values, _: values * (0.85, 1.0, 1.15)),
        "dark": _pixels(lambda values, _: values * 0.6),
        "vignette": _pixels(_vignette),
        "black frame": _pixels(_frame),
        "ruler": _pixels(_ruler),
        "sticker": _pixels(_sticker),
        "JPEG 30": _pixels(_jpeg),
        "zoom 1.4": partial(zoom, share=0.7),
    },
    "ultrasound": {
        "none": unchanged,
        "gain x 1.5": _pixels(lambda values, _: values * 1.5),
        "gain x .6": _pixels(lambda values, _: values * 0.6),
        "letterbox": partial(letterbox, share=0.2),
        "callipers": callipers,
        "depth x .75": partial(zoom, share=0.75),
        "JPEG 30": _pixels(_jpeg),
    },
}
