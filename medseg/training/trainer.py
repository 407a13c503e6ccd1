"""Lightning's trainer, set up from settings: averaged weights, history, checkpoints, time bound."""

from __future__ import annotations

import math
from typing import Any, NamedTuple

import pytorch_lightning as pl
import torch
from pytorch_lightning.callbacks import Callback

from medseg.config.components import build
from medseg.config.settings import Settings
from medseg.config.targets import LOGGERS
from medseg.errors import EXIT_INTERRUPTED, ConfigError, MedsegError
from medseg.runs.run import Run
from medseg.training.callbacks import AveragedWeights, BestWeights, History, StepSeeding
from medseg.training.checkpointing import (
    AtomicCheckpointIO,
    Checkpoints,
    TimeBudget,
    TimeUpError,
    TrainingProgress,
    read_progress,
)
from medseg.utils.devices import quiet_libraries, select_device, select_precision, set_num_threads


def parse_duration(max_time: str | None) -> float | None:
    """DD:HH:MM:SS → seconds."""
    if max_time is None:
        return None
    days, hours, minutes, seconds = map(int, max_time.split(":"))
    return float(((days * 24 + hours) * 60 + minutes) * 60 + seconds)


class TrainingSchedule(NamedTuple):
    """How long to train: `epochs` of `length` optimiser steps of `batch` samples, the loss of held-out ones taken each
    `every` epochs; `done` of it already.
    """

    epochs: int
    length: int
    batch: int
    every: int
    done: TrainingProgress = TrainingProgress()

    @property
    def steps(self) -> int:
        """Optimiser steps in all."""
        return self.epochs * self.length

    @property
    def seen(self) -> int:
        """Samples that were seen before a resume."""
        return self.done.step * self.batch


def progress_before(config: Settings, run: Run) -> TrainingProgress:
    """What of a training need not be done again: nothing, but where it is resumed."""
    return read_progress(run) if config.resume is not None else TrainingProgress()


def training_schedule(
    config: Settings, samples: int, batch: int, validations: int, done: TrainingProgress
) -> TrainingSchedule:
    """`trainer.fraction` of the recipe's samples, in epochs as far apart as checkpoints or validations shall be.

    A training that goes on keeps its epochs, so that a larger budget only adds some. `ConfigError` for a smaller one.
    """
    steps = max(1, math.ceil(samples * config.trainer.fraction / batch))
    if done.length:
        if math.ceil(steps / done.length) * done.length < done.step:
            raise ConfigError(
                f"the run has had {done.step * batch} samples, more than the {steps * batch} that are asked for; "
                "a schedule can only grow"
            )
        return TrainingSchedule(math.ceil(steps / done.length), done.length, batch, done.every, done)
    length = math.ceil(steps / max(1, validations, math.ceil(steps / config.trainer.checkpoint_every_n_steps)))
    epochs = math.ceil(steps / length)
    return TrainingSchedule(epochs, length, batch, max(1, round(epochs / max(1, validations))))


def make_trainer(
    config: Settings, run: Run, budget: TrainingSchedule, clock: TimeBudget, extra: list[Callback]
) -> pl.Trainer:
    """A trainer that writes history, and a checkpoint after each epoch, into the run."""
    quiet_libraries()
    set_num_threads(config.compute.num_threads)
    device = select_device(config.compute.accelerator)
    done = budget.done._replace(length=budget.length, every=budget.every)
    callbacks: list[Callback] = [
        History(run.file("history.csv"), budget.batch, every=max(1, budget.steps // 100)),
        StepSeeding(config.seed),
        *extra,
        Checkpoints(run.checkpoint, clock, done),
    ]
    logger = build(config.logger, LOGGERS, save_dir=str(run.path)) if config.logger.get("_target_") else False
    return pl.Trainer(
        accelerator="cpu" if device.type == "cpu" else "gpu",
        devices=config.compute.devices,
        precision=select_precision(config.compute.precision, device),
        max_epochs=budget.epochs,  # not max_steps: only trainings counted in epochs resume at the right one
        check_val_every_n_epoch=budget.every,
        callbacks=callbacks,
        plugins=[AtomicCheckpointIO()],
        logger=logger,
        gradient_clip_val=config.trainer.gradient_clip_val or None,
        enable_progress_bar=False,
        enable_model_summary=False,
        num_sanity_val_steps=0,
        log_every_n_steps=1,
        use_distributed_sampler=config.compute.devices > 1,
    )


def fit(trainer: pl.Trainer, module: pl.LightningModule, train: Any, valid: Any) -> None:
    """Train, from where the checkpoint is if the budget has something done.

    SIGINT and SIGTERM let the running step end, keep it and end the process with status 130.
    """
    keeper = next(c for c in trainer.callbacks if isinstance(c, Checkpoints))  # type: ignore[attr-defined]
    resume = keeper.file if keeper.done.step else None
    with keeper.interrupts:
        try:
            trainer.fit(module, train, valid, ckpt_path=resume, weights_only=True if resume else None)
        except TimeUpError:
            pass
        except torch.OutOfMemoryError as error:
            raise MedsegError(
                "a training step does not fit into the GPU's free memory; end what else runs on it, or take a smaller "
                "segmenter.batch_size or segmenter.patch_size (medseg plan suits them to this machine), or "
                "compute.accelerator=cpu",
                code="gpu-memory",
            ) from error
        except SystemExit as end:  # Lightning has one of its own for SIGTERM
            raise SystemExit(EXIT_INTERRUPTED) from end
    for callback in trainer.callbacks:  # type: ignore[attr-defined]
        if isinstance(
            callback, History | AveragedWeights | BestWeights
        ):  # Lightning skips this where all was done before
            callback.on_train_end(trainer, module)
