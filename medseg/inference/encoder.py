"""What a trained U-Net's encoder sees, pooled over the steps of a sequence: features beside the measured ones."""

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

MADE_OF = ("config.yaml", "model.safetensors", "labels.json", "preprocess.json", "fingerprint.json", "split.csv")


class DeepFeatures:
    """The deepest features of a segmenter's U-Net as `count` numbers a region, the same ones in every case.

    The mean of each channel over a region, turned by one fixed random matrix with orthonormal columns: distances are
    kept nearly (Johnson and Lindenstrauss 1984) and nothing is learnt from the cases. `count` None keeps all channels.
    """

    def __init__(self, segmenter: Segmenter, count: int | None) -> None:
        if not isinstance(segmenter.model, TiledNetwork):
            raise ConfigError("data.encoder: this run has no network, it segments by rules; name a trained U-Net's run")
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
        """Unit and definition, by the last part of each number's name."""
        text = "the U-Net's own unit: mean of its deepest features over the region, turned by a fixed random matrix"
        return {name.partition(".")[2]: text for name in self.names()}

    def names(self) -> list[str]:
        """Names of the numbers."""
        return [f"encoder.pooled_{k:02d}" for k in range(min(self.width, self.count or self.width))]

    def frames_of(self, case: Case, image: sitk.Image, each_slice: bool) -> Seen:
        """What is seen in a case whose first channel is `image`; with `each_slice` a frame is a slice of it."""
        images = self.channels_of(case, image)
        if each_slice and len(images) > 1:
            raise ConfigError(f"{case.image}: slices of a sequence over time are not encoded; leave data.encoder out")
        return Seen(self, images, each_slice)

    def channels_of(self, case: Case, image: sitk.Image) -> list[Images]:
        """Each frame's channels: `image` is the first, the others are read."""
        first, *rest = self.segmenter.channels
        whole = {first: image, **{name: read_image(case.images[name]) for name in rest if name in case.images}}
        parts = {name: frames(one, self.segmenter.time_axis) for name, one in whole.items()}
        return [dict(zip(parts, step, strict=True)) for step in zip(*parts.values(), strict=True)]

    def pooled(self, images: Images, regions: sitk.Image, count: int) -> list[dict[str, float]]:
        """Of one frame's channels, the numbers of regions 1 … `count` of an image on the first channel's grid.

        A region that the network's grid does not meet has NaN.
        """
        ready = self.segmenter.prepare(images)
        there = sitk.Resample(regions, next(iter(ready.values())), sitk.Transform(), sitk.sitkNearestNeighbor, 0)
        array = sitk.GetArrayFromImage(there)
        array = array if array.ndim == 3 else array[None]  # (Z, Y, X)
        seen = self.model.encode(ready)  # (C, z, y, x)
        turn, names = _turn(self.width, self.count), self.names()
        found = []
        for number in range(1, count + 1):
            weight = _shares(array == number, seen.shape[1:], self.factors)
            total = weight.sum()
            mean = np.tensordot(seen, weight, 3) / total if total > 0 else np.full(len(seen), np.nan)
            found.append(dict(zip(names, (mean @ turn).tolist(), strict=True)))
        return found


class Seen:
    """One case as the encoder sees it, frame by frame, or slice by slice of its only frame."""

    def __init__(self, encoder: DeepFeatures, images: list[Images], each_slice: bool) -> None:
        self.encoder, self.images = encoder, images
        self.slices: list[dict[str, float]] | None = None
        if each_slice:
            image = next(iter(images[0].values()))
            count = sitk.DICOMOrient(image, "LPS").GetDepth()
            self.slices = encoder.pooled(images[0], step_regions(image), count)

    def of_frame(self, place: int, mask: sitk.Image | None) -> dict[str, float]:
        """A slice's numbers; else a frame's, over what is labelled in it, or all of it where nothing is measured inside
        masks."""
        if self.slices is not None:
            return self.slices[place]
        first = next(iter(self.images[place].values()))
        if mask is None:
            mask = sitk.Image(first.GetSize(), sitk.sitkUInt8) + 1
            mask.CopyInformation(first)
        return self.encoder.pooled(self.images[place], sitk.Cast(mask > 0, sitk.sitkUInt16), 1)[0]

    def of_steps(self, place: int, regions: sitk.Image, index: pd.Index[int]) -> pd.DataFrame:
        """A frame's numbers, a row a step; steps are numbered from 1 in `regions`."""
        return pd.DataFrame(self.encoder.pooled(self.images[place], regions, len(index)), index=index)


def _turn(channels: int, count: int | None) -> npt.NDArray[np.float64]:
    """Orthonormal columns (channels, count), always the same."""
    if count is None or count >= channels:
        return np.eye(channels)
    columns, _ = np.linalg.qr(np.random.default_rng(0).normal(size=(channels, count)))
    return np.asarray(columns)


def _shares(inside: npt.NDArray[np.bool_], coarse: Sequence[int], factors: Sequence[int]) -> Float32Array:
    """How much of each coarse cell lies inside, (Z, Y, X) → `coarse`; what is missing at the ends is outside."""
    padded = np.zeros([cells * factor for cells, factor in zip(coarse, factors, strict=True)], np.float32)
    padded[tuple(slice(size) for size in inside.shape)] = inside
    (z, y, x), (a, b, c) = coarse, factors
    return np.asarray(padded.reshape(z, a, y, b, x, c).mean(axis=(1, 3, 5)))


def load_encoder(config: Settings, run: Run, reported: Sequence[str]) -> DeepFeatures | None:
    """The encoder that `data.encoder` names, kept whole in the diagnoser's `run`; None where none is named.

    Raises `ConfigError` where that model learnt from one of the `reported` patients: the report would flatter.
    """
    if config.data.encoder is None:
        return None
    source = open_run(Path(config.data.encoder))
    split = read_table(source.file("split.csv"))
    if "sha256" in split:
        raise ConfigError(
            f"data.encoder={source.named}: a package calls its patients by numbers, so nobody can tell whether the "
            "reported ones are among them; name the run folder itself"
        )
    seen = set(split.loc[split["split"] == "train", "patient"].astype(str))
    if both := sorted(seen & set(reported)):
        raise ConfigError(
            f"data.encoder={source.path}: learnt from {len(both)} of the patients that are to be reported "
            f"({', '.join(both[:3])}…); train it with the same data.n_folds and data.fold, or on the same split"
        )
    kept = Run(run.file(ENCODER))
    kept.path.mkdir(exist_ok=True)
    for name in {*MADE_OF, *HASHED}:
        if source.file(name).is_file():
            shutil.copyfile(source.file(name), kept.file(name))
    shutil.copyfile(source.file("manifest.json"), kept.file("manifest.json"))
    return DeepFeatures.of_run(kept, config.data.encoder_features, config.compute.accelerator)


def encoder_kept(config: Settings, run: Run) -> DeepFeatures | None:
    """The encoder that a finished diagnoser's run holds; None where it reads none."""
    if config.data.encoder is None:
        return None
    return DeepFeatures.of_run(open_run(run.file(ENCODER)), config.data.encoder_features, config.compute.accelerator)
