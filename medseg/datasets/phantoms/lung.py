"""Synthetic chest CT with known right and left lungs, volume and breathing phase; nothing here comes from a patient."""

from __future__ import annotations

import csv
import json
from pathlib import Path

import numpy as np
import SimpleITK as sitk
from scipy.ndimage import gaussian_filter

from medseg.datasets.phantoms.breathing import Shares, breathing_states, deform, fit_field, harden, synthetic_trace
from medseg.datasets.phantoms.canvas import Canvas
from medseg.datasets.phantoms.chest import paint_abdomen, paint_airways, paint_bones, paint_mediastinum, paint_outside
from medseg.datasets.phantoms.lung_anatomy import Anatomy, lungs, sample_anatomy
from medseg.datasets.phantoms.vessels import paint_vessels
from medseg.io.geometry import from_array
from medseg.io.image import write_image
from medseg.typing import Float32Array

LABELS = {"right_lung": 1, "left_lung": 2}
STEP_S = 0.4  # between frames; a breath of 4 s is then ten frames, as in a clinical 4DCT
COLUMNS = ("case", "patient", "image", "mask", "label", "frame", "time", "signal")
# in-plane spacing and slice distance in mm (low, high), and branches of the vessel tree per lung
SIZES: dict[str, tuple[tuple[float, float], tuple[float, float], int]] = {
    "tiny": ((9.8, 10.6), (14.5, 16.0), 40),
    "small": ((3.5, 5.0), (5.0, 8.0), 220),
    "medium": ((1.9, 2.2), (2.8, 3.2), 450),
}


def make_cohort(folder: Path, patients: int, seed: int, frames: int = 10, size: str = "small") -> Path:
    """Write a synthetic dataset (cases.csv, images/, masks/, phantom.json) and return its folder.

    With frames > 1 every case is a breathing sequence, one row per frame: `signal` is 0 at end-exhale and about 1 at
    end-inhale, `label` is inhale while it grows, `time` is in s. With frames = 1 a case is one static CT somewhere in
    the breath, and label, frame, time and signal stay empty. Patient i depends on `seed` and i alone.
    """
    rows: list[dict[str, object]] = []
    for number in range(patients):
        rng = np.random.default_rng([seed, number])
        case = f"lung{number:03d}"
        rest, shares = static_phantom(sample_anatomy(rng), rng, size)
        field = fit_field(harden(shares), rng.uniform(10, 22), rng.uniform(2, 6), rng.uniform(1, 3))
        for row, amplitude in _schedule(rng, frames):
            name = f"{case}/frame_{row['frame']:03d}.nii.gz" if row else f"{case}.nii.gz"
            image, labels = deform(rest, shares, field, amplitude)
            image = add_noise(image, rng)
            paths = {"image": f"images/{name}", "mask": f"masks/{name}"}
            for key, content in (("image", image), ("mask", labels)):
                write_image(content, folder / paths[key])
            rows.append({"case": case, "patient": case, **paths, **row})
    with (folder / "cases.csv").open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, COLUMNS, lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows)
    facts = {"synthetic": True, "organ": "lung", "seed": seed, "patients": patients, "frames": frames, "size": size}
    (folder / "phantom.json").write_text(json.dumps(facts) + "\n", encoding="utf-8")
    return folder


def _schedule(rng: np.random.Generator, frames: int) -> list[tuple[dict[str, object], float]]:
    """Per frame its table entries and its amplitude."""
    if frames == 1:
        return [({}, float(rng.uniform(0, 1)))]
    fine = 8  # states come from the slope at the frame's moment, not between frames
    times = np.arange(frames * fine) * STEP_S / fine
    signal = synthetic_trace(rng, times)
    states = breathing_states(signal, STEP_S / fine)
    schedule: list[tuple[dict[str, object], float]] = []
    for frame, at in enumerate(range(0, len(times), fine)):
        amplitude = float(signal[at])
        row = {"label": states[at], "frame": frame, "time": round(float(times[at]), 3), "signal": round(amplitude, 4)}
        schedule.append((row, amplitude))
    return schedule


def lung_phantom(
    rng: np.random.Generator, amplitude: float = 0.0, anatomy: Anatomy | None = None, size: str = "small"
) -> tuple[sitk.Image, sitk.Image]:
    """One CT (int16 HU) and its mask (uint8, LABELS) at a breathing amplitude, 0 end-exhale to 1 end-inhale."""
    rest, shares = static_phantom(anatomy or sample_anatomy(rng), rng, size)
    image, mask = deform(rest, shares, fit_field(harden(shares)), amplitude)
    return add_noise(image, rng), mask


def static_phantom(anatomy: Anatomy, rng: np.random.Generator, size: str) -> tuple[sitk.Image, Shares]:
    """A patient at end-exhale without noise: image (float32 HU) and the share of each lung in each voxel."""
    canvas = _canvas(anatomy, rng, size)
    paint_outside(canvas, anatomy, rng)
    paint_bones(canvas, anatomy)
    paint_abdomen(canvas, anatomy, rng)
    paint_mediastinum(canvas, anatomy)
    sides = lungs(canvas.body, anatomy)
    both = np.minimum(*sides)
    canvas.paint(both, _parenchyma(canvas, anatomy, rng))
    tissue = canvas.hu.copy()
    for side, distance in zip((-1.0, 1.0), sides, strict=True):
        paint_vessels(canvas, anatomy, rng, side, distance < 0, SIZES[size][2])
    if anatomy.nodule:
        at = canvas.voxel_centres(rng.choice(np.argwhere(both < -anatomy.nodule)))
        canvas.capsule(at, at, anatomy.nodule * anatomy.scale, 30.0)
    # vessels and nodule belong to the lung: what was painted outside is undone
    canvas.hu = tissue + canvas.coverage(both) * (canvas.hu - tissue)
    free = 1 - paint_airways(canvas, anatomy)
    # the ramp is several voxels wide, so that a share can be resampled and still cross one half at the surface
    ramp = anatomy.scale / (4 * max(canvas.spacing))
    right, left = (canvas.image(np.clip(0.5 - distance * ramp, 0, 1) * free) for distance in sides)
    return canvas.image(canvas.hu), (right, left)


def _canvas(anatomy: Anatomy, rng: np.random.Generator, size: str) -> Canvas:
    plane, slices, _ = SIZES[size]
    spacing = float(rng.uniform(*plane))
    thick = float(rng.uniform(*slices))
    wide = 410.0 if size == "tiny" else 2 * anatomy.scale * (anatomy.width + 65) + (90 if anatomy.arms else 0)
    tall = anatomy.scale * (anatomy.height + anatomy.dome_drop * 1.6 + 50)
    n = 40 if size == "tiny" else int(np.ceil(wide / spacing / 8)) * 8
    nz = 20 if size == "tiny" else int(np.ceil(tall / thick))
    middle = anatomy.scale * (anatomy.height - anatomy.dome_drop * 1.6) / 2
    offset = (rng.uniform(-10, 10), rng.uniform(-10, 10), -middle + rng.uniform(-5, 5))
    return Canvas((n, n, nz), (spacing, spacing, thick), offset, anatomy.turn, anatomy.scale)


def _parenchyma(canvas: Canvas, anatomy: Anatomy, rng: np.random.Generator) -> Float32Array:
    """HU of the lung itself: denser where it hangs (supine, so posterior), patchy, emptied by emphysema."""
    shape = canvas.hu.shape
    sigma = [9.0 / d for d in canvas.spacing[::-1]]
    patches = gaussian_filter(rng.standard_normal(shape).astype(np.float32), sigma)
    patches /= patches.std() + 1e-6
    gravity = rng.uniform(0.25, 0.6) * canvas.body.y  # HU per mm
    hollow = anatomy.emphysema * np.clip(patches - 0.3, 0, 1.5) * np.clip(canvas.body.z / anatomy.height + 0.2, 0, 1)
    return np.asarray(np.maximum(anatomy.lung_hu + gravity + 14 * patches - hollow, -985), np.float32)


def add_noise(image: sitk.Image, rng: np.random.Generator) -> sitk.Image:
    """The image as a scanner would store it: int16 HU, noise of 8 to 30 HU correlated over neighbours in a slice."""
    hu = sitk.GetArrayFromImage(image)
    noise = gaussian_filter(rng.standard_normal(hu.shape).astype(np.float32), (0, 0.55, 0.55))
    hu += noise * np.float32(rng.uniform(8, 30) / noise.std())
    return from_array(np.clip(np.rint(hu), -1024, 3071).astype(np.int16), image)
