"""Absent structures: their undefined features are informative, not missing at random."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from medseg.features.tables import is_deep
from medseg.typing import BoolArray, FloatArray

MIN_ABSENT_FRACTION = 0.25  # of a class's rows: segmenters miss fewer structures that are present


def missing_labels(values: FloatArray, names: Sequence[str]) -> dict[str, BoolArray]:
    """Return by label the rows (R,) of features (R, F), named ``label.feature``, whose defined features are all 0."""
    missing = {}
    for label in dict.fromkeys(name.split(".")[0] for name in names if "." in name):
        label_values = values[:, _of(label, names)]
        known = np.isfinite(label_values)
        missing[label] = known.any(axis=1) & ~known.all(axis=1) & (np.where(known, label_values, 0) == 0).all(axis=1)
    return missing


def informative_absence(values: FloatArray, names: Sequence[str], classes: npt.NDArray[Any]) -> tuple[str, ...]:
    """Return the labels whose absence is informative: absent in at least a quarter of the rows (R,) of a class."""
    return tuple(
        label
        for label, rows in missing_labels(values, names).items()
        if any(rows[classes == label_class].mean() >= MIN_ABSENT_FRACTION for label_class in dict.fromkeys(classes))
    )


def known_fraction(measured: FloatArray, filled: FloatArray, names: Sequence[str], labels: Sequence[str]) -> FloatArray:
    """Fraction (R,) of features (R, F) that are defined, `filled` from neighbouring frames or not; features of `labels`
    count as defined if the label is absent. Deep features count only if there are no others.
    """
    counted = np.array([not is_deep(name) for name in names], bool)
    known = np.isfinite(filled)
    for label, missing in missing_labels(measured, names).items() if labels else ():
        if label in labels:
            known |= missing[:, None] & _of(label, names)
    return np.asarray(known[:, counted if counted.any() else slice(None)].mean(axis=1))


def _of(label: str, names: Sequence[str]) -> BoolArray:
    return np.array([name.split(".")[0] == label for name in names])
