"""Train an LSTM on sequences, and in folds of the patients, so that what it says of those it did not see is known."""

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
FoldPredictions = dict[str, npt.NDArray[np.float32]]  # probabilities by case
FOLDS = "folds"  # of a run that is not finished: the LSTM of each fold


def fit_lstm(config: Settings, run: Run, network: SequenceLSTM, items: Items, share: float = 1.0) -> tuple[float, int]:
    """Train `network` in place on windows of the items; stop by held-out training patients where there are enough.

    share: of `trainer.max_time`, that this one of several trainings may take. Returns seconds and steps.
    """
    settings = config.classifier
    train, held = _inner_split(items, settings.early_stopping.fraction, config.seed)
    module = SequenceModule(
        network,
        class_weights(train.values(), network.task.classes),
        settings.signal_loss_weight,
        **settings.optimizer.model_dump(),
    )
    checks = settings.early_stopping.n_validations
    budget = training_schedule(config, settings.max_samples, settings.batch_size, checks, progress_before(config, run))
    limit = parse_duration(config.trainer.max_time)
    clock = TimeBudget(limit and limit * share, budget.done.seconds)
    augmentation = Augmentation(**settings.augment.model_dump())
    count = budget.steps * budget.batch
    windows = Windows(list(train.values()), settings.window, count, augmentation, config.seed)
    sampler = ResumableSampler(budget.length * budget.batch, budget.seen)
    loader: DataLoader[Any] = DataLoader(windows, settings.batch_size, sampler=sampler, collate_fn=collate)
    watched: Any = list(held.values())
    valid: DataLoader[Any] | None = DataLoader(watched, len(held), collate_fn=collate) if held else None
    with progress("train", budget.steps) as bar:
        extra: list[pl.Callback] = [
            ProgressCallback(bar),
            NonFiniteLossGuard(_names(windows, list(train)), budget.batch, run.checkpoint),
        ]
        if held:
            extra += [BestWeights(), EarlyStopping("valid_loss", patience=settings.early_stopping.patience)]
        trainer = make_trainer(config, run, budget, clock, extra)
        fit(trainer, module, loader, valid)
    say(f"trained {trainer.global_step * settings.batch_size} sequences in {clock.seconds():.0f} s")
    return clock.seconds(), trainer.global_step


def _names(windows: Windows, cases: list[str]) -> Callable[[range], str]:
    """Which cases the windows of some numbers show."""
    return lambda numbers: ", ".join(dict.fromkeys(cases[place] for place in windows.drawn(numbers)))


def _inner_split(items: Items, share: float, seed: int) -> tuple[dict[str, Item], dict[str, Item]]:
    """Items to train on, and of a few patients to watch for early stopping: none of three, or if a class went."""
    patients = sorted({patient for patient, _ in items.values()})
    count = round(share * len(patients)) if len(patients) > 3 else 0
    watched = set(np.random.default_rng(seed).permutation(patients)[:count].tolist())
    sides: tuple[dict[str, Item], dict[str, Item]] = ({}, {})
    for name, (patient, item) in items.items():
        sides[patient in watched][name] = item
    everything = {name: item for name, (_, item) in items.items()}
    return sides if _states(sides[0]) == _states(everything) else (everything, {})


def _states(items: dict[str, Item]) -> set[int]:
    return {int(state) for item in items.values() if item.state is not None for state in item.state}


def split_in_folds(config: Settings, items: Items) -> list[list[str]]:
    """The cases of each fold: whole patients.

    None where `classifier.n_folds` is 0, or, with a warning, where a fold would not learn every class.
    """
    if not config.classifier.n_folds:
        return []
    states = [(name, patient, state) for name, (patient, item) in items.items() for state in item.state]  # type: ignore[union-attr]
    names, patients, truth = (np.array(column) for column in zip(*states, strict=True))
    try:
        rows = patient_folds(truth, patients, config.classifier.n_folds, config.seed)
        folds = [list(dict.fromkeys(names[fold].tolist())) for fold in rows]
    except DataError:
        folds = []
    if not folds or any(_known(_without(items, fold)) != _known(items) for fold in folds):
        warn("not calibrated, without sets of classes: that needs at least two training patients of each class")
        return []
    return folds


def out_of_fold(
    config: Settings, run: Run, task: Task, items: Items, folds: Sequence[Sequence[str]]
) -> dict[str, FoldPredictions]:
    """What an LSTM and a linear baseline say of each case (R, K) that did not see its patient, by model and case."""
    said: dict[str, FoldPredictions] = {"lstm": {}, "linear": {}}
    seeds = np.random.SeedSequence(config.seed).generate_state(len(folds)).tolist()
    for number, fold in enumerate(folds):
        rest = _without(items, fold)
        say(f"fold {number + 1} of {len(folds)}: {len(rest)} cases to learn from, {len(fold)} to judge")
        pl.seed_everything(seeds[number], verbose=False)  # so that it does not matter what was trained before
        network = SequenceLSTM(task, **config.classifier.network.model_dump())
        fit_lstm(config, split_fold(run, number, list(rest)), network, rest, 1 / (len(folds) + 1))
        baseline = LinearBaseline.fit(
            [item for _, item in rest.values()], task.classes, **config.classifier.baseline.model_dump()
        )
        for case in fold:
            said["lstm"][case] = network.predict(items[case][1]).probabilities
            said["linear"][case] = baseline.predict(items[case][1]).probabilities
    return said


def split_fold(run: Run, number: int, cases: Sequence[str]) -> Run:
    """Where the training of a fold is kept; after a resume with other cases it is begun anew."""
    digest = hashlib.sha256("\n".join(sorted(cases)).encode()).hexdigest()[:12]
    part = Run(run.file(FOLDS) / f"{number}-{digest}")
    part.path.mkdir(parents=True, exist_ok=True)
    return part


def _without(items: Items, cases: Sequence[str]) -> dict[str, tuple[str, Item]]:
    return {name: item for name, item in items.items() if name not in cases}


def _known(items: Items) -> set[int]:
    return _states({name: item for name, (_, item) in items.items()}) - {UNKNOWN}
