"""Preprocessed cases on disk, memory-mapped, keyed by what made them: files, settings, version."""

from __future__ import annotations

import hashlib
import json
import re
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import SimpleITK as sitk

from medseg.data.cases import Case
from medseg.data.image import grid_difference, read_image, read_mask, to_array
from medseg.errors import ImageError

VERSION = 2
LOCATIONS = 4000  # voxels remembered per label for sampling

Prepare = Callable[[dict[str, sitk.Image]], dict[str, sitk.Image]]
MatchMask = Callable[[sitk.Image, sitk.Image], sitk.Image]


@dataclass(frozen=True)
class CachedCase:
    """A preprocessed case; arrays are opened as memory maps when asked for."""

    name: str
    patient: str
    folder: Path

    def image(self) -> npt.NDArray[np.float16]:
        """(C, Z, Y, X), 0..1."""
        array: npt.NDArray[np.float16] = np.load(self.folder / "image.npy", mmap_mode="r")
        return array

    def mask(self) -> npt.NDArray[np.uint8]:
        """(Z, Y, X), label numbers."""
        array: npt.NDArray[np.uint8] = np.load(self.folder / "mask.npy", mmap_mode="r")
        return array

    def facts(self) -> dict[str, Any]:
        """Spacing, size, label counts, intensities: what the fingerprint is made of."""
        content: dict[str, Any] = json.loads((self.folder / "facts.json").read_text())
        return content

    def locations(self) -> dict[int, npt.NDArray[np.int32]]:
        """Up to `LOCATIONS` voxels (n, 3) of each label, indices z y x."""
        with np.load(self.folder / "locations.npz") as stored:
            return {int(name): stored[name] for name in stored.files}


def cached(case: Case, folder: Path, settings: str, prepare: Prepare, match: MatchMask) -> CachedCase:
    """The case as `prepare` makes it, from the cache where files and settings are the same as before.

    Raises `ImageError` where an image or mask cannot be used or the two do not fit.
    """
    target = folder / _key(case, settings)
    done = CachedCase(case.name, case.patient, target)
    if (target / "facts.json").is_file():
        return done
    target.parent.mkdir(parents=True, exist_ok=True)
    images = {channel: read_image(path) for channel, path in case.images.items()}
    if any(image.GetDimension() > 3 for image in images.values()):
        raise ImageError(
            f"{case.image}: is a 4D sequence; to learn masks from it, save each frame alone", code="image-4d"
        )
    mask = own_mask(case, next(iter(images.values())))
    ready = prepare(images)
    grid = next(iter(ready.values()))
    labels = sitk.GetArrayFromImage(match(mask, grid))
    labels = labels.reshape((-1, *labels.shape[-2:]))  # (Z, Y, X)
    array = np.concatenate([to_array(image) for image in ready.values()])  # (C, Z, Y, X)
    with tempfile.TemporaryDirectory(dir=folder) as temporary:
        part = Path(temporary) / "case"
        part.mkdir()
        np.save(part / "image.npy", array.astype(np.float16))
        np.save(part / "mask.npy", labels.astype(np.uint8))
        np.savez(part / "locations.npz", **_locations(labels))  # type: ignore[arg-type]
        (part / "facts.json").write_text(json.dumps(_facts(images, mask, grid)))
        try:
            part.replace(target)
        except OSError:  # another process made the same one first
            if not (target / "facts.json").is_file():
                raise
    return done


def _key(case: Case, settings: str) -> str:
    digest = hashlib.sha256(f"{VERSION} {settings} {list(case.images)}".encode())
    for path in [*case.images.values(), *([case.mask] if case.mask else [])]:
        for file in sorted(path.rglob("*")) if path.is_dir() else [path, *detached(path)]:
            if file.is_file():
                digest.update(file.read_bytes())
    return digest.hexdigest()[:32]


def detached(path: Path) -> list[Path]:
    """The pixel files that the header of a .mhd or .nrrd names; others have none."""
    if path.suffix.lower() not in (".mhd", ".nrrd") or not path.is_file():
        return []
    head = path.read_bytes()[:4096]
    names = re.findall(rb"(?:ElementDataFile\s*=|data ?file:)\s*([^\r\n]+)", head, re.IGNORECASE)
    return [path.parent / name.decode(errors="replace").strip() for name in names if name.strip() != b"LOCAL"]


def own_mask(case: Case, image: sitk.Image) -> sitk.Image:
    """The mask that the dataset names for a case, on the grid of its image; `ImageError` where there is none."""
    if case.mask is None:
        raise ImageError(f"{case.image}: has no mask in the dataset", code="mask-missing")
    return fitting_mask(case.mask, image, case.image)


def fitting_mask(path: Path, image: sitk.Image, image_path: Path) -> sitk.Image:
    """The mask of `path`, which must lie on the grid of the image; `ImageError` says how far it is off."""
    mask = read_mask(path)
    difference = grid_difference(mask, image)
    if difference:
        raise ImageError(f"{path}: does not lie on the grid of {image_path}: {difference}", code="mask-grid")
    return mask


def _locations(labels: npt.NDArray[np.uint8]) -> dict[str, npt.NDArray[np.int32]]:
    rng = np.random.default_rng(0)
    found = {}
    for label in np.unique(labels[labels > 0]):
        flat = np.flatnonzero(labels == label)
        if len(flat) > LOCATIONS:
            flat = rng.choice(flat, LOCATIONS, replace=False)
        found[str(label)] = np.stack(np.unravel_index(flat, labels.shape), axis=1).astype(np.int32)
    return found


def _facts(images: dict[str, sitk.Image], mask: sitk.Image, grid: sitk.Image) -> dict[str, Any]:
    first = next(iter(images.values()))
    truth = sitk.GetArrayViewFromImage(mask)
    values, counts = np.unique(truth, return_counts=True)
    inside = truth > 0
    intensity = {}
    for channel, image in images.items():
        array = sitk.GetArrayViewFromImage(image)
        pixels = array[inside] if inside.any() else array.reshape(-1)
        low, middle, high = np.percentile(pixels, [0.5, 50, 99.5])
        intensity[channel] = {
            "p0.5": float(low), "median": float(middle), "p99.5": float(high),
            "mean": float(np.mean(pixels)), "sd": float(np.std(pixels)),
        }  # fmt: skip
    return {
        "spacing": list(first.GetSpacing()),
        "size": list(first.GetSize()),
        "network_size": list(grid.GetSize()),
        "voxels": {str(v): int(n) for v, n in zip(values, counts, strict=True)},
        "intensity": intensity,
    }
