"""Train an LSTM on sequences, and in cross-validation by patient for out-of-fold predictions."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import pytorch_lightning as pl
from pytorch_lightning.callbacks import EarlyStopping
from torch.utils.data import DataLoader

from medseg.config.settings import Settings
from medseg.data.patches import ResumableSampler
from medseg.diagnosis.cross_validation import patient_folds
from medseg.diagnosis.lightning_module import SequenceModule, class_weights
from medseg.diagnosis.linear_baseline import LinearBaseline
from medseg.diagnosis.lstm import SequenceLSTM, Task
from medseg.diagnosis.sequence_dataset import UNKNOWN, Augmentation, Item, Windows, collate
from medseg.errors import DataError
from medseg.runs.run import Run
from medseg.training.callbacks import BestWeights, NonFiniteLossGuard, ProgressCallback
from medseg.training.checkpointing import TimeBudget
from medseg.training.trainer import fit, make_trainer, parse_duration, progress_before, training_schedule
from medseg.utils.console import progress, say, warn

Items = Mapping[str, tuple[str, Item]]  # patient and sequence by case
FoldPredictions = dict[str, npt.NDArray[np.float32]]  # probabilities (R, K) by case
FOLDS = "folds"  # folder of an unfinished run with the LSTM of each fold


def fit_lstm(
    config: Settings, run: Run, network: SequenceLSTM, items: Items, time_fraction: float = 1.0
) -> tuple[float, int]:
    """Train `network` in place on windows of the items; early stopping on some training patients if there are enough.

    time_fraction: fraction of `trainer.max_time` for this training. Returns seconds and steps.
    """
    settings = config.classifier
    train, watched = _inner_split(items, settings.early_stopping.fraction, config.seed)
    module = SequenceModule(
        network,
        class_weights(train.values(), network.task.classes),
        settings.signal_loss_weight,
        **settings.optimizer.model_dump(),
    )
    validations = settings.early_stopping.n_validations
    schedule = training_schedule(
        config, settings.max_samples, settings.batch_size, validations, progress_before(config, run)
    )
    limit = parse_duration(config.trainer.max_time)
    clock = TimeBudget(limit and limit * time_fraction, schedule.done.seconds)
    augmentation = Augmentation(**settings.augment.model_dump())
    count = schedule.steps * schedule.batch
    windows = Windows(list(train.values()), settings.window, count, augmentation, config.seed)
    sampler = ResumableSampler(schedule.length * schedule.batch, schedule.samples_done)
    loader: DataLoader[Any] = DataLoader(windows, settings.batch_size, sampler=sampler, collate_fn=collate)
    watched_items: Any = list(watched.values())
    valid: DataLoader[Any] | None = DataLoader(watched_items, len(watched), collate_fn=collate) if watched else None
    with progress("train", schedule.steps) as bar:
        callbacks: list[pl.Callback] = [
            ProgressCallback(bar),
            NonFiniteLossGuard(_names(windows, list(train)), schedule.batch, run.checkpoint),
        ]
        if watched:
            callbacks += [BestWeights(), EarlyStopping("valid_loss", patience=settings.early_stopping.patience)]
        trainer = make_trainer(config, run, schedule, clock, callbacks)
        fit(trainer, module, loader, valid)
    say(f"trained {trainer.global_step * settings.batch_size} sequences in {clock.seconds():.0f} s")
    return clock.seconds(), trainer.global_step


def _names(windows: Windows, cases: list[str]) -> Callable[[range], str]:
    """A function that lists the cases of the windows with given numbers."""
    return lambda numbers: ", ".join(dict.fromkeys(cases[index] for index in windows.drawn(numbers)))


def _inner_split(items: Items, fraction: float, seed: int) -> tuple[dict[str, Item], dict[str, Item]]:
    """Items for training and for early stopping: none with three patients, or if training would lose a class."""
    patients = sorted({patient for patient, _ in items.values()})
    count = round(fraction * len(patients)) if len(patients) > 3 else 0
    watched = set(np.random.default_rng(seed).permutation(patients)[:count].tolist())
    splits: tuple[dict[str, Item], dict[str, Item]] = ({}, {})
    for name, (patient, item) in items.items():
        splits[patient in watched][name] = item
    all_items = {name: item for name, (_, item) in items.items()}
    return splits if _states(splits[0]) == _states(all_items) else (all_items, {})


def _states(items: dict[str, Item]) -> set[int]:
    return {int(state) for item in items.values() if item.state is not None for state in item.state}


def split_in_folds(config: Settings, items: Items) -> list[list[str]]:
    """The cases of each fold, split by patient.

    Empty if `classifier.n_folds` is 0, or, with a warning, if the training cases of a fold lack a class.
    """
    if not config.classifier.n_folds:
        return []
    states = [(name, patient, state) for name, (patient, item) in items.items() for state in item.state]  # type: ignore[union-attr]
    names, patients, y = (np.array(column) for column in zip(*states, strict=True))
    try:
        rows = patient_folds(y, patients, config.classifier.n_folds, config.seed)
        folds = [list(dict.fromkeys(names[fold].tolist())) for fold in rows]
    except DataError:
        folds = []
    if not folds or any(_known(_without(items, fold)) != _known(items) for fold in folds):
        warn("no calibration and no prediction sets: they need at least two training patients of each class")
        return []
    return folds


def out_of_fold(
    config: Settings, run: Run, task: Task, items: Items, folds: Sequence[Sequence[str]]
) -> dict[str, FoldPredictions]:
    """Out-of-fold probabilities (R, K) of an LSTM and a linear baseline, by model and case."""
    predictions: dict[str, FoldPredictions] = {"lstm": {}, "linear": {}}
    seeds = np.random.SeedSequence(config.seed).generate_state(len(folds)).tolist()
    for number, fold in enumerate(folds):
        rest = _without(items, fold)
        say(f"fold {number + 1} of {len(folds)}: {len(rest)} training cases, {len(fold)} held out")
        pl.seed_everything(seeds[number], verbose=False)  # independent of earlier trainings
        network = SequenceLSTM(task, **config.classifier.network.model_dump())
        fit_lstm(config, split_fold(run, number, list(rest)), network, rest, 1 / (len(folds) + 1))
        baseline = LinearBaseline.fit(
            [item for _, item in rest.values()], task.classes, **config.classifier.baseline.model_dump()
        )
        for case in fold:
            predictions["lstm"][case] = network.predict(items[case][1]).probabilities
            predictions["linear"][case] = baseline.predict(items[case][1]).probabilities
    return predictions


def split_fold(run: Run, number: int, cases: Sequence[str]) -> Run:
    """The run of a fold's training; a resume with other cases gets a new one."""
    digest = hashlib.sha256("\n".join(sorted(cases)).encode()).hexdigest()[:12]
    fold_run = Run(run.file(FOLDS) / f"{number}-{digest}")
    fold_run.path.mkdir(parents=True, exist_ok=True)
    return fold_run


def _without(items: Items, cases: Sequence[str]) -> dict[str, tuple[str, Item]]:
    return {name: item for name, item in items.items() if name not in cases}


def _known(items: Items) -> set[int]:
    return _states({name: item for name, (_, item) in items.items()}) - {UNKNOWN}
