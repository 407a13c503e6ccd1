"""What a dataset's mask files say, as one coded mask: label numbers, or a bit for each label that may overlap."""

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
BACKGROUND = "background"  # in data.mask_values: pixels that are no label
IGNORE = "ignore"  # nnU-Net's name for pixels that give no loss
WHITE = 255  # of black and white masks
HALF = 128  # of 255: where a soft mask, or one that JPEG blurred, is cut
NEAR = 32  # of 255: how far from black and white JPEG puts nearly all pixels
CROWD = 0.95  # of the pixels


@dataclass(frozen=True)
class GroundTruth:
    """A coded mask on its image's grid, and which labels were annotated; the others are unknown, not absent.

    apart: by file, how far its corners lie off the image's, in voxels, as headers of another precision make it.
    cut: files of more than two values, soft or blurred by JPEG, of which what reaches half of 255 was taken.
    """

    mask: sitk.Image
    known: tuple[str, ...]
    apart: Mapping[Path, float]
    cut: tuple[Path, ...] = ()


def read_case_mask(case: Case, image: sitk.Image) -> sitk.Image:
    """The label map that the dataset names for a case, on the grid of its image; `ImageError` where there is none."""
    if case.mask is None:
        raise ImageError(f"{case.image}: has no mask in the dataset", code="mask-missing")
    return read_mask_on_grid(case.mask, image, case.image)


def read_mask_on_grid(path: Path, image: sitk.Image, image_path: Path) -> sitk.Image:
    """The mask of `path`, which must lie on the grid of the image; `ImageError` says how far it is off."""
    if path.name.endswith(SEG):
        return read_seg(path, image)
    mask = read_mask(path)
    require_same_grid(
        mask, image, f"{path}: does not lie on the grid of {image_path}", ONE_ONTO_OTHER, code="mask-grid"
    )
    return mask


def read_ground_truth(case: Case, image: sitk.Image, labels: Labels) -> GroundTruth:
    """The truth of a case on the grid of its image.

    Raises `ImageError`: mask-missing; mask-grid, with the numbers; mask-label for a pixel value no label has, with the
    setting that names it, or one that is to be ignored; mask-values; and those of `read_mask`.
    """
    if not case.annotated:
        raise ImageError(f"{case.image}: has no mask in the dataset", code="mask-missing")
    layers: dict[str, npt.NDArray[np.bool_]] = {}
    apart: dict[Path, float] = {}
    cut: list[Path] = []

    def fitting(path: Path) -> npt.NDArray[np.uint8]:
        mask = read_mask_on_grid(path, image, case.image)
        apart[path] = max_grid_offset(mask, image)
        array: npt.NDArray[np.uint8] = sitk.GetArrayFromImage(mask)
        return array

    def alone(array: npt.NDArray[np.uint8], path: Path) -> npt.NDArray[np.bool_]:
        cut.extend([] if _two_valued(array) else [path])
        return binarize(array, path)

    if case.mask is not None:
        array = fitting(case.mask)
        if _blurred(case, array, labels):
            layers = {next(iter(labels.numbers)): alone(array, case.mask)}
        else:
            layers = _layers(case, array, labels)
    for given, path in case.masks.items():
        name = next((own for own in labels.numbers if normalize_name(own) == normalize_name(given)), None)
        if name is None:
            continue
        layers[name] = np.zeros(image.GetSize()[::-1], np.bool_) if path is None else alone(fitting(path), path)
    if not layers:
        raise _unnamed(case, labels)
    coded = from_array(labels.join(layers), image)
    return GroundTruth(coded, tuple(name for name in labels.numbers if name in layers), apart, tuple(cut))


def _unnamed(case: Case, labels: Labels) -> ImageError:
    return ImageError(
        f"{case.image}: none of {', '.join(labels.numbers)} is annotated; the dataset has "
        f"{', '.join([*case.masks, *(case.values or {})])}; say which is which with data.mask_values",
        code="mask-missing",
    )


def binarize(array: npt.NDArray[np.uint8], path: Path) -> npt.NDArray[np.bool_]:
    """Where the file of a single label shows it: what is not 0; of more than two values, what reaches half of 255.

    Raises `ImageError` (mask-values) where there are several values and none reaches half: no black and white, no soft
    mask.
    """
    if _two_valued(array):
        return array > 0
    if array.max() < HALF:
        raise ImageError(
            f"{path}: holds {len(np.unique(array))} values up to {array.max()}, but a mask of one label is 0 and one "
            f"other value, or soft from 0 to {WHITE}; save it as 0 and {WHITE}, or a label map in the column mask",
            code="mask-values",
        )
    return array >= HALF


def _two_valued(array: npt.NDArray[np.uint8]) -> bool:
    """Whether a mask holds one value, or 0 and one other."""
    values = np.unique(array)
    return len(values) == 1 or (len(values) == 2 and values[0] == 0)


def _blurred(case: Case, array: npt.NDArray[np.uint8], labels: Labels) -> bool:
    """Whether a map is black and white of a single label, with what JPEG or resizing adds beside 0 and 255.

    A PNG may have been a JPEG: then several values lie just above 0 and several just below 255, but few pixels between.
    """
    if len(labels.numbers) != 1 or _two_valued(array) or array.max() < HALF:
        return False
    name = normalize_name(next(iter(labels.numbers)))
    for given, values in (case.values or {}).items():  # the dataset's own words go first
        if {value >= HALF for value in values} != {normalize_name(given) == name} or normalize_name(given) not in (
            name,
            BACKGROUND,
        ):
            return False
    if case.mask is not None and image_suffix(case.mask) in (".jpg", ".jpeg"):
        return True
    counts = np.bincount(array.ravel(), minlength=WHITE + 1)
    dark, light = counts[:NEAR], counts[-NEAR:]
    crowded = dark.sum() + light.sum() >= CROWD * array.size
    return bool(crowded and np.count_nonzero(dark) > 2 and np.count_nonzero(light) > 2)


def _layers(case: Case, array: npt.NDArray[np.uint8], labels: Labels) -> dict[str, npt.NDArray[np.bool_]]:
    """Layers of a label map, by the dataset's own values where it states them, else by the labels' numbers."""
    found = {int(value) for value in np.unique(array)} - {0}
    if case.values is not None:
        values = {normalize_name(name): tuple(given) for name, given in case.values.items()}
    elif len(labels.numbers) == 1 and found == {WHITE}:  # black and white
        values = {normalize_name(next(iter(labels.numbers))): (WHITE,)}
    else:
        values = {normalize_name(name): (number,) for name, number in labels.numbers.items()}
    _require_known(case, found, values, labels)
    ignored = sorted(found.intersection(values.get(IGNORE, ())))
    if ignored and IGNORE not in map(normalize_name, labels.numbers):
        listed = {name: list(values.get(normalize_name(name), ())) for name in labels.numbers} | {BACKGROUND: ignored}
        raise ImageError(
            f"{case.mask}: holds {ignored}, pixels to be ignored, which would be learnt and judged as background here; "
            f"leave the case out, or, where that is meant, {_setting(listed)}",
            code="mask-label",
        )
    return {
        name: np.isin(array, values[normalize_name(name)]) for name in labels.numbers if normalize_name(name) in values
    }


def _require_known(case: Case, found: set[int], values: Mapping[str, Sequence[int]], labels: Labels) -> None:
    unknown = sorted(found - {value for given in values.values() for value in given})
    if not unknown:
        return
    listed = {name: list(values.get(normalize_name(name), ())) for name in labels.numbers}
    way = f"e.g. {_setting(listed | {BACKGROUND: unknown})}"
    if len(listed) == 1:  # the one or the other
        name, known = next(iter(listed.items()))
        way = f"{_setting({name: known + unknown})} where they are {name}, {way.removeprefix('e.g. ')} where not"
    raise ImageError(
        f"{case.mask}: holds {unknown}, which stand for no label here ({dict(values)}); say what each value means, "
        f"{way}, or mend the mask",
        code="mask-label",
    )


def _setting(values: Mapping[str, Sequence[int]]) -> str:
    """As it is pasted."""
    text = ", ".join(f"{name}: {value}" for name, value in values.items())
    return f"'data.mask_values={{{text}}}'"


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
        known = ", ".join([*FORMATS, *SUFFIXES])
        raise ConfigError(f"{shape}: no format of masks; must be one of {known}", hint=f"output_format={shape}")
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
    return labels.join_images(parts, next(iter(parts.values())))
