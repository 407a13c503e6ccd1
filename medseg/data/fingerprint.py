"""What a dataset is like: statistics of the training cases, kept with the run."""

from __future__ import annotations

from typing import Any

import numpy as np

from medseg.data.cache import CachedCase
from medseg.errors import DataError


def fingerprint(cases: list[CachedCase], labels: dict[str, int], synthetic: bool) -> dict[str, Any]:
    """Medians over cases of spacing (mm), size and foreground intensity, and voxels of each label.

    Raises `DataError` where a label shows in no case.
    """
    facts = [case.facts() for case in cases]
    for name in labels:
        if not any(fact["voxels"].get(name) for fact in facts):
            raise DataError(f"no training mask shows {name}; check organ.labels={dict(labels)} and data.mask_values")
    channels = facts[0]["intensity"]
    return {
        "synthetic": synthetic,
        "cases": len(cases),
        "patients": len({case.patient for case in cases}),
        "spacing_mm": _median([f["spacing"] for f in facts]),
        "size": _median([f["size"] for f in facts]),
        "network_size": _median([f["network_size"] for f in facts]),
        "voxels": {name: sum(f["voxels"].get(name, 0) for f in facts) for name in labels},
        "annotated": {name: sum(name in f["known"] for f in facts) for name in labels},
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
