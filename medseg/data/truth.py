"""What a dataset's mask files say, as one coded mask: label numbers, or a bit for each label that may overlap."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
import SimpleITK as sitk

from medseg.data.cases import Case
from medseg.data.dicom_seg import SUFFIX as SEG
from medseg.data.dicom_seg import Origin, write_seg
from medseg.data.dicom_seg_read import read_seg
from medseg.data.image import (
    SUFFIXES,
    find_images,
    grid_difference,
    image_suffix,
    read_mask,
    stem,
    voxels_apart,
    write_image,
)
from medseg.data.labels import Labels, plain
from medseg.errors import ConfigError, ImageError

FORMATS = {"nifti": ".nii.gz", "nrrd": ".nrrd", "mha": ".mha", "png": ".png", "tiff": ".tif", "dicom-seg": SEG}
BACKGROUND = "background"  # in data.mask_values: pixels that are no label


@dataclass(frozen=True)
class Truth:
    """A coded mask on its image's grid, and which labels were annotated; the others are unknown, not absent.

    apart: by file, how far its corners lie off the image's, in voxels, as headers of another precision make it.
    """

    mask: sitk.Image
    known: tuple[str, ...]
    apart: Mapping[Path, float]


def own_mask(case: Case, image: sitk.Image) -> sitk.Image:
    """The label map that the dataset names for a case, on the grid of its image; `ImageError` where there is none."""
    if case.mask is None:
        raise ImageError(f"{case.image}: has no mask in the dataset", code="mask-missing")
    return fitting_mask(case.mask, image, case.image)


def fitting_mask(path: Path, image: sitk.Image, image_path: Path) -> sitk.Image:
    """The mask of `path`, which must lie on the grid of the image; `ImageError` says how far it is off."""
    if path.name.endswith(SEG):
        return read_seg(path, image)
    mask = read_mask(path)
    difference = grid_difference(mask, image)
    if difference:
        raise ImageError(
            f"{path}: does not lie on the grid of {image_path}: {difference}; resample one onto the other",
            code="mask-grid",
        )
    return mask


def read_truth(case: Case, image: sitk.Image, labels: Labels) -> Truth:
    """The truth of a case on the grid of its image.

    Raises `ImageError`: mask-missing; mask-grid, with the numbers; mask-label for a pixel value no label has, with the
    setting that names it; and those of `read_mask`.
    """
    if not case.annotated:
        raise ImageError(f"{case.image}: has no mask in the dataset", code="mask-missing")
    layers: dict[str, npt.NDArray[np.bool_]] = {}
    apart: dict[Path, float] = {}

    def fitting(path: Path) -> npt.NDArray[np.uint8]:
        mask = fitting_mask(path, image, case.image)
        apart[path] = voxels_apart(mask, image)
        array: npt.NDArray[np.uint8] = sitk.GetArrayFromImage(mask)
        return array

    if case.mask is not None:
        layers |= _layers(case, fitting(case.mask), labels)
    for given, path in case.masks.items():
        name = next((own for own in labels.numbers if plain(own) == plain(given)), None)
        if name is None:
            continue
        if path is None:
            layers[name] = np.zeros(image.GetSize()[::-1], np.bool_)
            continue
        layers[name] = fitting(path) > 0
    if not layers:
        raise ImageError(
            f"{case.image}: none of {', '.join(labels.numbers)} is annotated; the dataset has "
            f"{', '.join([*case.masks, *(case.values or {})])}; say which is which with data.mask_values",
            code="mask-missing",
        )
    coded = sitk.GetImageFromArray(labels.join(layers))
    coded.CopyInformation(image)
    return Truth(coded, tuple(name for name in labels.numbers if name in layers), apart)


def _layers(case: Case, array: npt.NDArray[np.uint8], labels: Labels) -> dict[str, npt.NDArray[np.bool_]]:
    """Layers of a label map, by the dataset's own values where it states them, else by the labels' numbers."""
    found = {int(value) for value in np.unique(array)} - {0}
    if case.values is not None:
        values = {plain(name): tuple(given) for name, given in case.values.items()}
    elif len(labels.numbers) == 1 and len(found) == 1:  # black and white: 0/1, 0/255
        values = {plain(next(iter(labels.numbers))): tuple(found)}
    else:
        values = {plain(name): (number,) for name, number in labels.numbers.items()}
    _require_known(case, found, values, labels)
    return {name: np.isin(array, values[plain(name)]) for name in labels.numbers if plain(name) in values}


def _require_known(case: Case, found: set[int], values: Mapping[str, Sequence[int]], labels: Labels) -> None:
    unknown = sorted(found - {value for given in values.values() for value in given})
    if not unknown:
        return
    listed = {**{name: list(values.get(plain(name), ())) for name in labels.numbers}, BACKGROUND: unknown}
    text = ", ".join(f"{name}: {value}" for name, value in listed.items())
    raise ImageError(
        f"{case.mask}: holds {unknown}, which stand for no label here ({dict(values)}); say what each value means, "
        f"e.g. 'data.mask_values={{{text}}}', or mend the mask",
        code="mask-label",
    )


def find_masks(root: Path) -> dict[Path, Path]:
    """Every mask below a folder by its path there without ending, DICOM SEG among them."""
    named = {path.relative_to(root).parent / stem(path): path for path in find_images(root)}
    segs = {p.relative_to(root).parent / p.name.removesuffix(SEG): p for p in sorted(root.rglob(f"*{SEG}"))}
    return segs | named


def mask_suffix(shape: str) -> str:
    """The ending of masks in a format, given as a word or as an ending; `ConfigError` for others."""
    if shape in SUFFIXES or shape == SEG:
        return shape
    if shape not in FORMATS:
        raise ConfigError(f"--format {shape}: must be one of {', '.join([*FORMATS, *SUFFIXES])}")
    return FORMATS[shape]


def mask_files(target: Path, labels: Labels) -> dict[str, Path]:
    """The files that hold a coded mask: `target` alone, or one for each label where labels may overlap."""
    if labels.exclusive or target.name.endswith(SEG):
        return {"": target}
    base, suffix = stem(target), target.name[-len(image_suffix(target)) :]
    return {name: target.with_name(f"{base}_{name}{suffix}") for name in labels.numbers}


def write_masks(coded: sitk.Image, target: Path, labels: Labels, origin: Origin | None = None) -> None:
    """Write a coded mask: a label map, or `<name>_<label>` of 0 and 1 for each label where labels may overlap.

    With an `origin`, a DICOM series, it becomes a DICOM SEG that refers to it.
    """
    if origin is not None:
        write_seg(coded, target, labels, origin)
        return
    parts = {"": coded} if labels.exclusive else labels.split(coded)
    for name, file in mask_files(target, labels).items():
        write_image(parts[name], file)


def read_masks(target: Path, labels: Labels) -> sitk.Image:
    """The coded mask that `write_masks` wrote to `target`."""
    files = mask_files(target, labels)
    if labels.exclusive:
        return read_mask(target)
    parts = {name: read_mask(file) for name, file in files.items()}
    coded = sitk.GetImageFromArray(labels.join({n: sitk.GetArrayFromImage(p) > 0 for n, p in parts.items()}))
    coded.CopyInformation(next(iter(parts.values())))
    return coded
