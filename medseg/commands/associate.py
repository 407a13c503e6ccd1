"""`medseg associate`: test how the features of a features table are associated with a graded label."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd

from medseg.data.tables import read_table
from medseg.errors import DataError
from medseg.evaluation.association import associate
from medseg.features.sequences import feature_columns
from medseg.features.tables import is_deep, read_tables
from medseg.reports.diagnosis_plots import plot_forest
from medseg.utils.console import say, table, warn
from medseg.utils.files import atomic_write_text, sibling_path

MAX_SHOWN = 20  # features in the printed table and in the forest plot


def associate_files(features: Path, labels: Path, column: str, positive: float, out: Path) -> pd.DataFrame:
    """Write OUT.csv, one row per feature, and OUT.png with the strongest; features of a case's frames are averaged.

    The first column of `labels` is the case; an optional column `patient` groups cases: intervals, p and q count
    patients. Deep features are left out. Raises `DataError` if `column` is missing or not numeric, or if the tables
    share no case.
    """
    feature_table = read_tables(features).frames
    names = [name for name in feature_columns(feature_table) if not is_deep(name)]
    if not names:
        raise DataError(f"{features}: has no measured feature, only deep ones, which mean nothing one by one")
    means = feature_table.groupby("case")[names].mean()
    grades = _grades(labels, column)
    merged = means.join(grades, how="inner")
    if merged.empty:
        raise DataError(
            f"no case of {features} is in {labels}: {means.index[0]!r} and {grades.index[0]!r}; "
            "the first column of the labels must contain the case names"
        )
    missing = len(means) - len(merged)
    if missing:
        warn(f"{missing} of {len(means)} cases have no {column} in {labels} and are excluded")
    associations = associate(merged[names], merged["grade"].to_numpy(np.float64), positive, merged["patient"].tolist())
    atomic_write_text(out, associations.to_csv(index=False))
    plot_forest(
        associations.dropna(subset=["rho"]).head(MAX_SHOWN),
        sibling_path(out, ".png"),
        f"{column} ({len(merged)} cases)",
    )
    rows = [[row.feature, row.rho, f"{row.rho_low:.2f}–{row.rho_high:.2f}", row.q, row.odds_ratio, row.auc]
            for row in associations.head(MAX_SHOWN).itertuples()]  # fmt: skip
    table(f"{column} in {len(merged)} cases", ["feature", "rho", "95 % CI", "q", "odds ratio a SD", "AUC"], rows)
    say(f"written: {out}")
    return associations


def _grades(file: Path, column: str) -> pd.DataFrame:
    """Columns grade and patient, by case."""
    labels = read_table(file)
    if column not in labels.columns:
        raise DataError(f"{file}: column {column!r} is missing; it has {', '.join(map(str, labels.columns))}")
    labels = labels[labels[column] != ""]
    try:
        grade = pd.to_numeric(labels[column])
    except ValueError as error:
        raise DataError(f"{file}: column {column!r} has a value that is not a number ({error})") from error
    cases = labels[labels.columns[0]]
    patients = labels["patient"] if "patient" in labels.columns else cases
    grades = pd.DataFrame({"grade": grade.to_numpy(), "patient": patients.to_numpy()}, index=cases.to_numpy())
    return grades[~grades.index.duplicated()]
