"""Train a model: the run folder from first to last."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from pathlib import Path
from typing import NamedTuple

import yaml

from medseg import runs
from medseg.config import Config, build, to_yaml
from medseg.console import banner, say
from medseg.data.cases import Case, Columns, split_cases, split_table
from medseg.data.folders import read_cases
from medseg.ledger import atomic_write_text, write_json
from medseg.runs import Run

SYNTHETIC = (
    "No data.root was given: this model learns from SYNTHETIC PHANTOMS. It shows that everything works; "
    "it is of no use on real images. Train on yours with data.root=FOLDER."
)


class Trained(NamedTuple):
    """A finished run, and 0, or 3 where cases had to be left out."""

    run: Run
    exit_status: int


def train(config: Config) -> Trained:
    """Train what `config.task` says on the cases it names, in a new run folder or the one to resume."""
    started = datetime.now(UTC)
    run = Run(Path(config.resume)) if config.resume else runs.create(config.run_dir, config.organ.name)
    root, synthetic = _dataset(config)
    cases = split_cases(_read(config, root), config.data.holdout, config.seed)
    atomic_write_text(run.file("config.yaml"), to_yaml(config))
    atomic_write_text(run.file("split.csv"), split_table(cases).to_csv(index=False))
    say(f"run folder {run.path}")
    if config.task == "segmentation":
        from medseg.train_segmenter import train_segmenter

        write_json(run.file("labels.json"), dict(config.organ.labels))
        lines, ledger = train_segmenter(config, run, cases, synthetic)
    else:
        from medseg.train_diagnoser import train_diagnoser

        write_json(run.file("labels.json"), {name: n for n, name in enumerate(config.organ.classes)})
        lines, ledger = train_diagnoser(config, run, cases, synthetic)
    runs.write_card(run, _card(config, cases, root, synthetic) + lines)
    run.seal(started)
    say(f"finished: {run.path}  (medseg report {run.path})")
    return Trained(run, ledger.exit_status())


def _dataset(config: Config) -> tuple[Path, bool]:
    """The dataset's folder, and whether it is synthetic; makes phantoms where no data were named."""
    if config.data.root is not None:
        root = Path(config.data.root)
        return root, (root / "phantom.json").is_file()
    banner(SYNTHETIC)
    frames = config.data.phantom_frames or (1 if config.task == "segmentation" else 20)
    wanted = {"patients": config.data.phantom_patients, "frames": frames, "seed": config.seed}
    name = "-".join([config.organ.name, *(f"{key}{value}" for key, value in wanted.items())])
    folder = Path(config.data.cache) / "phantoms" / name
    if not (folder / "cases.csv").is_file():
        say(f"making phantoms in {folder}")
        build(config.organ.phantom, folder=folder, **wanted)
    return folder, True


def _read(config: Config, root: Path) -> list[Case]:
    data = config.data
    columns = Columns(data.split_column, data.label_column, data.patient_column, data.mask_suffix)
    return read_cases(root, list(config.organ.channels), columns)


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
