"""Where each voxel of a random slab lies in a label map: rotation, scaling, shear and a smooth displacement."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import SimpleITK as sitk
from numpy.typing import NDArray
from scipy import ndimage

from medseg.typing import Float32Array

ROTATION_DEG = 7.0  # standard deviation about each axis; a head is cut off beyond two of them
SCALE = (0.86, 1.16)  # heads of adults differ by ±10 % of the size; children are smaller
SHEAR = 0.06
CONTROL_MM = (22.0, 55.0)  # distance of the random displacements, which are interpolated between
DISPLACEMENT_MM = (0.0, 3.0)  # their standard deviation


@dataclass(frozen=True)
class Slab:
    """Grid of the axial slices of a case: voxels and spacing in mm, z y x; each slice is `samples` thin ones."""

    size: tuple[int, int, int]
    spacing: tuple[float, float, float]
    samples: int

    @property
    def empty(self) -> sitk.Image:
        """An image of this grid, in LPS, its centre at the origin."""
        image = sitk.Image([int(n) for n in self.size[::-1]], sitk.sitkUInt8)
        image.SetSpacing(self.spacing[::-1])
        image.SetOrigin([-(n - 1) / 2 * d for n, d in zip(self.size[::-1], self.spacing[::-1], strict=True)])
        return image


def sample_slab(plane_mm: tuple[tuple[float, float], tuple[float, float]], rng: np.random.Generator) -> Slab:
    """A grid of a width and depth in `plane_mm` (low, high), .7 to 1.5 mm in plane.

    24 to 30 slices of about 1 mm, or in two of five cases 10 to 20 of up to 6 mm.
    """
    plane = float(rng.uniform(0.9, 1.1) if rng.random() < 0.5 else rng.uniform(0.7, 1.5))
    if rng.random() < 0.6:
        thickness, count = float(rng.uniform(0.8, 1.3)), int(rng.integers(24, 31))
    else:
        thickness = float(np.exp(rng.uniform(np.log(1.3), np.log(6.0))))
        count = int(np.clip(60 / thickness, 10, 20))
    width, depth = (float(rng.uniform(*limits)) for limits in plane_mm)
    size = (count, round(depth / plane), round(width / plane))
    return Slab(size, (thickness, plane, plane), max(1, round(thickness)))


def sample_positions(slab: Slab, centre: NDArray[np.float64], rng: np.random.Generator) -> Float32Array:
    """Positions (3, Z·samples, Y, X) in mm z y x of the slab's thin voxels in a head; its middle lies near `centre`."""
    sizes = (slab.size[0] * slab.samples, *slab.size[1:])
    steps = (slab.spacing[0] / slab.samples, *slab.spacing[1:])
    axes = [((np.arange(n) - (n - 1) / 2) * d).astype(np.float32) for n, d in zip(sizes, steps, strict=True)]
    flat = np.stack(np.meshgrid(*axes, indexing="ij"))  # (3, Z·samples, Y, X)
    matrix = _matrix(rng).astype(np.float32)
    moved = np.tensordot(matrix, flat, axes=1) + centre.astype(np.float32)[:, None, None, None]
    spread, control = float(rng.uniform(*DISPLACEMENT_MM)), float(rng.uniform(*CONTROL_MM))
    for axis in range(3):
        moved[axis] += spread * smooth_noise(sizes, tuple(control / d for d in steps), rng)
    return moved


def _matrix(rng: np.random.Generator) -> NDArray[np.float64]:
    """Rotation, shear and scaling, (3, 3)."""
    matrix = np.diag(1 / (rng.uniform(*SCALE) * rng.uniform(0.95, 1.05, 3)))
    matrix += rng.uniform(-SHEAR, SHEAR, (3, 3)) * (1 - np.eye(3))
    for axis, angle in enumerate(np.radians(np.clip(rng.normal(0, ROTATION_DEG, 3), -14, 14))):
        c, s = np.cos(angle), np.sin(angle)
        turn = np.array([[1, 0, 0], [0, c, -s], [0, s, c]])
        matrix = np.roll(turn, (axis, axis), axis=(0, 1)) @ matrix
    return np.asarray(matrix)


def smooth_noise(shape: tuple[int, ...], control: tuple[float, ...], rng: np.random.Generator) -> Float32Array:
    """Gaussian noise (*shape) of standard deviation 1 in each voxel, drawn every `control` voxels and interpolated."""
    coarse = [max(2, int(np.ceil(n / c)) + 1) for n, c in zip(shape, control, strict=True)]
    noise = rng.standard_normal(coarse).astype(np.float32)
    for axis, (n, m) in enumerate(zip(shape, coarse, strict=True)):
        at, step = np.linspace(0, m - 1, n), (m - 1) / max(n - 1, 1)
        hat = np.maximum(1 - np.abs(at[:, None] - np.arange(m)), 0)  # (n, m): linear interpolation
        weights = ndimage.gaussian_filter1d(hat, 0.5 / max(step, 1e-6), axis=0, mode="nearest")  # without kinks
        weights /= np.sqrt((weights**2).sum(axis=1, keepdims=True))  # a weighted sum has the variance of its terms
        summed = np.tensordot(weights.astype(np.float32), noise, axes=(1, axis))
        noise = np.moveaxis(summed, 0, axis).astype(np.float32)
    return noise
