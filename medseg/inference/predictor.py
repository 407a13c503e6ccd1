"""The interface of predictors of a case: one model, several, or out-of-fold models."""

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
    """Coded masks of a case by output folder ("" for a single one), agreement between models, and candidates."""

    masks: dict[str, sitk.Image]
    agreement: list[dict[str, Any]] = field(default_factory=list)
    candidates: list[dict[str, Any]] = field(default_factory=list)
    provenance: list[dict[str, Any]] = field(default_factory=list)  # the model, and whether it is out of fold


class Predictor(Protocol):
    """Models by name, the channels they read and the labels they segment; folders: as in `ModelFacts`."""

    models: dict[str, Segmenter]
    channels: list[str]
    labels: Labels
    folders: list[str]

    def predict(self, case: Case, images: Images, tiles: int | None = None) -> SegmentationResult:
        """Segment a case from its channels, with at most `tiles` tiles at once."""

    def mask_warnings(self, result: SegmentationResult) -> list[str]:
        """What is implausible in the masks of a case."""

    def quality_warnings(self, images: Images) -> list[str]:
        """Warnings of the quality gates on the raw channels of a case."""
