"""Reasons for a review of a case: its image failed the quality gate, or its mask is empty."""

from __future__ import annotations

from collections.abc import Sequence

import SimpleITK as sitk

from medseg.data.cases import Case
from medseg.errors import ImageError
from medseg.inference.quality_gate import Check

EMPTY = "its mask is empty"


def quality_error(case: Case, warnings: Sequence[str]) -> ImageError:
    """The error for an image refused by its quality gate."""
    text = f"{case.image}: failed a quality check: {'; '.join(warnings)}; check the image, or accept such images"
    return ImageError(text, code="quality", hint="fail_on_quality=False")


class ReviewReasons:
    """Check the images and masks of cases; `reasons`: reasons for a review, by case.

    With `strict` an image that fails a check is an `ImageError` (quality).
    """

    def __init__(self, *checks: Check, strict: bool = False) -> None:
        self.checks, self.strict = checks, strict
        self.reasons: dict[str, str] = {}

    def check_image(self, case: Case, image: sitk.Image) -> None:
        """Add the warnings of the quality gates on an image."""
        # a classifier's and a segmenter's gate share most warnings
        warnings = list(dict.fromkeys(warning for check in self.checks for warning in check(image)))
        if warnings and self.strict:
            raise quality_error(case, warnings)
        for warning in warnings:
            self._add(case.id, warning)

    def check_mask(self, case: Case, mask: sitk.Image) -> None:
        """Add a reason if a mask is empty."""
        if not sitk.GetArrayViewFromImage(mask).any():
            self._add(case.id, EMPTY)

    def restore(self, case: str, reasons: str) -> None:
        """Restore an earlier run's reasons of a case."""
        if reasons:
            self.reasons[case] = reasons

    def _add(self, case: str, reason: str) -> None:
        reasons = self.reasons.get(case, "")
        if reason not in reasons:
            self.reasons[case] = f"{reasons}; {reason}" if reasons else reason
