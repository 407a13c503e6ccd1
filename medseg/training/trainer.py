"""Lightning's trainer, built from settings: averaged weights, history, checkpoints, time limit."""

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
    """How long to train: `epochs` of `length` optimiser steps of `batch` samples, with a validation every `every`
    epochs; `done`: progress before a resume.
    """

    epochs: int
    length: int
    batch: int
    every: int
    done: TrainingProgress = TrainingProgress()

    @property
    def steps(self) -> int:
        """Total number of optimiser steps."""
        return self.epochs * self.length

    @property
    def samples_done(self) -> int:
        """Number of samples before a resume."""
        return self.done.step * self.batch


def progress_before(config: Settings, run: Run) -> TrainingProgress:
    """Progress of the training to resume; zero for a new one."""
    return read_progress(run) if config.resume is not None else TrainingProgress()


def training_schedule(
    config: Settings, samples: int, batch: int, validations: int, done: TrainingProgress
) -> TrainingSchedule:
    """Schedule `trainer.fraction` of `samples`, in epochs that end at checkpoints and validations.

    A resumed training keeps its epoch length, so that a larger budget adds epochs. `ConfigError` for a smaller one.
    """
    steps = max(1, math.ceil(samples * config.trainer.fraction / batch))
    if done.length:
        if math.ceil(steps / done.length) * done.length < done.step:
            raise ConfigError(
                f"the run was trained on {done.step * batch} samples, more than the {steps * batch} requested; "
                "a schedule can only grow"
            )
        return TrainingSchedule(math.ceil(steps / done.length), done.length, batch, done.every, done)
    length = math.ceil(steps / max(1, validations, math.ceil(steps / config.trainer.checkpoint_every_n_steps)))
    epochs = math.ceil(steps / length)
    return TrainingSchedule(epochs, length, batch, max(1, round(epochs / max(1, validations))))


def make_trainer(
    config: Settings, run: Run, schedule: TrainingSchedule, clock: TimeBudget, extra_callbacks: list[Callback]
) -> pl.Trainer:
    """A trainer that writes the history, and a checkpoint after each epoch, to the run."""
    quiet_libraries()
    set_num_threads(config.compute.num_threads)
    device = select_device(config.compute.accelerator)
    done = schedule.done._replace(length=schedule.length, every=schedule.every)
    callbacks: list[Callback] = [
        History(run.file("history.csv"), schedule.batch, every=max(1, schedule.steps // 100)),
        StepSeeding(config.seed),
        *extra_callbacks,
        Checkpoints(run.checkpoint, clock, done),
    ]
    logger = build(config.logger, LOGGERS, save_dir=str(run.path)) if config.logger.get("_target_") else False
    return pl.Trainer(
        accelerator="cpu" if device.type == "cpu" else "gpu",
        devices=config.compute.devices,
        precision=select_precision(config.compute.precision, device),
        max_epochs=schedule.epochs,  # not max_steps: only trainings counted in epochs resume at the right one
        check_val_every_n_epoch=schedule.every,
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
    """Train, resuming from the checkpoint if the schedule has progress.

    On SIGINT and SIGTERM the current step is finished and saved, and the process ends with status 130.
    """
    checkpoints = next(c for c in trainer.callbacks if isinstance(c, Checkpoints))  # type: ignore[attr-defined]
    resume = checkpoints.file if checkpoints.done.step else None
    with checkpoints.interrupts:
        try:
            trainer.fit(module, train, valid, ckpt_path=resume, weights_only=True if resume else None)
        except TimeUpError:
            pass
        except torch.OutOfMemoryError as error:
            raise MedsegError(
                "a training step does not fit into the GPU's free memory; end other programs that use it, or choose a "
                "smaller segmenter.batch_size or segmenter.patch_size (medseg plan suits them to this machine), or "
                "compute.accelerator=cpu",
                code="gpu-memory",
            ) from error
        except SystemExit as end:  # Lightning raises its own for SIGTERM
            raise SystemExit(EXIT_INTERRUPTED) from end
    for callback in trainer.callbacks:  # type: ignore[attr-defined]
        # Lightning skips this if nothing was left to train
        if isinstance(callback, History | AveragedWeights | BestWeights):
            callback.on_train_end(trainer, module)
