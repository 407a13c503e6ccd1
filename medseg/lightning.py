"""Lightning's trainer, set up from settings: averaged weights, history, checkpoints, time bound."""

from __future__ import annotations

import math
import time
from pathlib import Path
from typing import Any, NamedTuple

import pandas as pd
import pytorch_lightning as pl
import torch
from pytorch_lightning.callbacks import Callback, ModelCheckpoint, Timer, WeightAveraging
from torch import Tensor

from medseg.config import Config, build
from medseg.console import Progress
from medseg.errors import MedsegError
from medseg.executor import device_of, precision_of, quiet_libraries, use_threads
from medseg.ledger import atomic_write_text
from medseg.runs import Run
from medseg.targets import LOGGERS


class AveragedWeights(WeightAveraging):
    """Exponential moving average of the weights; the average counts few steps at first, `decay` later."""

    def __init__(self, decay: float, device: torch.device) -> None:
        def average(mean: Tensor, now: Tensor, count: Tensor | int) -> Tensor:
            seen = float(count)
            keep = min(decay, (1 + seen) / (10 + seen))
            return torch.lerp(now, mean, keep) if mean.is_floating_point() else now

        super().__init__(device=device, avg_fn=average)


class History(Callback):
    """history.csv, one row every `every` steps: step, passes, lr, train_loss (mean since the last row), valid_loss."""

    def __init__(self, file: Path, batch: int, every: int) -> None:
        self.file, self.batch, self.every = file, batch, max(1, every)
        self.rows: list[dict[str, float | None]] = []
        self._losses: list[float] = []

    def on_train_batch_end(self, trainer: pl.Trainer, *_args: Any, **_kw: Any) -> None:
        """Remember the loss; a NaN ends the training with the step named."""
        loss = float(trainer.callback_metrics["train_loss"])
        if not math.isfinite(loss):
            raise MedsegError(
                f"the loss became {loss} at step {trainer.global_step}; lower the learning rate, or set "
                "executor.precision=32",
                code="loss",
            )
        self._losses.append(loss)
        if trainer.global_step % self.every == 0:
            self._add(trainer, None)

    def on_train_end(self, trainer: pl.Trainer, *_args: Any) -> None:
        """The steps since the last row."""
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
            {"step": step, "passes": step * self.batch, "lr": rate, "train_loss": mean, "valid_loss": valid}
        )
        atomic_write_text(self.file, pd.DataFrame(self.rows).to_csv(index=False))

    def state_dict(self) -> dict[str, Any]:
        """Kept in checkpoints, so that a resumed training has its whole history."""
        return {"rows": self.rows}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Restore after resuming."""
        self.rows = state_dict["rows"]


class RandomState(Callback):
    """Keep torch's random numbers in checkpoints, so that dropout goes on after a resume as it would have."""

    def __init__(self) -> None:
        self._restored: dict[str, Any] = {}

    def on_train_start(self, *_args: Any) -> None:
        """Go on where the checkpoint was."""
        if self._restored:
            torch.set_rng_state(self._restored["cpu"])
            torch.cuda.set_rng_state_all(self._restored["cuda"][: torch.cuda.device_count()])

    def state_dict(self) -> dict[str, Any]:
        """The generators of the processor and of each GPU."""
        return {"cpu": torch.get_rng_state(), "cuda": torch.cuda.get_rng_state_all()}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Remember it until training starts."""
        self._restored = state_dict


class Bar(Callback):
    """Feeds the console's progress bar."""

    def __init__(self, progress: Progress) -> None:
        self.progress, self._shown = progress, 0

    def on_train_batch_end(self, trainer: pl.Trainer, *_args: Any, **_kw: Any) -> None:
        """One step further."""
        self.progress.advance(
            trainer.global_step - self._shown, f"loss {float(trainer.callback_metrics['train_loss']):.3f}"
        )
        self._shown = trainer.global_step


def seconds_of(max_time: str | None) -> float | None:
    """DD:HH:MM:SS → seconds."""
    if max_time is None:
        return None
    days, hours, minutes, seconds = map(int, max_time.split(":"))
    return float(((days * 24 + hours) * 60 + minutes) * 60 + seconds)


class Budget(NamedTuple):
    """How long to train: `epochs` of `length` optimiser steps of `batch` samples."""

    epochs: int
    length: int
    batch: int
    validations: int

    @property
    def steps(self) -> int:
        """Optimiser steps in all."""
        return self.epochs * self.length


def budget_of(config: Config, passes: int, batch: int, validations: int) -> Budget:
    """The trainer's share of the recipe's passes, in epochs as far apart as checkpoints or validations shall be."""
    steps = max(1, math.ceil(passes * config.trainer.budget / batch))
    length = math.ceil(steps / max(1, validations, math.ceil(steps / config.trainer.checkpoint_every)))
    return Budget(math.ceil(steps / length), length, batch, validations)


def make_trainer(config: Config, run: Run, budget: Budget, extra: list[Callback]) -> pl.Trainer:
    """A trainer that writes history, and a checkpoint after each epoch, into the run.

    Checkpoints lie between epochs only, so that a resumed training sees every patch once.
    """
    quiet_libraries()
    use_threads(config.executor.threads)
    device = device_of(config.executor.accelerator)
    callbacks: list[Callback] = [
        History(run.file("history.csv"), budget.batch, every=max(1, budget.steps // 100)),
        RandomState(),
        *extra,
        ModelCheckpoint(run.checkpoint.parent, "last", save_on_train_epoch_end=True, enable_version_counter=False),
    ]
    if config.trainer.max_time is not None:
        callbacks.append(Timer(config.trainer.max_time))
    logger = build(config.logger, LOGGERS, save_dir=str(run.path)) if config.logger.get("_target_") else False
    return pl.Trainer(
        accelerator="cpu" if device.type == "cpu" else "gpu",
        devices=config.executor.devices,
        precision=precision_of(config.executor.precision, device),
        max_epochs=budget.epochs,  # not max_steps: only trainings counted in epochs resume at the right one
        check_val_every_n_epoch=max(1, round(budget.epochs / max(1, budget.validations))),
        callbacks=callbacks,
        logger=logger,
        gradient_clip_val=config.trainer.clip_norm or None,
        enable_progress_bar=False,
        enable_model_summary=False,
        num_sanity_val_steps=0,
        log_every_n_steps=1,
        use_distributed_sampler=config.executor.devices > 1,
    )


def fit(trainer: pl.Trainer, module: pl.LightningModule, train: Any, valid: Any, resume: Path | None) -> float:
    """Train, from a checkpoint where one is given; returns the seconds it took."""
    started = time.monotonic()
    trainer.fit(module, train, valid, ckpt_path=resume, weights_only=True if resume else None)
    for callback in trainer.callbacks:  # type: ignore[attr-defined]
        if isinstance(callback, AveragedWeights | KeepBest):  # a resumed training may have been over already
            callback.on_train_end(trainer, module)
    return time.monotonic() - started


class KeepBest(Callback):
    """Keep the weights of the lowest `valid_loss` and give them back when training ends."""

    def __init__(self) -> None:
        self.best = math.inf
        self.state: dict[str, Tensor] | None = None

    def on_validation_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Remember the weights where the loss is the lowest so far."""
        loss = float(trainer.callback_metrics["valid_loss"])
        if not trainer.sanity_checking and loss < self.best:
            self.best = loss
            self.state = {name: value.detach().clone() for name, value in pl_module.state_dict().items()}

    def on_train_end(self, _trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Put the best weights back."""
        if self.state is not None:
            pl_module.load_state_dict(self.state)

    def state_dict(self) -> dict[str, Any]:
        """Kept in checkpoints."""
        return {"best": self.best, "state": self.state}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Restore after resuming."""
        self.best, self.state = state_dict["best"], state_dict["state"]
