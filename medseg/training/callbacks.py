"""Lightning callbacks: averaged weights, history, seeds, finite losses, progress, best weights."""

from __future__ import annotations

import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytorch_lightning as pl
import torch
from pytorch_lightning.callbacks import Callback, WeightAveraging
from torch import Tensor

from medseg.errors import MedsegError
from medseg.utils.console import Progress
from medseg.utils.files import atomic_write_text


class AveragedWeights(WeightAveraging):
    """Exponential moving average of the weights, with less decay in the first steps."""

    def __init__(self, decay: float, device: torch.device) -> None:
        def average(mean: Tensor, now: Tensor, count: Tensor | int) -> Tensor:
            steps = float(count)
            weight = min(decay, (1 + steps) / (10 + steps))
            return torch.lerp(now, mean, weight) if mean.is_floating_point() else now

        super().__init__(device=device, avg_fn=average)


class History(Callback):
    """Write history.csv, a row every `every` steps: step, samples, lr, train_loss (mean since last row), valid_loss."""

    def __init__(self, file: Path, batch: int, every: int) -> None:
        self.file, self.batch, self.every = file, batch, max(1, every)
        self.rows: list[dict[str, float | None]] = []
        self._losses: list[float] = []

    def on_train_batch_end(self, trainer: pl.Trainer, *_args: Any, **_kw: Any) -> None:
        """Store the loss."""
        self._losses.append(float(trainer.callback_metrics["train_loss"]))
        if trainer.global_step % self.every == 0:
            self._add(trainer, None)

    def on_train_end(self, trainer: pl.Trainer, *_args: Any) -> None:
        """Add a row for the steps since the last one."""
        if self._losses:
            self._add(trainer, None)

    def on_validation_end(self, trainer: pl.Trainer, *_args: Any) -> None:
        """Add the held-out loss."""
        if not trainer.sanity_checking and "valid_loss" in trainer.callback_metrics:
            self._add(trainer, float(trainer.callback_metrics["valid_loss"]))

    def _add(self, trainer: pl.Trainer, valid: float | None) -> None:
        mean = sum(self._losses) / len(self._losses) if self._losses else None
        self._losses = []
        rate = trainer.optimizers[0].param_groups[0]["lr"]
        step = trainer.global_step
        self.rows.append(
            {"step": step, "samples": step * self.batch, "lr": rate, "train_loss": mean, "valid_loss": valid}
        )
        atomic_write_text(self.file, pd.DataFrame(self.rows).to_csv(index=False))

    def state_dict(self) -> dict[str, Any]:
        """State in checkpoints, so that a resumed training has its whole history."""
        return {"rows": self.rows, "losses": self._losses}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Restore after resuming."""
        self.rows, self._losses = state_dict["rows"], state_dict["losses"]


class StepSeeding(Callback):
    """Seed torch at each step, so that a resumed training has the same dropout."""

    def __init__(self, seed: int) -> None:
        self.seed = seed

    def on_train_batch_start(self, trainer: pl.Trainer, *_args: Any) -> None:
        """Seed by seed and step."""
        torch.manual_seed(int(np.random.SeedSequence([self.seed, trainer.global_step]).generate_state(1)[0]))


class NonFiniteLossGuard(Callback):
    """End the training if the loss is NaN or infinite, before its gradient reaches the weights.

    `names` describes the samples of the given numbers; step s has the numbers s·batch … (s + 1)·batch − 1.
    """

    def __init__(self, names: Callable[[range], str], batch: int, file: Path) -> None:
        self.names, self.batch, self.file = names, batch, file

    def on_before_backward(self, trainer: pl.Trainer, pl_module: pl.LightningModule, loss: Tensor) -> None:
        """Raise an error that names the batch; if weights are not finite, the previous batch caused it."""
        value = float(loss.detach())
        if math.isfinite(value):
            return
        finite = all(bool(torch.isfinite(values).all()) for values in pl_module.parameters())
        step = trainer.global_step if finite else max(0, trainer.global_step - 1)
        rate = trainer.optimizers[0].param_groups[0]["lr"]
        samples = self.names(range(step * self.batch, (step + 1) * self.batch))
        checkpoint = f"; the weights before are in {self.file}" if self.file.is_file() else ""
        raise MedsegError(
            f"the loss became {value} at step {trainer.global_step + 1} (learning rate {rate:.2g}){checkpoint}. "
            f"{'The batch has' if finite else 'The gradient of the previous batch was not finite; it has'} {samples}. "
            "Check these images; else train in a new run_dir with a lower learning rate, or continue with "
            "resume=… compute.precision=32",
            code="loss-not-finite",
        )


class ProgressCallback(Callback):
    """Update the console's progress bar."""

    def __init__(self, progress: Progress) -> None:
        self.progress, self._shown = progress, 0

    def on_train_batch_end(self, trainer: pl.Trainer, *_args: Any, **_kw: Any) -> None:
        """Advance by the steps since the last call."""
        self.progress.advance(
            trainer.global_step - self._shown, f"loss {float(trainer.callback_metrics['train_loss']):.3f}"
        )
        self._shown = trainer.global_step


class BestWeights(Callback):
    """Store the weights with the lowest `valid_loss` and restore them when training ends."""

    def __init__(self) -> None:
        self.best = math.inf
        self.state: dict[str, Tensor] | None = None

    def on_validation_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Store the weights if the loss is the lowest so far."""
        loss = float(trainer.callback_metrics["valid_loss"])
        if not trainer.sanity_checking and loss < self.best:
            self.best = loss
            self.state = {name: value.detach().clone() for name, value in pl_module.state_dict().items()}

    def on_train_end(self, _trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Restore the best weights."""
        if self.state is not None:
            pl_module.load_state_dict(self.state)

    def state_dict(self) -> dict[str, Any]:
        """State in checkpoints."""
        return {"best": self.best, "state": self.state}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Restore after resuming."""
        self.best, self.state = state_dict["best"], state_dict["state"]
