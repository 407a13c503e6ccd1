"""Why a person should look at a case that was measured: its image failed the quality gate, or its mask is empty."""

from __future__ import annotations

from collections.abc import Sequence

import SimpleITK as sitk

from medseg.data.cases import Case
from medseg.errors import ImageError
from medseg.inference.quality_gate import Check

EMPTY = "its mask is empty"


def quality_error(case: Case, doubts: Sequence[str]) -> ImageError:
    """That an image is refused for what its quality gate says."""
    text = f"{case.image}: refused: {'; '.join(doubts)}; look at it, or let such images pass"
    return ImageError(text, code="quality", hint="fail_on_quality=False")


class ReviewReasons:
    """Judges the images and masks of cases; `reasons` holds what there is to say of each, by case.

    With `strict` an image that a check doubts is an `ImageError` (quality).
    """

    def __init__(self, *checks: Check, strict: bool = False) -> None:
        self.checks, self.strict = checks, strict
        self.reasons: dict[str, str] = {}

    def check_image(self, case: Case, image: sitk.Image) -> None:
        """Note what the quality gates say against an image."""
        # a diagnoser's gate and a segmenter's say much the same
        said = list(dict.fromkeys(doubt for check in self.checks for doubt in check(image)))
        if said and self.strict:
            raise quality_error(case, said)
        for doubt in said:
            self._note(case.id, doubt)

    def check_mask(self, case: Case, mask: sitk.Image) -> None:
        """Note that a mask is empty."""
        if not sitk.GetArrayViewFromImage(mask).any():
            self._note(case.id, EMPTY)

    def restore(self, case: str, reasons: str) -> None:
        """Note what an earlier run noted of a case."""
        if reasons:
            self.reasons[case] = reasons

    def _note(self, case: str, doubt: str) -> None:
        known = self.reasons.get(case, "")
        if doubt not in known:
            self.reasons[case] = f"{known}; {doubt}" if known else doubt
