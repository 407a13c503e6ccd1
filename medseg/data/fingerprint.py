"""Dataset fingerprint: statistics of the training cases, stored in the run."""

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
TAIL_FRACTION = 0.01  # of the cases, outside either end of a range
CATEGORICAL_STATS = ("axes", "components")  # these number a category
IMAGE_STATS = "image_stats"  # key of the statistics of raw images, for out-of-distribution checks at inference


def fingerprint(facts: list[Facts], patients: int, labels: Iterable[str], synthetic: bool) -> Facts:
    """The statistics of cached cases, at least one; `facts` holds `CachedCase.facts` of each."""
    statistics = {"synthetic": synthetic, "patients": patients, **summarise_facts(facts, labels)}
    statistics |= {"network_size": _median([fact["network_size"] for fact in facts])}
    return statistics | {IMAGE_STATS: image_ranges([fact[IMAGE_STATS] for fact in facts if IMAGE_STATS in fact])}


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
        "cut": [str(path) for path in truth.thresholded],
        "intensity": intensity,
    }


def summarise_facts(facts: list[Facts], labels: Iterable[str]) -> Facts:
    """Medians over cases of their `case_facts`, and sums of the labels' voxels."""
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


def image_ranges(stats_of_cases: Sequence[Mapping[str, Mapping[str, float]]]) -> Facts:
    """The median contrast and the range of each statistic, by channel.

    `stats_of_cases` holds channel → statistic → value for each case. With 100 cases or more, ranges of continuous
    statistics leave out 1 % of the cases at either end.
    """
    by_channel: Facts = {}
    for channel in stats_of_cases[0] if stats_of_cases else ():
        stats_of_channel = [stats[channel] for stats in stats_of_cases if channel in stats]
        names = [name for name in stats_of_channel[0] if all(name in case_stats for case_stats in stats_of_channel)]
        values = {name: [case_stats[name] for case_stats in stats_of_channel] for name in names}
        tail = TAIL_FRACTION if len(stats_of_channel) >= 1 / TAIL_FRACTION else 0.0
        ranges = {
            name: np.quantile(values[name], [0, 1] if name in CATEGORICAL_STATS else [tail, 1 - tail]).tolist()
            for name in names
        }
        contrast = float(np.median(values["contrast"]))
        by_channel[channel] = {"cases": len(stats_of_channel), "contrast": contrast, "ranges": ranges}
    return by_channel


def _median(rows: list[list[float]]) -> list[float]:
    length = min(map(len, rows))
    return [float(value) for value in np.median([row[:length] for row in rows], axis=0)]
