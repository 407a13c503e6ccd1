"""The face of what segments a case, be it one model, several, or the fold that never saw it."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Protocol

import SimpleITK as sitk

from medseg.data.cases import Case
from medseg.inference.segmenter import Segmenter
from medseg.io.labels import Labels
from medseg.typing import Images


@dataclass(frozen=True)
class SegmentationResult:
    """Coded masks of a case by their folder ("" for the only one), how far models agree, and candidates."""

    masks: dict[str, sitk.Image]
    agreement: list[dict[str, Any]] = field(default_factory=list)
    candidates: list[dict[str, Any]] = field(default_factory=list)
    provenance: list[dict[str, Any]] = field(default_factory=list)  # which model, and whether it saw the case


class Predictor(Protocol):
    """Models by name, the channels they read and the labels they find; folders: as in `ModelFacts`."""

    models: dict[str, Segmenter]
    channels: list[str]
    labels: Labels
    folders: list[str]

    def predict(self, case: Case, images: Images, tiles: int | None = None) -> SegmentationResult:
        """Channels of a case → its masks; no more than `tiles` tiles of a network at once."""

    def quality_warnings(self, images: Images) -> list[str]:
        """What the quality gates say against the raw channels of a case; nothing where all is well."""
