"""Train a segmenter on cached patches and measure it on patients it never saw."""

from __future__ import annotations

import json
import time
from pathlib import Path
from typing import Any

import pandas as pd
import pytorch_lightning as pl
import SimpleITK as sitk
from torch import nn
from torch.utils.data import DataLoader

from medseg.config import Config, build, to_dict
from medseg.console import progress, say, table, warn
from medseg.data.augment import Augment
from medseg.data.cache import CachedCase, cached
from medseg.data.cases import Case, report_split
from medseg.data.dataset import PassSampler, PatchDataset
from medseg.data.fingerprint import check_labels, fingerprint
from medseg.data.image import read_image, read_mask, write_image
from medseg.errors import DataError, MedsegError
from medseg.executor import device_of
from medseg.ledger import Entry, Ledger, atomic_write_text, failure, write_json
from medseg.lightning import AveragedWeights, Bar, Budget, budget_of, fit, make_trainer, seconds_of
from medseg.metrics import compare_masks, summarise
from medseg.plots import curves
from medseg.preprocess.geometry import match_mask
from medseg.runs import Run
from medseg.segment import Preprocess, Segmenter, make_network
from medseg.segmentation.module import SegmentationModule


def train_segmenter(config: Config, run: Run, cases: list[Case], synthetic: bool) -> tuple[list[str], Ledger]:
    """Fill the run folder: weights, fingerprint, history, predictions and metrics of held-out cases.

    Returns lines for the card, and what happened to each case.
    """
    ledger = Ledger(run.file("cases.csv"))
    reported = report_split(cases)
    train = _prepare(config, [c for c in cases if c.split == "train"], ledger)
    if not train:
        raise DataError(f"no training case can be used; see {ledger.file} for the reason of each")
    held = _prepare(config, [c for c in cases if c.split == reported and c.mask], ledger)
    check_labels(held, dict(config.organ.labels))
    write_json(run.file("fingerprint.json"), fingerprint(train, dict(config.organ.labels), synthetic))
    pl.seed_everything(config.seed, verbose=False)
    network = make_network(config)
    seconds, steps = _fit(config, run, network, (train, held))
    run.save_weights(network.state_dict())
    if run.file("history.csv").is_file():
        curves(pd.read_csv(run.file("history.csv")), run.file("curves.png"))
    passes = steps * config.segmenter.batch
    say(f"trained {passes} image passes in {seconds:.0f} s")
    usable = {case.name for case in held}
    summary = _measure(config, run, network, [c for c in cases if c.split == reported and c.name in usable])
    size = sum(p.numel() for p in network.parameters())
    return [f"{size} weights, {passes} image passes in {seconds:.0f} s.", "", *_results(summary)], ledger


def _prepare(config: Config, cases: list[Case], ledger: Ledger) -> list[CachedCase]:
    """Cases preprocessed into the cache; one that cannot be used is named and left out."""
    settings = json.dumps([to_dict(config)["preprocess"], list(config.organ.channels)])
    prepare = Preprocess(config)
    ready = []
    with progress("prepare", len(cases)) as bar:
        for case in cases:
            started = time.monotonic()
            try:
                ready.append(cached(case, Path(config.data.cache), settings, prepare, match_mask))
                seconds = round(time.monotonic() - started, 3)
                ledger.add(Entry(case.name, "ok", seconds=seconds, input=str(case.image)))
            except (MedsegError, MemoryError, RuntimeError) as error:  # ITK raises RuntimeError
                ledger.add(failure(case.name, case.image, error, time.monotonic() - started))
                warn(f"{case.name} is left out: {ledger.entries[-1].message}")
            bar.advance(1, case.name)
    return ready


def _fit(
    config: Config, run: Run, network: nn.Module, data: tuple[list[CachedCase], list[CachedCase]]
) -> tuple[float, int]:
    """Train `network` in place; seconds and steps it took."""
    settings = config.segmenter
    budget = budget_of(config, settings.passes, settings.batch, config.trainer.validate)
    optimizer: dict[str, Any] = {str(key): value for key, value in settings.optimizer.items()}
    module = SegmentationModule(
        network, build(settings.loss), optimizer, budget.steps, seconds_of(config.trainer.max_time)
    )
    train, valid = _loaders(config, data, budget)
    with progress("train", budget.steps) as bar:
        extra: list[pl.Callback] = [Bar(bar)]
        if settings.ema:
            extra.append(AveragedWeights(settings.ema, device_of(config.executor.accelerator)))
        trainer = make_trainer(config, run, budget, extra)
        resume = run.checkpoint if config.resume is not None and run.checkpoint.is_file() else None
        seconds = fit(trainer, module, train, valid, resume)
    return seconds, trainer.global_step


def _loaders(
    config: Config, data: tuple[list[CachedCase], list[CachedCase]], budget: Budget
) -> tuple[DataLoader[Any], DataLoader[Any] | None]:
    """Training patches, epoch by epoch, and held-out patches, always the same ones."""
    settings = config.segmenter
    patch = tuple(reversed(settings.patch))
    labels = config.organ.labels
    pairs = [(labels[one], labels[other]) for one, other in config.organ.get("lateral_pairs") or []]
    augment = Augment(
        dict(config.augment.mirror), {n: dict(given) for n, given in config.augment.transforms.items()}, pairs
    )
    shared = {"batch_size": settings.batch, "num_workers": config.executor.workers}
    train: Any = PatchDataset(data[0], patch, settings.foreground, augment, config.seed)
    loader: DataLoader[Any] = DataLoader(train, sampler=PassSampler(budget.length * budget.batch), **shared)
    if not data[1] or budget.validations == 0:
        return loader, None
    held: Any = PatchDataset(data[1], patch, 0.5, None, config.seed + 1)
    return loader, DataLoader(held, sampler=PassSampler(8 * settings.batch), **shared)


def _measure(config: Config, run: Run, network: nn.Module, cases: list[Case]) -> dict[str, Any] | None:
    """Segment the held-out cases as a user would, keep the masks, write evaluation.csv and metrics.json."""
    if not cases:
        write_json(
            run.file("metrics.json"),
            {"task": "segmentation", "report_split": None, "reason": "no held-out case with a mask"},
        )
        return None
    segmenter = Segmenter(config, network)
    rows: list[dict[str, Any]] = []
    with progress("measure", len(cases)) as bar:
        for case in cases:
            mask = segmenter({channel: read_image(path) for channel, path in case.images.items()})
            write_image(mask, run.file("predictions") / f"{case.name}.nii.gz")
            rows += _rows(case, mask, segmenter.labels, config.data.surface_tolerance_mm)
            bar.advance(1, case.name)
    frame = pd.DataFrame(rows)
    atomic_write_text(run.file("evaluation.csv"), frame.to_csv(index=False))
    summary = summarise(frame, segmenter.labels, config.data.surface_tolerance_mm)
    summary = {"task": "segmentation", "report_split": cases[0].split, **summary}
    write_json(run.file("metrics.json"), summary)
    table(
        f"Dice on {cases[0].split} ({summary['n_cases']} cases, {summary['n_patients']} patients)",
        ["label", "mean", "95 % CI", "HD95 mm"],
        [
            [name, s["dice"]["mean"], _interval(s["dice"]), s["hd95_mm"]["mean"]]
            for name, s in summary["labels"].items()
        ],
    )
    return summary


def _rows(case: Case, mask: sitk.Image, labels: dict[str, int], tolerance: float) -> list[dict[str, Any]]:
    assert case.mask is not None
    scores = compare_masks(mask, read_mask(case.mask), labels, tolerance)
    return [{"case": case.name, "patient": case.patient, **score} for score in scores]


def _interval(score: dict[str, Any]) -> str:
    return "–" if score.get("ci95") is None else "{:.3f}–{:.3f}".format(*score["ci95"])


def _results(summary: dict[str, Any] | None) -> list[str]:
    if summary is None:
        return ["Not measured: no held-out case with a mask."]
    lines = [
        f"Measured on split `{summary['report_split']}`: {summary['n_cases']} cases, {summary['n_patients']} patients.",
        "",
    ]
    lines += ["| label | Dice | 95 % CI | missed |", "|---|---|---|---|"]
    for name, score in summary["labels"].items():
        mean = score["dice"]["mean"]
        lines.append(
            f"| {name} | {'–' if mean is None else f'{mean:.3f}'} | {_interval(score['dice'])} | {score['missed']} |"
        )
    return lines
