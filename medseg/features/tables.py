"""Feature tables: one row per frame, one row per slice, and the definition of each feature."""

from __future__ import annotations

import json
from collections.abc import Iterable
from pathlib import Path
from typing import NamedTuple

import pandas as pd

from medseg.data.tables import read_table
from medseg.errors import DataError
from medseg.utils.files import atomic_write_text, sibling_path, write_json

KEYS = ["case", "frame", "step"]
FACTS = ["case", "patient", "frame", "time", "label", "signal", "split"]
DEEP = "deep."  # how names of deep features begin
BESIDE = ("_steps.csv", "_units.json", "_retrospective.json")  # suffixes of files that may accompany a frames table


class Tables(NamedTuple):
    """Features. frames: one row per frame; steps: one row per slice of a frame, or None; units: unit and definition of
    each feature by the last part of its name, empty if unknown; retrospective: columns of `frames` whose value at a
    frame depends on later frames, too.
    """

    frames: pd.DataFrame
    steps: pd.DataFrame | None
    units: dict[str, str] = {}  # noqa: RUF012
    retrospective: tuple[str, ...] = ()

    def meaning(self, feature: str) -> str:
        """Return unit and definition of a feature by its full name; empty if unknown."""
        return self.units.get(feature.rsplit(".", 1)[-1], "")


def is_deep(feature: str) -> bool:
    """Whether a column is a deep feature: a network's, not measured."""
    return feature.startswith(DEEP)


def write_tables(tables: Tables, out: Path) -> None:
    """Write OUT.csv, OUT_units.json and, if there are any, slices to OUT_steps.csv and the names of retrospective
    columns to OUT_retrospective.json; outdated files of the same names are removed.
    """
    facts = [name for name in FACTS if name in tables.frames and tables.frames[name].notna().any()]
    features = [name for name in tables.frames if name not in FACTS]
    if tables.steps is not None:
        atomic_write_text(sibling_path(out, "_steps.csv"), _first(tables.steps, KEYS).to_csv(index=False))
    else:
        sibling_path(out, "_steps.csv").unlink(missing_ok=True)
    for suffix, content in {"_units.json": tables.units, "_retrospective.json": list(tables.retrospective)}.items():
        if content:
            write_json(sibling_path(out, suffix), content)
        else:
            sibling_path(out, suffix).unlink(missing_ok=True)
    atomic_write_text(out, tables.frames[[*facts, *features]].to_csv(index=False))


def read_tables(file: Path) -> Tables:
    """Read tables that `write_tables` wrote: numbers as numbers, names as text; `DataError` for any other table."""
    table, steps = _numeric(file), sibling_path(file, "_steps.csv")
    missing = [name for name in ("case", "frame") if name not in table]
    if missing or table.empty:
        problem = f"has no column {' and '.join(missing)}" if missing else "has no row"
        raise DataError(f"{file}: {problem}; give a table that medseg extract-features wrote")
    if "patient" not in table:
        table["patient"] = table["case"]
    retrospective = sibling_path(file, "_retrospective.json")
    return Tables(
        table,
        _numeric(steps) if steps.is_file() else None,
        _units(sibling_path(file, "_units.json")),
        _names(retrospective) if retrospective.is_file() else (),
    )


def _names(file: Path) -> tuple[str, ...]:
    """Read a list of columns; `DataError` for anything else, since reports interpret the forecast error by it."""
    try:
        content = json.loads(file.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise DataError(f"{file}: cannot be read ({error}); extract the features again") from error
    if not isinstance(content, list):
        raise DataError(f"{file}: not a list of columns; extract the features again")
    return tuple(map(str, content))


def _units(file: Path) -> dict[str, str]:
    """Read the features' definitions; they are only displayed, so an unreadable file is ignored."""
    try:
        return {str(name): str(text) for name, text in json.loads(file.read_text(encoding="utf-8")).items()}
    except (OSError, ValueError, AttributeError):
        return {}


def _numeric(file: Path) -> pd.DataFrame:
    table = read_table(file)
    names = {"case", "patient", "label", "split"}
    for column in table.columns:
        if column in names:
            table[column] = table[column].replace("", None)
            continue
        try:
            table[column] = pd.to_numeric(table[column].replace("", None))
        except ValueError as error:
            raise DataError(f"{file}: column {column!r} holds a value that is not a number ({error})") from error
    return table


def _first(table: pd.DataFrame, names: Iterable[str]) -> pd.DataFrame:
    order = [*names, *(name for name in table if name not in list(names))]
    return table[order]
