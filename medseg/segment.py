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
from medseg.data.image import find_images, frames, is_image, join_frames, read_image, stem, to_array, write_image
from medseg.errors import ConfigError, ImageError, MedsegError
from medseg.executor import autocast, device_of, use_threads
from medseg.ledger import Entry, Ledger, write_json
from medseg.runs import Run
from medseg.segmentation.predict import Tiling, predict

AXES = ("x", "y", "z")


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
        self.tiling = Tiling(patch, settings.predict.overlap, settings.predict.batch, mirror)
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
        return masks[0] if len(masks) == 1 else join_frames(masks)

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
    """The steps of `preprocess`, in their order, on every channel; all channels on the first one's grid."""

    def __init__(self, config: Config) -> None:
        self.channels = list(config.organ.channels)
        self.steps = [build(step) for step in config.preprocess.values()]

    def __call__(self, images: dict[str, sitk.Image]) -> dict[str, sitk.Image]:
        """Raw channels → channels in 0..1 on the network's grid; raises `ImageError` for a wrong channel count."""
        ready: dict[str, sitk.Image] = {}
        for name, image in images.items():
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
    for number, values in zip(labels, probability[1:], strict=True):
        part = sitk.GetImageFromArray(values[0] if flat else values)
        part.CopyInformation(grid)
        there = sitk.GetArrayFromImage(sitk.Resample(part, reference, sitk.Transform(), sitk.sitkLinear, 0.0))
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
    if not batch.source.exists():
        raise ConfigError(f"{batch.source}: no such file or folder")
    paths = find_images(batch.source, batch.pattern)
    if not paths:
        raise ConfigError(f"{batch.source}: no image found{f' that matches {batch.pattern}' if batch.pattern else ''}")
    segmenter = Segmenter.from_run(run, device)
    if len(segmenter.channels) != 1:
        raise ConfigError(f"the model needs channels {segmenter.channels}; a plain folder gives one")
    if run.synthetic and not _is_phantom(batch.source):
        banner(f"{run.path} was trained on synthetic phantoms only. Its masks of real images mean nothing.")
    ledger = Ledger(batch.out / "cases.csv")
    write_json(batch.out / "labels.json", segmenter.labels)
    with progress("segment", len(paths)) as bar:
        for path in paths:
            ledger.add(_segment_one(path, batch, segmenter))
            if ledger.entries[-1].status == "failed":
                warn(ledger.entries[-1].message)
            bar.advance(1, path.name)
    return ledger


def _segment_one(path: Path, batch: Batch, segmenter: Segmenter) -> Entry:
    started = time.monotonic()
    relative = path.relative_to(batch.source) if path != batch.source else Path(path.name)
    target = batch.out / relative.parent / (stem(path) + _suffix(path, batch.suffix))
    case = str(relative.parent / stem(path))
    try:
        mask = segmenter({segmenter.channels[0]: read_image(path, batch.series)})
        write_image(mask, target)
    except MedsegError as error:
        text = str(error) if str(path) in str(error) else f"{path}: {error}"
        return Entry(case, "failed", error.code, text, time.monotonic() - started, str(path))
    except (MemoryError, RuntimeError) as error:  # ITK and torch report both so
        text = f"{path}: {type(error).__name__}: {str(error).strip().splitlines()[-1][:300] if str(error) else ''}"
        return Entry(case, "failed", "case-error", text, time.monotonic() - started, str(path))
    return Entry(case, "ok", "", "", round(time.monotonic() - started, 3), str(path), str(target))


def _suffix(path: Path, wanted: str | None) -> str:
    if wanted is not None:
        return wanted
    pictures = (".png", ".jpg", ".jpeg", ".bmp", ".tif", ".tiff")
    return ".png" if is_image(path) and path.name.lower().endswith(pictures) else ".nii.gz"


def _is_phantom(source: Path) -> bool:
    """Whether the folder, or one above it, says it holds phantoms."""
    return any((folder / "phantom.json").is_file() for folder in [source, *source.resolve().parents][:4])
