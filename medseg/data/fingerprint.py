"""What a dataset is like: statistics of the training cases, kept with the run."""

from __future__ import annotations

from typing import Any

import numpy as np

from medseg.data.cache import CachedCase
from medseg.errors import DataError


def fingerprint(cases: list[CachedCase], labels: dict[str, int], synthetic: bool) -> dict[str, Any]:
    """Medians over cases of spacing (mm), size and foreground intensity, and voxels of each label.

    Raises `DataError` where masks hold a number that no label has, or a label that no case shows.
    """
    facts = [case.facts() for case in cases]
    check_labels(cases, labels)
    for name, number in labels.items():
        if not any(fact["voxels"].get(str(number)) for fact in facts):
            raise DataError(f"no training mask shows {name} (number {number}); check organ.labels={labels}")
    channels = facts[0]["intensity"]
    return {
        "synthetic": synthetic,
        "cases": len(cases),
        "patients": len({case.patient for case in cases}),
        "spacing_mm": _median([f["spacing"] for f in facts]),
        "size": _median([f["size"] for f in facts]),
        "network_size": _median([f["network_size"] for f in facts]),
        "voxels": {name: sum(f["voxels"].get(str(number), 0) for f in facts) for name, number in labels.items()},
        "intensity": {
            channel: {
                name: float(np.median([f["intensity"][channel][name] for f in facts])) for name in channels[channel]
            }
            for channel in channels
        },
    }


def _median(rows: list[list[float]]) -> list[float]:
    length = min(map(len, rows))
    return [float(value) for value in np.median([row[:length] for row in rows], axis=0)]


def check_labels(cases: list[CachedCase], labels: dict[str, int]) -> None:
    """Raise `DataError` where a mask holds a number that no label has."""
    known = {0, *labels.values()}
    for case in cases:
        unknown = {int(value) for value in case.facts()["voxels"]} - known
        if unknown:
            listed = ", ".join(f"label_{value}: {value}" for value in sorted(unknown))
            raise DataError(
                f"{case.name}: its mask holds {sorted(unknown)}, but organ.labels knows {labels}; "
                f"name them with '+organ.labels={{{listed}}}' or mend the mask"
            )
