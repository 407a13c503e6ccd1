"""How much memory a case takes, said from its header before it is read, and how many tiles at once fit."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psutil
import SimpleITK as sitk

from medseg.data.cases import Case
from medseg.errors import ImageError
from medseg.inference.segmenter import Segmenter
from medseg.io.header import FLOAT_BYTES, ImageHeader, read_image_header
from medseg.io.image import image_suffix
from medseg.io.integrity import verify
from medseg.preprocess.field_of_view import FitFieldOfView
from medseg.preprocess.geometry import Orient, Resample, SliceAxis
from medseg.preprocess.intensity import Window
from medseg.preprocess.resize import Resize
from medseg.segmentation.planner import PREDICTION_VALUES
from medseg.segmentation.postprocessing import FillHoles, KeepLargest, MinimumSize
from medseg.segmentation.sliding_window import TiledNetwork
from medseg.utils.console import say

GB = 1e9
MARGIN = 0.9  # of what is free: other programs want some too
SLABS = 300e6  # bytes: a slab of components, a block of voxels, what libraries load late and allocators keep
SIMPLE = (KeepLargest, FillHoles, MinimumSize)  # rules that need no more than a few bytes a voxel


@dataclass(frozen=True)
class MemoryEstimate:
    """Bytes at the peak beside what the process holds already: of steps that tiles do not change, and of predicting."""

    others: float
    predicting: float
    tile: float
    most: int  # tiles at once that the settings ask for

    def bytes(self, tiles: int) -> float:
        """With so many tiles at once."""
        return max(self.others, self.predicting + self.tile * tiles)

    def tiles(self, room: float) -> int | None:
        """The most tiles at once, by halves of what the settings ask for, that fit; None where one is too many."""
        tiles = self.most
        while tiles > 1 and self.bytes(tiles) > room:
            tiles //= 2
        return tiles if self.bytes(tiles) <= room else None


def estimate_memory(model: Segmenter, headers: Mapping[str, ImageHeader]) -> MemoryEstimate:
    """What one model takes for a case's channels."""
    first = next(iter(headers.values()))
    raw, mask = sum(header.bytes for header in headers.values()), first.voxels * math.prod(first.size[3:])
    sizes = {name: _prepared(model.prepare.steps[name].values(), header) for name, header in headers.items()}
    floats = {name: FLOAT_BYTES * headers[name].values * math.prod(size) for name, size in sizes.items()}
    preparing, ready = 0.0, 0.0
    for name, header in headers.items():
        preparing = max(preparing, ready + _preparing(list(model.prepare.steps[name].values()), header, floats[name]))
        ready += floats[name]
    # a rule holds the mask before it, its own and three binary ones; others make floats of the whole volume
    rules = 0 if not model.after else 6 if all(isinstance(rule, SIMPLE) for rule in model.after) else 14
    labels = (
        0 if model.labels.exclusive else 2 * len(model.labels.numbers)
    )  # each a mask of its own, cleaned and written
    after = first.voxels * (rules + labels)
    predicting, tile, most = _predicting(model, next(iter(sizes.values())), ready)
    others = max(preparing, after + (mask - first.voxels))
    return MemoryEstimate(raw + others + SLABS, raw + predicting + ready + 2 * mask + SLABS, tile, most)


def _predicting(model: Segmenter, size: Sequence[int], ready: float) -> tuple[float, float, int]:
    """Bytes of open planes, or of all probabilities where they are needed at once; of a tile; tiles at once."""
    count = len(model.labels.numbers) + model.labels.exclusive
    whole = FLOAT_BYTES * count * math.prod(size)
    if not isinstance(model.model, TiledNetwork):
        return 3.0 * whole, 0.0, 1
    tiling = model.model.tiling
    shape = [*reversed(size)] if len(size) == 3 else [1, *reversed(size)]  # (z, y, x)
    inner = shape[-len(tiling.patch) :]
    patch = tiling.fitted(inner).patch
    plane = FLOAT_BYTES * (count + 1) * math.prod(max(s, p) for s, p in zip(shape[1:], patch[-2:], strict=True))
    depth = 3 + (
        patch[0] * 1.5 if len(patch) == 3 else tiling.batch / len(tiling.fitted(inner).starts(_full(inner, patch)))
    )
    kept = plane * depth + (3 * whole + ready if model.select.ranks else 0)
    shapes = getattr(model.model.network, "shape", None)
    values = 4 * count + (PREDICTION_VALUES * shapes.width if shapes is not None else 0)
    if model.model.device.type != "cpu":
        values = 2 * count
    return kept, FLOAT_BYTES * math.prod(patch) * values, tiling.batch


def _full(sizes: Sequence[int], patch: Sequence[int]) -> list[int]:
    return [max(size, p) for size, p in zip(sizes, patch, strict=True)]


def _prepared(steps: Any, header: ImageHeader) -> tuple[int, ...]:
    """Size of the network's grid (x, y(, z)); a crop, which is not known before, counts as none."""
    size, spacing = list(header.size[:3]), list(header.spacing[:3])
    axes = sitk.Image([2, 3, 4][: len(size)], sitk.sitkUInt8)  # its sizes tell where each axis goes
    axes.SetDirection(header.direction)
    axes.SetSpacing([n * s / few for n, s, few in zip(size, spacing, axes.GetSize(), strict=True)])
    for step in steps:
        if isinstance(step, Orient | SliceAxis):
            axes = step(axes)
        order = [few - 2 for few in axes.GetSize()]
        if isinstance(step, Resample):
            for axis, target in zip(order, step.spacing, strict=False):
                if target:
                    size[axis] = max(1, round(size[axis] * spacing[axis] / target))
                    spacing[axis] = target
        if isinstance(step, Resize | FitFieldOfView):
            side = step.size if isinstance(step, Resize) else (step.diameter, step.diameter)
            size[order[0]], size[order[1]] = side
    return tuple(size[few - 2] for few in axes.GetSize())


def _preparing(steps: list[Any], header: ImageHeader, ready: float) -> float:
    """Bytes beside the raw images at the peak of preprocessing: copies, floats before and after each step."""
    frame = header.bytes / max(1, math.prod(header.size[3:]))
    turned = header.bytes if header.size[3:] else 0.0  # the frames of a sequence are copies
    turned += 0.0 if _straight(header) else frame
    floats = FLOAT_BYTES * header.values * header.voxels
    peak = turned
    for step in steps:
        if isinstance(step, Resample):
            peak = max(peak, turned + floats + (0 if ready == floats else 2 * ready))
        elif not isinstance(step, Orient | SliceAxis):
            # a step that learns or standardises keeps a copy, a selection, and 64-bit differences
            peak = max(peak, ready * (2 if isinstance(step, Window) else 6))
    return peak


def _straight(header: ImageHeader) -> bool:
    three = len(header.direction) == 9
    return not three or sitk.DICOMOrientImageFilter.GetOrientationFromDirectionCosines(header.direction) == "LPS"


def memory_limit(gigabytes: float | None) -> float:
    """Bytes that this process may take in all: as many as said, else what it has and most of what is free."""
    if gigabytes is not None:
        return gigabytes * GB
    return min(process_rss() + MARGIN * psutil.virtual_memory().available, MARGIN * cgroup_limit())


def cgroup_limit(groups: Path = Path("/sys/fs/cgroup"), own: Path = Path("/proc/self/cgroup")) -> float:
    """Bytes that a container or a job of a cluster may take at most, infinite where nothing bounds it.

    `own` names this process's place among the control groups; each of those above it may have a bound, too. What is
    free on the machine does not tell of them.
    """
    places = {groups / "memory.max", groups / "memory" / "memory.limit_in_bytes"}  # in a container: the root is its own
    with suppress(OSError):
        for line in own.read_text(encoding="utf-8").splitlines():
            _, kinds, path = line.split(":", 2)
            base, name = (groups / "memory", "memory.limit_in_bytes") if kinds else (groups, "memory.max")
            if not kinds or "memory" in kinds.split(","):
                inner = base / path.lstrip("/")
                places |= {place / name for place in (inner, *inner.parents) if place.is_relative_to(base)}
    bounds = []
    for file in places:
        with suppress(OSError, ValueError):  # not there, or "max"
            bounds.append(float(file.read_text(encoding="utf-8")))
    return min(bounds, default=math.inf)


def process_rss() -> float:
    """Bytes that this process has now."""
    return float(psutil.Process().memory_info().rss)


def _needs(models: Mapping[str, Segmenter], case: Case) -> list[MemoryEstimate]:
    headers = {
        channel: header for channel, path in case.images.items() if (header := read_image_header(path)) is not None
    }
    wanted = [[channel for channel in model.channels if channel in headers] for model in models.values()]
    pairs = zip(models.values(), wanted, strict=True)
    return [
        estimate_memory(model, {channel: headers[channel] for channel in channels})
        for model, channels in pairs
        if channels
    ]


def choose_tiling(models: Mapping[str, Segmenter], case: Case, limit: float) -> int | None:
    """How many tiles at once suit a case; None where its header tells nothing. ImageError (too-large), with numbers."""
    needs = _needs(models, case)
    room = limit - process_rss()
    fitting = [need.tiles(room) for need in needs]
    if None in fitting:
        for path in case.images.values():  # a forged size is no reason to buy memory
            if path.is_file():
                verify.verify(path, image_suffix(path))
        least = (max(need.bytes(1) for need in needs) + process_rss()) / GB
        raise ImageError(
            f"{case.image}: needs about {least:.1f} GB of memory even with one tile at once, {limit / GB:.1f} GB may "
            "be used; allow more, close other programs, cut the image, or train on a coarser grid (organ.spacing_mm)",
            code="too-large",
            hint="max_ram=GB",
        )
    return min((tiles for tiles in fitting if tiles is not None), default=None)


def log_memory_estimate(models: Mapping[str, Segmenter], cases: Sequence[Case], limit: float) -> None:
    """Say what the largest case will take."""
    room, base = limit - process_rss(), process_rss()
    needs = {case.name: _needs(models, case) for case in cases}
    takes = {name: max(need.bytes(need.tiles(room) or 1) for need in found) for name, found in needs.items() if found}
    if takes:
        name = max(takes, key=lambda case: takes[case])
        which = f"the largest of {len(cases)} cases, {name}" if len(cases) > 1 else name
        say(f"memory: about {(takes[name] + base) / GB:.2f} GB for {which}; {limit / GB:.1f} GB may be used")
