"""What a training keeps as it goes, so that it may be stopped at any moment and goes on to the same weights."""

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

KEY = "medseg"  # of a checkpoint: the fields of `Done`


class TrainingProgress(NamedTuple):
    """How far a training is: optimiser steps, steps an epoch, epochs between validations, seconds, and whether the
    held-out loss ended it early.
    """

    step: int = 0
    length: int = 0
    every: int = 0
    seconds: float = 0.0
    early: bool = False


def read_progress(run: Run) -> TrainingProgress:
    """What the run's checkpoint holds; nothing where there is none. `ModelError` where it cannot be read."""
    file = run.checkpoint
    if not file.is_file():
        return TrainingProgress()
    try:
        return TrainingProgress(**torch.load(file, map_location="cpu", weights_only=True, mmap=True)[KEY])
    except Exception as error:  # a broken file fails in torch in many ways
        raise ModelError(
            f"{file}: cannot be read ({type(error).__name__}): damaged, or of another version of medseg; "
            "remove it, and the run is trained from its beginning"
        ) from error


class AtomicCheckpointIO(TorchCheckpointIO):
    """Checkpoints are there whole or not at all: Lightning's own way may copy onto the old one, and does not fsync."""

    def save_checkpoint(self, checkpoint: dict[str, Any], path: Any, *_options: Any, **_kw: Any) -> None:
        """The old file stays until the new one is whole."""
        content = io.BytesIO()
        torch.save(checkpoint, content)
        atomic_write_bytes(Path(path), content.getvalue())


class TimeBudget:
    """Seconds of training, those before a resume with them, and their bound `limit` in seconds, None for no bound."""

    def __init__(self, limit: float | None, before: float = 0.0) -> None:
        self.limit, self.before = limit, before
        self._started: float | None = None

    def start(self) -> None:
        """From here on time is counted."""
        self._started = time.monotonic()

    def seconds(self) -> float:
        """So far."""
        return self.before + (time.monotonic() - self._started if self._started is not None else 0.0)

    def share(self) -> float:
        """Share of the bound that is over, from 0; 0 where there is no bound."""
        return self.seconds() / self.limit if self.limit else 0.0

    def is_up(self, ahead: float = 0.0) -> bool:
        """Whether what takes `ahead` seconds would end too late."""
        return self.limit is not None and self.seconds() + ahead >= self.limit


class TimeUpError(Exception):
    """Leaves Lightning's loops when `trainer.max_time` is over; the weights so far are the model."""


class DeferredInterrupts:
    """While this is entered, a first SIGINT or SIGTERM is kept, and `asked` tells of it; a second ends at once."""

    def __init__(self) -> None:
        self.asked = False
        self._handlers: dict[int, Any] = {}

    def __enter__(self) -> DeferredInterrupts:
        if threading.current_thread() is threading.main_thread():  # Python hands signals to the main thread alone
            self._handlers = {number: signal.signal(number, self._ask) for number in (signal.SIGINT, signal.SIGTERM)}
        return self

    def __exit__(self, *_error: object) -> None:
        for number, handler in self._handlers.items():
            signal.signal(number, handler if handler is not None else signal.SIG_DFL)

    def _ask(self, _number: int, _frame: object) -> None:
        if self.asked:
            raise SystemExit(EXIT_INTERRUPTED)
        self.asked = True
        warn("stopping after this step; once more to stop at once")


class Checkpoints(Checkpoint):
    """Write the checkpoint after each epoch, and after the running step where the training is stopped or time is up.

    `length` and `every` as in `Done`. Lightning calls a `Checkpoint` behind all other callbacks, so that the state of
    each is of the same step.
    """

    def __init__(self, file: Path, clock: TimeBudget, done: TrainingProgress) -> None:
        self.file, self.clock, self.done = file, clock, done
        self.interrupts = DeferredInterrupts()
        self._step_began = 0.0

    def on_fit_start(self, trainer: pl.Trainer, *_args: Any) -> None:
        """What was over stays over, unless it was given more time."""
        trainer.should_stop = self.done.early or self.clock.is_up()

    def on_train_start(self, *_args: Any) -> None:
        """Start the clock, and take SIGTERM back from Lightning, which would end between two steps and keep neither."""
        self.clock.start()
        if threading.current_thread() is threading.main_thread():
            signal.signal(signal.SIGTERM, signal.getsignal(signal.SIGINT))  # that of `DeferredInterrupts`

    def on_train_batch_start(self, *_args: Any) -> None:
        """A step's time tells whether another one fits in."""
        self._step_began = time.monotonic()

    def on_train_batch_end(self, trainer: pl.Trainer, *_args: Any) -> None:
        """Inside an epoch; at its last step the epoch is ended first, for its validation belongs to it."""
        if not trainer.is_last_batch:
            self._perhaps_stop(trainer, time.monotonic() - self._step_began)

    def on_train_epoch_end(self, trainer: pl.Trainer, *_args: Any) -> None:
        """Between epochs."""
        self._save(trainer)
        self._perhaps_stop(trainer, 0.0)

    def on_save_checkpoint(self, _trainer: pl.Trainer, _module: Any, checkpoint: dict[str, Any]) -> None:
        """How far the training is, beside Lightning's own state."""
        checkpoint[KEY] = self.done._asdict()

    def _perhaps_stop(self, trainer: pl.Trainer, ahead: float) -> None:
        time_up = self.clock.is_up(ahead)
        if time_up or self.interrupts.asked:
            self._save(trainer, self.clock.limit if time_up else None)
            raise TimeUpError if time_up else SystemExit(EXIT_INTERRUPTED)

    def _save(self, trainer: pl.Trainer, seconds: float | None = None) -> None:
        """seconds: None for those that passed; a bound into which no further step fits counts as passed."""
        if trainer.global_step == self.done.step and seconds is None:  # it was the epoch's end
            return
        step, early = trainer.global_step, trainer.should_stop
        self.done = self.done._replace(step=step, seconds=seconds or self.clock.seconds(), early=early)
        trainer.save_checkpoint(self.file)


def ignore_interrupts(_worker: int) -> None:
    """For workers that load batches: a Ctrl-C reaches them too, but they end with their training, not before."""
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, signal.SIG_IGN)
