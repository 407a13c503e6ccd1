"""EfficientNet-Lite0 without its classifier (Tan & Le 2019; Lite: no squeeze-and-excitation, ReLU6)."""

from __future__ import annotations

from pathlib import Path
from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from safetensors.torch import load_file
from torch import Tensor, nn

WEIGHTS = Path(__file__).with_name("weights") / "efficientnet_lite0.safetensors"
CHANNELS = 3  # red, green, blue, as the weights learnt them
STRIDE = 32  # of the deepest level
STEM = 32  # channels
HEAD = 1280  # channels of the features that ImageNet's classifier reads


class Stage(NamedTuple):
    """Blocks of one size; the first of them has the stride."""

    blocks: int
    kernel: int
    stride: int
    expansion: int
    channels: int


STAGES = (  # Tan & Le 2019, table 1; Lite does not scale the first and last stage
    Stage(1, 3, 1, 1, 16),
    Stage(2, 3, 2, 6, 24),
    Stage(2, 5, 2, 6, 40),
    Stage(3, 3, 2, 6, 80),
    Stage(3, 5, 1, 6, 112),
    Stage(4, 5, 2, 6, 192),
    Stage(1, 3, 1, 6, 320),
)
LEVELS = (0, 1, 2, 4, 6)  # the last stages of strides 2, 4, 8, 16, 32


class EfficientNetLite0(nn.Module):
    """The feature levels of EfficientNet-Lite0 for images (B, C, Y, X) of about 0..1, sizes multiples of 32.

    Other than three channels are taken by the first convolution's mean over colours, scaled by 3 / C, so that an image
    repeated in all channels gives what the grey image gives. `head` adds the last convolution, for `forward`.
    """

    widths = tuple(STAGES[index].channels for index in LEVELS)

    def __init__(self, in_channels: int = CHANNELS, head: bool = False) -> None:
        super().__init__()
        self.stem = ConvNorm(in_channels, STEM, kernel=3, stride=2)
        inputs, stages = STEM, []
        for stage in STAGES:
            blocks = []
            for index in range(stage.blocks):
                blocks.append(MobileBlock(inputs, stage, stage.stride if index == 0 else 1))
                inputs = stage.channels
            stages.append(nn.Sequential(*blocks))
        self.stages = nn.ModuleList(stages)
        self.head = ConvNorm(inputs, HEAD) if head else None

    def levels(self, x: Tensor) -> list[Tensor]:
        """Features at strides 2, 4, 8, 16, 32: (B, 16, Y/2, X/2) … (B, 320, Y/32, X/32)."""
        x = self.stem(2 * x - 1)  # ImageNet's weights expect -1..1
        features = []
        for index, stage in enumerate(self.stages):
            x = stage(x)
            if index in LEVELS:
                features.append(x)
        return features

    def forward(self, x: Tensor) -> Tensor:
        """The feature map (B, 1280, Y/32, X/32) that ImageNet's classifier averages."""
        if self.head is None:
            raise ValueError("made without its head; see levels()")
        features: Tensor = self.head(self.levels(x)[-1])
        return features

    def load_imagenet(self) -> None:
        """Take the weights learnt on ImageNet; the first convolution is folded to the network's channels."""
        own = self.state_dict()
        state = own | {name: value.float() for name, value in load_file(WEIGHTS).items() if name in own}
        first = "stem.conv.weight"
        if state[first].shape != own[first].shape:
            state[first] = fold_channels(state[first], self.stem.conv.in_channels)
        self.load_state_dict(state)


def fold_channels(kernels: Tensor, channels: int) -> Tensor:
    """Kernels (O, C, *k) for another number of input channels: an image repeated in all of them gives the same."""
    return (kernels.sum(1, keepdim=True) / channels).repeat_interleave(channels, dim=1)


class MobileBlock(nn.Module):
    """Inverted residual block (Sandler et al. 2018): expand, convolve each channel, project; add where sizes agree."""

    def __init__(self, inputs: int, stage: Stage, stride: int) -> None:
        super().__init__()
        hidden = inputs * stage.expansion
        layers = [ConvNorm(inputs, hidden)] if stage.expansion > 1 else []
        layers.append(ConvNorm(hidden, hidden, stage.kernel, stride, groups=hidden))
        layers.append(ConvNorm(hidden, stage.channels, activation=False))
        self.layers = nn.Sequential(*layers)
        self.residual = stride == 1 and inputs == stage.channels

    def forward(self, x: Tensor) -> Tensor:
        """(B, inputs, Y, X) → (B, channels, Y/stride, X/stride)."""
        y: Tensor = self.layers(x)
        return x + y if self.residual else y


class ConvNorm(nn.Module):
    """Convolution, batch normalisation and, by choice, ReLU6.

    A stride of 2 pads below and to the right only for a kernel of 3, one more than above and left for 5, as TensorFlow
    pads, where the weights come from.
    """

    def __init__(
        self, inputs: int, outputs: int, kernel: int = 1, stride: int = 1, groups: int = 1, activation: bool = True
    ) -> None:
        super().__init__()
        both = (kernel - 1) // 2 if stride == 1 else 0
        self.pad = (kernel // 2 - 1, kernel // 2) * 2 if stride == 2 else None
        self.conv = nn.Conv2d(inputs, outputs, kernel, stride, both, groups=groups, bias=False)
        self.norm = nn.BatchNorm2d(outputs, eps=1e-3, momentum=0.01)
        self.activation = activation

    def forward(self, x: Tensor) -> Tensor:
        """(B, inputs, Y, X) → (B, outputs, Y/stride, X/stride)."""
        if self.pad is not None:
            x = F.pad(x, self.pad)
        y: Tensor = self.norm(self._convolve(x))
        return F.relu6(y, inplace=True) if self.activation else y

    def _convolve(self, x: Tensor) -> Tensor:
        y: Tensor
        if self.conv.groups > 1 and self.training and x.device.type == "cpu":
            weight = self.conv.weight.to(x.dtype)
            y = Depthwise.apply(x, weight, self.conv.stride, self.conv.padding)  # type: ignore[no-untyped-call]
        else:
            y = self.conv(x)
        return y


class Depthwise(torch.autograd.Function):
    """A convolution of each channel whose gradients are computed in 32 bit, as processors do 5 to 40 times faster."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, stride: Any, padding: Any) -> Tensor:
        """(B, C, Y, X) and kernels (C, 1, k, k) → (B, C, Y/stride, X/stride)."""
        ctx.save_for_backward(x, weight)
        ctx.stride, ctx.padding = stride, padding
        return F.conv2d(x, weight, None, stride, padding, 1, len(weight))

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, ...]:
        """Gradients of image and kernels."""
        x, weight = ctx.saved_tensors
        to_x, to_weight, _ = torch.ops.aten.convolution_backward(
            gradients[0].float(), x.float(), weight.float(), None, ctx.stride, ctx.padding, (1, 1), False, (0, 0),
            len(weight), (ctx.needs_input_grad[0], ctx.needs_input_grad[1], False),
        )  # fmt: skip
        return to_x.to(x.dtype), to_weight.to(weight.dtype), None, None
