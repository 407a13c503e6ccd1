"""Train a model: the run folder from first to last."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from pathlib import Path
from typing import NamedTuple

import yaml

from medseg.batch.case_log import Ledger
from medseg.config.compose import Config, to_yaml, with_values
from medseg.data.cases import Case
from medseg.data.splits import split_table
from medseg.runs import run as runs
from medseg.runs.run import Run
from medseg.training.dataset import as_before, dataset, divide, read_dataset
from medseg.training.planning import resolved
from medseg.utils.console import say, warn
from medseg.utils.devices import machine
from medseg.utils.files import atomic_write_text, write_json
from medseg.utils.locks import only_one

SMALL = 0.2  # of a recipe's passes: below, numbers say nothing of what the recipe can do


class Trained(NamedTuple):
    """A finished run, and 0, or 3 where cases had to be left out."""

    run: Run
    exit_status: int


def train(config: Config, like: Run | None = None) -> Trained:
    """Train what `config.task` says on the cases it names, in a new run folder or the one to resume.

    like: a run whose split is taken. A SIGINT or SIGTERM ends with status 130 and says how to go on.
    """
    started = datetime.now(UTC)
    root, synthetic = dataset(config)
    cases = read_dataset(config, root)
    if config.resume:
        run = Run(Path(config.resume))
        cases = as_before(cases, run) if run.file("split.csv").is_file() else divide(config, cases)
    else:
        cases = as_before(cases, like) if like else divide(config, cases)
        config = resolved(config, cases)
        run = runs.create(config.run_dir, config.organ.name)
    with only_one(run.path):
        try:
            return _train(config, run, cases, Source(root, synthetic, started))
        except SystemExit:
            warn(f"interrupted; go on with: medseg train resume={run.path}")
            raise


class Source(NamedTuple):
    """Where the cases come from, whether they are phantoms, and when the training was started."""

    root: Path
    synthetic: bool
    started: datetime


def _train(config: Config, run: Run, cases: list[Case], source: Source) -> Trained:
    if config.trainer.budget < SMALL:
        say(f"trainer.budget={config.trainer.budget}: a try that shows everything works, not a model to use")
    run.file("manifest.json").unlink(missing_ok=True)  # what is trained further is no finished model meanwhile
    atomic_write_text(run.file("split.csv"), split_table(cases).to_csv(index=False))  # first, for a resume reads it
    atomic_write_text(run.file("config.yaml"), to_yaml(with_values(config, {"resume": None})))
    say(f"run folder {run.path}")
    if config.task == "segmentation":
        from medseg.training.segmenter import train_segmenter

        write_json(run.file("labels.json"), dict(config.organ.labels))
        lines, ledger = train_segmenter(config, run, cases, source.synthetic)
    else:
        write_json(run.file("labels.json"), {name: n for n, name in enumerate(config.organ.classes)})
        lines, ledger = _train_diagnosis(config, run, cases, source.synthetic)
    runs.write_card(run, _card(config, cases, source.root, source.synthetic) + lines)
    run.seal(source.started, machine(config.executor.accelerator, config.executor.precision))
    say(f"finished: {run.path}  (medseg report {run.path})")
    return Trained(run, ledger.exit_status())


def _train_diagnosis(config: Config, run: Run, cases: list[Case], synthetic: bool) -> tuple[list[str], Ledger]:
    """A recipe that says whose answer is used has several diagnosers; else it is the LSTM alone, with its baseline."""
    from medseg.training.sequence_classifier import train_diagnoser
    from medseg.training.stacked_classifier import train_classifier

    way = train_classifier if "use" in config.diagnoser else train_diagnoser
    return way(config, run, cases, synthetic)


def _card(config: Config, cases: list[Case], root: Path, synthetic: bool) -> list[str]:
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
