"""Training of a `SequenceLSTM` under Lightning."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Literal

import numpy as np
import pytorch_lightning as pl
import torch
import torch.nn.functional as F
from torch import Tensor

from medseg.diagnosis.lstm import SequenceLSTM
from medseg.diagnosis.sequence_dataset import UNKNOWN, Item, SequenceBatch


class SequenceModule(pl.LightningModule):
    """Loss = class-weighted cross-entropy + `signal_weight` × error of the signal, over the known frames; AdamW.

    class_weights: (K,), see `class_weights`, or None for equal ones. Logs train_loss and valid_loss.
    """

    def __init__(
        self,
        model: SequenceLSTM,
        class_weights: Iterable[float] | None = None,
        signal_weight: float = 1.0,
        signal_loss: Literal["smooth_l1", "mse"] = "smooth_l1",
        lr: float = 3e-3,
        weight_decay: float = 1e-2,
    ) -> None:
        super().__init__()
        self.model = model
        weights = torch.ones(model.task.classes) if class_weights is None else torch.tensor(list(class_weights))
        self.class_weights: Tensor
        self.register_buffer("class_weights", weights, persistent=False)
        self.signal_weight = signal_weight
        self.signal_error = {"smooth_l1": F.smooth_l1_loss, "mse": F.mse_loss}[signal_loss]
        self.lr = lr
        self.weight_decay = weight_decay

    def loss(self, batch: SequenceBatch) -> Tensor:
        """Mean over the known states and signals of the batch; unknown values add 0."""
        output = self.model(batch)
        logits, state = output.logits.flatten(0, 1), batch.state.flatten()  # (B·T, K), (B·T,)
        loss: Tensor = output.logits.sum() * 0
        if (state != UNKNOWN).any():
            loss = loss + F.cross_entropy(logits, state, weight=self.class_weights, ignore_index=UNKNOWN)
        known = torch.isfinite(batch.signal)
        if output.signal is not None and known.any():
            loss = loss + self.signal_weight * self.signal_error(output.signal[known], batch.signal[known])
        return loss

    def training_step(self, batch: SequenceBatch, _: int) -> Tensor:
        """One optimiser step."""
        loss = self.loss(batch)
        self.log("train_loss", loss, on_step=True, on_epoch=False, batch_size=len(batch.x))
        return loss

    def validation_step(self, batch: SequenceBatch, _: int) -> None:
        """The loss that early stopping watches."""
        self.log("valid_loss", self.loss(batch), batch_size=len(batch.x))

    def configure_optimizers(self) -> torch.optim.Optimizer:
        """AdamW."""
        return torch.optim.AdamW(self.parameters(), lr=self.lr, weight_decay=self.weight_decay)


def class_weights(items: Iterable[Item], classes: int) -> list[float]:
    """Weight of each class (K,), inverse to its frequency among the known states, mean 1 over them; 0 without any."""
    known = [item.state[item.state != UNKNOWN] for item in items if item.state is not None]
    count = np.bincount(np.concatenate(known), minlength=classes) if known else np.zeros(classes)
    seen = max(int((count > 0).sum()), 1)
    return [float(count.sum() / (seen * n)) if n else 0.0 for n in count]
