"""Checkpoints: a training can be interrupted at any moment and resumes to the same weights."""

from __future__ import annotations

import io
import signal
import threading
import time
from pathlib import Path
from typing import Any, NamedTuple

import pytorch_lightning as pl
import torch
from lightning_fabric.plugins.io.torch_io import TorchCheckpointIO
from pytorch_lightning.callbacks import Checkpoint

from medseg.errors import EXIT_INTERRUPTED, ModelError
from medseg.runs.run import Run
from medseg.utils.console import warn
from medseg.utils.files import atomic_write_bytes

KEY = "medseg"  # key of a checkpoint with the fields of `TrainingProgress`


class TrainingProgress(NamedTuple):
    """Progress of a training: optimiser steps, steps per epoch, epochs between validations, seconds, and whether
    early stopping ended it.
    """

    step: int = 0
    length: int = 0
    every: int = 0
    seconds: float = 0.0
    early: bool = False


def read_progress(run: Run) -> TrainingProgress:
    """Progress in the run's checkpoint; zero without one. `ModelError` if it cannot be read."""
    file = run.checkpoint
    if not file.is_file():
        return TrainingProgress()
    try:
        return TrainingProgress(**torch.load(file, map_location="cpu", weights_only=True, mmap=True)[KEY])
    except Exception as error:  # a broken file fails in torch in many ways
        raise ModelError(
            f"{file}: cannot be read ({type(error).__name__}): damaged, or of another version of medseg; "
            "remove it to train the run from the start"
        ) from error


class AtomicCheckpointIO(TorchCheckpointIO):
    """Write checkpoints atomically: Lightning's own class may copy onto the old file, and does not fsync."""

    def save_checkpoint(self, checkpoint: dict[str, Any], path: Any, *_options: Any, **_kw: Any) -> None:
        """Replace the old file when the new one is complete."""
        content = io.BytesIO()
        torch.save(checkpoint, content)
        atomic_write_bytes(Path(path), content.getvalue())


class TimeBudget:
    """Seconds of training, including those before a resume, and their `limit` in seconds, None: no limit."""

    def __init__(self, limit: float | None, before: float = 0.0) -> None:
        self.limit, self.before = limit, before
        self._started: float | None = None

    def start(self) -> None:
        """Start counting."""
        self._started = time.monotonic()

    def seconds(self) -> float:
        """Seconds so far."""
        return self.before + (time.monotonic() - self._started if self._started is not None else 0.0)

    def used_fraction(self) -> float:
        """Used fraction of the limit, from 0; 0 without a limit."""
        return self.seconds() / self.limit if self.limit else 0.0

    def is_up(self, ahead: float = 0.0) -> bool:
        """Whether work of `ahead` seconds would exceed the limit."""
        return self.limit is not None and self.seconds() + ahead >= self.limit


class TimeUpError(Exception):
    """Leaves Lightning's loops when `trainer.max_time` is over; the weights so far are the model."""


class DeferredInterrupts:
    """A context that defers a first SIGINT or SIGTERM and sets `requested`; a second one ends the process at once."""

    def __init__(self) -> None:
        self.requested = False
        self._handlers: dict[int, Any] = {}

    def __enter__(self) -> DeferredInterrupts:
        if threading.current_thread() is threading.main_thread():  # Python delivers signals only to the main thread
            self._handlers = {
                number: signal.signal(number, self._request) for number in (signal.SIGINT, signal.SIGTERM)
            }
        return self

    def __exit__(self, *_error: object) -> None:
        for number, handler in self._handlers.items():
            signal.signal(number, handler if handler is not None else signal.SIG_DFL)

    def _request(self, _number: int, _frame: object) -> None:
        if self.requested:
            raise SystemExit(EXIT_INTERRUPTED)
        self.requested = True
        warn("stopping after this step; interrupt again to stop at once")


class Checkpoints(Checkpoint):
    """Write the checkpoint after each epoch, and after the current step if training is interrupted or time is up.

    Lightning calls a `Checkpoint` after all other callbacks, so that their states belong to the same step.
    """

    def __init__(self, file: Path, clock: TimeBudget, done: TrainingProgress) -> None:
        self.file, self.clock, self.done = file, clock, done
        self.interrupts = DeferredInterrupts()
        self._step_began = 0.0

    def on_fit_start(self, trainer: pl.Trainer, *_args: Any) -> None:
        """A finished training stays finished, unless it has more time now."""
        trainer.should_stop = self.done.early or self.clock.is_up()

    def on_train_start(self, *_args: Any) -> None:
        """Start the clock, and restore our SIGTERM handler: Lightning's would end training without a checkpoint."""
        self.clock.start()
        if threading.current_thread() is threading.main_thread():
            signal.signal(signal.SIGTERM, signal.getsignal(signal.SIGINT))  # that of `DeferredInterrupts`

    def on_train_batch_start(self, *_args: Any) -> None:
        """Measure a step's time, to know whether another one fits."""
        self._step_began = time.monotonic()

    def on_train_batch_end(self, trainer: pl.Trainer, *_args: Any) -> None:
        """Stop inside an epoch; at its last step wait for the epoch's validation."""
        if not trainer.is_last_batch:
            self._stop_if_due(trainer, time.monotonic() - self._step_began)

    def on_train_epoch_end(self, trainer: pl.Trainer, *_args: Any) -> None:
        """Save, and stop between epochs."""
        self._save(trainer)
        self._stop_if_due(trainer, 0.0)

    def on_save_checkpoint(self, _trainer: pl.Trainer, _module: Any, checkpoint: dict[str, Any]) -> None:
        """Add the progress to Lightning's own state."""
        checkpoint[KEY] = self.done._asdict()

    def _stop_if_due(self, trainer: pl.Trainer, ahead: float) -> None:
        time_up = self.clock.is_up(ahead)
        if time_up or self.interrupts.requested:
            self._save(trainer, self.clock.limit if time_up else None)
            raise TimeUpError if time_up else SystemExit(EXIT_INTERRUPTED)

    def _save(self, trainer: pl.Trainer, seconds: float | None = None) -> None:
        """seconds: None for the elapsed time; if no further step fits into the limit, the limit counts as elapsed."""
        if trainer.global_step == self.done.step and seconds is None:  # saved at the epoch's end
            return
        step, early = trainer.global_step, trainer.should_stop
        self.done = self.done._replace(step=step, seconds=seconds or self.clock.seconds(), early=early)
        trainer.save_checkpoint(self.file)


def ignore_interrupts(_worker: int) -> None:
    """For data loader workers: a Ctrl-C reaches them too, but they must end with the training, not before."""
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, signal.SIG_IGN)
