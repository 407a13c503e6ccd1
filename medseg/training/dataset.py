"""The dataset of a training: where it lies, how it is read and split."""

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
from medseg.utils.console import banner, say

SYNTHETIC = (
    "No data.root was given: this model learns from SYNTHETIC PHANTOMS. It shows that everything works; "
    "it is of no use on real images. Train on yours with data.root=FOLDER."
)


def assign_splits(config: Settings, cases: list[Case]) -> list[Case]:
    """Cases with their side: of the folds asked for, else as given, else by `data.test_fraction`."""
    if config.data.n_folds is not None:
        return fold_cases(cases, config.data.n_folds, config.data.fold, config.seed)
    return split_cases(cases, config.data.test_fraction, config.seed)


def reuse_split(cases: list[Case], run: Run) -> list[Case]:
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


def resolve_data_root(config: Settings) -> tuple[Path, bool]:
    """The dataset's folder, and whether it is synthetic; makes phantoms where no data were named."""
    if config.data.root is not None:
        root = Path(config.data.root)
        return root, (root / "phantom.json").is_file()
    if config.organ.phantom is None:
        raise ConfigError(
            f"organ={config.organ.name} has no phantom to make synthetic cases with: set data.root=FOLDER"
        )
    banner(SYNTHETIC)
    moving = config.task == "diagnosis" and config.organ.target_level == "frame"
    frames = config.data.phantom_frames or (20 if moving else 1)
    wanted = {"patients": config.data.phantom_patients, "frames": frames, "seed": config.seed}
    made = {**wanted, **{key: value for key, value in config.organ.phantom.items() if key != "_target_"}}
    name = "-".join([config.organ.name, *(f"{key}{value}" for key, value in made.items())])
    folder = Path(config.data.cache) / "phantoms" / name
    if not (folder / "cases.csv").is_file():
        say(f"making phantoms in {folder}")
        with atomic_directory(folder, "cases.csv") as part:
            build(config.organ.phantom, PHANTOMS, folder=part, **wanted)
    return folder, True


def read_dataset(config: Settings, root: Path) -> list[Case]:
    """The cases of a dataset folder, as the settings say that its tables and masks are to be read."""
    data = config.data
    columns = Columns(
        data.split_column, data.label_column, data.patient_column, data.mask_suffix, data.missing_mask, data.mask_values
    )
    if config.task == "diagnosis" and (root / FEATURES).is_file():
        cases = _with_sides(cases_from_features(root / FEATURES, columns), root / "cases.csv", columns.split)
    else:
        cases = read_cases(root, list(config.organ.channels), columns)
    return [case for case in cases if case.label not in data.exclude_classes]


def _with_sides(cases: list[Case], file: Path, column: str) -> list[Case]:
    """Measured cases with the splits that a table of cases beside their measures states, where those state none."""
    table = read_table(file) if file.is_file() and not any(case.split for case in cases) else None
    if table is None or not {"case", column} <= set(table):  # such as a run's ledger
        return cases
    sides = {
        row["case"]: parse_split(row[column] or None, f"{file}: {row['case']}") for row in table.to_dict("records")
    }
    return [replace(case, split=sides.get(case.id)) for case in cases]
