"""The U-Net (Ronneberger et al. 2015; in 3D Çiçek et al. 2016), one definition for images and volumes."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from medseg.segmentation.efficientnet_lite import EfficientNetLite0

CONV = {2: nn.Conv2d, 3: nn.Conv3d}
UP = {2: nn.ConvTranspose2d, 3: nn.ConvTranspose3d}
POOL = {2: nn.MaxPool2d, 3: nn.MaxPool3d}
DROP = {2: nn.Dropout2d, 3: nn.Dropout3d}
BATCH = {2: nn.BatchNorm2d, 3: nn.BatchNorm3d}
PRETRAINED_DECODER = (1, 1.5, 2, 4, 8)  # times `width`, from the full size down: the encoder does most of the work
LAYOUT = {2: torch.channels_last, 3: torch.channels_last_3d}


@dataclass(frozen=True)
class Shape:
    """What a U-Net looks like; the values of `segmenter.network` in YAML."""

    dimensions: int = 2
    width: int = 16  # channels of the first level, doubled a level
    max_width: int = 256
    depth: int = 4  # levels below the first
    encoder: str = "none"  # none | efficientnet_lite0, which has learnt from ImageNet
    freeze_encoder: bool = False  # the weights of the encoder, or of its pretrained part, stay as they are
    norm: str = "instance"  # instance | batch | group | none
    residual: bool = False
    strided: bool = False  # stride-2 convolution in place of max pooling
    deep_supervision: bool = False
    dropout: float = 0.0

    def widths(self) -> list[int]:
        """Channels of each level of the plain encoder, from the full size down."""
        return [min(self.width * 2**level, self.max_width) for level in range(self.depth + 1)]

    def decoder_widths(self) -> list[int]:
        """Channels of each level of the decoder, from the full size down."""
        if self.encoder == "none":
            return self.widths()[:-1]
        return [min(round(self.width * factor), self.max_width) for factor in PRETRAINED_DECODER]


class UNet(nn.Module):
    """Encoder, decoder and a 1×1 head; `shape` holds the fields of `Shape`.

    Input (B, C, *S) with every size of S a multiple of 2^depth; output logits (B, K, *S). While training with deep
    supervision it returns a list of logits, full size first, each next one half as large.
    """

    def __init__(self, in_channels: int, classes: int, **shape: Any) -> None:
        super().__init__()
        self.shape = s = Shape(**shape)
        self.encoder = make_encoder(in_channels, s)
        outer, inner = s.decoder_widths(), self.encoder.widths
        below = [*outer[1:], inner[-1]]
        levels = zip(below, inner[:-1], outer, strict=True)
        self.up = nn.ModuleList(Up(*channels, s) for channels in reversed(list(levels)))
        heads = outer if s.deep_supervision else outer[:1]
        self.heads = nn.ModuleList(CONV[s.dimensions](width, classes, 1) for width in heads)
        self.settle("cpu")

    def settle(self, device: str) -> None:
        """Lay the weights out as convolutions on `device`, cpu or cuda, are fastest.

        A processor convolves a third faster where the channels of a voxel lie together, an H100 a quarter slower.
        """
        layout = LAYOUT[self.shape.dimensions] if device == "cpu" else torch.contiguous_format
        self.to(memory_format=layout)  # type: ignore[call-overload]

    def arranged(self, x: Tensor) -> Tensor:
        """An input laid out as the weights are."""
        return x if x.device.type != "cpu" else x.contiguous(memory_format=LAYOUT[self.shape.dimensions])

    def encode(self, x: Tensor) -> list[Tensor]:
        """The encoder's levels, from full size (B, width, *S) to the deepest (B, W, *S/2^depth)."""
        levels: list[Tensor] = self.encoder(self.arranged(x))
        return levels

    def forward(self, x: Tensor) -> Tensor | list[Tensor]:
        """Logits (B, K, *S), or a list of them from fine to coarse while training with deep supervision."""
        skips = self.encode(x)
        x = skips.pop()
        levels = []
        for up in self.up:
            x = up(x, skips.pop())
            levels.append(x)
        levels.reverse()
        if self.training and self.shape.deep_supervision:
            return [head(level).contiguous() for head, level in zip(self.heads, levels, strict=True)]
        logits: Tensor = self.heads[0](levels[0])
        return logits.contiguous()


class PlainEncoder(nn.Module):
    """The encoder of the paper: a `DoubleConv` a level, each level half the size of the one before."""

    def __init__(self, in_channels: int, s: Shape) -> None:
        super().__init__()
        self.widths = s.widths()
        self.frozen = s.freeze_encoder
        self.first = DoubleConv(in_channels, self.widths[0], s)
        self.down = nn.ModuleList(Down(a, b, s) for a, b in pairwise(self.widths))
        self.requires_grad_(not self.frozen)

    def train(self, mode: bool = True) -> PlainEncoder:
        """A frozen encoder keeps the statistics of its normalisation too."""
        super().train(mode and not self.frozen)
        return self

    def forward(self, x: Tensor) -> list[Tensor]:
        """(B, C, *S) → its levels, (B, W, *S/2^level) each."""
        levels = [self.first(x)]
        for down in self.down:
            levels.append(down(levels[-1]))
        return levels

    def load_pretrained(self) -> None:
        """Nothing: it learns from nothing."""


class PretrainedEncoder(nn.Module):
    """EfficientNet-Lite0's levels, and one convolution at full size, which that network lacks."""

    def __init__(self, in_channels: int, s: Shape) -> None:
        super().__init__()
        if s.dimensions != 2 or s.depth != len(EfficientNetLite0.widths):
            raise ValueError(
                f"encoder={s.encoder}: has 2 dimensions and depth {len(EfficientNetLite0.widths)}, "
                f"not {s.dimensions} and {s.depth}; take encoder=none for others"
            )
        self.frozen = s.freeze_encoder
        self.first = nn.Sequential(
            nn.Conv2d(in_channels, s.width, 3, padding=1, bias=s.norm == "none"),
            normalisation(s.width, s),
            nn.LeakyReLU(0.01, inplace=True),
        )
        self.pretrained = EfficientNetLite0(in_channels).requires_grad_(not self.frozen)
        self.widths = [s.width, *EfficientNetLite0.widths]

    def train(self, mode: bool = True) -> PretrainedEncoder:
        """A frozen encoder keeps the statistics of its normalisation too."""
        super().train(mode)
        self.pretrained.train(mode and not self.frozen)
        return self

    def forward(self, x: Tensor) -> list[Tensor]:
        """(B, C, *S) → its levels, (B, W, *S/2^level) each."""
        return [self.first(x), *self.pretrained.levels(x)]

    def load_pretrained(self) -> None:
        """Take the weights learnt on ImageNet, before a training."""
        self.pretrained.load_imagenet()


def make_encoder(in_channels: int, s: Shape) -> PlainEncoder | PretrainedEncoder:
    """The encoder that `s.encoder` names."""
    if s.encoder == "none":
        return PlainEncoder(in_channels, s)
    if s.encoder == "efficientnet_lite0":
        return PretrainedEncoder(in_channels, s)
    raise ValueError(f"encoder={s.encoder!r}: must be none or efficientnet_lite0")


class DoubleConv(nn.Module):
    """Twice 3×3 convolution, normalisation, leaky ReLU; with `residual` the input is added to the result."""

    def __init__(self, inside: int, outside: int, s: Shape) -> None:
        super().__init__()
        conv = CONV[s.dimensions]
        bias = s.norm == "none"
        self.layers = nn.Sequential(
            conv(inside, outside, 3, padding=1, bias=bias),
            normalisation(outside, s),
            nn.LeakyReLU(0.01, inplace=True),
            DROP[s.dimensions](s.dropout) if s.dropout else nn.Identity(),
            conv(outside, outside, 3, padding=1, bias=bias),
            normalisation(outside, s),
        )
        self.shortcut = conv(inside, outside, 1, bias=False) if s.residual else None
        self.activation = nn.LeakyReLU(0.01, inplace=True)

    def forward(self, x: Tensor) -> Tensor:
        """(B, inside, *S) → (B, outside, *S)."""
        y = self.layers(x)
        if self.shortcut is not None:
            y = y + self.shortcut(x)
        activated: Tensor = self.activation(y)
        return activated


class Down(nn.Module):
    """Half the size: 2×2 max pooling, or a stride-2 convolution, then a `DoubleConv`."""

    def __init__(self, inside: int, outside: int, s: Shape) -> None:
        super().__init__()
        self.shrink = CONV[s.dimensions](inside, inside, 2, stride=2) if s.strided else POOL[s.dimensions](2)
        self.convolve = DoubleConv(inside, outside, s)

    def forward(self, x: Tensor) -> Tensor:
        """(B, inside, *S) → (B, outside, *S/2)."""
        y: Tensor = self.convolve(self.shrink(x))
        return y


class Up(nn.Module):
    """Twice the size: 2×2 up-convolution, concatenation with the encoder's level, then a `DoubleConv`."""

    def __init__(self, inside: int, skip: int, outside: int, s: Shape) -> None:
        super().__init__()
        self.grow = UP[s.dimensions](inside, outside, 2, stride=2)
        self.convolve = DoubleConv(skip + outside, outside, s)

    def forward(self, x: Tensor, skip: Tensor) -> Tensor:
        """(B, inside, *S/2) and (B, skip, *S) → (B, outside, *S)."""
        y: Tensor = self.convolve(torch.cat([skip, self.grow(x)], dim=1))  # (B, skip + outside, *S)
        return y


class InstanceNorm(nn.Module):
    """Each channel of each image brought to mean 0 and variance 1, then scaled and shifted (Ulyanov et al. 2016).

    On a processor image by image as torch's batch normalisation, which keeps the layout; its instance normalisation
    does not.
    """

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.weight, self.bias = nn.Parameter(torch.ones(channels)), nn.Parameter(torch.zeros(channels))

    def forward(self, x: Tensor) -> Tensor:
        """(B, C, *S) → (B, C, *S)."""
        if x.device.type != "cpu":
            return F.instance_norm(x, weight=self.weight, bias=self.bias)
        return torch.cat(
            [F.batch_norm(sample, None, None, self.weight, self.bias, training=True) for sample in torch.split(x, 1)]
        )


def normalisation(channels: int, s: Shape) -> nn.Module:
    """The layer that `s.norm` names."""
    if s.norm == "instance":
        return InstanceNorm(channels)
    if s.norm == "batch":
        return BATCH[s.dimensions](channels)
    if s.norm == "group":
        return nn.GroupNorm(min(8, channels), channels)
    if s.norm == "none":
        return nn.Identity()
    raise ValueError(f"norm={s.norm!r}: must be instance, batch, group or none")
