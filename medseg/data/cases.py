"""Cases and the columns of their tables."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

SPLIT_NAMES = {
    "train": "train",
    "training": "train",
    "val": "valid",
    "valid": "valid",
    "validation": "valid",
    "test": "test",
}

# names of a frame of a sequence: frame_003, phase07, time_12, phase50%; t1 and t2 are MRI weightings
FRAME = re.compile(r"(?:^|[_\-. ])(?:frame|phase|time)[_\-]?(\d{1,4})(?:pct|%)?$", re.IGNORECASE)


@dataclass(frozen=True)
class Case:
    """One image, or one frame of a sequence, with its masks and metadata.

    Rows that share an `id` and differ in `frame` form one sequence; rows that share a `patient` stay in one split.
    """

    id: str
    patient: str
    images: dict[str, Path]
    mask: Path | None = None  # a label map
    masks: Mapping[str, Path | None] = field(default_factory=dict)  # a file a label; None: annotated as absent
    values: Mapping[str, tuple[int, ...]] | None = None  # pixel values of `mask` by label name
    label: str | None = None
    frame: int | None = None
    time: float | None = None  # s
    signal: float | None = None  # respiratory signal, larger = more air
    split: str | None = None
    image_hash: str = ""  # digest of the first channel's file, once it is computed

    @property
    def name(self) -> str:
        """Unique within a dataset: the id, with the frame where there is one."""
        return self.id if self.frame is None else f"{self.id}_frame{self.frame:03d}"

    @property
    def image(self) -> Path:
        """The first channel's file."""
        return next(iter(self.images.values()))

    @property
    def annotated(self) -> bool:
        """Whether any label is annotated."""
        return self.mask is not None or bool(self.masks)

    def truth_files(self) -> list[Path]:
        """The existing mask files."""
        return [path for path in (self.mask, *self.masks.values()) if path is not None]


@dataclass(frozen=True)
class Columns:
    """Names of the columns and files in a user's dataset."""

    split: str = "split"
    label: str = "label"
    patient: str = "patient"
    mask_suffix: str | Mapping[str, str] | None = None  # after the image's name; or a suffix for each label
    missing_mask: str = "unannotated"  # for a missing file of a label: unannotated | absent
    mask_values: Mapping[str, int | list[int]] | None = None  # pixel values of each label, by name
    fold: str | None = None  # a column with the fold of each case, in place of a split
    held_out_fold: int = 0


def frame_of(name: str) -> tuple[str, int | None]:
    """The sequence and frame in a name: ``P1/frame_003`` → (P1, 3); ``scan12`` → (scan12, None)."""
    folder, _, file = name.rpartition("/")
    match = FRAME.search(file)
    if match is None:
        return name, None
    prefix = file[: match.start()]
    case = "/".join(component for component in (folder, prefix) if component)
    return case or name, int(match.group(1))
