"""Motion of frames without a mask: displacement along the body axis, brightness, dark fraction, principal components.

The moving region is soft: each pixel is weighted by its variance over time. Frames are matched by weighted normalised
cross-correlation (NCC) of their rows; a parabola through the best three shifts gives sub-row accuracy. One reference
frame is not enough: a frame at full inspiration resembles none at expiration, and static tissue biases the shift
towards zero. So `REFERENCES` frames are chosen along the first principal component, the shift between neighbouring
references gives their positions, and the references that a frame resembles give its position.

Rows run from cranial to caudal: the rows of a 2D frame as they are stored, the superior axis of a volume turned to LPS.
Down is positive, which for a diaphragm is inhaling.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from typing import Any

import numpy as np
import pandas as pd
import SimpleITK as sitk
from scipy import ndimage

from medseg.errors import ImageError
from medseg.features.retrospective import retrospective
from medseg.typing import AnyArray

UNITS: dict[str, str] = {
    "displacement_mm": "mm (pixels where the spacing is 1): caudal shift of the moving region, median 0",
    "match_ncc": "−1..1: the best correlation with a reference; low where a frame looks like none of them",
    "mean": "the image's unit: mean intensity of the moving region",
    "dark_fraction": "0..1: part of the moving region darker than Otsu's threshold (air, in CT and MRI of the chest)",
    "pc1": "standard deviations: score of the first principal component of the moving region over time, its sign such "
    "that it grows with the displacement, or with the dark fraction if it ignores that",
    "pc2": "standard deviations: the second component likewise",
    "pc3": "standard deviations: the third component likewise",
}

PREFIX = "motion."  # of every column
REFERENCES = 8
COMPONENTS = 3
WIDTH = 64
"""Axes beside the rows are averaged down to at most this many voxels; 3D frames would not fit into memory otherwise."""


@retrospective
def motion_features(
    frames: Sequence[sitk.Image], names: Sequence[str] = ("displacement_mm", "pc1"), reach: float = 0.15
) -> pd.DataFrame:
    """One row a frame, in order, columns ``motion.<feature>``.

    frames: 2D or 3D images of one grid, at least two. names: keys of `UNITS`; by default the two that rose with
    inhaling in all three people measured; brightness, dark fraction and further modes rose in one, fell in another.
    reach: largest shift searched between two frames, as a fraction of their rows. A blank frame, or one that looks like
    no other, is NaN. Raises ImageError for unfit frames.
    """
    unknown = [measure for measure in names if measure not in UNITS]
    if unknown:
        raise ImageError(
            f"motion has no feature {unknown[0]!r}; choose from {', '.join(UNITS)}", code="feature-undefined"
        )
    whole, spacing = _stack(frames)  # (T, R, C)
    filled = np.flatnonzero(np.ptp(whole, axis=(1, 2)) > 0)
    if len(filled) < 2:
        raise ImageError(f"of {len(frames)} frames {len(filled)} are not blank; motion needs two", code="image-blank")
    stack = whole[filled]
    weight = _moving_region(stack)  # (R, C), sums to 1
    scores = _principal_components(stack, weight)
    displacement, match = _place(stack, weight, scores[0], max(1, round(reach * stack.shape[1])))
    inside = weight * weight.size > 0.99  # more than its even share; all of it where nothing moves
    dark = (stack < _otsu(stack[:, inside])).astype(np.float32)
    dark_fraction = np.einsum("trc,rc->t", dark, weight)
    features = {
        "displacement_mm": displacement * spacing,
        "match_ncc": match,
        "mean": np.einsum("trc,rc->t", stack, weight),
        "dark_fraction": dark_fraction,
    }
    for number, score in enumerate(scores, start=1):
        features[f"pc{number}"] = _oriented(score, np.nan_to_num(displacement), dark_fraction)
    table = pd.DataFrame({f"{PREFIX}{measure}": features[measure] for measure in names}, index=filled)
    return table.reindex(range(len(frames)))


def _stack(frames: Sequence[sitk.Image]) -> tuple[AnyArray, float]:
    """Frames as (T, R, C), rows from cranial to caudal and everything beside them in C, and the row spacing in mm."""
    sizes = sorted({frame.GetSize() for frame in frames})
    if len(frames) < 2 or len(sizes) != 1 or len(sizes[0]) not in (2, 3):
        raise ImageError(
            f"motion needs at least two 2D or 3D frames of one size, got {len(frames)} of sizes {sizes}; "
            "split a 4D file into its frames, and give x·y·t files as 2D frames",
            code="no-sequence",
        )
    if len(sizes[0]) == 2:
        arrays = [_narrow(sitk.GetArrayFromImage(frame)) for frame in frames]
        return np.stack(arrays), frames[0].GetSpacing()[1]
    turned = (sitk.DICOMOrient(frame, "LPS") for frame in frames)
    arrays = [_narrow(sitk.GetArrayFromImage(frame)[::-1]) for frame in turned]
    return np.stack(arrays), sitk.DICOMOrient(frames[0], "LPS").GetSpacing()[2]


def _narrow(array: np.ndarray[Any, Any]) -> AnyArray:
    """Average all axes but the first down to at most `WIDTH`, then flatten them: (R, C)."""
    for axis in range(1, array.ndim):
        starts = np.unique(np.linspace(0, array.shape[axis], WIDTH, endpoint=False).astype(int))
        counts = np.diff([*starts, array.shape[axis]])
        shape = [-1 if a == axis else 1 for a in range(array.ndim)]
        array = np.add.reduceat(array.astype(np.float32), starts, axis=axis) / counts.reshape(shape).astype(np.float32)
    return array.reshape(len(array), -1).astype(np.float32)  # (R, C)


def _moving_region(stack: AnyArray) -> AnyArray:
    """Weights (R, C) that sum to 1: variance over time, smoothed along the rows; equal where nothing moves."""
    weight: AnyArray = ndimage.gaussian_filter1d(stack.var(axis=0), sigma=2, axis=0)
    if not weight.any():
        return np.full_like(weight, 1 / weight.size)
    return np.asarray(weight / weight.sum())


def _place(stack: AnyArray, weight: AnyArray, score: AnyArray, reach: int) -> tuple[AnyArray, AnyArray]:
    """Position of each frame in rows (T,), caudal positive, median 0, and its best NCC (T,); NaN without a match.

    score: (T,) the first principal component, along which the references are spread evenly.
    """
    low, high = np.percentile(score, [2, 98])
    levels = np.linspace(float(low), float(high), REFERENCES)
    references = sorted({int(np.abs(score - level).argmin()) for level in levels}, key=lambda t: float(score[t]))
    shifts, ncc = zip(*(_match(stack, stack[t], weight, reach) for t in references), strict=True)
    positions = [0.0]
    for k, (current, following) in enumerate(pairwise(references)):
        # the mean of the forward and the backward match
        positions.append(positions[-1] + float(shifts[k][following] - shifts[k + 1][current]) / 2)
    likeness = np.clip(ncc, 1e-3, 1) ** 32  # (K, T): a high power, so that only the best matches count
    frame_positions = (likeness * (np.array(positions)[:, None] + np.array(shifts))).sum(axis=0) / likeness.sum(axis=0)
    match = np.max(ncc, axis=0)
    alike = match > 0
    middle = np.median(frame_positions[alike]) if alike.any() else 0
    return np.where(alike, frame_positions - middle, np.nan), match


def _match(stack: AnyArray, reference: AnyArray, weight: AnyArray, reach: int) -> tuple[AnyArray, AnyArray]:
    """Shift in rows (T,) of each frame against one reference, and its NCC (T,)."""
    ncc = np.stack([_ncc_at(stack, reference, weight, shift) for shift in range(-reach, reach + 1)])  # (shifts, T)
    best, t = ncc.argmax(axis=0), np.arange(len(stack))
    inner = best.clip(1, len(ncc) - 2)
    left, peak, right = ncc[inner - 1, t], ncc[inner, t], ncc[inner + 1, t]
    curve = left - 2 * peak + right
    bent = (best == inner) & (curve < 0)
    fraction = np.where(bent, (left - right) / np.where(bent, 2 * curve, 1), 0)
    return best - reach + fraction, ncc[best, t]


def _ncc_at(stack: AnyArray, reference: AnyArray, weight: AnyArray, shift: int) -> AnyArray:
    """Weighted NCC (T,) of reference rows r with rows r + shift of every frame, over the rows both have."""
    height = len(reference)
    r0, r1 = max(0, -shift), min(height, height - shift)
    w = weight[r0:r1] / max(float(weight[r0:r1].sum()), 1e-12)
    a, b = reference[r0:r1], stack[:, r0 + shift : r1 + shift]
    mean_a, mean_b = float((w * a).sum()), np.einsum("trc,rc->t", b, w)
    wa = w * (a - mean_a)
    covariance = np.einsum("trc,rc->t", b, wa)
    variance = np.einsum("trc,trc,rc->t", b, b, w) - mean_b**2
    scale = np.sqrt(np.maximum(variance * float((wa * a).sum()), 0))
    ncc: AnyArray = np.divide(covariance, scale, out=np.zeros_like(covariance), where=scale > 0)
    return ncc


def _otsu(values: AnyArray) -> float:
    """Otsu's threshold of all values."""
    otsu = sitk.OtsuThresholdImageFilter()
    otsu.Execute(sitk.GetImageFromArray(values.reshape(1, -1)))
    return float(otsu.GetThreshold())


def _principal_components(stack: AnyArray, weight: AnyArray) -> list[AnyArray]:
    """Scores (T,) of the first components of the weighted frames, of standard deviation 1 (0 where there is none)."""
    rows = ((stack - stack.mean(axis=0)) * np.sqrt(weight)).reshape(len(stack), -1)  # (T, N)
    values, vectors = np.linalg.eigh(rows @ rows.T)  # ascending
    rounding = 1e-9 * float(np.einsum("trc,trc,rc->", stack, stack, weight))
    scores = [vectors[:, -k] for k in range(1, len(values) + 1) if values[-k] > rounding][:COMPONENTS]
    missing = [np.zeros(len(stack))] * (COMPONENTS - len(scores))
    return [_unit(score) for score in (*scores, *missing)]


def _unit(score: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
    deviation = score.std()
    return (score - score.mean()) / deviation if deviation > 1e-9 else np.zeros_like(score)


def _oriented(score: AnyArray, displacement: AnyArray, dark: AnyArray) -> AnyArray:
    """The score, turned to rise with the displacement, or with the dark fraction where it ignores the displacement."""
    agreement = [float((_unit(score) * _unit(anchor)).mean()) for anchor in (displacement, dark)]
    return -score if next((r for r in agreement if abs(r) >= 0.1), 0) < 0 else score
