"""Train a segmenter on cached patches and measure it on patients it never saw."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import pandas as pd
import pytorch_lightning as pl
from torch import nn
from torch.utils.data import DataLoader

from medseg.batch.case_log import CaseLog
from medseg.batch.runner import case_errors
from medseg.config.components import build
from medseg.config.load import get_labels
from medseg.config.settings import ClassicalSettings, Settings
from medseg.data.augmentation import Augment
from medseg.data.cache import CachedCase, CacheRecipe, load_or_prepare
from medseg.data.cases import Case
from medseg.data.fingerprint import fingerprint, require_labels_present
from medseg.data.patches import PatchDataset, PatchSampling, ResumableSampler
from medseg.data.splits import evaluation_split
from medseg.errors import DataError, MedsegError
from medseg.inference.candidates import fit_rankers
from medseg.inference.preprocessor import Preprocessor, State
from medseg.inference.quality_gate import collect_image_stats
from medseg.inference.segmenter import Model, Segmenter, make_network, tiled_network
from medseg.io.image import read_image
from medseg.preprocess.geometry import match_mask
from medseg.quality.ood import image_stats
from medseg.reports.plots import curves
from medseg.runs.run import Run
from medseg.segmentation.lightning_module import SegmentationModule
from medseg.segmentation.unet import UNet
from medseg.training.callbacks import AveragedWeights, NonFiniteLossGuard, ProgressCallback
from medseg.training.checkpointing import TimeBudget, ignore_interrupts
from medseg.training.holdout import evaluate_holdout, results
from medseg.training.trainer import (
    TrainingSchedule,
    fit,
    make_trainer,
    parse_duration,
    progress_before,
    training_schedule,
)
from medseg.typing import Images
from medseg.utils.console import progress, say, warn
from medseg.utils.devices import num_loaders, select_device
from medseg.utils.files import write_json


class PreparedData(NamedTuple):
    """Cases to learn from and held-out cases, as they are and preprocessed, and what preprocessing learnt."""

    learning: list[Case]
    held_out: list[Case]
    train: list[CachedCase]
    held: list[CachedCase]
    state: State


def train_segmenter(config: Settings, run: Run, cases: list[Case], synthetic: bool) -> tuple[list[str], CaseLog]:
    """Fill the run folder: weights, fingerprint, history, predictions and metrics of held-out cases.

    Returns lines for the card, and what happened to each case.
    """
    method: Model | None = None
    if isinstance(config.segmenter, ClassicalSettings):
        method = build(config.segmenter.model)  # says at once where it makes no sense
    log = CaseLog(run.file("cases.csv"))
    data = _prepare_data(config, run, cases, method is None, log)
    facts = _facts(config, data.train or data.held, synthetic)
    if method is None:
        require_labels_present(facts, list(config.organ.labels))
    write_json(run.file("fingerprint.json"), facts if data.train else facts | collect_image_stats(config, cases))
    pl.seed_everything(config.seed, verbose=False)
    if method is not None:
        lines, segmenter = ["Classical segmentation: nothing is trained."], Segmenter(config, method, data.state)
    else:
        lines, segmenter = _learn(config, run, (data.train, data.held), data.state)
        segmenter = _with_rankers(config, run, segmenter, data)
    summary = evaluate_holdout(config, run, segmenter, data.held_out, log)
    return [*lines, "", *results(summary)], log


def _prepare_data(config: Settings, run: Run, cases: list[Case], trained: bool, log: CaseLog) -> PreparedData:
    """Fit the preprocessing and fill the cache; `DataError` where no case is left to learn from or to evaluate on."""
    reported = evaluation_split(cases)
    steps = [build(step) for step in config.preprocess.values() if step]
    fitted = trained or any(hasattr(step, "fit") for step in steps)
    learning = [case for case in cases if case.split == "train"] if fitted else []
    prepare = Preprocessor(config)
    if learning:
        prepare.fit(lambda: _readable(learning))
    write_json(run.file("preprocess.json"), prepare.state)
    recipe = CacheRecipe(prepare, match_mask, get_labels(config), prepare.settings, image_stats)
    train = _prepare(config, learning, recipe, log)
    if not train and trained:
        raise _nothing("no training case can be used", log)
    held = _prepare(config, [case for case in cases if case.split == reported and case.annotated], recipe, log)
    if not train and not held:
        raise _nothing("classical segmentation learns nothing, and no case with a mask is held out", log)
    _tell_cut([*train, *held])
    usable = {case.name for case in held}
    held_out = [case for case in cases if case.split == reported and case.name in usable]
    return PreparedData(learning, held_out, train, held, prepare.state)


def _with_rankers(config: Settings, run: Run, segmenter: Segmenter, data: PreparedData) -> Segmenter:
    """The segmenter with rankers of its candidates, where the recipe has a finder."""
    annotated = [case for case in data.learning if case.annotated]
    rankers = fit_rankers(config, segmenter.select, annotated, segmenter.look)
    if not rankers:
        return segmenter
    write_json(run.file("candidates.json"), rankers)
    return Segmenter(config, segmenter.model, data.state, rankers)


def _facts(config: Settings, shown: list[CachedCase], synthetic: bool) -> dict[str, Any]:
    """The dataset's fingerprint."""
    patients = len({case.patient for case in shown})
    return fingerprint([case.facts() for case in shown], patients, list(config.organ.labels), synthetic)


def _tell_cut(cases: list[CachedCase]) -> None:
    """Say once that masks are neither black nor white everywhere."""
    if cut := [path for case in cases for path in case.facts().get("cut", ())]:
        warn(f"soft masks, or blurred by JPEG, are cut at half (128 of 255): {len(cut)} files, the first {cut[0]}")


def _nothing(what: str, ledger: CaseLog) -> DataError:
    """That there is no case to work with, and why."""
    if not ledger.entries:
        return DataError(f"{what}; data.test_fraction=1 measures it on every case of the dataset that has a mask")
    return DataError(f"{what}; see {ledger.file} for the reason of each; the first: {ledger.entries[0].message}")


def _learn(
    config: Settings, run: Run, data: tuple[list[CachedCase], list[CachedCase]], state: State
) -> tuple[list[str], Segmenter]:
    """The segmenter, trained and saved; and what to say of it in the card."""
    network = make_network(config)
    if isinstance(network, UNet):
        network.encoder.load_pretrained()
    seconds, steps = _fit(config, run, network, data)
    run.save_weights(network.state_dict())
    if run.file("history.csv").is_file():
        curves(pd.read_csv(run.file("history.csv")), run.file("curves.png"))
    samples = steps * config.unet().planned().batch
    say(f"trained on {samples} samples in {seconds:.0f} s")
    size = sum(p.numel() for p in network.parameters())
    line = f"{size} weights, {samples} training samples in {seconds:.0f} s."
    return [line], Segmenter(config, tiled_network(config, network), state)


def _readable(cases: list[Case]) -> Iterator[Images]:
    """The images of the cases that can be read; the others are named when they are prepared."""
    for case in cases:
        try:
            yield {channel: read_image(path) for channel, path in case.images.items()}
        except MedsegError:
            continue


def _prepare(config: Settings, cases: list[Case], recipe: CacheRecipe, ledger: CaseLog) -> list[CachedCase]:
    """Cases preprocessed into the cache; one that cannot be used is named and left out."""
    ready = []
    with progress("prepare", len(cases)) as bar:
        for case in cases:
            with case_errors(ledger, case.name, case.image, "is left out"):
                ready.append(load_or_prepare(case, Path(config.data.cache), recipe))
            bar.advance(1, case.name)
    return ready


def _fit(
    config: Settings, run: Run, network: nn.Module, data: tuple[list[CachedCase], list[CachedCase]]
) -> tuple[float, int]:
    """Train `network` in place; seconds and steps it took."""
    settings = config.unet()
    batch = settings.planned().batch
    budget = training_schedule(
        config, settings.max_samples, batch, config.trainer.n_validations, progress_before(config, run)
    )
    clock = TimeBudget(parse_duration(config.trainer.max_time), budget.done.seconds)
    optimizer = settings.optimizer.model_dump()
    module = SegmentationModule(network, build(settings.loss), optimizer, budget.steps, clock.share)
    train, valid = _loaders(config, data, budget)
    patches: Any = train.dataset
    with progress("train", budget.steps) as bar:
        extra: list[pl.Callback] = [
            ProgressCallback(bar),
            NonFiniteLossGuard(patches.named, budget.batch, run.checkpoint),
        ]
        if settings.ema_decay:
            extra.append(AveragedWeights(settings.ema_decay, select_device(config.compute.accelerator)))
        trainer = make_trainer(config, run, budget, clock, extra)
        fit(trainer, module, train, valid)
    return clock.seconds(), trainer.global_step


def _loaders(
    config: Settings, data: tuple[list[CachedCase], list[CachedCase]], budget: TrainingSchedule
) -> tuple[DataLoader[Any], DataLoader[Any] | None]:
    """Training patches, epoch by epoch, and held-out patches, always the same ones."""
    settings = config.unet()
    sizes = settings.planned()
    patch = tuple(reversed(sizes.patch))
    labels = config.organ.labels
    code = get_labels(config)
    pairs = [(labels[one], labels[other]) for one, other in config.organ.lateral_pairs]
    augment = Augment(
        config.augment.mirror,
        config.augment.transforms,
        pairs,
        [build(step) for step in config.augment.synthetic_lesions.values()],
    )
    workers = num_loaders(config.compute.num_workers, select_device(config.compute.accelerator))
    context = settings.context_slices
    shared: dict[str, Any] = {"batch_size": sizes.batch, "num_workers": workers, "persistent_workers": workers > 0}
    shared["worker_init_fn"] = ignore_interrupts
    train: Any = PatchDataset(
        data[0], code, patch, PatchSampling(settings.foreground_fraction, augment, config.seed, context)
    )
    sampler = ResumableSampler(budget.length * budget.batch, budget.seen)
    loader: DataLoader[Any] = DataLoader(train, sampler=sampler, **shared)
    if not data[1] or config.trainer.n_validations == 0:
        return loader, None
    held: Any = PatchDataset(data[1], code, patch, PatchSampling(0.5, None, config.seed + 1, context))
    return loader, DataLoader(held, sampler=ResumableSampler(8 * sizes.batch), **shared)
