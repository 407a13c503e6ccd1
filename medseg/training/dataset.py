"""The dataset of a training: find, read and split it."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from medseg.config.components import build
from medseg.config.settings import Settings
from medseg.config.targets import PHANTOMS
from medseg.data.cache import atomic_directory
from medseg.data.cases import Case, Columns
from medseg.data.readers import FEATURES, cases_from_features, parse_split, read_cases
from medseg.data.splits import fold_cases, split_cases
from medseg.data.tables import read_table
from medseg.errors import ConfigError, DataError
from medseg.runs.run import Run
from medseg.utils.console import banner, say, warn

SYNTHETIC = (
    "No data.root was given: this model is trained on SYNTHETIC PHANTOMS. It is a demonstration, "
    "of no use on real images. Train on your own with data.root=FOLDER."
)


def assign_splits(config: Settings, cases: list[Case]) -> list[Case]:
    """Assign splits: by `data.n_folds`, else the dataset's own, else by `data.test_fraction`."""
    if config.data.n_folds is not None:
        return fold_cases(cases, config.data.n_folds, config.data.fold, config.seed)
    assigned = split_cases(cases, config.data.test_fraction, config.seed)
    if not any(case.split in ("valid", "test") for case in assigned):
        cause = "data.test_fraction holds out no patient"
        if any(case.split for case in cases):
            cause = f"column {config.data.split_column!r} says train for every case"
        warn(f"no case is held out, so nothing is evaluated: {cause}; data.n_folds=5 holds out a fifth of the patients")
    return assigned


def reuse_split(cases: list[Case], run: Run) -> list[Case]:
    """Assign the splits of a run: a new random split would evaluate on its training patients."""
    table = read_table(run.file("split.csv"))
    if "sha256" in table:
        raise DataError(
            f"{run.named}: is an imported package with anonymised cases, so its split cannot be reused; give the run "
            "folder that `medseg train` wrote"
        )
    splits = {str(row["case"]): str(row["split"]) for row in table.to_dict("records")}
    if splits.keys() != {case.id for case in cases}:
        raise DataError(f"the dataset's cases differ from those of {run.path}; train in a new run_dir")
    return [replace(case, split=splits[case.id]) for case in cases]


def resolve_data_root(config: Settings) -> tuple[Path, bool]:
    """The dataset's folder, and whether it is synthetic; makes phantoms without data.root."""
    if config.data.root is not None:
        root = Path(config.data.root)
        return root, (root / "phantom.json").is_file()
    if config.organ.phantom is None:
        raise ConfigError(
            f"organ={config.organ.name} has no phantom to make synthetic cases with: set data.root=FOLDER"
        )
    banner(SYNTHETIC)
    needs_sequences = config.task == "diagnosis" and config.organ.target_level == "frame"
    frames = config.data.phantom_frames or (20 if needs_sequences else 1)
    arguments = {"patients": config.data.phantom_patients, "frames": frames, "seed": config.seed}
    values = {**arguments, **{key: value for key, value in config.organ.phantom.items() if key != "_target_"}}
    name = "-".join([config.organ.name, *(f"{key}{value}" for key, value in values.items())])
    folder = Path(config.data.cache) / "phantoms" / name
    if not (folder / "cases.csv").is_file():
        say(f"making phantoms in {folder}")
        with atomic_directory(folder, "cases.csv") as draft:
            build(config.organ.phantom, PHANTOMS, folder=draft, **arguments)
    return folder, True


def read_dataset(config: Settings, root: Path) -> list[Case]:
    """Read the cases of a dataset folder according to the settings of `data`."""
    data = config.data
    columns = Columns(
        data.split_column,
        data.label_column,
        data.patient_column,
        data.mask_suffix,
        data.missing_mask,
        data.mask_values,
        data.fold_column,
        data.fold,
    )
    if config.task == "diagnosis" and (root / FEATURES).is_file():
        cases = _with_splits(cases_from_features(root / FEATURES, columns), root / "cases.csv", columns.split)
    else:
        cases = read_cases(root, list(config.organ.channels), columns)
    return [case for case in cases if case.label not in data.exclude_classes]


def _with_splits(cases: list[Case], file: Path, column: str) -> list[Case]:
    """Add the splits of a cases.csv next to a features table that has none."""
    table = read_table(file) if file.is_file() and not any(case.split for case in cases) else None
    if table is None or not {"case", column} <= set(table):  # such as a run's case log
        return cases
    splits = {
        row["case"]: parse_split(row[column] or None, f"{file}: {row['case']}") for row in table.to_dict("records")
    }
    return [replace(case, split=splits.get(case.id)) for case in cases]
