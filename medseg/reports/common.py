"""Shared code of the sections of a report."""

from __future__ import annotations

import base64
from collections.abc import Iterator
from typing import Any

import numpy as np
import pandas as pd

from medseg.data.tables import read_table
from medseg.runs.run import Run

Json = dict[str, Any]


def table_of(run: Run, name: str) -> pd.DataFrame | None:
    """Read one of the run's tables as text with NaN for blanks; None if the run lacks it."""
    return read_table(run.file(name)).replace("", np.nan) if run.file(name).is_file() else None


def png_data_uri(png: bytes) -> str:
    """Data URI of a PNG image for embedding in the page."""
    return "data:image/png;base64," + base64.b64encode(png).decode()


def best_median_worst(ranked: pd.Series[float]) -> Iterator[tuple[str, str]]:
    """(title, case) of the best, median and worst of cases in rising order; each case once."""
    names = list(ranked.index)
    ranks = {"Best case": len(names) - 1, "Median case": (len(names) - 1) // 2, "Worst case": 0}
    seen: set[int] = set()
    for title, rank in ranks.items():
        if 0 <= rank < len(names) and rank not in seen:
            seen.add(rank)
            yield title, str(names[rank])
