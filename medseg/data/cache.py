"""Cache of preprocessed cases on disk, memory-mapped; the key covers files, settings and version."""

from __future__ import annotations

import functools
import hashlib
import json
import shutil
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import SimpleITK as sitk

from medseg.data.cases import Case
from medseg.data.fingerprint import IMAGE_STATS, case_facts
from medseg.data.ground_truth import read_ground_truth
from medseg.errors import ImageError
from medseg.io.detached import detached
from medseg.io.image import read_image, to_array
from medseg.io.labels import Labels
from medseg.utils.files import hash_path, sync

VERSION = 6
DRAFT = ".part-"  # prefix of the folders of unfinished cases
MAX_DRAFT_AGE_S = 86400  # older drafts are left from killed processes
MAX_LOCATIONS = 4000  # voxels remembered per label for sampling

Prepare = Callable[[dict[str, sitk.Image]], dict[str, sitk.Image]]
MatchMask = Callable[[sitk.Image, sitk.Image], sitk.Image]


@dataclass(frozen=True)
class CachedCase:
    """A preprocessed case; arrays are opened as memory maps on access."""

    name: str
    patient: str
    folder: Path

    def image(self) -> npt.NDArray[np.float16]:
        """(C, Z, Y, X), 0..1."""
        array: npt.NDArray[np.float16] = np.load(self.folder / "image.npy", mmap_mode="r")
        return array

    def mask(self) -> npt.NDArray[np.uint8]:
        """(Z, Y, X), coded labels."""
        array: npt.NDArray[np.uint8] = np.load(self.folder / "mask.npy", mmap_mode="r")
        return array

    def facts(self) -> dict[str, Any]:
        """Spacing, size, label counts and intensities, for the fingerprint."""
        content: dict[str, Any] = json.loads((self.folder / "facts.json").read_text(encoding="utf-8"))
        return content

    def locations(self) -> dict[str, npt.NDArray[np.int32]]:
        """Up to `MAX_LOCATIONS` voxels (n, 3) of each label in the mask, indices z y x."""
        with np.load(self.folder / "locations.npz") as stored:
            return {name: stored[name] for name in stored.files}


@dataclass(frozen=True)
class CacheRecipe:
    """How to preprocess a case; `settings` is text that changes whenever the result changes.

    `look` computes the statistics of raw images.
    """

    prepare: Prepare
    match: MatchMask
    labels: Labels
    settings: str
    look: Callable[[sitk.Image], dict[str, float]] | None = None


def load_or_prepare(case: Case, folder: Path, recipe: CacheRecipe) -> CachedCase:
    """The preprocessed case, from the cache where files and settings are unchanged.

    Raises `ImageError` where an image or mask is unusable or their grids differ.
    """
    target = folder / _key(case, recipe)
    done = CachedCase(case.name, case.patient, target)
    if (target / "facts.json").is_file():
        return done
    images = {channel: read_image(path) for channel, path in case.images.items()}
    if any(image.GetDimension() > 3 for image in images.values()):
        raise ImageError(
            f"{case.image}: is a 4D sequence; to train on its masks, save each frame as its own file", code="image-4d"
        )
    truth = read_ground_truth(case, next(iter(images.values())), recipe.labels)
    ready = recipe.prepare(images)
    grid = next(iter(ready.values()))
    coded = sitk.GetArrayFromImage(match_coded(truth.mask, grid, recipe))
    coded = coded.reshape((-1, *coded.shape[-2:]))  # (Z, Y, X)
    array = np.concatenate([to_array(image) for image in ready.values()])  # (C, Z, Y, X)
    facts = case_facts(images, truth, recipe.labels) | {"network_size": list(grid.GetSize())}
    if recipe.look is not None:
        facts[IMAGE_STATS] = {channel: recipe.look(image) for channel, image in images.items()}
    with atomic_directory(target, "facts.json") as draft:
        np.save(draft / "image.npy", array.astype(np.float16))
        np.save(draft / "mask.npy", coded.astype(np.uint8))
        np.savez(draft / "locations.npz", **_locations(coded, recipe.labels))  # type: ignore[arg-type]
        (draft / "facts.json").write_text(json.dumps(facts), encoding="utf-8")
    return done


@contextmanager
def atomic_directory(target: Path, sign: str) -> Iterator[Path]:
    """A folder to fill, which is renamed to `target` when all of it is on the disk.

    If another process was faster, its folder stays; it is complete if it has the file `sign`.
    """
    target.parent.mkdir(parents=True, exist_ok=True)
    _sweep(target.parent)
    with tempfile.TemporaryDirectory(dir=target.parent, prefix=DRAFT, ignore_cleanup_errors=True) as temporary:
        draft = Path(temporary) / "whole"
        draft.mkdir()
        yield draft
        for file in filter(Path.is_file, draft.rglob("*")):
            sync(file)
        try:
            draft.replace(target)
        except OSError:
            if not (target / sign).is_file():  # incomplete: made by hand
                shutil.rmtree(target)
                draft.replace(target)


@functools.cache  # once a process: a large cache takes long to search
def _sweep(folder: Path) -> None:
    """Remove old drafts of killed processes; another process may be doing the same."""
    for old in folder.glob(f"{DRAFT}*"):
        with suppress(FileNotFoundError):
            if time.time() - old.stat().st_mtime > MAX_DRAFT_AGE_S:
                shutil.rmtree(old, ignore_errors=True)


def match_coded(coded: sitk.Image, grid: sitk.Image, recipe: CacheRecipe) -> sitk.Image:
    """Resample a coded mask to another grid; labels that may overlap are resampled one by one."""
    if recipe.labels.exclusive:
        return recipe.match(coded, grid)
    layers = {name: recipe.match(layer, grid) for name, layer in recipe.labels.split(coded).items()}
    return recipe.labels.join_images(layers, grid)


def _key(case: Case, recipe: CacheRecipe) -> str:
    named = {name: path is not None for name, path in case.masks.items()}
    facts = f"{VERSION} {recipe.settings} {recipe.labels} {list(case.images)} {case.values} {named}"
    digest = hashlib.sha256(facts.encode())
    for path in [*case.images.values(), *case.truth_files()]:
        for file in (path, *detached(path)):
            if file.is_file() or file.is_dir():
                digest.update(bytes.fromhex(hash_path(file)))
    return digest.hexdigest()[:32]


def _locations(coded: npt.NDArray[np.uint8], labels: Labels) -> dict[str, npt.NDArray[np.int32]]:
    rng = np.random.default_rng(0)
    by_label = {}
    for name in labels.numbers:
        flat = np.flatnonzero(labels.layer(coded, name))
        if len(flat) > MAX_LOCATIONS:
            flat = rng.choice(flat, MAX_LOCATIONS, replace=False)
        if len(flat):
            by_label[name] = np.stack(np.unravel_index(flat, coded.shape), axis=1).astype(np.int32)
    return by_label
