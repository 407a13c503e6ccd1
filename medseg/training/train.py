"""Train a model and write its run folder."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from pathlib import Path
from typing import NamedTuple

import yaml

from medseg.batch.case_log import CaseLog
from medseg.config.components import check_components
from medseg.config.load import to_yaml, with_values
from medseg.config.settings import Settings, StackingSettings
from medseg.data.cases import Case
from medseg.data.splits import split_table
from medseg.runs import run as runs
from medseg.runs.run import Run
from medseg.training.dataset import assign_splits, read_dataset, resolve_data_root, reuse_split
from medseg.training.planning import resolve_plan
from medseg.utils.console import say, warn
from medseg.utils.devices import describe_machine
from medseg.utils.files import atomic_write_text, write_json
from medseg.utils.locks import lock_output

MIN_FRACTION = 0.2  # of the organ's training samples: below, a model is a demonstration


class TrainingResult(NamedTuple):
    """A finished run, and the exit status: 0, or 3 if cases failed."""

    run: Run
    exit_status: int


def train(config: Settings, like: Run | None = None) -> TrainingResult:
    """Train a model for `config.task`, in a new run folder or the one to resume.

    like: a run whose split is reused. A SIGINT or SIGTERM ends with status 130 and a hint how to resume.
    """
    started = datetime.now(UTC)
    check_components(config)
    root, synthetic = resolve_data_root(config)
    cases = read_dataset(config, root)
    if config.resume:
        run = Run(Path(config.resume))
        cases = reuse_split(cases, run) if run.file("split.csv").is_file() else assign_splits(config, cases)
    else:
        cases = reuse_split(cases, like) if like else assign_splits(config, cases)
        config = resolve_plan(config, cases)
        run = runs.create(config.run_dir, config.organ.name)
    with lock_output(run.path):
        try:
            return _train(config, run, cases, DataSource(root, synthetic, started))
        except SystemExit:
            warn(f"interrupted; resume with: medseg train resume={run.path}")
            raise


class DataSource(NamedTuple):
    """The dataset folder, whether it has phantoms, and the start time of the training."""

    root: Path
    synthetic: bool
    started: datetime


def _train(config: Settings, run: Run, cases: list[Case], source: DataSource) -> TrainingResult:
    if config.trainer.fraction < MIN_FRACTION:
        say(f"trainer.fraction={config.trainer.fraction}: a quick test run, not a model to use")
    run.file("manifest.json").unlink(missing_ok=True)  # a run in training is not a finished model
    atomic_write_text(run.file("split.csv"), split_table(cases).to_csv(index=False))  # first, because a resume reads it
    atomic_write_text(run.file("config.yaml"), to_yaml(with_values(config, {"resume": None})))
    say(f"run folder {run.path}")
    if config.task == "segmentation":
        from medseg.training.segmenter import train_segmenter

        write_json(run.file("labels.json"), dict(config.organ.labels))
        lines, log = train_segmenter(config, run, cases, source.synthetic)
    else:
        write_json(run.file("labels.json"), {name: n for n, name in enumerate(config.organ.classes)})
        lines, log = _train_diagnosis(config, run, cases, source.synthetic)
    runs.write_card(run, _card(config, cases, source.root, source.synthetic) + lines)
    run.seal(source.started, describe_machine(config.compute.accelerator, config.compute.precision))
    say(f"finished: {run.path}  (medseg report {run.path})")
    return TrainingResult(run, log.exit_status())


def _train_diagnosis(config: Settings, run: Run, cases: list[Case], synthetic: bool) -> tuple[list[str], CaseLog]:
    """Train the stacked classifier, or the LSTM with its baseline, as the settings of `classifier` say."""
    from medseg.training.sequence_classifier import train_sequence_classifier
    from medseg.training.stacked_classifier import train_stacked_classifier

    task = train_stacked_classifier if isinstance(config.classifier, StackingSettings) else train_sequence_classifier
    return task(config, run, cases, synthetic)


def _card(config: Settings, cases: list[Case], root: Path, synthetic: bool) -> list[str]:
    counts = {name: len({c.patient for c in cases if c.split == name}) for name in ("train", "valid", "test")}
    facts = {
        "organ": config.organ.name, "task": config.task, "labels": dict(config.organ.labels),
        "classes": list(config.organ.classes), "patients": counts, "seed": config.seed,
    }  # fmt: skip
    lines = [
        f"# Model card: {config.organ.name}, {config.task}",
        "",
        "**Research use only.** Not a medical device.",
        "",
    ]
    if synthetic:
        lines += ["**Trained on SYNTHETIC PHANTOMS.** Of no use on real images.", ""]
    lines += [
        f"Trained on the dataset `{root.name}`.",
        "",
        "```yaml",
        yaml.safe_dump(json.loads(json.dumps(facts)), sort_keys=False).strip(),
        "```",
        "",
    ]
    return lines
