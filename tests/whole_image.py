"""What a network says of a whole image at once, which medseg itself only asks plane by plane."""

from __future__ import annotations

from functools import partial

import torch
from torch import nn

from medseg.segmentation.sliding_window import Tiling, iter_planes, probabilities, stack_planes
from medseg.typing import Float32Array


def predict(network: nn.Module, image: Float32Array, tiling: Tiling, device: torch.device) -> Float32Array:
    """Probabilities (K, Z, Y, X) of an image (C, Z, Y, X); a 2D network takes the slices along Z."""
    return stack_planes(
        iter_planes(partial(probabilities, network.eval(), tiling, device), [image], tiling), image.shape[1]
    )
