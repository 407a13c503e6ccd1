"""Train a model: the run folder from first to last."""

from __future__ import annotations

import json
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import NamedTuple

import yaml

from medseg import runs
from medseg.config import Config, build, to_dict, to_yaml, with_values
from medseg.console import banner, say, warn
from medseg.data.cache import whole_folder
from medseg.data.cases import Case, Columns, fold_cases, split_cases, split_table
from medseg.data.folders import FEATURES, measured_cases, read_cases, read_table, split_name
from medseg.errors import DataError
from medseg.executor import machine
from medseg.ledger import Ledger, atomic_write_text, write_json
from medseg.plan import plan_dataset, resolved
from medseg.resume import only_one
from medseg.runs import Run
from medseg.targets import PHANTOMS

SMALL = 0.2  # of a recipe's passes: below, numbers say nothing of what the recipe can do
SYNTHETIC = (
    "No data.root was given: this model learns from SYNTHETIC PHANTOMS. It shows that everything works; "
    "it is of no use on real images. Train on yours with data.root=FOLDER."
)


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
        from medseg.train_segmenter import train_segmenter

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
    from medseg.train_classifier import train_classifier
    from medseg.train_diagnoser import train_diagnoser

    way = train_classifier if "use" in config.diagnoser else train_diagnoser
    return way(config, run, cases, synthetic)


def plan_settings(config: Config, out: Path) -> None:
    """Plan for the dataset that the settings name, as `train` would read and split it."""
    root, _ = dataset(config)
    plan_dataset(config, divide(config, read_dataset(config, root)), out)


def divide(config: Config, cases: list[Case]) -> list[Case]:
    """Cases with their side: of the folds asked for, else as given, else by `data.holdout`."""
    if config.data.folds is not None:
        return fold_cases(cases, config.data.folds, config.data.fold, config.seed)
    return split_cases(cases, config.data.holdout, config.seed)


def as_before(cases: list[Case], run: Run) -> list[Case]:
    """Each case on the side where a run had it: a new draw would report on patients already learnt from."""
    table = read_table(run.file("split.csv"))
    if "sha256" in table:
        raise DataError(
            f"{run.named}: came as a package, which calls its cases by numbers, so nobody can tell which are learnt "
            "from; name the run folder that `medseg train` wrote"
        )
    sides = {str(row["case"]): str(row["split"]) for row in table.to_dict("records")}
    if sides.keys() != {case.id for case in cases}:
        raise DataError(f"the dataset has other cases than when {run.path} began; train in a new run_dir")
    return [replace(case, split=sides[case.id]) for case in cases]


def dataset(config: Config) -> tuple[Path, bool]:
    """The dataset's folder, and whether it is synthetic; makes phantoms where no data were named."""
    if config.data.root is not None:
        root = Path(config.data.root)
        return root, (root / "phantom.json").is_file()
    banner(SYNTHETIC)
    moving = config.task == "diagnosis" and config.organ.label_level == "frame"
    frames = config.data.phantom_frames or (20 if moving else 1)
    wanted = {"patients": config.data.phantom_patients, "frames": frames, "seed": config.seed}
    made = {**wanted, **{key: value for key, value in config.organ.phantom.items() if key != "_target_"}}
    name = "-".join([config.organ.name, *(f"{key}{value}" for key, value in made.items())])
    folder = Path(config.data.cache) / "phantoms" / name
    if not (folder / "cases.csv").is_file():
        say(f"making phantoms in {folder}")
        with whole_folder(folder, "cases.csv") as part:
            build(config.organ.phantom, PHANTOMS, folder=part, **wanted)
    return folder, True


def read_dataset(config: Config, root: Path) -> list[Case]:
    """The cases of a dataset folder, as the settings say that its tables and masks are to be read."""
    data = to_dict(config)["data"]
    columns = Columns(
        data["split_column"], data["label_column"], data["patient_column"], data["mask_suffix"],
        data["missing_mask"], data["mask_values"],
    )  # fmt: skip
    if config.task == "diagnosis" and (root / FEATURES).is_file():
        cases = _with_sides(measured_cases(root / FEATURES, columns), root / "cases.csv", columns.split)
    else:
        cases = read_cases(root, list(config.organ.channels), columns)
    return [case for case in cases if case.label not in {str(label) for label in data["leave_out"]}]


def _with_sides(cases: list[Case], file: Path, column: str) -> list[Case]:
    """Measured cases with the splits that a table of cases beside their measures states, where those state none."""
    table = read_table(file) if file.is_file() and not any(case.split for case in cases) else None
    if table is None or not {"case", column} <= set(table):  # such as a run's ledger
        return cases
    sides = {row["case"]: split_name(row[column] or None, f"{file}: {row['case']}") for row in table.to_dict("records")}
    return [replace(case, split=sides.get(case.id)) for case in cases]


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
