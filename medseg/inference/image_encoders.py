"""Encoders of images: a trained U-Net's, or EfficientNet-Lite0 as ImageNet taught it."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Protocol

import numpy as np
import SimpleITK as sitk
import torch
import torch.nn.functional as F

from medseg.data.cases import Case
from medseg.errors import ConfigError
from medseg.inference.region_pooling import Encoding
from medseg.inference.segmenter import Segmenter
from medseg.io.image import frames, read_image
from medseg.preprocess.resize import LongSide
from medseg.segmentation.efficientnet_lite import CHANNELS, STRIDE, EfficientNetLite0
from medseg.segmentation.sliding_window import TiledNetwork
from medseg.segmentation.unet import UNet
from medseg.typing import AnyArray, Float32Array, Images
from medseg.utils.devices import select_device

PERCENTILES = (0.5, 99.5)  # of an image's values, scaled to 0 and 1
BATCH = 16  # slices encoded at once

Encode = Callable[[], Encoding]


class ImageEncoder(Protocol):
    """width: channels of the deepest level; network: its name, for definitions of features."""

    width: int
    network: str

    def frames(self, case: Case | None, image: sitk.Image) -> list[Encode]:
        """A function for each frame of `image`, the first channel, which encodes it; the case has other channels."""
        ...


class UNetEncoder:
    """The deepest level of a segmenter's U-Net, of all its channels on its own grid."""

    network = "a trained U-Net"

    def __init__(self, segmenter: Segmenter) -> None:
        if not isinstance(segmenter.model, TiledNetwork):
            raise ConfigError(
                "data.encoder: this run has no network, it is a classical segmentation; use the run of a trained U-Net"
            )
        self.segmenter, self.model = segmenter, segmenter.model
        tiling, network = segmenter.model.tiling, segmenter.model.network
        assert isinstance(network, UNet)
        self.width = network.encoder.widths[-1]
        self.cell = (tiling.multiple if len(tiling.patch) == 3 else 1, tiling.multiple, tiling.multiple)  # z y x

    def frames(self, case: Case | None, image: sitk.Image) -> list[Encode]:
        """A function for each frame that encodes it."""
        first, *rest = self.segmenter.channels
        if case is None and rest:
            raise ConfigError(f"data.encoder: its U-Net needs the channels {', '.join(rest)} too; use the command line")
        others = {} if case is None else {name: case.images[name] for name in rest if name in case.images}
        channels = {first: image, **{name: read_image(file) for name, file in others.items()}}
        sequences = {name: frames(channel, self.segmenter.time_axis) for name, channel in channels.items()}
        images = [dict(zip(sequences, frame, strict=True)) for frame in zip(*sequences.values(), strict=True)]
        return [partial(self.encode, channels) for channels in images]

    def encode(self, images: Images) -> Encoding:
        """The deepest level of one frame's channels."""
        ready = self.segmenter.prepare(images)
        return Encoding(self.model.encode(ready), next(iter(ready.values())), self.cell)


class ImageNetEncoder:
    """The deepest level of EfficientNet-Lite0 (320 channels, stride 32) of an image, or of each axial slice.

    pixels: longer side that images are resized to, aspect kept. 8-bit values / 255; others between the percentiles .5
    and 99.5 of the whole image or sequence. Grey is repeated in red, green and blue.
    """

    network = "EfficientNet-Lite0 (ImageNet)"

    def __init__(self, pixels: int, time_axis: int | None = None, device: str = "auto") -> None:
        self.resize, self.time_axis, self.device = LongSide(pixels), time_axis, select_device(device)
        self.model = EfficientNetLite0()
        self.model.load_imagenet()
        self.model = self.model.eval().to(self.device, memory_format=torch.channels_last)  # type: ignore[call-overload]
        self.width = self.model.widths[-1]

    def frames(self, _case: Case | None, image: sitk.Image) -> list[Encode]:
        """A function for each frame that encodes it."""
        limits = value_limits(image)
        return [partial(self.encode, frame, limits) for frame in frames(image, self.time_axis)]

    def encode(self, image: sitk.Image, limits: tuple[float, float]) -> Encoding:
        """The deepest level of a 2D image, or of each axial slice of a volume; `limits` become 0 and 1."""
        grid = self.resize(sitk.DICOMOrient(image, "LPS") if image.GetDimension() == 3 else image)
        slices = _colours(sitk.GetArrayViewFromImage(grid), grid)  # (Z, 3, Y, X)
        batches = [self._deepest(slices[k : k + BATCH], limits) for k in range(0, len(slices), BATCH)]
        values = np.ascontiguousarray(np.concatenate(batches).swapaxes(0, 1))  # (320, Z, y, x)
        return Encoding(values, grid, (1, STRIDE, STRIDE))

    @torch.inference_mode()
    def _deepest(self, slices: AnyArray, limits: tuple[float, float]) -> Float32Array:
        """Slices (B, 3, Y, X) → features (B, 320, y, x); padded by black to whole cells below and right."""
        low, high = limits
        x = ((torch.from_numpy(np.ascontiguousarray(slices)) - low) / (high - low)).clip(0, 1)
        x = F.pad(x.nan_to_num(), (0, -x.shape[3] % STRIDE, 0, -x.shape[2] % STRIDE))
        x = x.to(self.device, memory_format=torch.channels_last)
        return np.asarray(self.model.levels(x)[-1].float().cpu().numpy())


def value_limits(image: sitk.Image) -> tuple[float, float]:
    """The values that become 0 and 1: 0 and 255 of 8-bit images, else the percentiles .5 and 99.5."""
    values = sitk.GetArrayViewFromImage(image)
    if values.dtype == np.uint8:
        return 0.0, 255.0
    finite = values[np.isfinite(values)] if values.dtype.kind == "f" else values
    if not finite.size:
        return 0.0, 1.0
    low, high = np.percentile(finite, PERCENTILES).tolist()
    return low, high if high > low else low + 1.0


def _colours(array: AnyArray, grid: sitk.Image) -> AnyArray:
    """(Z, Y, X), (Y, X) or with colours last → (Z, 3, Y, X), grey repeated."""
    coloured = grid.GetNumberOfComponentsPerPixel() >= CHANNELS
    if grid.GetNumberOfComponentsPerPixel() > 1:
        array = array[..., :CHANNELS] if coloured else array[..., 0]
    volume = array if grid.GetDimension() == 3 else array[None]
    return np.moveaxis(volume, -1, 1) if coloured else np.repeat(volume[:, None], CHANNELS, axis=1)
