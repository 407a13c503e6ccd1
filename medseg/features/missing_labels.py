"""A label that is not there leaves most of its measures undefined: no gap, where that is what a class looks like."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from medseg.typing import BoolArray, FloatArray

SHARE = 0.25  # of a class's rows: segmenters miss fewer of what is there, and find something in many that have nothing


def missing_labels(values: FloatArray, names: Sequence[str]) -> dict[str, BoolArray]:
    """By label the rows (R,) of measures (R, F), named ``label.measure``, in which all that was counted of it is 0."""
    missing = {}
    for label in dict.fromkeys(name.split(".")[0] for name in names if "." in name):
        label_values = values[:, _of(label, names)]
        known = np.isfinite(label_values)
        missing[label] = known.any(axis=1) & ~known.all(axis=1) & (np.where(known, label_values, 0) == 0).all(axis=1)
    return missing


def informative_absence(values: FloatArray, names: Sequence[str], classes: npt.NDArray[Any]) -> tuple[str, ...]:
    """The labels whose absence tells something: they are absent in at least a quarter of the rows (R,) of a class."""
    return tuple(
        label
        for label, rows in missing_labels(values, names).items()
        if any(rows[classes == label_class].mean() >= SHARE for label_class in dict.fromkeys(classes))
    )


def known_fraction(measured: FloatArray, filled: FloatArray, names: Sequence[str], labels: Sequence[str]) -> FloatArray:
    """Share (R,) of measures (R, F) that are defined, `filled` from the frames around them or not; those of `labels`
    count where the label is absent.
    """
    known = np.isfinite(filled)
    for label, missing in missing_labels(measured, names).items() if labels else ():
        if label in labels:
            known |= missing[:, None] & _of(label, names)
    return np.asarray(known.mean(axis=1))


def _of(label: str, names: Sequence[str]) -> BoolArray:
    return np.array([name.split(".")[0] == label for name in names])
