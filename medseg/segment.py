"""Segment images with a trained model, one image or a folder of them."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import SimpleITK as sitk
import torch

from medseg.config import Config, build, load
from medseg.console import banner, progress, warn
from medseg.data.cases import Case
from medseg.data.folders import read_cases
from medseg.data.image import (
    SUFFIXES,
    frames,
    grid_difference,
    image_suffix,
    join_frames,
    read_image,
    stem,
    to_array,
    write_image,
)
from medseg.errors import ConfigError, ImageError, MedsegError
from medseg.executor import autocast, device_of, use_threads
from medseg.ledger import Entry, Ledger, failure, write_json
from medseg.runs import Run
from medseg.segmentation.predict import Tiling, predict

AXES = ("x", "y", "z")
PICTURES = (".png", ".jpg", ".jpeg", ".bmp", ".tif", ".tiff")


class Segmenter:
    """A network with everything around it: preprocessing, tiles, the way back to the input's grid, rules after it."""

    def __init__(self, config: Config, network: torch.nn.Module) -> None:
        settings = config.segmenter
        self.channels = list(config.organ.channels)
        self.labels = dict(config.organ.labels)
        self.time_axis = config.data.time_axis
        self.prepare = Preprocess(config)
        self.after = [build(step) for step in settings.postprocess.values()]
        patch = tuple(reversed(settings.patch))  # (y, x) or (z, y, x)
        axes = tuple(reversed(AXES[: len(patch)]))
        mirror = tuple(axes.index(axis) for axis in settings.predict.mirror)
        self.tiling = Tiling(patch, settings.predict.overlap, settings.predict.batch, mirror, 2**settings.network.depth)
        self.device = device_of(config.executor.accelerator)
        self.precision = config.executor.precision
        self.network = network.to(self.device).eval()

    @classmethod
    def from_run(cls, run: Run, device: str = "auto") -> Segmenter:
        """The segmenter that a finished run holds, on `device` auto, cpu or cuda."""
        config = load(run.file("config.yaml"))
        if config.task != "segmentation":
            raise ConfigError(
                f"{run.path}: is a model for task={config.task}; segmenting needs one trained with task=segmentation"
            )
        config.executor.accelerator = device
        use_threads(config.executor.threads)
        network = make_network(config)
        network.load_state_dict(run.load_weights())
        return cls(config, network)

    def __call__(self, images: dict[str, sitk.Image]) -> sitk.Image:
        """Channels of one case → uint8 label map on the first channel's own grid; 4D sequences frame by frame."""
        sequences = {name: frames(image, self.time_axis) for name, image in images.items()}
        steps = zip(*sequences.values(), strict=True)
        masks = [self._one(dict(zip(sequences, step, strict=True))) for step in steps]
        first = next(iter(images.values()))
        return join_frames(masks, first) if first.GetDimension() == 4 or len(masks) > 1 else masks[0]

    def _one(self, images: dict[str, sitk.Image]) -> sitk.Image:
        reference = next(iter(images.values()))
        ready = self.prepare(images)
        array = np.concatenate([to_array(image) for image in ready.values()])  # (C, Z, Y, X)
        with autocast(self.precision, self.device):
            probability = predict(self.network, array, self.tiling, self.device)  # (K, Z, Y, X)
        mask = to_grid(probability, next(iter(ready.values())), reference, list(self.labels.values()))
        for step in self.after:
            mask = step(mask)
        return mask


class Preprocess:
    """The steps of `preprocess`, in their order, on every channel; all channels must lie on one grid."""

    def __init__(self, config: Config) -> None:
        self.channels = list(config.organ.channels)
        self.steps = [build(step) for step in config.preprocess.values()]

    def __call__(self, images: dict[str, sitk.Image]) -> dict[str, sitk.Image]:
        """Raw channels → channels in 0..1 on the network's grid; raises `ImageError` for a wrong channel count."""
        ready: dict[str, sitk.Image] = {}
        first = next(iter(images.values()))
        for name, image in images.items():
            difference = grid_difference(image, first)
            if difference:
                raise ImageError(
                    f"channel {name} does not lie on the grid of the first: {difference}", code="image-grid"
                )
            if image.GetNumberOfComponentsPerPixel() > 1 and len(self.channels) == 1:
                raise ImageError(
                    f"has {image.GetNumberOfComponentsPerPixel()} colour channels where the model takes one ({name}); "
                    "give it the grey images it was trained on", code="image-channels",
                )  # fmt: skip
            for step in self.steps:
                image = step(image)
            ready[name] = image
        return ready


def make_network(config: Config) -> torch.nn.Module:
    """The network of `segmenter.network` with the organ's channels and labels."""
    network: torch.nn.Module = build(
        config.segmenter.network, in_channels=len(config.organ.channels), classes=len(config.organ.labels) + 1
    )
    return network


def to_grid(probability: Any, grid: sitk.Image, reference: sitk.Image, labels: Sequence[int]) -> sitk.Image:
    """Most probable label per voxel of `reference`, from probabilities (K, Z, Y, X) on `grid`, linear between voxels.

    One label at a time, so that never more than two probability volumes of the input's size are in memory.
    """
    flat = grid.GetDimension() == 2
    best = result = rest = None
    for number in labels:
        part = sitk.GetImageFromArray(probability[number][0] if flat else probability[number])
        part.CopyInformation(grid)
        # the border beyond the outermost voxel centres is as its nearest voxel, not background
        there = sitk.GetArrayFromImage(
            sitk.Resample(part, reference, sitk.Transform(), sitk.sitkLinear, 0.0, sitk.sitkFloat32, True)
        )
        if best is None or result is None or rest is None:
            best, result, rest = there, np.full(there.shape, number, np.uint8), 1.0 - there
        else:
            result[there > best] = number
            rest -= there
            np.maximum(best, there, out=best)
    assert result is not None
    assert best is not None
    result[rest >= best] = 0  # background is what is left
    mask = sitk.GetImageFromArray(result)
    mask.CopyInformation(reference)
    return mask


@dataclass(frozen=True)
class Batch:
    """What a batch reads and writes."""

    source: Path
    out: Path
    pattern: str | None = None
    series: str | None = None
    suffix: str | None = None  # of the masks; None: .png for pictures, else .nii.gz


def segment_folder(batch: Batch, run: Run, device: str = "auto") -> Ledger:
    """Segment every image below `source` into the same tree below `out`; one entry a case in out/cases.csv.

    A case that fails is named and the others go on. labels.json with the label names is written beside the masks.
    """
    if batch.suffix is not None and batch.suffix not in SUFFIXES:
        raise ConfigError(f"--format {batch.suffix}: must be one of {', '.join(SUFFIXES)}")
    segmenter = Segmenter.from_run(run, device)
    cases = read_cases(batch.source, segmenter.channels, pattern=batch.pattern)
    warn_synthetic(run, batch.source)
    targets = _targets(cases, batch)
    ledger = Ledger(batch.out / "cases.csv")
    write_json(batch.out / "labels.json", segmenter.labels)
    with progress("segment", len(cases)) as bar:
        for case, target in zip(cases, targets, strict=True):
            ledger.add(_segment_one(case, target, batch.series, segmenter))
            if ledger.entries[-1].status == "failed":
                warn(ledger.entries[-1].message)
            bar.advance(1, case.name)
    return ledger


def _segment_one(case: Case, target: Path, series: str | None, segmenter: Segmenter) -> Entry:
    started = time.monotonic()
    try:
        images = {channel: read_image(path, series) for channel, path in case.images.items()}
        write_image(segmenter(images), target)
    except (MedsegError, MemoryError, RuntimeError) as error:  # ITK and torch raise RuntimeError
        return failure(case.name, case.image, error, time.monotonic() - started)
    return Entry(case.name, "ok", "", "", round(time.monotonic() - started, 3), str(case.image), str(target))


def _targets(cases: list[Case], batch: Batch) -> list[Path]:
    """Where each mask goes: the image's path below the source, else its name; never onto an input."""
    targets: list[Path] = []
    for case in cases:
        target = _target(case, batch)
        if target in targets:  # two endings of one name
            target = target.with_name(case.image.name + target.name.removeprefix(stem(case.image)))
        targets.append(target)
    inputs = {path.resolve() for case in cases for path in case.images.values()}
    table = batch.source / "cases.csv"
    if inputs & {path.resolve() for path in targets} or (batch.out / "cases.csv").resolve() == table.resolve():
        raise ConfigError(f"{batch.out}: masks would be written over what is read; choose another OUT")
    return targets


def _target(case: Case, batch: Batch) -> Path:
    path = case.image
    suffix = batch.suffix or (".png" if image_suffix(path) in PICTURES else ".nii.gz")
    if path == batch.source:
        return batch.out / (stem(path.resolve()) + suffix)
    if not path.is_relative_to(batch.source) or ".." in path.parts[len(batch.source.parts) :]:
        return batch.out / (case.name + suffix)
    return batch.out / path.relative_to(batch.source).parent / (stem(path) + suffix)


def warn_synthetic(run: Run, source: Path) -> None:
    """Say it loudly where a model of phantoms meets images that are none."""
    marked = any((folder / "phantom.json").is_file() for folder in [source, *source.resolve().parents][:4])
    if run.synthetic and not marked:
        banner(f"{run.path} was trained on SYNTHETIC PHANTOMS only. What it says of real images means nothing.")
