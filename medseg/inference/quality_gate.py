"""The quality gate of a model: checks of the raw image, and out-of-distribution checks against training images."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any

import SimpleITK as sitk

from medseg.config.components import build
from medseg.config.settings import Settings
from medseg.data.cases import Case
from medseg.data.fingerprint import IMAGE_STATS, image_ranges
from medseg.errors import MedsegError
from medseg.io.image import frames, read_image
from medseg.quality.ood import OutOfDistribution, image_stats
from medseg.runs.run import Run
from medseg.utils.console import say

MAX_CASES = 100  # more hardly change a range
Check = Callable[[sitk.Image], list[str]]


class QualityGate:
    """The checks of `quality` on images, by channel; sequences are checked on their middle frame."""

    def __init__(self, config: Settings, stats: Mapping[str, Any] | None = None) -> None:
        built = [build(node) for node in config.quality.values() if node is not None]
        self.checks = [check for check in built if not isinstance(check, OutOfDistribution)]
        self.ood_checks = [check for check in built if isinstance(check, OutOfDistribution)]
        self.stats, self.time_axis = dict(stats or {}), config.data.time_axis

    @classmethod
    def of_run(cls, run: Run, config: Settings) -> QualityGate:
        """The gate of a finished run; prints a note if the run has no statistics of its training images."""
        content = run.read_json("fingerprint.json")
        if config.quality and not content.get(IMAGE_STATS):
            say(f"{run.named}: has no statistics of its training images, so images are not compared with them")
        return cls(config, _read(content.get(IMAGE_STATS) or {}))

    def __call__(self, images: Mapping[str, sitk.Image]) -> list[str]:
        """Warnings on the raw channels of a case, each with its channel."""
        return [f"{name}: {warning}" for name, image in images.items() for warning in self.of(name)(image)]

    def of(self, channel: str) -> Check:
        """The check of one channel."""
        return partial(self._warnings, channel)

    def _warnings(self, channel: str, image: sitk.Image) -> list[str]:
        if not self.checks and not self.ood_checks:
            return []
        middle = middle_of(image, self.time_axis)
        warnings = [warning for check in self.checks if (warning := check(middle))]
        for check in self.ood_checks if channel in self.stats else ():
            warnings += check(middle, self.stats[channel])
        return warnings


class TrainingImageStats:
    """Statistics of the images of training cases, added case by case."""

    def __init__(self, config: Settings) -> None:
        self.channel, self.time_axis = str(config.organ.channels[0]), config.data.time_axis
        self.stats_by_image: list[dict[str, dict[str, float]]] = []

    def add(self, case: Case, image: sitk.Image) -> None:
        """Add an image's statistics, if its case is a training case."""
        if case.split == "train":
            self.stats_by_image.append({self.channel: image_stats(middle_of(image, self.time_axis))})

    def summary(self) -> dict[str, Any]:
        """The content for fingerprint.json."""
        return {IMAGE_STATS: image_ranges(self.stats_by_image)}


def collect_image_stats(config: Settings, cases: Sequence[Case]) -> dict[str, Any]:
    """As `TrainingImageStats.summary`, of at most `MAX_CASES` readable cases, evenly chosen, of any split."""
    stats_by_image = []
    for case in cases[:: -(-len(cases) // MAX_CASES) or 1]:
        try:
            images = {channel: read_image(path) for channel, path in case.images.items()}
        except MedsegError:  # reported when the case is used
            continue
        stats_by_image.append(
            {channel: image_stats(middle_of(image, config.data.time_axis)) for channel, image in images.items()}
        )
    return {IMAGE_STATS: image_ranges(stats_by_image)}


def middle_of(image: sitk.Image, time_axis: int | None) -> sitk.Image:
    """The middle frame of a sequence; any other image unchanged."""
    frame_images = frames(image, time_axis)
    return frame_images[len(frame_images) // 2]


def _read(content: Mapping[str, Any]) -> dict[str, Any]:
    """Image statistics of an untrusted fingerprint, by channel; `KeyError`, `TypeError` or `ValueError` if invalid."""
    stats = {}
    for channel, channel_stats in content.items():
        ranges = {str(name): (float(low), float(high)) for name, (low, high) in channel_stats["ranges"].items()}
        facts = {"cases": max(1, int(channel_stats["cases"])), "contrast": float(channel_stats["contrast"])}
        stats[str(channel)] = {**facts, "ranges": ranges}
        if missing := {"axes", "components"} - set(ranges):
            raise KeyError(*missing)
    return stats
