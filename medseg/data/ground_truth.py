"""Read ground truth as one coded mask: label numbers, or a bit for each label that may overlap."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
import SimpleITK as sitk

from medseg.data.cases import Case
from medseg.errors import ConfigError, ImageError
from medseg.io.dicom.seg_reader import read_seg
from medseg.io.dicom.seg_writer import SUFFIX as SEG
from medseg.io.dicom.seg_writer import Origin, write_seg
from medseg.io.geometry import ONE_ONTO_OTHER, from_array, max_grid_offset, require_same_grid
from medseg.io.image import SUFFIXES, find_images, image_suffix, read_mask, stem, write_image
from medseg.io.labels import Labels, normalize_name

FORMATS = {"nifti": ".nii.gz", "nrrd": ".nrrd", "mha": ".mha", "png": ".png", "tiff": ".tif", "dicom-seg": SEG}
BACKGROUND = "background"  # in data.mask_values: pixels of no label
IGNORE = "ignore"  # nnU-Net's name for pixels without loss
WHITE = 255  # of black and white masks
BINARY_THRESHOLD = 128  # of 255: for soft masks and those blurred by JPEG
JPEG_LEVELS = 32  # of 255: JPEG leaves nearly all pixels within this distance of black and white
MIN_EXTREME_FRACTION = 0.95  # of the pixels within JPEG_LEVELS of black or white


@dataclass(frozen=True)
class GroundTruth:
    """A coded mask on its image's grid, and which labels were annotated; other labels are unknown, not absent.

    grid_offsets: by file, the largest distance of its corners from the image's, in voxels, due to header precision.
    thresholded: files of more than two values, soft or blurred by JPEG, thresholded at half of 255.
    """

    mask: sitk.Image
    known: tuple[str, ...]
    grid_offsets: Mapping[Path, float]
    thresholded: tuple[Path, ...] = ()


def read_case_mask(case: Case, image: sitk.Image) -> sitk.Image:
    """The label map of a case on the grid of its image; `ImageError` where the dataset names none."""
    if case.mask is None:
        raise ImageError(f"{case.image}: has no mask in the dataset", code="mask-missing")
    return read_mask_on_grid(case.mask, image, case.image)


def read_mask_on_grid(path: Path, image: sitk.Image, image_path: Path) -> sitk.Image:
    """The mask of `path`, which must lie on the grid of the image; `ImageError` gives the difference."""
    if path.name.endswith(SEG):
        return read_seg(path, image)
    mask = read_mask(path)
    require_same_grid(
        mask, image, f"{path}: does not lie on the grid of {image_path}", ONE_ONTO_OTHER, code="mask-grid"
    )
    return mask


def read_ground_truth(case: Case, image: sitk.Image, labels: Labels) -> GroundTruth:
    """The ground truth of a case on the grid of its image.

    Raises `ImageError`: mask-missing; mask-grid, with the numbers; mask-label for a pixel value without label, with the
    setting that assigns it, or for one to be ignored; mask-values; and those of `read_mask`.
    """
    if not case.annotated:
        raise ImageError(f"{case.image}: has no mask in the dataset", code="mask-missing")
    layers: dict[str, npt.NDArray[np.bool_]] = {}
    grid_offsets: dict[Path, float] = {}
    thresholded: list[Path] = []

    def on_grid(path: Path) -> npt.NDArray[np.uint8]:
        mask = read_mask_on_grid(path, image, case.image)
        grid_offsets[path] = max_grid_offset(mask, image)
        array: npt.NDArray[np.uint8] = sitk.GetArrayFromImage(mask)
        return array

    def binary(array: npt.NDArray[np.uint8], path: Path) -> npt.NDArray[np.bool_]:
        thresholded.extend([] if _two_valued(array) else [path])
        return binarize(array, path)

    if case.mask is not None:
        array = on_grid(case.mask)
        if _blurred(case, array, labels):
            layers = {next(iter(labels.numbers)): binary(array, case.mask)}
        else:
            layers = _layers(case, array, labels)
    for annotated, path in case.masks.items():
        name = next((label for label in labels.numbers if normalize_name(label) == normalize_name(annotated)), None)
        if name is None:
            continue
        layers[name] = np.zeros(image.GetSize()[::-1], np.bool_) if path is None else binary(on_grid(path), path)
    if not layers:
        raise _unnamed(case, labels)
    coded = from_array(labels.join(layers), image)
    return GroundTruth(
        coded, tuple(name for name in labels.numbers if name in layers), grid_offsets, tuple(thresholded)
    )


def _unnamed(case: Case, labels: Labels) -> ImageError:
    return ImageError(
        f"{case.image}: none of {', '.join(labels.numbers)} is annotated; the dataset has "
        f"{', '.join([*case.masks, *(case.values or {})])}; assign them with data.mask_values",
        code="mask-missing",
    )


def binarize(array: npt.NDArray[np.uint8], path: Path) -> npt.NDArray[np.bool_]:
    """The mask of a single label: not 0; with more than two values, at least half of 255.

    Raises `ImageError` (mask-values) where there are several values and none reaches half: neither a black-and-white
    nor a soft mask.
    """
    if _two_valued(array):
        return array > 0
    if array.max() < BINARY_THRESHOLD:
        raise ImageError(
            f"{path}: holds {len(np.unique(array))} values up to {array.max()}, but a mask of one label is 0 and one "
            f"other value, or soft from 0 to {WHITE}; save it as 0 and {WHITE}, or a label map in the column mask",
            code="mask-values",
        )
    return array >= BINARY_THRESHOLD


def _two_valued(array: npt.NDArray[np.uint8]) -> bool:
    """Whether a mask holds one value, or 0 and one other."""
    values = np.unique(array)
    return len(values) == 1 or (len(values) == 2 and values[0] == 0)


def _blurred(case: Case, array: npt.NDArray[np.uint8], labels: Labels) -> bool:
    """Whether a mask is black and white for a single label, with intermediate values from JPEG or resizing.

    A PNG may have been a JPEG: then several values are just above 0 and just below 255, with few pixels between.
    """
    if len(labels.numbers) != 1 or _two_valued(array) or array.max() < BINARY_THRESHOLD:
        return False
    name = normalize_name(next(iter(labels.numbers)))
    for stated, values in (case.values or {}).items():  # the dataset's own values take precedence
        if {value >= BINARY_THRESHOLD for value in values} != {normalize_name(stated) == name} or normalize_name(
            stated
        ) not in (
            name,
            BACKGROUND,
        ):
            return False
    if case.mask is not None and image_suffix(case.mask) in (".jpg", ".jpeg"):
        return True
    counts = np.bincount(array.ravel(), minlength=WHITE + 1)
    dark, light = counts[:JPEG_LEVELS], counts[-JPEG_LEVELS:]
    crowded = dark.sum() + light.sum() >= MIN_EXTREME_FRACTION * array.size
    return bool(crowded and np.count_nonzero(dark) > 2 and np.count_nonzero(light) > 2)


def _layers(case: Case, array: npt.NDArray[np.uint8], labels: Labels) -> dict[str, npt.NDArray[np.bool_]]:
    """Layers of a label map: by the dataset's pixel values if it states them, else by the labels' numbers."""
    present = {int(value) for value in np.unique(array)} - {0}
    if case.values is not None:
        values = {normalize_name(name): tuple(numbers) for name, numbers in case.values.items()}
    elif len(labels.numbers) == 1 and present == {WHITE}:  # black and white
        values = {normalize_name(next(iter(labels.numbers))): (WHITE,)}
    else:
        values = {normalize_name(name): (number,) for name, number in labels.numbers.items()}
    _require_known(case, present, values, labels)
    ignored = sorted(present.intersection(values.get(IGNORE, ())))
    if ignored and IGNORE not in map(normalize_name, labels.numbers):
        suggested = {name: list(values.get(normalize_name(name), ())) for name in labels.numbers} | {
            BACKGROUND: ignored
        }
        raise ImageError(
            f"{case.mask}: holds {ignored}, pixels to be ignored, which would be trained and evaluated as background; "
            f"leave the case out, or, if background is intended, set {_setting(suggested)}",
            code="mask-label",
        )
    return {
        name: np.isin(array, values[normalize_name(name)]) for name in labels.numbers if normalize_name(name) in values
    }


def _require_known(case: Case, present: set[int], values: Mapping[str, Sequence[int]], labels: Labels) -> None:
    unknown = sorted(present - {value for numbers in values.values() for value in numbers})
    if not unknown:
        return
    suggested = {name: list(values.get(normalize_name(name), ())) for name in labels.numbers}
    suggestion = f"e.g. {_setting(suggested | {BACKGROUND: unknown})}"
    if len(suggested) == 1:  # the values are this label or background
        name, current = next(iter(suggested.items()))
        suggestion = (
            f"{_setting({name: current + unknown})} where they are {name}, {suggestion.removeprefix('e.g. ')} where not"
        )
    raise ImageError(
        f"{case.mask}: holds {unknown}, which belong to no label here ({dict(values)}); set what each value means, "
        f"{suggestion}, or correct the mask",
        code="mask-label",
    )


def _setting(values: Mapping[str, Sequence[int]]) -> str:
    """The setting as the user pastes it."""
    text = ", ".join(f"{name}: {value}" for name, value in values.items())
    return f"'data.mask_values={{{text}}}'"


def find_masks(root: Path) -> dict[Path, Path]:
    """Every mask below a folder, by its relative path without suffix, including DICOM SEG."""
    named = {path.relative_to(root).parent / stem(path): path for path in find_images(root)}
    segs = {p.relative_to(root).parent / p.name.removesuffix(SEG): p for p in sorted(root.rglob(f"*{SEG}"))}
    return segs | named


def mask_suffix(file_format: str) -> str:
    """The suffix of masks in a format, given as a name or a suffix; `ConfigError` for others."""
    if file_format in SUFFIXES or file_format == SEG:
        return file_format
    if file_format not in FORMATS:
        accepted = ", ".join([*FORMATS, *SUFFIXES])
        raise ConfigError(
            f"{file_format}: not a format of masks; must be one of {accepted}", hint=f"output_format={file_format}"
        )
    return FORMATS[file_format]


def mask_files(target: Path, labels: Labels) -> dict[str, Path]:
    """The files that hold a coded mask: `target` alone, or one for each label where labels may overlap."""
    if labels.exclusive or target.name.endswith(SEG):
        return {"": target}
    base, suffix = stem(target), target.name[-len(image_suffix(target)) :]
    return {name: target.with_name(f"{base}_{name}{suffix}") for name in labels.numbers}


def write_masks(coded: sitk.Image, target: Path, labels: Labels, origin: Origin | None = None) -> None:
    """Write a coded mask: a label map, or `<name>_<label>` of 0 and 1 for each label where labels may overlap.

    With an `origin`, a DICOM series, write a DICOM SEG that refers to it.
    """
    if origin is not None:
        write_seg(coded, target, labels, origin)
        return
    by_label = {"": coded} if labels.exclusive else labels.split(coded)
    for name, file in mask_files(target, labels).items():
        write_image(by_label[name], file)


def read_masks(target: Path, labels: Labels) -> sitk.Image:
    """The coded mask that `write_masks` wrote to `target`."""
    files = mask_files(target, labels)
    if labels.exclusive:
        return read_mask(target)
    by_label = {name: read_mask(file) for name, file in files.items()}
    return labels.join_images(by_label, next(iter(by_label.values())))
