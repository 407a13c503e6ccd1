"""What a dataset is like: statistics of the training cases, kept with the run."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import SimpleITK as sitk

from medseg.errors import DataError

if TYPE_CHECKING:
    from medseg.data.ground_truth import GroundTruth
    from medseg.io.labels import Labels

Facts = dict[str, Any]
UTMOST = 0.01  # of the cases, on either side of a range
KINDS = ("axes", "components")  # numbers that stand for a kind
IMAGE_STATS = "looks"  # what raw images are like, for telling at inference whether another is like them


def fingerprint(facts: list[Facts], patients: int, labels: Iterable[str], synthetic: bool) -> Facts:
    """The statistics of cached cases, at least one; `facts` is what `CachedCase.facts` has of each."""
    found = {"synthetic": synthetic, "patients": patients, **summarise_facts(facts, labels)}
    found |= {"network_size": _median([fact["network_size"] for fact in facts])}
    return found | {IMAGE_STATS: image_ranges([fact[IMAGE_STATS] for fact in facts if IMAGE_STATS in fact])}


def require_labels_present(facts: Facts, labels: Sequence[str]) -> None:
    """`DataError` where `facts`, a fingerprint of training cases, has no voxel of a label."""
    for name in labels:
        if not facts["voxels"][name]:
            raise DataError(
                f"no training mask shows {name}; check organ.labels={list(labels)} and data.mask_values, "
                "or leave the label out"
            )


def case_facts(images: dict[str, sitk.Image], truth: GroundTruth, labels: Labels) -> Facts:
    """Spacing (mm), size, voxels of each annotated label, and intensity of each channel inside the labels."""
    first = next(iter(images.values()))
    coded = sitk.GetArrayViewFromImage(truth.mask)
    inside = coded > 0
    intensity = {}
    for channel, image in images.items():
        array = sitk.GetArrayViewFromImage(image)  # ([Z,] Y, X[, colours])
        pixels = array[inside] if inside.any() else array.reshape(-1)
        low, middle, high = np.percentile(pixels, [0.5, 50, 99.5])
        intensity[channel] = {
            "p0.5": float(low), "median": float(middle), "p99.5": float(high), "mean": float(np.mean(pixels)),
            "sd": float(np.std(pixels)), "min": float(array.min()), "max": float(array.max()),
        }  # fmt: skip
    return {
        "spacing": list(first.GetSpacing()),
        "size": list(first.GetSize()),
        "components": first.GetNumberOfComponentsPerPixel(),
        "voxels": {name: int(labels.layer(coded, name).sum()) for name in truth.known},
        "known": list(truth.known),
        "cut": [str(path) for path in truth.cut],
        "intensity": intensity,
    }


def summarise_facts(facts: list[Facts], labels: Iterable[str]) -> Facts:
    """Medians over cases of what `facts_of` found in each, and sums of the labels' voxels."""
    channels = facts[0]["intensity"]
    return {
        "cases": len(facts),
        "spacing_mm": _median([f["spacing"] for f in facts]),
        "size": _median([f["size"] for f in facts]),
        "components": int(np.median([f["components"] for f in facts])),
        "voxels": {name: sum(f["voxels"].get(name, 0) for f in facts) for name in labels},
        "annotated": {name: sum(name in f["known"] for f in facts) for name in labels},
        "intensity": {
            channel: {
                name: float(np.median([f["intensity"][channel][name] for f in facts])) for name in channels[channel]
            }
            for channel in channels
        },
    }


def image_ranges(looks: Sequence[Mapping[str, Mapping[str, float]]]) -> Facts:
    """Of each channel the usual contrast, and the range of each measure over the cases; `looks` is channel → measure →
    value for each case. From a hundred cases on the utmost hundredth on either side is left out, but no kind."""
    found: Facts = {}
    for channel in looks[0] if looks else ():
        seen = [look[channel] for look in looks if channel in look]
        names = [name for name in seen[0] if all(name in one for one in seen)]
        values = {name: [one[name] for one in seen] for name in names}
        utmost = UTMOST if len(seen) >= 1 / UTMOST else 0.0
        ranges = {
            name: np.quantile(values[name], [0, 1] if name in KINDS else [utmost, 1 - utmost]).tolist()
            for name in names
        }
        contrast = float(np.median(values["contrast"]))
        found[channel] = {"cases": len(seen), "contrast": contrast, "ranges": ranges}
    return found


def _median(rows: list[list[float]]) -> list[float]:
    length = min(map(len, rows))
    return [float(value) for value in np.median([row[:length] for row in rows], axis=0)]
