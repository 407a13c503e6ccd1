import pytest
import torch
from torch import nn

from medseg.segmentation.unet import InstanceNorm, UNet


@pytest.mark.parametrize("dimensions", [2, 3])
@pytest.mark.parametrize("strided", [False, True])
@pytest.mark.parametrize("residual", [False, True])
@pytest.mark.parametrize("norm", ["instance", "batch", "group", "none"])
def test_every_variant_keeps_the_size(dimensions: int, strided: bool, residual: bool, norm: str) -> None:
    network = UNet(2, 3, dimensions=dimensions, width=4, depth=2, norm=norm, residual=residual, strided=strided)
    sizes = (8, 12, 16)[:dimensions]
    logits = network(torch.rand(2, 2, *sizes))
    assert logits.shape == (2, 3, *sizes)
    assert torch.isfinite(logits).all()


def test_it_is_the_u_net_of_the_paper() -> None:
    network = UNet(1, 2, width=4, depth=3, max_width=16)
    kinds = [type(m) for m in network.modules()]
    assert kinds.count(nn.MaxPool2d) == kinds.count(nn.ConvTranspose2d) == 3
    threes = [m for m in network.modules() if isinstance(m, nn.Conv2d) and m.kernel_size == (3, 3)]
    assert len(threes) == 2 * (1 + 3 + 3)
    assert [m.in_channels for m in threes][-6::2] == [32, 16, 8]  # concatenation doubles each level's channels
    assert network.shape.widths() == [4, 8, 16, 16]


def test_strided_has_no_pooling() -> None:
    network = UNet(1, 2, width=4, depth=2, strided=True)
    assert not [m for m in network.modules() if isinstance(m, nn.MaxPool2d)]


def test_the_lowest_level_reaches_the_result() -> None:
    """A pixel's logits depend on pixels beyond what the highest levels see."""
    torch.manual_seed(0)
    network = UNet(1, 2, width=8, depth=4, strided=True).eval()
    image = torch.rand(1, 1, 64, 64, requires_grad=True)
    network(image)[0, 1, 32, 32].backward()
    assert image.grad is not None
    assert float(image.grad[0, 0, 32, 4].abs()) > 0


def test_deep_supervision_gives_a_level_each_only_while_training() -> None:
    network = UNet(1, 2, width=4, depth=3, deep_supervision=True)
    image = torch.rand(1, 1, 16, 24)
    assert [tuple(level.shape[2:]) for level in network(image)] == [(16, 24), (8, 12), (4, 6)]
    assert network.eval()(image).shape == (1, 2, 16, 24)


def test_an_unknown_norm_or_setting_is_refused() -> None:
    with pytest.raises(ValueError, match="norm='layer'"):
        UNet(1, 2, norm="layer")
    with pytest.raises(TypeError, match="widht"):
        UNet(1, 2, widht=4)


@pytest.mark.parametrize("dimensions", [2, 3])
def test_instances_are_normalised_as_torch_does(dimensions: int) -> None:
    layout = {2: torch.channels_last, 3: torch.channels_last_3d}[dimensions]
    own, usual = InstanceNorm(6), {2: nn.InstanceNorm2d, 3: nn.InstanceNorm3d}[dimensions](6, affine=True)
    with torch.no_grad():
        own.weight.normal_()
        own.bias.normal_()
    usual.load_state_dict(own.state_dict())
    image = torch.randn(3, 6, *(8, 12, 16)[:dimensions]) * 3 + 2
    for given in (image, image.to(memory_format=layout)):
        assert torch.allclose(own(given), usual(image), atol=1e-5)
        assert torch.allclose(own.eval()(given), usual.eval()(image), atol=1e-5)
    assert own(image.to(memory_format=layout)).is_contiguous(memory_format=layout)


def test_logits_lie_as_masks_do() -> None:
    for dimensions, sizes in ((2, (16, 16)), (3, (8, 16, 16))):
        network = UNet(1, 3, dimensions=dimensions, width=4, depth=2, deep_supervision=True)
        assert all(logits.is_contiguous() for logits in network(torch.rand(2, 1, *sizes)))
        assert network.eval()(torch.rand(2, 1, *sizes)).is_contiguous()


def pretrained(**shape: object) -> UNet:
    torch.manual_seed(0)
    return UNet(2, 3, encoder="efficientnet_lite0", depth=5, norm="batch", **shape)


def test_unet_with_a_pretrained_encoder_keeps_the_size_and_learns_everywhere() -> None:
    network = pretrained()
    network.encoder.load_pretrained()
    logits = network(torch.rand(2, 2, 64, 96))
    assert logits.shape == (2, 3, 64, 96)
    logits.square().sum().backward()
    assert all(parameter.grad is not None for parameter in network.parameters())
    assert [level.shape[1] for level in network.encode(torch.rand(1, 2, 64, 64))] == [16, 16, 24, 40, 112, 320]
    assert [head.in_channels for head in pretrained(deep_supervision=True).heads] == [16, 24, 32, 64, 128]


def test_unet_with_a_frozen_encoder_keeps_its_weights_and_statistics() -> None:
    network = pretrained(freeze_encoder=True)
    network.encoder.load_pretrained()
    before = {name: value.clone() for name, value in network.encoder.pretrained.state_dict().items()}
    network.train()
    network(torch.rand(2, 2, 64, 64)).square().sum().backward()
    after = network.encoder.pretrained.state_dict()
    assert all(torch.equal(before[name], after[name]) for name in before)
    assert not any(parameter.requires_grad for parameter in network.encoder.pretrained.parameters())
    assert network.heads[0].weight.grad is not None


@pytest.mark.parametrize("shape", [{"dimensions": 3}, {"depth": 4}, {"encoder": "resnet"}])
def test_unet_with_an_impossible_encoder_is_refused(shape: dict[str, object]) -> None:
    with pytest.raises(ValueError, match="encoder="):
        UNet(1, 2, **({"encoder": "efficientnet_lite0", "depth": 5} | shape))
