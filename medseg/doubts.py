"""Why a person should look at a case that was measured: its image failed the quality gate, or its mask is empty."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import SimpleITK as sitk

from medseg.data.cases import Case
from medseg.data.image import frames
from medseg.masks import MaskOf

EMPTY = "its mask is empty"
Check = Callable[[sitk.Image], str | None]


class Doubts:
    """Looks on while cases are measured; `reasons` holds what there is to say of each, by case."""

    def __init__(self, checks: Sequence[Check], time_axis: int | None = None) -> None:
        self.checks, self.time_axis = checks, time_axis
        self.reasons: dict[str, str] = {}

    def watching(self, mask_of: MaskOf) -> MaskOf:
        """The same masks, while quality and emptiness are noted; of sequences the middle frame is checked."""

        def watch(case: Case, image: sitk.Image) -> sitk.Image:
            mask = mask_of(case, image)
            parts = frames(image, self.time_axis)
            said = [doubt for check in self.checks if (doubt := check(parts[len(parts) // 2]))]
            if not sitk.GetArrayViewFromImage(mask).any():
                said.append(EMPTY)
            for doubt in said:
                self._note(case.id, doubt)
            return mask

        return watch

    def _note(self, case: str, doubt: str) -> None:
        known = self.reasons.get(case, "")
        if doubt not in known:
            self.reasons[case] = f"{known}; {doubt}" if known else doubt
