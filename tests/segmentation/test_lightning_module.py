import pytest
import torch
from torch import nn

from medseg.segmentation.lightning_module import SegmentationModule
from medseg.segmentation.losses import DiceCrossEntropy
from medseg.segmentation.unet import UNet

ADAMW = {
    "name": "adamw",
    "lr": 0.01,
    "weight_decay": 0.1,
    "momentum": 0.9,
    "warmup_fraction": 0.1,
    "schedule": "cosine",
}


def module(**changes: object) -> SegmentationModule:
    return SegmentationModule(nn.Conv2d(1, 2, 1), DiceCrossEntropy(), ADAMW | changes, 100)


def test_the_rate_warms_up_and_decays() -> None:
    cosine, poly = module(), module(schedule="poly")
    assert cosine.rate(0.05) == pytest.approx(0.5)
    assert cosine.rate(0.1) == pytest.approx(1)
    assert cosine.rate(0.55) == pytest.approx(0.5)
    assert cosine.rate(1.0) == pytest.approx(0)
    assert poly.rate(0.55) == pytest.approx(0.5**0.9)


def test_the_optimiser_is_the_chosen_one() -> None:
    adamw, sgd = module().configure_optimizers()["optimizer"], module(name="sgd").configure_optimizers()["optimizer"]
    assert isinstance(adamw, torch.optim.AdamW)
    assert adamw.defaults["weight_decay"] == 0.1
    assert isinstance(sgd, torch.optim.SGD)
    assert sgd.defaults["nesterov"]


def test_the_clock_matters_only_where_time_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    bounded, free = module(), module()
    bounded.clock = lambda: 0.5
    for one in (bounded, free):
        monkeypatch.setattr(one, "_steps_done", lambda: 20)
    assert free.progress() == pytest.approx(0.2)
    assert bounded.progress() == pytest.approx(0.5)


def test_a_step_lowers_the_loss() -> None:
    torch.manual_seed(0)
    one = module()
    one.log = lambda *_a, **_k: None  # type: ignore[method-assign]
    image = torch.rand(4, 1, 8, 8)
    batch = {"image": image, "mask": (image[:, 0] > 0.5).long()}
    optimiser = torch.optim.AdamW(one.parameters(), 0.1)
    losses = []
    for _ in range(30):
        loss = one.training_step(batch, 0)
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        losses.append(float(loss.detach()))
    assert losses[-1] < 0.7 * losses[0]


def test_configure_optimizers_gives_a_pretrained_encoder_its_own_rate() -> None:
    network = UNet(1, 2, encoder="efficientnet_lite0", depth=5, norm="batch")
    training = SegmentationModule(network, DiceCrossEntropy(), ADAMW | {"encoder_lr": 0.002}, 100)
    learnt, pretrained = training.configure_optimizers()["optimizer"].param_groups
    assert (learnt["initial_lr"], pretrained["initial_lr"]) == (0.01, 0.002)
    assert len(pretrained["params"]) == len(list(network.encoder.pretrained.parameters()))
    assert len(learnt["params"]) + len(pretrained["params"]) == len(list(network.parameters()))
    frozen = UNet(1, 2, encoder="efficientnet_lite0", depth=5, norm="batch", freeze_encoder=True)
    groups = SegmentationModule(frozen, DiceCrossEntropy(), ADAMW, 100).configure_optimizers()["optimizer"].param_groups
    assert len(groups) == 1
    assert all(parameter.requires_grad for parameter in groups[0]["params"])
