"""Read CSV tables of cases."""

from __future__ import annotations

import csv
from io import StringIO
from pathlib import Path
from typing import Any

import pandas as pd

from medseg.errors import DataError


def read_table(file: Path) -> pd.DataFrame:
    """A CSV file (commas, or semicolons or tabs where its first line has no comma) as columns of stripped text.

    Columns without a name are left out. Raises `DataError` with the line where there are more cells than columns, a
    quote is open or two columns have one name.
    """
    header, rows = _cells(file)
    return pd.DataFrame([cells for _, cells in rows], columns=pd.Index(header, dtype=object), dtype=str)


def _cells(file: Path) -> tuple[list[str], list[tuple[int, list[str]]]]:
    """Names of the columns; and the cells of each row that is not blank, with the line it ends in."""
    try:
        text = file.read_bytes().decode("utf-8-sig")
    except (OSError, UnicodeError) as error:
        raise DataError(f"{file}: cannot be read as CSV in UTF-8 ({error}); save it as CSV in UTF-8") from error
    first_line = next(iter(text.splitlines()), "")
    reader = csv.reader(
        StringIO(text, newline=""), delimiter=next((d for d in ",;\t" if d in first_line), ","), strict=True
    )
    rows: list[tuple[int, list[str]]] = []
    try:
        rows += [(reader.line_num, [cell.strip() for cell in row]) for row in reader if any(map(str.strip, row))]
    except csv.Error as error:
        raise DataError(f"{file}, line {reader.line_num}: {error}; correct it, or save it as CSV again") from error
    if not rows:
        raise DataError(f"{file}: is empty; it needs a header line with column names")
    line, header = rows.pop(0)
    kept_columns = [
        column for column, name in enumerate(header) if name
    ]  # leaves out, e.g., the row numbers that pandas writes
    duplicate = next((header[column] for column in kept_columns if header.index(header[column]) < column), None)
    if duplicate:
        raise DataError(f"{file}, line {line}: column {duplicate!r} occurs twice; rename one")
    for line, cells in rows:
        if any(cells[len(header) :]):
            problem = f"has {len(cells)} cells for {len(header)} columns; quote cells that contain a comma"
            raise DataError(f"{file}, line {line}: {problem}")
        cells += [""] * (len(header) - len(cells))
    return [header[column] for column in kept_columns], [
        (line, [cells[column] for column in kept_columns]) for line, cells in rows
    ]


def _records(file: Path) -> tuple[list[str], list[tuple[str, dict[str, Any]]]]:
    """Names of the columns; and each row as a dict whose blanks are None, with `file, line N`."""
    header, rows = _cells(file)
    return header, [
        (f"{file}, line {line}", {name: cell or None for name, cell in zip(header, cells, strict=True)})
        for line, cells in rows
    ]
