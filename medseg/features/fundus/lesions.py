"""Lesions of a fundus photograph: count, size, quadrant, and distance to fovea and disc."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import numpy.typing as npt
import pandas as pd
import SimpleITK as sitk
from scipy import ndimage

from medseg.features.axial import diameter, regions
from medseg.features.fundus.landmarks import Landmarks, find_landmarks
from medseg.io.geometry import from_array
from medseg.io.labels import Labels
from medseg.preprocess.field_of_view import Fundus
from medseg.typing import BoolArray

LEAST = 0.002  # of the field's width, about 25 µm, the smallest visible lesion: smaller connected components are noise
QUADRANTS = ("superior_nasal", "superior_temporal", "inferior_temporal", "inferior_nasal")  # 90° each, from nasal up
VEIN = (
    1 / 12
)  # disc diameters, 125 µm, a large vein's width at the disc: a red spot as long is a haemorrhage, a smaller one
# a microaneurysm (ETDRS report 10, Ophthalmology 98, 1991)
MACULA = 1.0  # disc diameters from the fovea: exudate inside may mean macular oedema (ETDRS)

UNITS: dict[str, str] = {
    "count": "lesions: connected areas (corners touching) at least 0.2 % of the field's width across",
    "area_percent": "%: area of all lesions of the label over the area of the field of view",
    "count_large": "lesions at least 1/12 disc diameter long: haemorrhages, not microaneurysms (ETDRS report 10)",
    "largest_percent": "%: area of the largest lesion over the area of the field of view; 0 without a lesion",
    **{
        f"count_{name}": "lesions whose centre lies in this quadrant about the axis fovea to disc" for name in QUADRANTS
    },
    "quadrants": "0 … 4: quadrants with at least one lesion",
    "fewest_in_quadrant": "lesions in the quadrant with the fewest",
    "fewest_large_in_quadrant": "of the large ones, in the quadrant with the fewest (ICDR's severe stage asks for more "
    "than 20 haemorrhages in each)",
    "nearest_fovea_dd": "disc diameters from the fovea to the nearest lesion's edge; NaN without a lesion or landmarks",
    "nearest_disc_dd": "disc diameters from the disc's centre to the nearest lesion's edge; NaN likewise",
    "count_macula": "lesions with an edge within one disc diameter of the fovea",
    "disc_dd": "disc diameter over the field's width: the scale that was used",
    "brightness": "mean of the green channel in the quadrant over its mean in the field",
}


def frame_features(image: sitk.Image, mask: sitk.Image, labels: Mapping[str, int] | Labels) -> dict[str, float]:
    """Counts, areas, quadrants and distances of each label; quadrants and distances are NaN without landmarks."""
    field = sitk.GetArrayFromImage(Fundus()(image)) > 0
    landmarks = find_landmarks(image)
    features: dict[str, float] = {}
    for name, inside in regions(sitk.GetArrayViewFromImage(mask), labels):
        features |= {f"{name}.{key}": value for key, value in _of_label(inside, field, landmarks).items()}
    return features


def step_features(image: sitk.Image, mask: sitk.Image, labels: Mapping[str, int] | Labels) -> pd.DataFrame:
    """Lesions and area of each label, one row per quadrant; position_mm: the quadrant's middle in degrees.

    Without landmarks all values are NaN.
    """
    field = sitk.GetArrayFromImage(Fundus()(image)) > 0
    landmarks = find_landmarks(image)
    quadrant = _quadrants(field.shape, landmarks)  # (Y, X), 0 … 3, or −1
    green = sitk.GetArrayViewFromImage(image)
    green = green[..., 1] if green.ndim == 3 else green
    level = float(green[field].mean()) if field.any() else np.nan
    rows = []
    for step in range(len(QUADRANTS)):
        in_quadrant = (quadrant == step) & field
        row: dict[str, float] = {"step": step, "position_mm": 45.0 + 90 * step}
        row["field.brightness"] = (
            float(green[in_quadrant].mean() / level) if in_quadrant.any() and level > 0 else np.nan
        )
        for name, inside in regions(sitk.GetArrayViewFromImage(mask), labels):
            row |= {f"{name}.{key}": value for key, value in _in_quadrant(inside, in_quadrant, field).items()}
        rows.append(row)
    return pd.DataFrame(rows)


def step_regions(image: sitk.Image, _mask: sitk.Image | None = None) -> sitk.Image:
    """Label each step: 1 … 4 in the quadrants of the field, 0 elsewhere; on the image's grid, UInt16."""
    field = sitk.GetArrayFromImage(Fundus()(image)) > 0
    quadrant = _quadrants(field.shape, find_landmarks(image)).astype(np.int16) + 1
    return from_array((quadrant * field).astype(np.uint16), image)


def _of_label(inside: BoolArray, field: BoolArray, landmarks: Landmarks | None) -> dict[str, float]:
    numbers, sizes = _lesions(inside, field)
    total = max(int(field.sum()), 1)
    features = {"count": float(len(sizes)), "area_percent": 100.0 * float(sizes.sum()) / total}
    features["largest_percent"] = 100.0 * float(sizes.max()) / total if len(sizes) else 0.0
    if landmarks is None:
        blank = [key for key in UNITS if key not in (*features, "brightness")]
        return features | dict.fromkeys(blank, np.nan)
    centres = np.array(ndimage.center_of_mass(numbers > 0, numbers, range(1, len(sizes) + 1))).reshape(-1, 2)[:, ::-1]
    _, angle = landmarks.polar(centres)
    quadrant = (angle // 90).astype(int) % 4
    counts = np.bincount(quadrant, minlength=4)
    features |= {f"count_{name}": float(n) for name, n in zip(QUADRANTS, counts, strict=True)}
    windows = enumerate(ndimage.find_objects(numbers), start=1)
    lengths = np.array([diameter(numbers[window] == number) for number, window in windows])
    large = lengths >= VEIN * landmarks.diameter
    features["count_large"] = float(large.sum())
    features["fewest_large_in_quadrant"] = float(np.bincount(quadrant[large], minlength=4).min())
    features |= {"quadrants": float((counts > 0).sum()), "fewest_in_quadrant": float(counts.min())}
    y, x = np.mgrid[: inside.shape[0], : inside.shape[1]]
    for name, (cx, cy) in (("fovea", landmarks.fovea), ("disc", landmarks.disc)):
        distance = np.hypot(x - cx, y - cy)[numbers > 0] / landmarks.diameter
        features[f"nearest_{name}_dd"] = float(distance.min()) if distance.size else np.nan
        if name == "fovea":
            features["count_macula"] = float(len(np.unique(numbers[numbers > 0][distance <= MACULA])))
    width = float(np.ptp(np.flatnonzero(field.any(axis=0)))) + 1
    return features | {"disc_dd": landmarks.diameter / width}


def _lesions(inside: BoolArray, field: BoolArray) -> tuple[npt.NDArray[np.int32], npt.NDArray[np.int64]]:
    """Map of lesions 1 … n (Y, X) and their sizes (n,) in pixels, without noise and pixels outside the field."""
    columns = np.flatnonzero(field.any(axis=0))
    width = float(np.ptp(columns)) + 1 if len(columns) else 1.0
    least = max(1.0, np.pi / 4 * (LEAST * width) ** 2)
    numbers, _ = ndimage.label(inside & field, np.ones((3, 3)))
    sizes = np.bincount(numbers.ravel())
    sizes[0] = 0
    large = np.flatnonzero(sizes >= least)
    order = np.zeros(len(sizes), np.int32)
    order[large] = np.arange(1, len(large) + 1)
    return order[numbers], sizes[large]


def _in_quadrant(inside: BoolArray, quadrant: BoolArray, field: BoolArray) -> dict[str, float]:
    if not quadrant.any():
        return {"count": np.nan, "area_percent": np.nan}
    _, sizes = _lesions(inside & quadrant, field)
    return {"count": float(len(sizes)), "area_percent": 100.0 * float(sizes.sum()) / float(quadrant.sum())}


def _quadrants(shape: tuple[int, ...], landmarks: Landmarks | None) -> npt.NDArray[np.int8]:
    if landmarks is None:
        return np.full(shape, -1, np.int8)
    y, x = np.mgrid[: shape[0], : shape[1]]
    _, angle = landmarks.polar(np.stack([x.ravel(), y.ravel()], axis=1).astype(np.float64))
    return np.asarray((angle // 90).reshape(shape), np.int8)
