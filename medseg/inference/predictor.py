"""The interface of predictors of a case: one model, several, or out-of-fold models."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Protocol

import SimpleITK as sitk

from medseg.data.cases import Case
from medseg.inference.confidence import Maps
from medseg.inference.segmenter import Segmenter
from medseg.io.labels import Labels
from medseg.typing import Images


@dataclass(frozen=True)
class SegmentationResult:
    """Coded masks of a case by output folder ("" for a single one), tables, and maps."""

    masks: dict[str, sitk.Image]
    agreement: list[dict[str, Any]] = field(default_factory=list)
    candidates: list[dict[str, Any]] = field(default_factory=list)
    provenance: list[dict[str, Any]] = field(default_factory=list)  # the model, and whether it is out of fold
    uncertainty: list[dict[str, Any]] = field(default_factory=list)  # expected Dice and entropy of each label
    doubts: str = ""  # the reason for a review, if the expected Dice is low
    maps: Maps = field(default_factory=dict)  # of probabilities and entropy, if requested


class Predictor(Protocol):
    """Models by name, the channels they read and the labels they segment; folders: as in `ModelFacts`.

    kept_volumes: float32 volumes on the input's grid that a prediction keeps in memory.
    """

    models: dict[str, Segmenter]
    channels: list[str]
    labels: Labels
    folders: list[str]
    kept_volumes: int

    def predict(self, case: Case, images: Images, tiles: int | None = None) -> SegmentationResult:
        """Segment a case from its channels, with at most `tiles` tiles at once."""

    def mask_warnings(self, result: SegmentationResult) -> list[str]:
        """What is implausible in the masks of a case."""

    def quality_warnings(self, images: Images) -> list[str]:
        """Warnings of the quality gates on the raw channels of a case."""
