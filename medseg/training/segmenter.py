"""Train a segmenter on cached patches and evaluate it on held-out patients."""

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
from medseg.training.fine_tuning import start_from
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
    """Training and held-out cases, raw and preprocessed, and the state of the fitted preprocessing."""

    train_cases: list[Case]
    held_out_cases: list[Case]
    train: list[CachedCase]
    held_out: list[CachedCase]
    state: State


def train_segmenter(config: Settings, run: Run, cases: list[Case], synthetic: bool) -> tuple[list[str], CaseLog]:
    """Fill the run folder: weights, fingerprint, history, predictions and metrics of held-out cases.

    Returns lines of the model card, and the case log.
    """
    method: Model | None = None
    if isinstance(config.segmenter, ClassicalSettings):
        method = build(config.segmenter.model)  # raises before any work if it is unsuitable
    log = CaseLog(run.file("cases.csv"))
    data = _prepare_data(config, run, cases, method is None, log)
    facts = _facts(config, data.train or data.held_out, synthetic)
    if method is None:
        require_labels_present(facts, list(config.organ.labels))
    write_json(run.file("fingerprint.json"), facts if data.train else facts | collect_image_stats(config, cases))
    pl.seed_everything(config.seed, verbose=False)
    if method is not None:
        lines, segmenter = ["Classical segmentation: nothing is trained."], Segmenter(config, method, data.state)
    else:
        lines, segmenter = _train_unet(config, run, data)
        segmenter = _with_rankers(config, run, segmenter, data)
    summary = evaluate_holdout(config, run, segmenter, data.held_out_cases, log)
    return [*lines, "", *results(summary)], log


def _prepare_data(config: Settings, run: Run, cases: list[Case], trained: bool, log: CaseLog) -> PreparedData:
    """Fit the preprocessing and fill the cache; `DataError` without usable training or held-out cases."""
    split_name = evaluation_split(cases)
    steps = [build(step) for step in config.preprocess.values() if step]
    fitted = trained or any(hasattr(step, "fit") for step in steps)
    train_cases = [case for case in cases if case.split == "train"] if fitted else []
    prepare = Preprocessor(config)
    if train_cases:
        prepare.fit(lambda: _readable(train_cases))
    write_json(run.file("preprocess.json"), prepare.state)
    recipe = CacheRecipe(prepare, match_mask, get_labels(config), prepare.settings, image_stats)
    train = _prepare(config, train_cases, recipe, log)
    if not train and trained:
        raise _no_cases_error("no training case can be used", log)
    held_out = _prepare(config, [case for case in cases if case.split == split_name and case.annotated], recipe, log)
    if not train and not held_out:
        raise _no_cases_error("nothing is trained, and no held-out case has a mask", log)
    _warn_soft_masks([*train, *held_out])
    usable = {case.name for case in held_out}
    held_out_cases = [case for case in cases if case.split == split_name and case.name in usable]
    return PreparedData(train_cases, held_out_cases, train, held_out, prepare.state)


def _with_rankers(config: Settings, run: Run, segmenter: Segmenter, data: PreparedData) -> Segmenter:
    """The segmenter with rankers of its candidates, if the settings have a candidate finder."""
    annotated = [case for case in data.train_cases if case.annotated]
    rankers = fit_rankers(config, segmenter.select, annotated, segmenter.probabilities)
    if not rankers:
        return segmenter
    write_json(run.file("candidates.json"), rankers)
    return Segmenter(config, segmenter.model, data.state, rankers)


def _facts(config: Settings, cases: list[CachedCase], synthetic: bool) -> dict[str, Any]:
    """The dataset's fingerprint."""
    patients = len({case.patient for case in cases})
    return fingerprint([case.facts() for case in cases], patients, list(config.organ.labels), synthetic)


def _warn_soft_masks(cases: list[CachedCase]) -> None:
    """Warn once that masks have intermediate values and are thresholded."""
    if cut := [path for case in cases for path in case.facts().get("cut", ())]:
        warn(
            f"soft masks, or masks blurred by JPEG, are thresholded at 128 of 255: {len(cut)} files, the first {cut[0]}"
        )


def _no_cases_error(problem: str, log: CaseLog) -> DataError:
    """The error for a dataset without usable cases, with the first reason."""
    if not log.entries:
        return DataError(f"{problem}; data.test_fraction=1 evaluates it on every case of the dataset that has a mask")
    return DataError(f"{problem}; see {log.file} for the reason of each; the first: {log.entries[0].message}")


def _train_unet(config: Settings, run: Run, data: PreparedData) -> tuple[list[str], Segmenter]:
    """Train and save a network; return lines of the model card and the segmenter."""
    network = make_network(config)
    if isinstance(network, UNet):
        network.encoder.load_pretrained()
    lines = start_from(config, network, data.held_out_cases)
    seconds, steps = _fit(config, run, network, (data.train, data.held_out))
    run.save_weights(network.state_dict())
    if run.file("history.csv").is_file():
        curves(pd.read_csv(run.file("history.csv")), run.file("curves.png"))
    samples = steps * config.unet().planned().batch
    say(f"trained on {samples} samples in {seconds:.0f} s")
    size = sum(p.numel() for p in network.parameters())
    line = f"{size} weights, {samples} training samples in {seconds:.0f} s."
    return [*lines, line], Segmenter(config, tiled_network(config, network), data.state)


def _readable(cases: list[Case]) -> Iterator[Images]:
    """Yield the images of readable cases; the others are reported by `_prepare`."""
    for case in cases:
        try:
            yield {channel: read_image(path) for channel, path in case.images.items()}
        except MedsegError:
            continue


def _prepare(config: Settings, cases: list[Case], recipe: CacheRecipe, log: CaseLog) -> list[CachedCase]:
    """Preprocess cases into the cache; unusable ones are logged and skipped."""
    prepared = []
    with progress("prepare", len(cases)) as bar:
        for case in cases:
            with case_errors(log, case.name, case.image, "is left out"):
                prepared.append(load_or_prepare(case, Path(config.data.cache), recipe))
            bar.advance(1, case.name)
    return prepared


def _fit(
    config: Settings, run: Run, network: nn.Module, data: tuple[list[CachedCase], list[CachedCase]]
) -> tuple[float, int]:
    """Train `network` in place; return seconds and steps."""
    settings = config.unet()
    batch = settings.planned().batch
    schedule = training_schedule(
        config, settings.max_samples, batch, config.trainer.n_validations, progress_before(config, run)
    )
    clock = TimeBudget(parse_duration(config.trainer.max_time), schedule.done.seconds)
    optimizer = settings.optimizer.model_dump()
    module = SegmentationModule(network, build(settings.loss), optimizer, schedule.steps, clock.used_fraction)
    train, valid = _loaders(config, data, schedule)
    patches: Any = train.dataset
    with progress("train", schedule.steps) as bar:
        callbacks: list[pl.Callback] = [
            ProgressCallback(bar),
            NonFiniteLossGuard(patches.named, schedule.batch, run.checkpoint),
        ]
        if settings.ema_decay:
            callbacks.append(AveragedWeights(settings.ema_decay, select_device(config.compute.accelerator)))
        trainer = make_trainer(config, run, schedule, clock, callbacks)
        fit(trainer, module, train, valid)
    return clock.seconds(), trainer.global_step


def _loaders(
    config: Settings, data: tuple[list[CachedCase], list[CachedCase]], schedule: TrainingSchedule
) -> tuple[DataLoader[Any], DataLoader[Any] | None]:
    """Loaders of training patches, and of held-out patches, which are the same in every epoch."""
    settings = config.unet()
    sizes = settings.planned()
    patch = tuple(reversed(sizes.patch))
    labels = config.organ.labels
    label_codes = get_labels(config)
    pairs = [(labels[first], labels[second]) for first, second in config.organ.lateral_pairs]
    augment = Augment(
        config.augment.mirror,
        config.augment.transforms,
        pairs,
        [build(step) for step in config.augment.synthetic_lesions.values()],
        [build(step) for step in config.augment.artefacts.values() if step is not None],
    )
    workers = num_loaders(config.compute.num_workers, select_device(config.compute.accelerator))
    context = settings.context_slices
    shared: dict[str, Any] = {"batch_size": sizes.batch, "num_workers": workers, "persistent_workers": workers > 0}
    shared["worker_init_fn"] = ignore_interrupts
    train: Any = PatchDataset(
        data[0], label_codes, patch, PatchSampling(settings.foreground_fraction, augment, config.seed, context)
    )
    sampler = ResumableSampler(schedule.length * schedule.batch, schedule.samples_done)
    loader: DataLoader[Any] = DataLoader(train, sampler=sampler, **shared)
    if not data[1] or config.trainer.n_validations == 0:
        return loader, None
    valid: Any = PatchDataset(data[1], label_codes, patch, PatchSampling(0.5, None, config.seed + 1, context))
    return loader, DataLoader(valid, sampler=ResumableSampler(8 * sizes.batch), **shared)
