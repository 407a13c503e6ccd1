"""Deep features: a trained U-Net's encoder output, pooled over frames, slices or profile positions."""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pandas as pd
import SimpleITK as sitk

from medseg.config.settings import Settings
from medseg.data.cases import Case
from medseg.data.tables import read_table
from medseg.errors import ConfigError
from medseg.features.axial import step_regions
from medseg.inference.segmenter import Segmenter
from medseg.io.image import frames, read_image
from medseg.runs.run import ENCODER, HASHED, Run, open_run
from medseg.segmentation.sliding_window import TiledNetwork
from medseg.segmentation.unet import UNet
from medseg.typing import Float32Array, Images

MODEL_FILES = ("config.yaml", "model.safetensors", "labels.json", "preprocess.json", "fingerprint.json", "split.csv")


class DeepFeatures:
    """The deepest features of a segmenter's U-Net as `count` numbers per region.

    The mean of each channel over a region, projected by a fixed random matrix with orthonormal columns, which nearly
    preserves distances (Johnson and Lindenstrauss 1984) and needs no training. `count` None: all channels.
    """

    def __init__(self, segmenter: Segmenter, count: int | None) -> None:
        if not isinstance(segmenter.model, TiledNetwork):
            raise ConfigError(
                "data.encoder: this run has no network, it is a classical segmentation; use the run of a trained U-Net"
            )
        self.segmenter, self.model, self.count = segmenter, segmenter.model, count
        tiling, network = segmenter.model.tiling, segmenter.model.network
        assert isinstance(network, UNet)
        self.width = network.encoder.widths[-1]
        self.factors = (1,) * (3 - len(tiling.patch)) + (tiling.multiple,) * len(tiling.patch)  # voxels a cell, z y x

    @classmethod
    def of_run(cls, run: Run, count: int | None, device: str = "auto") -> DeepFeatures:
        """The encoder of a finished segmentation run."""
        return cls(Segmenter.from_run(run, device), count)

    def units(self) -> dict[str, str]:
        """Unit and definition, by the last part of each feature's name."""
        text = "the U-Net's own unit: mean of its deepest features over the region, projected by a fixed random matrix"
        return {name.partition(".")[2]: text for name in self.names()}

    def names(self) -> list[str]:
        """Names of the features."""
        return [f"encoder.pooled_{k:02d}" for k in range(min(self.width, self.count or self.width))]

    def encode_case(self, case: Case, image: sitk.Image, per_slice: bool) -> EncodedCase:
        """Encode a case whose first channel is `image`; with `per_slice` each slice of it is a frame."""
        images = self.channels_of(case, image)
        if per_slice and len(images) > 1:
            raise ConfigError(f"{case.image}: slices of a sequence over time cannot be encoded; unset data.encoder")
        return EncodedCase(self, images, per_slice)

    def channels_of(self, case: Case, image: sitk.Image) -> list[Images]:
        """The channels of each frame: `image` is the first, the others are read."""
        first, *rest = self.segmenter.channels
        channels = {first: image, **{name: read_image(case.images[name]) for name in rest if name in case.images}}
        sequences = {name: frames(channel, self.segmenter.time_axis) for name, channel in channels.items()}
        return [dict(zip(sequences, frame, strict=True)) for frame in zip(*sequences.values(), strict=True)]

    def pooled(self, images: Images, regions: sitk.Image, count: int) -> list[dict[str, float]]:
        """Features of regions 1 … `count` (an image on the first channel's grid) from one frame's channels.

        NaN for a region outside the network's grid.
        """
        ready = self.segmenter.prepare(images)
        resampled = sitk.Resample(regions, next(iter(ready.values())), sitk.Transform(), sitk.sitkNearestNeighbor, 0)
        array = sitk.GetArrayFromImage(resampled)
        array = array if array.ndim == 3 else array[None]  # (Z, Y, X)
        encoded = self.model.encode(ready)  # (C, z, y, x)
        projection, names = _projection(self.width, self.count), self.names()
        rows = []
        for number in range(1, count + 1):
            weight = _coverage(array == number, encoded.shape[1:], self.factors)
            total = weight.sum()
            mean = np.tensordot(encoded, weight, 3) / total if total > 0 else np.full(len(encoded), np.nan)
            rows.append(dict(zip(names, (mean @ projection).tolist(), strict=True)))
        return rows


class EncodedCase:
    """Deep features of one case by frame, or by slice of its only frame."""

    def __init__(self, encoder: DeepFeatures, images: list[Images], per_slice: bool) -> None:
        self.encoder, self.images = encoder, images
        self.slices: list[dict[str, float]] | None = None
        if per_slice:
            image = next(iter(images[0].values()))
            count = sitk.DICOMOrient(image, "LPS").GetDepth()
            self.slices = encoder.pooled(images[0], step_regions(image), count)

    def of_frame(self, index: int, mask: sitk.Image | None) -> dict[str, float]:
        """Features of a slice; else of a frame over its labelled voxels, or over the whole frame without a mask."""
        if self.slices is not None:
            return self.slices[index]
        first = next(iter(self.images[index].values()))
        if mask is None:
            mask = sitk.Image(first.GetSize(), sitk.sitkUInt8) + 1
            mask.CopyInformation(first)
        return self.encoder.pooled(self.images[index], sitk.Cast(mask > 0, sitk.sitkUInt16), 1)[0]

    def of_profile(self, frame: int, regions: sitk.Image, index: pd.Index[int]) -> pd.DataFrame:
        """Features of a frame's profile, one row per position; `regions` numbers the positions from 1."""
        return pd.DataFrame(self.encoder.pooled(self.images[frame], regions, len(index)), index=index)


def _projection(channels: int, count: int | None) -> npt.NDArray[np.float64]:
    """A fixed random matrix (channels, count) with orthonormal columns."""
    if count is None or count >= channels:
        return np.eye(channels)
    columns, _ = np.linalg.qr(np.random.default_rng(0).normal(size=(channels, count)))
    return np.asarray(columns)


def _coverage(inside: npt.NDArray[np.bool_], coarse: Sequence[int], factors: Sequence[int]) -> Float32Array:
    """Fraction of each coarse cell that is inside, (Z, Y, X) → `coarse`; padding at the ends is outside."""
    padded = np.zeros([cells * factor for cells, factor in zip(coarse, factors, strict=True)], np.float32)
    padded[tuple(slice(size) for size in inside.shape)] = inside
    (z, y, x), (a, b, c) = coarse, factors
    return np.asarray(padded.reshape(z, a, y, b, x, c).mean(axis=(1, 3, 5)))


def load_encoder(config: Settings, run: Run, held_out: Sequence[str]) -> DeepFeatures | None:
    """The encoder of `data.encoder`, copied into the classifier's `run`; None if it is not set.

    Raises `ConfigError` if it was trained on any of the `held_out` patients: the evaluation would be biased.
    """
    if config.data.encoder is None:
        return None
    source = open_run(Path(config.data.encoder))
    split = read_table(source.file("split.csv"))
    if "sha256" in split:
        raise ConfigError(
            f"data.encoder={source.named}: a package has anonymised patients, so training patients cannot be told from "
            "held-out ones; use the run folder itself"
        )
    train_patients = set(split.loc[split["split"] == "train", "patient"].astype(str))
    if shared := sorted(train_patients & set(held_out)):
        raise ConfigError(
            f"data.encoder={source.path}: was trained on {len(shared)} of the held-out patients "
            f"({', '.join(shared[:3])}…); train it with the same data.n_folds and data.fold, or on the same split"
        )
    copy = Run(run.file(ENCODER))
    copy.path.mkdir(exist_ok=True)
    for name in {*MODEL_FILES, *HASHED}:
        if source.file(name).is_file():
            shutil.copyfile(source.file(name), copy.file(name))
    shutil.copyfile(source.file("manifest.json"), copy.file("manifest.json"))
    return DeepFeatures.of_run(copy, config.data.encoder_features, config.compute.accelerator)


def open_encoder(config: Settings, run: Run) -> DeepFeatures | None:
    """The encoder in a finished classifier's run; None if it has none."""
    if config.data.encoder is None:
        return None
    return DeepFeatures.of_run(open_run(run.file(ENCODER)), config.data.encoder_features, config.compute.accelerator)
