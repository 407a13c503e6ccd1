"""`medseg associate`: how the measures of a features table go with a graded label."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd

from medseg.data.tables import read_table
from medseg.errors import DataError
from medseg.evaluation.association import associate
from medseg.features.sequences import feature_columns
from medseg.features.tables import read_tables
from medseg.reports.diagnosis_plots import plot_forest
from medseg.utils.console import say, table, warn
from medseg.utils.files import atomic_write_text, sibling_path

SHOWN = 20  # measures on the screen and in the picture


def associate_files(features: Path, labels: Path, column: str, positive: float, out: Path) -> pd.DataFrame:
    """OUT.csv, a row a measure, and OUT.png, the strongest; measures of several frames of a case are averaged.

    The first column of `labels` names the case; a column `patient`, where there is one, says who belongs together:
    intervals, p and q count patients.
    Raises `DataError` where `column` is missing or no number, or no case stands in both tables.
    """
    measured = read_tables(features).frames
    names = list(feature_columns(measured))
    means = measured.groupby("case")[names].mean()
    grades = _grades(labels, column)
    both = means.join(grades, how="inner")
    if both.empty:
        raise DataError(
            f"no case of {features} stands in {labels}: {means.index[0]!r} there, {grades.index[0]!r} here; "
            "the first column of the labels must hold the cases' names"
        )
    missing = len(means) - len(both)
    if missing:
        warn(f"{missing} of {len(means)} cases have no {column} in {labels} and are left out")
    found = associate(both[names], both["grade"].to_numpy(np.float64), positive, both["patient"].tolist())
    atomic_write_text(out, found.to_csv(index=False))
    plot_forest(found.dropna(subset=["rho"]).head(SHOWN), sibling_path(out, ".png"), f"{column} ({len(both)} cases)")
    rows = [[row.feature, row.rho, f"{row.rho_low:.2f}–{row.rho_high:.2f}", row.q, row.odds_ratio, row.auc]
            for row in found.head(SHOWN).itertuples()]  # fmt: skip
    table(f"{column} in {len(both)} cases", ["feature", "rho", "95 % CI", "q", "odds ratio a SD", "AUC"], rows)
    say(f"written: {out}")
    return found


def _grades(file: Path, column: str) -> pd.DataFrame:
    """Columns grade and patient, by case."""
    labels = read_table(file)
    if column not in labels.columns:
        raise DataError(f"{file}: column {column!r} is missing; it has {', '.join(map(str, labels.columns))}")
    labels = labels[labels[column] != ""]
    try:
        grade = pd.to_numeric(labels[column])
    except ValueError as error:
        raise DataError(f"{file}: column {column!r} holds something that is no number ({error})") from error
    cases = labels[labels.columns[0]]
    patients = labels["patient"] if "patient" in labels.columns else cases
    found = pd.DataFrame({"grade": grade.to_numpy(), "patient": patients.to_numpy()}, index=cases.to_numpy())
    return found[~found.index.duplicated()]
