"""Training patches from the cache. The patch of a number depends only on the seed and that number."""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor
from torch.utils.data import Dataset, Sampler

from medseg.data.augmentation import Augment
from medseg.data.cache import CachedCase
from medseg.io.labels import Labels


class PatchSampling(NamedTuple):
    """How to sample and augment patches; the same seed gives the same patches."""

    foreground: float
    augment: Augment | None
    seed: int
    context: int = 0  # neighbouring slices on each side, as extra channels; 0 beyond the volume


class PatchDataset(Dataset[dict[str, Tensor]]):
    """Patches of `patch` voxels, (Y, X) for slices or (Z, Y, X), from cases.

    A fraction `foreground` of the patches is placed on a labelled voxel: labels are equally frequent, and for a label
    the cases that show it. The others are placed anywhere.
    """

    def __init__(
        self, cases: list[CachedCase], labels: Labels, patch: tuple[int, ...], sampling: PatchSampling
    ) -> None:
        self.patch, self.sampling = patch, sampling
        self.names = [case.name for case in cases]
        self.images = [case.image() for case in cases]
        self.masks = [case.mask() for case in cases]
        self.locations = [case.locations() for case in cases]
        self.known = [[name in case.facts()["known"] for name in labels.numbers] for case in cases]
        self.showing = [
            showing for name in labels.numbers
            if (showing := [(n, name) for n, by_label in enumerate(self.locations) if name in by_label])
        ]  # fmt: skip

    def __getitem__(self, number: int) -> dict[str, Tensor]:
        """{"image": (C, *patch) float, "mask": (*patch) coded long, "known": (K,) bool} of patch `number` ≥ 0.

        For slices, C includes the neighbouring slices.
        """
        rng = np.random.default_rng([self.sampling.seed, number])
        case, centre = self._draw_centre(rng)
        starts = self._start(centre, self.masks[case].shape, rng)
        image = self._crop_image(self.images[case], starts)  # (C, Z, Y, X), or (C·(2·context + 1), Y, X)
        mask = _crop(self.masks[case][None], starts, self._box_size())[0]  # (Z, Y, X)
        if len(self.patch) == 2:
            mask = mask[0]  # (Y, X)
        if self.sampling.augment is not None:
            image, mask = self.sampling.augment(image, mask, rng)
        return {
            "image": torch.from_numpy(image),
            "mask": torch.from_numpy(mask.astype(np.int64)),
            "known": torch.tensor(self.known[case]),
        }

    def named(self, numbers: range) -> str:
        """The cases and positions of patches: ``case_a at z y x 3 40 71, case_b at …``."""
        centres = [self._draw_centre(np.random.default_rng([self.sampling.seed, number])) for number in numbers]
        return ", ".join(f"{self.names[case]} at z y x {' '.join(map(str, centre))}" for case, centre in centres)

    def _crop_image(self, image: npt.NDArray[np.float16], starts: list[int]) -> npt.NDArray[np.float32]:
        box = self._box_size()
        if len(self.patch) == 3:
            return _crop(image, starts, box).astype(np.float32)
        context = self.sampling.context
        slices = _crop(image, [starts[0] - context, *starts[1:]], (2 * context + 1, *box[1:]))
        return slices.reshape(-1, *box[1:]).astype(np.float32)  # (C·(2·context + 1), Y, X)

    def _box_size(self) -> tuple[int, ...]:
        return self.patch if len(self.patch) == 3 else (1, *self.patch)

    def _draw_centre(self, rng: np.random.Generator) -> tuple[int, npt.NDArray[np.int64]]:
        """Draw a case, and the voxel z y x at the centre of its patch."""
        if self.showing and rng.random() < self.sampling.foreground:
            showing = self.showing[int(rng.integers(len(self.showing)))]
            case, name = showing[int(rng.integers(len(showing)))]
            voxels = self.locations[case][name]
            return case, voxels[int(rng.integers(len(voxels)))].astype(np.int64)
        case = int(rng.integers(len(self.images)))
        return case, rng.integers(0, self.masks[case].shape)

    def _start(self, centre: npt.NDArray[np.int64], sizes: tuple[int, ...], rng: np.random.Generator) -> list[int]:
        """First voxel of the box: the centre is anywhere in its middle half; the box is inside the image if it fits."""
        starts = []
        for middle, box, size in zip(centre, self._box_size(), sizes, strict=True):
            start = int(middle) - box // 2 + int(rng.integers(-(box // 4), box // 4 + 1))
            # a box larger than the image may slide until the image touches its edge
            low, high = min(0, size - box), max(0, size - box)
            starts.append(min(max(start, low), high))
        return starts


def _crop(array: npt.NDArray[np.generic], starts: list[int], box: tuple[int, ...]) -> npt.NDArray[np.generic]:
    """(C, *S) → (C, *box) from `starts`; zeros outside the array."""
    sizes = array.shape[1:]
    inner = tuple(slice(max(0, s), min(size, s + b)) for s, b, size in zip(starts, box, sizes, strict=True))
    cropped = np.asarray(array[(slice(None), *inner)])
    if cropped.shape[1:] == box:
        return cropped
    result = np.zeros((array.shape[0], *box), array.dtype)
    target = tuple(slice(i.start - s, i.stop - s) for i, s in zip(inner, starts, strict=True))
    result[(slice(None), *target)] = cropped
    return result


class ResumableSampler(Sampler[int]):
    """Patch numbers of an epoch of `length`: epoch e gives e·length … (e+1)·length − 1, so no patch repeats.

    When training resumes, the numbers below `first` are left out.
    """

    def __init__(self, length: int, first: int = 0) -> None:
        self.length, self.first = length, first
        self.epoch = first // length  # Lightning asks for the first numbers before it says which epoch it is

    def set_epoch(self, epoch: int) -> None:
        """Called by Lightning at the start of each epoch, also after resuming."""
        self.epoch = epoch

    def __len__(self) -> int:
        return self.length

    def __iter__(self) -> Iterator[int]:
        yield from range(max(self.first, self.epoch * self.length), (self.epoch + 1) * self.length)
