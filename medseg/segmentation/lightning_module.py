"""Training of a segmenter as a LightningModule."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import pytorch_lightning as pl
import torch
from torch import Tensor, nn

from medseg.segmentation.losses import supervised
from medseg.segmentation.unet import PretrainedEncoder, UNet


class SegmentationModule(pl.LightningModule):
    """A network with its loss and its schedule of `total_steps` optimiser steps.

    Where time would end the training earlier, the learning rate follows `clock` instead, the share of the time that is
    over, so that a bounded training is annealed too; where the time suffices, the clock has no influence.
    """

    def __init__(
        self,
        network: nn.Module,
        loss: nn.Module,
        optimizer: dict[str, Any],
        total_steps: int,
        clock: Callable[[], float] = lambda: 0.0,
    ) -> None:
        super().__init__()
        self.network, self.loss, self.settings = network, loss, optimizer
        self.total_steps, self.clock = total_steps, clock

    def on_fit_start(self) -> None:
        """The network is where it will be trained."""
        if isinstance(self.network, UNet):
            self.network.settle(self.device.type)

    def on_train_start(self) -> None:
        """A training that goes on for longer than was planned goes on at the rate of the longer schedule."""
        for group in self.trainer.optimizers[0].param_groups:
            group["lr"] = group["initial_lr"] * self.rate(self.progress())

    def forward(self, x: Tensor) -> Tensor:
        """(B, C, *S) → logits (B, K, *S)."""
        logits: Tensor = self.network(x)
        return logits

    def training_step(self, batch: dict[str, Tensor], _index: int) -> Tensor:
        """Loss of a batch {"image": (B, C, *S), "mask": (B, *S), "known": (B, K)}."""
        loss = supervised(self.loss, self.network(batch["image"]), batch["mask"], batch.get("known"))
        self.log("train_loss", loss, on_step=True, on_epoch=False)
        return loss

    def validation_step(self, batch: dict[str, Tensor], _index: int) -> None:
        """Loss of held-out patches, for the curves only."""
        loss = supervised(self.loss, self.network(batch["image"]), batch["mask"], batch.get("known"))
        self.log("valid_loss", loss, on_epoch=True, batch_size=len(batch["mask"]))

    def configure_optimizers(self) -> Any:
        """AdamW or SGD with Nesterov momentum; warm-up, then cosine or polynomial decay."""
        s = self.settings
        parameters = self.parameter_groups()
        if s["name"] == "sgd":
            optimizer: torch.optim.Optimizer = torch.optim.SGD(
                parameters, s["lr"], momentum=s["momentum"], nesterov=True, weight_decay=s["weight_decay"]
            )
        else:
            optimizer = torch.optim.AdamW(
                parameters, s["lr"], weight_decay=s["weight_decay"], fused=not self._scales_loss()
            )
        schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda _step: self.rate(self.progress()))
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": schedule, "interval": "step"}}

    def configure_gradient_clipping(
        self, optimizer: Any, gradient_clip_val: float | None = None, gradient_clip_algorithm: str | None = None
    ) -> None:
        """Clip the gradient's norm; Lightning refuses that for a fused optimiser, which could be one that unscales."""
        if self._scales_loss():
            self.clip_gradients(optimizer, gradient_clip_val, gradient_clip_algorithm)
        elif gradient_clip_val:
            nn.utils.clip_grad_norm_(self.parameters(), gradient_clip_val)

    def _scales_loss(self) -> bool:
        return self._trainer is not None and self.trainer.precision == "16-mixed"

    def parameter_groups(self) -> list[dict[str, Any]]:
        """What is learnt; a pretrained encoder that is not frozen is the last group, with a rate of its own."""
        learnt = [p for p in self.parameters() if p.requires_grad]
        if not isinstance(self.network, UNet) or not isinstance(self.network.encoder, PretrainedEncoder):
            return [{"params": learnt}]
        pretrained = [p for p in self.network.encoder.pretrained.parameters() if p.requires_grad]
        known = set(pretrained)
        groups = [{"params": [p for p in learnt if p not in known]}]
        return [*groups, {"params": pretrained, "lr": self.settings["encoder_lr"]}] if pretrained else groups

    def progress(self) -> float:
        """Fraction of the training that is done, 0..1, by steps or by time, whichever is larger."""
        steps = self._steps_done() / self.total_steps
        return min(1.0, max(steps, self.clock()))

    def _steps_done(self) -> int:
        return int(self.trainer.global_step) if self._trainer is not None else 0

    def rate(self, progress: float) -> float:
        """Factor of the learning rate at a progress of 0..1."""
        warmup = float(self.settings["warmup_fraction"])
        if progress < warmup:
            return max(progress / warmup, 0.01)
        fraction = (progress - warmup) / (1 - warmup)
        if self.settings["schedule"] == "poly":
            return float((1 - fraction) ** 0.9)
        return 0.5 * (1 + math.cos(math.pi * fraction))
