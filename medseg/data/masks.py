"""Masks for feature extraction: from a folder of masks or from the dataset."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import SimpleITK as sitk

from medseg.data.cases import Case
from medseg.data.ground_truth import find_masks, read_ground_truth, read_mask_on_grid
from medseg.errors import DataError, ImageError
from medseg.io.image import find_images, stem
from medseg.io.label_names import infer_labels, read_label_names
from medseg.io.labels import Labels

MaskOf = Callable[[Case, sitk.Image], sitk.Image]


def labels_in(masks: Path) -> Labels:
    """The labels of a folder of masks: from its labels.json, else one for each value in the masks.

    Where files are named <image>_<label>, the labels may overlap.
    """
    stated, files = read_label_names(masks), find_images(masks)
    names = {stem(path) for path in files}
    layered = [name for label in stated or () for name in names if name.endswith(f"_{label}")]
    return Labels(stated or infer_labels(files), exclusive=not layered)


class MaskFolder:
    """Finds masks: the path below `masks` equals the image's below `images` (or its folder images/), any suffix.

    Labels that may overlap have a file each, <image>_<label>; a missing one is an error.
    """

    def __init__(self, images: Path, masks: Path, labels: Labels) -> None:
        if not masks.exists():
            raise DataError(f"{masks}: no such folder; check the path")
        self.images, self.masks, self.labels = images, masks, labels
        self._named = find_masks(masks)

    def files(self, case: Case) -> list[Path]:
        """The existing files of a case."""
        return [path for path, _ in self._mask_paths(case).values() if path is not None]

    def __call__(self, case: Case, image: sitk.Image) -> sitk.Image:
        """The coded mask of a case on the grid of its image; `ImageError` where there is none."""
        layers = {}
        for label, (path, expected) in self._mask_paths(case).items():
            if path is None:
                raise ImageError(f"{case.image}: has no mask {expected}.* in {self.masks}", code="mask-missing")
            layers[label] = read_mask_on_grid(path, image, case.image)
        if self.labels.exclusive:
            return layers[""]
        return self.labels.join_images(layers, image)

    def _mask_paths(self, case: Case) -> dict[str, tuple[Path | None, Path]]:
        """By label ("" for all in one file): the file, or None, and the name that it should have."""
        below = case.image.is_relative_to(self.images) and case.image != self.images
        name = case.image.relative_to(self.images).parent / stem(case.image) if below else Path(stem(case.image))
        without_images = Path(*name.parts[1:]) if name.parts[0] == "images" else name
        by_label: dict[str, tuple[Path | None, Path]] = {}
        for label in [""] if self.labels.exclusive else list(self.labels.numbers):
            suffix = f"_{label}" if label else ""
            candidates = [
                candidate.with_name(candidate.name + suffix) for candidate in (name, without_images, Path(case.name))
            ]
            by_label[label] = (
                next((self._named[candidate] for candidate in candidates if candidate in self._named), None),
                candidates[1],
            )
        return by_label


def ground_truth_masks(labels: Labels) -> MaskOf:
    """The masks in the dataset's own table, coded by `labels`."""

    def find(case: Case, image: sitk.Image) -> sitk.Image:
        return read_ground_truth(case, image, labels).mask

    return find
