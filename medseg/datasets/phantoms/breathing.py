"""Breathing: a deformation that fills the lungs of any chest CT, and respiratory traces that drive it."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import SimpleITK as sitk
from numpy.typing import NDArray
from scipy.ndimage import gaussian_filter1d

from medseg.datasets.phantoms.canvas import smoothstep
from medseg.errors import ImageError
from medseg.io.geometry import from_array
from medseg.typing import FloatArray

Shares = tuple[sitk.Image, sitk.Image]  # fraction of each voxel in the right and in the left lung (float32, 0 to 1)
REST_PER_S = 0.1  # share of a breath per second; growing slower than that is the pause, not inhalation
GRID_MM = 10.0  # the field varies over centimetres; it is computed on this grid and interpolated


@dataclass(frozen=True)
class BreathingField:
    """Position of the lungs and their motion from end-exhale (amplitude 0) to end-inhale (1); all in mm, LPS.

    The forward displacement at rest position X is amplitude · v(X). v_z falls from 0 at the apex to -diaphragm at the
    dome, stays so through the costophrenic recess and fades in the abdomen; it fades towards the chest wall and the
    spine, which do not slide. v_y lifts the anterior wall, v_x widens the ribs; the table does not move.
    """

    centre: tuple[float, float]  # x, y of the middle of both lungs
    radii: tuple[float, float]  # half width and half depth of both lungs
    apex: float
    dome: float
    base: float
    diaphragm: float
    anterior: float
    lateral: float

    def displacement(self, points: FloatArray, amplitude: float) -> FloatArray:
        """Forward displacement (..., 3) in mm of rest points (..., 3) in mm."""
        x = (points[..., 0] - self.centre[0]) / self.radii[0]
        y = (points[..., 1] - self.centre[1]) / self.radii[1]
        z = points[..., 2]
        depth = smoothstep(z, self.apex, self.dome) * smoothstep(z, self.base - 250, self.base - 10)
        inside = 1 - smoothstep(np.hypot(x, y), 0.65, 1.5)
        spine = np.exp(-((x / 0.28) ** 2) - (np.maximum(0.9 - y, 0) / 0.45) ** 2)
        off_table = 1 - smoothstep(y, 0.9, 1.35)
        rise = 0.3 + 0.7 * smoothstep(z, self.apex, self.dome)
        move = np.stack(
            [
                self.lateral * np.tanh(1.5 * x) * off_table * rise,
                -self.anterior * smoothstep(y, 0.9, -1.0) * (1 - smoothstep(np.abs(x), 1.1, 1.9)) * rise,
                -self.diaphragm * depth * inside * (1 - spine),
            ],
            axis=-1,
        )
        out: FloatArray = amplitude * move
        return out


def fit_field(
    mask: sitk.Image, diaphragm_mm: float = 15.0, anterior_mm: float = 4.0, lateral_mm: float = 2.0
) -> BreathingField:
    """The breathing field of a chest whose lungs at end-exhale are `mask` (1 right, 2 left; axes close to LPS).

    The dome is where, around the middle of a lung seen from above, its lower surface is highest.
    Raises ImageError (mask-lung-missing, axes-oblique) when a lung is missing or the axes are oblique.
    """
    if not np.allclose(np.abs(mask.GetDirection()), np.eye(3).ravel(), atol=0.1):
        raise ImageError(
            f"the axes must be close to the patient's, but the direction is {mask.GetDirection()}; reorient the image",
            code="axes-oblique",
        )
    array = sitk.GetArrayViewFromImage(mask)  # (Z, Y, X)
    domes, corners = [], []
    for label in (1, 2):
        points = _points(mask, np.argwhere(array == label)[:, ::-1])  # (N, 3)
        if not len(points):
            raise ImageError(f"the mask has no voxel of lung {label}; 1 is right, 2 is left", code="mask-lung-missing")
        corners += [points.min(axis=0), points.max(axis=0)]
        off_middle = np.hypot(*(points[:, :2] - points[:, :2].mean(axis=0)).T)
        near = points[off_middle < 0.3 * np.ptp(points[:, 0])]
        lowest: dict[tuple[float, float], float] = {}
        for x, y, z in near[np.argsort(-near[:, 2])]:
            lowest[x, y] = z  # the last one written is the lowest of its column
        domes.append(float(np.percentile(list(lowest.values()), 90)))
    low, high = np.min(corners, axis=0), np.max(corners, axis=0)
    centre, radii = (low + high) / 2, (high - low) / 2
    return BreathingField(
        centre=(float(centre[0]), float(centre[1])),
        radii=(float(radii[0]), float(radii[1])),
        apex=float(high[2]),
        dome=max(domes),
        base=float(low[2]),
        diaphragm=diaphragm_mm,
        anterior=anterior_mm,
        lateral=lateral_mm,
    )


def _points(image: sitk.Image, indices: NDArray[np.integer]) -> FloatArray:
    """Indices (N, 3) in x, y, z order to physical mm (N, 3)."""
    matrix = np.array(image.GetDirection()).reshape(3, 3) * np.array(image.GetSpacing())
    points: FloatArray = indices @ matrix.T + np.array(image.GetOrigin())
    return points


def soften(mask: sitk.Image) -> Shares:
    """The shares of a drawn mask, its voxel steps smoothed over 0.8 voxel; Dice with the mask itself is above .99.

    Without this a dome drawn in steps stands still until it has moved by half a voxel, then jumps.
    """
    sigma = [0.8 * spacing for spacing in mask.GetSpacing()]
    right, left = (sitk.SmoothingRecursiveGaussian(sitk.Cast(mask == n, sitk.sitkFloat32), sigma) for n in (1, 2))
    return right, left


def harden(shares: Shares) -> sitk.Image:
    """The mask (uint8, 1 right, 2 left) of voxels that are more than half in a lung."""
    right, left = (sitk.Cast(share > 0.5, sitk.sitkUInt8) for share in shares)
    return sitk.Maximum(right, 2 * left)


def deform(image: sitk.Image, shares: Shares, field: BreathingField, amplitude: float) -> tuple[sitk.Image, sitk.Image]:
    """The frame at `amplitude`: image (HU, float32) and mask (uint8, 1 right, 2 left), pulled back through the field.

    Lung density follows the *local* volume change (Jacobian), because the bases fill more than the apices and a
    global ratio would make one too dark and the other too bright. Blood and nodules are not thinned by air, so voxels
    fade out of the correction above -600 HU; what that leaves over is shared out by one factor, so that the mass of
    the lungs, the sum of (HU + 1000) over their voxels, is the same in every frame.
    """
    pull, ratio = _pull_back(image, field, amplitude)
    # outside the scan the border values continue, so that no air appears below a deep exhalation
    moved = sitk.Resample(image, image, pull, sitk.sitkLinear, -1000.0, sitk.sitkFloat32, True)
    labels = _pull_labels(shares, pull, 1.5 * abs(amplitude) * field.diaphragm)
    inside = sitk.GetArrayViewFromImage(labels) > 0
    rest = sitk.GetArrayViewFromImage(image)[sitk.GetArrayViewFromImage(harden(shares)) > 0]
    mass = float(np.maximum(rest.astype(np.float64) + 1000, 0).sum())
    hu = sitk.GetArrayFromImage(moved)
    density = np.maximum(hu[inside] + 1000, 0)
    aerated = density * np.clip((600 - density) / 200, 0, 1)
    thinned = aerated * sitk.GetArrayFromImage(ratio)[inside]
    solid = density - aerated
    factor = (mass - solid.sum(dtype=np.float64)) / max(thinned.sum(dtype=np.float64), 1.0)
    hu[inside] = solid + thinned * factor - 1000
    out = from_array(hu, moved)
    return out, labels


def _pull_back(image: sitk.Image, field: BreathingField, amplitude: float) -> tuple[sitk.Transform, sitk.Image]:
    """The map from the frame back to rest, and its Jacobian (rest volume over frame volume) on the image's grid.

    The inverse u of the forward field solves u(x) = -a·v(x + u(x)); the iteration contracts because |a·v'| < 1.
    """
    spacing, count = np.array(image.GetSpacing()), np.array(image.GetSize())
    size = np.maximum(np.ceil(spacing * count / GRID_MM).astype(int) + 1, 3)
    coarse = sitk.Image([int(n) for n in size], sitk.sitkFloat64)
    coarse.SetOrigin(image.GetOrigin())
    coarse.SetDirection(image.GetDirection())
    coarse.SetSpacing(tuple(spacing * np.maximum(count - 1, 1) / (size - 1)))
    indices = np.moveaxis(np.indices(size[::-1]), 0, -1)[..., ::-1]  # (Z, Y, X, 3) as x, y, z
    points = _points(coarse, indices)  # (Z, Y, X, 3)
    back = np.zeros_like(points)
    for _ in range(8):
        back = -field.displacement(points + back, amplitude)
    # d(x + u)/dx along the grid's own axes; the direction has determinant +-1, so |det| is the volume ratio
    slopes = np.stack([np.gradient(points + back, d, axis=2 - i) for i, d in enumerate(coarse.GetSpacing())], axis=-1)
    ratio = sitk.GetImageFromArray(np.abs(np.linalg.det(slopes)))
    vectors = sitk.GetImageFromArray(back, isVector=True)
    for coarse_image in (ratio, vectors):
        coarse_image.CopyInformation(coarse)
    full = sitk.Resample(ratio, image, sitk.Transform(), sitk.sitkLinear, 1.0, sitk.sitkFloat32)
    return sitk.DisplacementFieldTransform(vectors), full


def _pull_labels(shares: Shares, pull: sitk.Transform, reach: float) -> sitk.Image:
    """Each share resampled and cut at one half, within `reach` mm of the box around the lung at rest (for speed)."""
    out = np.zeros(shares[0].GetSize()[::-1], np.uint8)  # (Z, Y, X)
    for label, share in enumerate(shares, start=1):
        indices = np.argwhere(sitk.GetArrayViewFromImage(share) > 0.5)[:, ::-1]  # x, y, z
        margin = np.ceil(reach / np.array(share.GetSpacing())).astype(int) + 1
        low = np.maximum(indices.min(axis=0) - margin, 0).tolist()
        high = np.minimum(indices.max(axis=0) + margin + 1, share.GetSize()).tolist()
        box = tuple(slice(start, stop) for start, stop in zip(low, high, strict=True))
        resampled = sitk.Resample(share, share[box], pull, sitk.sitkLinear, 0.0, sitk.sitkFloat32)
        out[box[::-1]][sitk.GetArrayViewFromImage(resampled) > 0.5] = label
    return from_array(out, shares[0])


def synthetic_trace(rng: np.random.Generator, times: FloatArray) -> FloatArray:
    """A respiratory signal at `times` (s): 0 at end-exhale, about 1 at end-inhale, without noise.

    Each breath is a cos^(2n) that dwells at end-exhale (Lujan et al., Med Phys 26:715, 1999), n of 1 to 2, its peak
    moved forward because inhaling is quicker. Periods vary around a patient's own within 2.5 to 6 s, depths by about
    12 %, and the base line drifts.
    """
    typical = rng.uniform(2.9, 5.2)
    power = rng.uniform(1.0, 2.0)
    fast = rng.uniform(0.36, 0.48)  # share of the breath spent on inhaling
    start = times[0] - rng.uniform(0, typical)
    out = np.zeros(len(times))
    while start < times[-1]:
        period = float(np.clip(typical * rng.normal(1, 0.08), 2.5, 6.0))
        depth = float(np.clip(rng.normal(1, 0.12), 0.6, 1.4))
        phase = (times - start) / period
        now = (phase >= 0) & (phase < 1)
        # the peak lies at phase `fast`, not in the middle
        bent = np.where(phase < fast, phase / (2 * fast), 0.5 + (phase - fast) / (2 * (1 - fast)))
        out[now] = depth * np.sin(np.pi * bent[now]) ** (2 * power)
        start += period
    drift = rng.uniform(0, 0.06) * np.sin(2 * np.pi * (times / rng.uniform(20, 60) + rng.uniform()))
    return np.asarray(out + drift, np.float64)


def breathing_states(signal: FloatArray, step_s: float) -> list[str]:
    """`inhale` where the air grows, else `exhale`; the pause at end-exhale, however it wavers, is exhale.

    signal: (T,) normalised and free of noise, larger is more air, every `step_s` seconds.
    """
    return ["inhale" if slope > REST_PER_S else "exhale" for slope in np.gradient(signal, step_s)]


def orient_trace(signal: FloatArray, step_s: float) -> FloatArray:
    """Flip the trace if needed so that larger is more air: people pause at end-exhale, so slow samples must be low.

    Skewness alone fails on talking; the position of the slowest quarter of samples within the local range (15 s)
    does not. A heuristic: a breath-hold at full inhalation would fool it.
    """
    smooth = gaussian_filter1d(signal, 0.3 / step_s)
    base = gaussian_filter1d(smooth, 5.0 / step_s)
    speed = np.abs(np.gradient(smooth, step_s))
    slow = speed <= np.quantile(speed, 0.25)
    return signal if float(np.mean((smooth - base)[slow])) <= 0 else -signal
