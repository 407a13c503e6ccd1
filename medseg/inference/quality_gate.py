"""The quality gate of a model: checks of the raw image, and how far it lies from the images of the training."""

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

MAX_CASES = 100  # cases: more hardly change a range
Check = Callable[[sitk.Image], list[str]]


class QualityGate:
    """What `quality` says against images, channel by channel; sequences are judged by their middle frame."""

    def __init__(self, config: Settings, looks: Mapping[str, Any] | None = None) -> None:
        built = [build(node) for node in config.quality.values() if node is not None]
        self.checks = [check for check in built if not isinstance(check, OutOfDistribution)]
        self.familiar = [check for check in built if isinstance(check, OutOfDistribution)]
        self.looks, self.time_axis = dict(looks or {}), config.data.time_axis

    @classmethod
    def of_run(cls, run: Run, config: Settings) -> QualityGate:
        """The gate of a finished run; one that does not know what its training images were like says so once."""
        content = run.read_json("fingerprint.json")
        if config.quality and not content.get(IMAGE_STATS):
            say(
                f"{run.named}: it is not recorded what its training images were like, so no image is compared with them"
            )
        return cls(config, _read(content.get(IMAGE_STATS) or {}))

    def __call__(self, images: Mapping[str, sitk.Image]) -> list[str]:
        """Doubts about the raw channels of a case, each with its channel; nothing where all is well."""
        return [f"{name}: {doubt}" for name, image in images.items() for doubt in self.of(name)(image)]

    def of(self, channel: str) -> Check:
        """The check of one channel."""
        return partial(self._doubts, channel)

    def _doubts(self, channel: str, image: sitk.Image) -> list[str]:
        if not self.checks and not self.familiar:
            return []
        middle = middle_of(image, self.time_axis)
        found = [doubt for check in self.checks if (doubt := check(middle))]
        for check in self.familiar if channel in self.looks else ():
            found += check(middle, self.looks[channel])
        return found


class TrainingImageStats:
    """What the images of training cases are like, a case at a time."""

    def __init__(self, config: Settings) -> None:
        self.channel, self.time_axis = str(config.organ.channels[0]), config.data.time_axis
        self.seen: list[dict[str, dict[str, float]]] = []

    def add(self, case: Case, image: sitk.Image) -> None:
        """Remember an image, if its case is there to learn from."""
        if case.split == "train":
            self.seen.append({self.channel: image_stats(middle_of(image, self.time_axis))})

    def summary(self) -> dict[str, Any]:
        """For fingerprint.json."""
        return {IMAGE_STATS: image_ranges(self.seen)}


def collect_image_stats(config: Settings, cases: Sequence[Case]) -> dict[str, Any]:
    """As `Looks.summary`, of cases that nothing is learnt from: at most `MANY` that can be read, evenly chosen."""
    seen = []
    for case in cases[:: -(-len(cases) // MAX_CASES) or 1]:
        try:
            images = {channel: read_image(path) for channel, path in case.images.items()}
        except MedsegError:  # named where it is used
            continue
        seen.append(
            {channel: image_stats(middle_of(image, config.data.time_axis)) for channel, image in images.items()}
        )
    return {IMAGE_STATS: image_ranges(seen)}


def middle_of(image: sitk.Image, time_axis: int | None) -> sitk.Image:
    """The middle frame of a sequence; any other image as it is."""
    parts = frames(image, time_axis)
    return parts[len(parts) // 2]


def _read(looks: Mapping[str, Any]) -> dict[str, Any]:
    """What a fingerprint says, by channel; a stranger's may hold anything: raises as a broken table does."""
    found = {}
    for channel, known in looks.items():
        ranges = {str(name): (float(low), float(high)) for name, (low, high) in known["ranges"].items()}
        facts = {"cases": max(1, int(known["cases"])), "contrast": float(known["contrast"])}
        found[str(channel)] = {**facts, "ranges": ranges}
        if missing := {"axes", "components"} - set(ranges):
            raise KeyError(*missing)
    return found
