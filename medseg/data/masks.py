"""Where the masks of images come from that are measured: a folder of them, or the dataset itself."""

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
    """What a folder of masks shows: as its labels.json says, else a label for each value that is found.

    Where files are named <image>_<label>, the labels may overlap.
    """
    stated, files = read_label_names(masks), find_images(masks)
    names = {stem(path) for path in files}
    layered = [name for label in stated or () for name in names if name.endswith(f"_{label}")]
    return Labels(stated or infer_labels(files), exclusive=not layered)


class MaskFolder:
    """Masks by the same path below `masks` as the image has below `images` (or its folder images/), any ending.

    Of labels that may overlap there is a file each, <image>_<label>; one that is missing is an error.
    """

    def __init__(self, images: Path, masks: Path, labels: Labels) -> None:
        if not masks.exists():
            raise DataError(f"{masks}: no such folder")
        self.images, self.masks, self.labels = images, masks, labels
        self._named = find_masks(masks)

    def files(self, case: Case) -> list[Path]:
        """The files of a case that are there."""
        return [path for path, _ in self._places(case).values() if path is not None]

    def __call__(self, case: Case, image: sitk.Image) -> sitk.Image:
        """The coded mask of a case on the grid of its image; `ImageError` where there is none."""
        layers = {}
        for label, (path, wanted) in self._places(case).items():
            if path is None:
                raise ImageError(f"{case.image}: has no mask {wanted}.* in {self.masks}", code="mask-missing")
            layers[label] = read_mask_on_grid(path, image, case.image)
        if self.labels.exclusive:
            return layers[""]
        return self.labels.join_images(layers, image)

    def _places(self, case: Case) -> dict[str, tuple[Path | None, Path]]:
        """By label ("" for all in one file): the file, or None, and the name that it should have."""
        below = case.image.is_relative_to(self.images) and case.image != self.images
        name = case.image.relative_to(self.images).parent / stem(case.image) if below else Path(stem(case.image))
        inner = Path(*name.parts[1:]) if name.parts[0] == "images" else name
        places: dict[str, tuple[Path | None, Path]] = {}
        for label in [""] if self.labels.exclusive else list(self.labels.numbers):
            end = f"_{label}" if label else ""
            wanted = [part.with_name(part.name + end) for part in (name, inner, Path(case.name))]
            places[label] = next((self._named[part] for part in wanted if part in self._named), None), wanted[1]
        return places


def ground_truth_masks(labels: Labels) -> MaskOf:
    """The masks that the dataset itself names, coded by `labels`."""

    def find(case: Case, image: sitk.Image) -> sitk.Image:
        return read_ground_truth(case, image, labels).mask

    return find
