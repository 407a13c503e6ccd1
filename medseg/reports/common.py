"""What the sections of a report share."""

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
    """One of the run's tables as text with NaN for blanks, None where the run has none."""
    return read_table(run.file(name)).replace("", np.nan) if run.file(name).is_file() else None


def png_data_uri(png: bytes) -> str:
    """A picture inside the page."""
    return "data:image/png;base64," + base64.b64encode(png).decode()


def best_median_worst(ranked: pd.Series[float]) -> Iterator[tuple[str, str]]:
    """(title, case) of the best, median and worst of cases in rising order; each case once."""
    names = list(ranked.index)
    places = {"Best case": len(names) - 1, "Median case": (len(names) - 1) // 2, "Worst case": 0}
    seen: set[int] = set()
    for title, place in places.items():
        if 0 <= place < len(names) and place not in seen:
            seen.add(place)
            yield title, str(names[place])
