"""Deep features: an encoder's deepest level, pooled over regions of frames or slices, or over profile positions."""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pandas as pd
import SimpleITK as sitk

from medseg.config.settings import DataSettings, Settings
from medseg.data.cases import Case
from medseg.data.tables import read_table
from medseg.errors import ConfigError
from medseg.features.axial import step_regions
from medseg.features.tables import DEEP
from medseg.inference.image_encoders import Encode, ImageEncoder, ImageNetEncoder, UNetEncoder
from medseg.inference.region_pooling import Encoding, projection, structure_and_rim
from medseg.inference.segmenter import Segmenter
from medseg.runs.run import ENCODER, HASHED, Run, open_run
from medseg.typing import FloatArray

MODEL_FILES = ("config.yaml", "model.safetensors", "labels.json", "preprocess.json", "fingerprint.json", "split.csv")
STRUCTURE, RIM, IMAGE = "structure", "rim", "image"
REGIONS = {STRUCTURE: "the labelled pixels", RIM: "a rim around the labelled pixels", IMAGE: "the whole image"}
MASKED = (STRUCTURE, RIM)  # in this order in `structure_and_rim`
STEP = "step"  # a position of a profile
DIGITS = 5  # significant digits of a feature; more tell nothing and fill the tables


class DeepFeatures:
    """The mean of each channel of an encoder's deepest level over regions of a frame, and over profile positions.

    count, step_count: numbers that are kept of each region and of each position, by a fixed random projection; None:
    all channels.
    """

    def __init__(
        self,
        encoder: ImageEncoder,
        regions: Sequence[str] = tuple(REGIONS),
        count: int | None = None,
        step_count: int | None = 16,
    ) -> None:
        self.encoder, self.regions = encoder, tuple(regions)
        self.projection, self.step_projection = (projection(encoder.width, number) for number in (count, step_count))

    @property
    def needs_masks(self) -> bool:
        """Whether a region depends on the mask."""
        return bool({*self.regions} & {*MASKED})

    def names(self) -> list[str]:
        """Names of a frame's features, region by region."""
        return [name for region in self.regions for name in _names(region, self.projection.shape[1])]

    def step_names(self) -> list[str]:
        """Names of a profile position's features."""
        return _names(STEP, self.step_projection.shape[1])

    def units(self) -> dict[str, str]:
        """Unit and definition, by the last part of each feature's name."""
        texts = REGIONS | {STEP: "a slice or sector, projected to few numbers by a fixed random matrix"}
        units = {}
        for name in [*self.names(), *self.step_names()]:
            last = name.removeprefix(DEEP)
            text = texts[last.rpartition("_")[0]]
            units[last] = f"the network's own unit: mean of a deep feature of {self.encoder.network} over {text}"
        return units

    def encode_case(
        self, case: Case | None, image: sitk.Image, mask: sitk.Image | None, per_slice: bool
    ) -> EncodedCase:
        """Encode a case whose first channel is `image`; with `per_slice` each slice of it is a frame.

        mask: of the whole image, read with `per_slice`. case: has the other channels; None: there are none.
        """
        frames = self.encoder.frames(case, image)
        if per_slice and len(frames) > 1:
            source = "image" if case is None else case.image
            raise ConfigError(f"{source}: slices of a sequence over time cannot be encoded; unset data.encoder")
        return EncodedCase(self, frames, self._of_slices(frames[0](), image, mask) if per_slice else None)

    def of_frame(self, encoding: Encoding, mask: sitk.Image | None) -> dict[str, float]:
        """Features of a frame; NaN where a region is empty or there is no mask."""
        pooled = {IMAGE: encoding.mean()}
        if self.needs_masks and mask is not None:
            pooled |= dict(zip(MASKED, encoding.means(structure_and_rim(mask, False), 2)[:, None], strict=True))
        return self._rows(pooled, 1)[0]

    def of_steps(self, encoding: Encoding, regions: sitk.Image, count: int) -> FloatArray:
        """Features (count, N) of the profile positions that `regions` numbers from 1."""
        return _rounded(encoding.means(regions, count) @ self.step_projection)

    def _of_slices(self, encoding: Encoding, image: sitk.Image, mask: sitk.Image | None) -> list[dict[str, float]]:
        count = sitk.DICOMOrient(image, "LPS").GetDepth()
        pooled = {IMAGE: encoding.means(step_regions(image), count)}
        if self.needs_masks and mask is not None:
            both = encoding.means(structure_and_rim(mask, True), 2 * count)
            pooled |= {STRUCTURE: both[::2], RIM: both[1::2]}
        return self._rows(pooled, count)

    def _rows(self, pooled: dict[str, FloatArray], count: int) -> list[dict[str, float]]:
        """Named features of `count` frames from the means (count, C) of their regions."""
        absent = np.full((count, self.encoder.width), np.nan)
        parts = [pooled.get(region, absent) @ self.projection for region in self.regions]
        names, table = self.names(), _rounded(np.concatenate(parts, axis=1))  # (count, regions·N)
        return [dict(zip(names, row, strict=True)) for row in table.tolist()]


class EncodedCase:
    """Deep features of one case by frame, or by slice of its only frame."""

    def __init__(self, features: DeepFeatures, frames: list[Encode], slices: list[dict[str, float]] | None) -> None:
        self.features, self.frames, self.slices = features, frames, slices
        self._last: tuple[int, Encoding] | None = None

    def of_frame(self, index: int, mask: sitk.Image | None) -> dict[str, float]:
        """Features of a frame, or of a slice."""
        if self.slices is not None:
            return self.slices[index]
        return self.features.of_frame(self._encoding(index), mask)

    def of_profile(self, index: int, regions: sitk.Image, rows: pd.Index[int]) -> pd.DataFrame:
        """Features of a frame's profile, one row per position; `regions` numbers the positions from 1."""
        values = self.features.of_steps(self._encoding(index), regions, len(rows))
        return pd.DataFrame(values, index=rows, columns=self.features.step_names())

    def _encoding(self, index: int) -> Encoding:
        """The encoding of a frame, kept for its profile: one at a time, they are large."""
        if self._last is None or self._last[0] != index:
            self._last = (index, self.frames[index]())
        return self._last[1]


def _names(region: str, count: int) -> list[str]:
    return [f"{DEEP}{region}_{k:03d}" for k in range(count)]


def _rounded(values: FloatArray) -> FloatArray:
    """Values with `DIGITS` significant digits, so that tables have what the classifier reads."""
    return np.array([[float(f"{value:.{DIGITS}g}") for value in row] for row in values.tolist()]).reshape(values.shape)


def load_encoder(config: Settings, run: Run, held_out: Sequence[str]) -> DeepFeatures | None:
    """The encoder of `data.encoder`, a run copied into the classifier's `run`; None if it is not set.

    Raises `ConfigError` if it was trained on any of the `held_out` patients: the evaluation would be biased.
    """
    if config.data.encoder is None or config.data.imagenet_encoder:
        return open_encoder(config, run)
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
    return open_encoder(config, run)


def open_encoder(config: Settings, run: Run) -> DeepFeatures | None:
    """The encoder that ships, or the one in a finished classifier's run; None if it has none."""
    data: DataSettings = config.data
    if data.encoder is None:
        return None
    encoder: ImageEncoder
    if data.imagenet_encoder:
        encoder = ImageNetEncoder(data.encoder_px, data.time_axis, config.compute.accelerator)
    else:
        encoder = UNetEncoder(Segmenter.from_run(open_run(run.file(ENCODER)), config.compute.accelerator))
    return DeepFeatures(encoder, data.encoder_regions, data.encoder_features, data.encoder_step_features)
