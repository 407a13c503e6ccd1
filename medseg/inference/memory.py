"""Estimate a case's memory from its header before it is read, and how many tiles fit at once."""

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
from medseg.segmentation.within_field import WithinField
from medseg.utils.console import say

GB = 1e9
FREE_FRACTION = 0.9  # of the free memory that may be used: other programs need some, too
OVERHEAD = 300e6  # bytes: slabs of connected components, blocks of voxels, libraries and allocators
LOW_MEMORY_STEPS = (KeepLargest, FillHoles, MinimumSize, WithinField)  # that need only a few bytes per voxel


@dataclass(frozen=True)
class MemoryEstimate:
    """Peak bytes in addition to the process's current memory: of steps without tiles, and of prediction."""

    others: float
    predicting: float
    tile: float
    max_tiles: int  # tiles at once in the settings

    def bytes(self, tiles: int) -> float:
        """Peak bytes with so many tiles at once."""
        return max(self.others, self.predicting + self.tile * tiles)

    def tiles(self, room: float) -> int | None:
        """The largest number of tiles at once that fits, found by halving `max_tiles`; None if one does not fit."""
        tiles = self.max_tiles
        while tiles > 1 and self.bytes(tiles) > room:
            tiles //= 2
        return tiles if self.bytes(tiles) <= room else None


def estimate_memory(model: Segmenter, headers: Mapping[str, ImageHeader], kept: int = 0) -> MemoryEstimate:
    """Estimate the memory of one model for a case's channels; `kept`: float32 volumes on the input's grid."""
    first = next(iter(headers.values()))
    raw, mask = sum(header.bytes for header in headers.values()), first.voxels * math.prod(first.size[3:])
    sizes = {name: _prepared(model.prepare.steps[name].values(), header) for name, header in headers.items()}
    floats = {name: FLOAT_BYTES * headers[name].values * math.prod(size) for name, size in sizes.items()}
    preparing, ready = 0.0, 0.0
    for name, header in headers.items():
        preparing = max(preparing, ready + _preparing(list(model.prepare.steps[name].values()), header, floats[name]))
        ready += floats[name]
    # a step stores its input, its output and three binary masks; others convert the whole volume to floats
    step_bytes = 0 if not model.after else 6 if all(isinstance(rule, LOW_MEMORY_STEPS) for rule in model.after) else 14
    labels = 0 if model.labels.exclusive else 2 * len(model.labels.numbers)  # each label has its own mask
    after = first.voxels * (step_bytes + labels)
    predicting, tile, max_tiles = _predicting(model, next(iter(sizes.values())), ready)
    others = max(preparing, after + (mask - first.voxels))
    base = raw + OVERHEAD + FLOAT_BYTES * kept * mask
    return MemoryEstimate(base + others, base + predicting + ready + 2 * mask, tile, max_tiles)


def _predicting(model: Segmenter, size: Sequence[int], ready: float) -> tuple[float, float, int]:
    """Bytes of open planes, or of all probabilities if they are needed at once; bytes of a tile; tiles at once."""
    count = len(model.labels.numbers) + model.labels.exclusive
    total = FLOAT_BYTES * count * math.prod(size)
    if not isinstance(model.model, TiledNetwork):
        return 3.0 * total, 0.0, 1
    tiling = model.model.tiling
    shape = [*reversed(size)] if len(size) == 3 else [1, *reversed(size)]  # (z, y, x)
    inner = shape[-len(tiling.patch) :]
    patch = tiling.fitted(inner).patch
    plane = FLOAT_BYTES * (count + 1) * math.prod(max(s, p) for s, p in zip(shape[1:], patch[-2:], strict=True))
    depth = 3 + (
        patch[0] * 1.5 if len(patch) == 3 else tiling.batch / len(tiling.fitted(inner).starts(_full(inner, patch)))
    )
    open_planes = plane * depth + (3 * total + ready if model.select.ranks else 0)
    shapes = getattr(model.model.network, "shape", None)
    values = 4 * count + (PREDICTION_VALUES * shapes.width if shapes is not None else 0)
    if model.model.device.type != "cpu":
        values = 2 * count
    return open_planes, FLOAT_BYTES * math.prod(patch) * values, tiling.batch


def _full(sizes: Sequence[int], patch: Sequence[int]) -> list[int]:
    return [max(size, p) for size, p in zip(sizes, patch, strict=True)]


def _prepared(steps: Any, header: ImageHeader) -> tuple[int, ...]:
    """Size of the network's grid (x, y(, z)); unknown crops are ignored."""
    size, spacing = list(header.size[:3]), list(header.spacing[:3])
    axes = sitk.Image([2, 3, 4][: len(size)], sitk.sitkUInt8)  # distinct sizes identify the axes after reorientation
    axes.SetDirection(header.direction)
    axes.SetSpacing([n * s / short for n, s, short in zip(size, spacing, axes.GetSize(), strict=True)])
    for step in steps:
        if isinstance(step, Orient | SliceAxis):
            axes = step(axes)
        order = [short - 2 for short in axes.GetSize()]
        if isinstance(step, Resample):
            for axis, target in zip(order, step.spacing, strict=False):
                if target:
                    size[axis] = max(1, round(size[axis] * spacing[axis] / target))
                    spacing[axis] = target
        if isinstance(step, Resize | FitFieldOfView):
            side = step.size if isinstance(step, Resize) else (step.diameter, step.diameter)
            size[order[0]], size[order[1]] = side
    return tuple(size[short - 2] for short in axes.GetSize())


def _preparing(steps: list[Any], header: ImageHeader, ready: float) -> float:
    """Peak bytes of preprocessing besides the raw images: copies, floats before and after each step."""
    frame = header.bytes / max(1, math.prod(header.size[3:]))
    copies = header.bytes if header.size[3:] else 0.0  # the frames of a sequence are copies
    copies += 0.0 if _straight(header) else frame
    floats = FLOAT_BYTES * header.values * header.voxels
    peak = copies
    for step in steps:
        if isinstance(step, Resample):
            peak = max(peak, copies + floats + (0 if ready == floats else 2 * ready))
        elif not isinstance(step, Orient | SliceAxis):
            # a step that fits or standardises needs a copy, a selection, and 64-bit differences
            peak = max(peak, ready * (2 if isinstance(step, Window) else 6))
    return peak


def _straight(header: ImageHeader) -> bool:
    three = len(header.direction) == 9
    return not three or sitk.DICOMOrientImageFilter.GetOrientationFromDirectionCosines(header.direction) == "LPS"


def memory_limit(gigabytes: float | None) -> float:
    """Bytes that this process may use: `gigabytes` if given, else its current and most of the free memory."""
    if gigabytes is not None:
        return gigabytes * GB
    return min(process_rss() + FREE_FRACTION * psutil.virtual_memory().available, FREE_FRACTION * cgroup_limit())


def cgroup_limit(groups: Path = Path("/sys/fs/cgroup"), own: Path = Path("/proc/self/cgroup")) -> float:
    """Memory limit in bytes of a container or a cluster job, infinite without one.

    `own` has this process's control groups; their parent groups may have limits, too. The machine's free memory does
    not include these limits.
    """
    files = {
        groups / "memory.max",
        groups / "memory" / "memory.limit_in_bytes",
    }  # in a container its own group is the root
    with suppress(OSError):
        for line in own.read_text(encoding="utf-8").splitlines():
            _, kinds, path = line.split(":", 2)
            base, name = (groups / "memory", "memory.limit_in_bytes") if kinds else (groups, "memory.max")
            if not kinds or "memory" in kinds.split(","):
                inner = base / path.lstrip("/")
                files |= {group / name for group in (inner, *inner.parents) if group.is_relative_to(base)}
    limits = []
    for file in files:
        with suppress(OSError, ValueError):  # missing, or "max"
            limits.append(float(file.read_text(encoding="utf-8")))
    return min(limits, default=math.inf)


def process_rss() -> float:
    """Resident memory of this process in bytes."""
    return float(psutil.Process().memory_info().rss)


def _estimates(models: Mapping[str, Segmenter], case: Case, kept: int) -> list[MemoryEstimate]:
    headers = {
        channel: header for channel, path in case.images.items() if (header := read_image_header(path)) is not None
    }
    channels_by_model = [[channel for channel in model.channels if channel in headers] for model in models.values()]
    pairs = zip(models.values(), channels_by_model, strict=True)
    return [
        estimate_memory(model, {channel: headers[channel] for channel in channels}, kept)
        for model, channels in pairs
        if channels
    ]


def choose_tiling(models: Mapping[str, Segmenter], case: Case, limit: float, kept: int = 0) -> int | None:
    """Number of tiles at once that fit for a case; None without a readable header. ImageError (too-large).

    kept: float32 volumes on the input's grid that are kept in memory, whatever the number of models.
    """
    estimates = _estimates(models, case, kept)
    room = limit - process_rss()
    fitting = [estimate.tiles(room) for estimate in estimates]
    if None in fitting:
        for path in case.images.values():  # a forged header must not be reported as too large
            if path.is_file():
                verify.verify(path, image_suffix(path))
        minimum = (max(estimate.bytes(1) for estimate in estimates) + process_rss()) / GB
        raise ImageError(
            f"{case.image}: needs about {minimum:.1f} GB of memory even with one tile at a time, {limit / GB:.1f} GB "
            "may be used; allow more, close other programs, crop the image, or train on a coarser grid "
            "(organ.spacing_mm)",
            code="too-large",
            hint="max_ram=GB",
        )
    return min((tiles for tiles in fitting if tiles is not None), default=None)


def log_memory_estimate(models: Mapping[str, Segmenter], cases: Sequence[Case], limit: float, kept: int = 0) -> None:
    """Print the memory estimate of the largest case; `kept` as in `choose_tiling`."""
    room, base = limit - process_rss(), process_rss()
    estimates = {case.name: _estimates(models, case, kept) for case in cases}
    bytes_by_case = {
        name: max(estimate.bytes(estimate.tiles(room) or 1) for estimate in case_estimates)
        for name, case_estimates in estimates.items()
        if case_estimates
    }
    if bytes_by_case:
        name = max(bytes_by_case, key=lambda case: bytes_by_case[case])
        text = f"the largest of {len(cases)} cases, {name}" if len(cases) > 1 else name
        say(f"memory: about {(bytes_by_case[name] + base) / GB:.2f} GB for {text}; {limit / GB:.1f} GB may be used")
