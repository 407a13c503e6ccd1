"""Read and write images and masks of every supported format without losing geometry or pixels.

Everything is a `SimpleITK.Image` in 2D, 3D or 4D (time last). Photographs (PNG, JPEG, TIFF, BMP) carry a printing
resolution, not a physical pixel size: they are always read with spacing 1, so that a JPEG and its PNG mask agree, and
upright (EXIF orientation applied), as viewers show them.
"""

from __future__ import annotations

import os
import re
import tempfile
from collections.abc import Iterator, Sequence
from fnmatch import fnmatch
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import SimpleITK as sitk

from medseg.errors import DataError, ImageError
from medseg.io import itk, photo
from medseg.io.dicom import series as dicom
from medseg.io.geometry import require_same_grid, require_valid_geometry
from medseg.io.integrity import nifti as payload_nifti
from medseg.io.integrity import verify as payload
from medseg.utils.files import sync

SUFFIXES = (".nii.gz", ".nii", ".mha", ".mhd", ".nrrd", ".png", ".jpg", ".jpeg", ".tif", ".tiff", ".bmp")
UNPRINTABLE = re.compile(r"[\x00-\x1f\x7f-\x9f\ud800-\udfff]")


def image_suffix(path: Path) -> str:
    """Return the supported suffix of `path` in lower case, or "" if it has none."""
    name = path.name.lower()
    return next((suffix for suffix in SUFFIXES if name.endswith(suffix)), "")


def stem(path: Path) -> str:
    """File name without its image suffix (`a.nii.gz` gives `a`); other names (DICOM folders) stay unchanged."""
    suffix = image_suffix(path)
    return path.name[: -len(suffix)] if suffix else path.name


def is_image(path: Path) -> bool:
    """Return whether the name has a supported suffix (in any case) and is not hidden."""
    return bool(image_suffix(path)) and not path.name.startswith(".")


def find_images(root: Path, pattern: str | None = None) -> list[Path]:
    """Find all images below `root`, sorted, without hidden ones; a folder of DICOM files is one entry: the folder.

    `pattern` is a glob that the name, or the path relative to `root`, must match (`*` also crosses folders).
    If `root` is a file, it is the only entry. Raises DataError if `root` does not exist.
    """
    if root.is_file():
        return [root]
    if not root.is_dir():
        raise DataError(f"{root}: no such file or folder; check the path", code="data-missing")
    return sorted(path for path in _walk(root) if pattern is None or _matches(path, root, pattern))


def _walk(root: Path) -> Iterator[Path]:
    """Every image and DICOM folder below `root`; a folder that links reach twice is entered once.

    Folders that cannot be opened, and empty folders named like an image, are included: reading them gives an error.
    """
    seen: set[str] = set()
    closed: list[Path] = []
    for name, folders, files in os.walk(
        root, followlinks=True, onerror=lambda error: closed.append(Path(error.filename))
    ):
        real = os.path.realpath(name)
        if real in seen:
            folders.clear()
            continue
        seen.add(real)
        folder = Path(name)
        if is_image(folder) and not folders and not files and folder != root:
            yield folder
        folders[:] = sorted(inner for inner in folders if not inner.startswith("."))
        visible = [folder / file for file in files if not file.startswith(".")]
        yield from filter(is_image, visible)
        if dicom.holds_dicom(path for path in visible if not is_image(path)):
            yield folder
    yield from closed


def _matches(path: Path, root: Path, pattern: str) -> bool:
    relative = path.relative_to(root).as_posix()
    return fnmatch(path.name, pattern) or fnmatch(relative, pattern) or fnmatch(relative, pattern.replace("**/", ""))


def read_image(path: Path, series: str | None = None) -> sitk.Image:
    """Read a 2D, 3D or 4D image; colour comes as a vector image, CT from DICOM in HU.

    `path` is a file, or a folder with one DICOM series; `series` (a SeriesInstanceUID) chooses among several.
    Raises ImageError with code image-missing, -name, -suffix, -empty, -truncated, -excess, -unreadable, -memory,
    -space, -dimension, -nan or one of dicom-*.
    """
    path = Path(path)
    require_name(path)
    try:
        if path.is_dir():
            image = dicom.read_series(path, series)
        elif path.is_file():
            suffix = _known_suffix(path)
            payload.verify(path, suffix)
            image = photo.read(path, suffix) if suffix in photo.PIXELS else itk.read(path, suffix)
        elif path.exists():  # reading a pipe or a device may never end
            raise ImageError(f"{path}: is a pipe or a device; use a regular file", code="image-unreadable")
        else:
            raise ImageError(f"{path}: no such file or folder; check the path", code="image-missing")
    except (RuntimeError, OSError, MemoryError) as error:  # ITK raises RuntimeError
        message = f"{path}: cannot be read: {itk.first_line(error)}; copy or export it again"
        raise ImageError(message, code="image-unreadable") from error
    if image.GetDimension() > 4:
        message = f"{path}: has {image.GetDimension()} axes {image.GetSize()}; split it into volumes or sequences"
        raise ImageError(message, code="image-dimension")
    require_valid_geometry(image, path)
    _require_finite(image, path)
    return _without_headers(image)


def printable(text: object) -> str:
    """Escape line breaks, other control characters and bytes that are not UTF-8."""
    return UNPRINTABLE.sub(lambda match: ascii(match[0])[1:-1], str(text))


def require_name(path: Path) -> None:
    """Raise ImageError image-name for a line break (it would split a row of a table) or bytes that are not UTF-8 (ITK
    would end the process). Tabs are allowed.
    """
    if UNPRINTABLE.search(str(path).replace("\t", " ")):
        message = f"{printable(path)}: the name has a line break or bytes that are not UTF-8; rename the file"
        raise ImageError(message, code="image-name")


def _without_headers(image: sitk.Image) -> sitk.Image:
    """Remove header entries: they may hold patient data and must not reach any output."""
    try:
        for key in image.GetMetaDataKeys():
            image.EraseMetaData(key)
    except TypeError:  # a key that is not UTF-8 cannot be erased; a filter drops all keys
        return sitk.Cast(image, image.GetPixelID())
    return image


def _known_suffix(path: Path) -> str:
    suffix = image_suffix(path)
    if not suffix:
        raise ImageError(
            f"{path}: the suffix '{path.suffix}' is not supported; use one of {', '.join(SUFFIXES)} "
            "(DICOM is read as the folder that holds its files)",
            code="image-suffix",
        )
    return suffix


def _require_finite(image: sitk.Image, path: Path) -> None:
    view = sitk.GetArrayViewFromImage(image)
    if np.iscomplexobj(view):
        raise ImageError(f"{path}: has complex numbers; save its magnitude instead", code="image-unreadable")
    # NaN and infinity show in the extremes: a mask of the volume is needed only then
    if np.issubdtype(view.dtype, np.integer) or np.isfinite([view.min(), view.max()]).all():
        return
    payload_nifti.not_finite(path, int(np.isnan(view).sum()), int(np.isinf(view).sum()), view.size)


def read_mask(path: Path) -> sitk.Image:
    """Read integer labels 0..255 as uint8: grey values (also stored as RGB(A) or 16 bits) or palette indices.

    Raises ImageError as `read_image`, mask-colour for colour images, mask-values for other values.
    """
    image = photo.as_mask(path, read_image(path))
    view = sitk.GetArrayViewFromImage(image)
    fractional = np.issubdtype(view.dtype, np.floating) and bool((view != np.rint(view)).any())
    if fractional or view.min() < 0 or view.max() > 255:
        invalid = np.unique(view[(view != np.rint(view)) | (view < 0) | (view > 255)])
        examples = ", ".join(f"{value:g}" for value in invalid[:5]) + (", …" if len(invalid) > 5 else "")
        raise ImageError(
            f"{path}: a mask must have integers from 0 to 255, this one has {examples}; save it as label numbers",
            code="mask-values",
        )
    if image.GetDimension() == 4:  # ITK casts at most three dimensions
        return join_frames([sitk.Cast(frame, sitk.sitkUInt8) for frame in frames(image)], image)
    return sitk.Cast(image, sitk.sitkUInt8)


def write_image(image: sitk.Image, path: Path) -> None:
    """Write `image` in the format of the suffix; atomic; missing folders are created.

    The file is written, checked and flushed in a hidden folder next to `path`, then moved (an .mhd's pixels first).
    Raises ImageError: image-suffix, image-dimension, image-pixels if the format cannot store it, image-write.
    """
    path = Path(path)
    suffix = _known_suffix(path)
    image = photo.fitted(image, path, suffix)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=path.parent, prefix=".writing-") as folder:
            # ITK loses all but the last ending of a name such as a.nii.nii.gz; an .mhd names its data file after itself
            draft = Path(folder) / (path.name if suffix == ".mhd" else f"image{suffix}")
            # an .mhd stays uncompressed so that its data file has one name, .raw
            with itk.quiet():
                sitk.WriteImage(image, str(draft), useCompression=suffix in (".nii.gz", ".mha", ".nrrd"))
            payload.verify(draft, suffix)  # a full disk does not always raise an error
            for file in sorted(draft.parent.iterdir(), key=lambda file: file == draft):
                sync(file)
                file.replace(path if file == draft else path.parent / file.name)
    except (RuntimeError, OSError, ImageError) as error:
        message = f"could not be written: {itk.first_line(error)}; check free space and permissions"
        raise ImageError(f"{path}: {message}", code="image-write") from error


def frames(image: sitk.Image, time_axis: int | None = None) -> list[sitk.Image]:
    """Split a sequence into its time points, each with the geometry of the remaining axes.

    A 4D image gives 3D frames; any other image with a `time_axis` (index into its size) gives frames along it,
    such as 2D frames of an x·y·t image with `time_axis=2`; without one the image is the only frame.
    """
    axis = 3 if image.GetDimension() == 4 and time_axis is None else time_axis
    if axis is None:
        return [image]
    size = list(image.GetSize())
    if not 0 <= axis < len(size):
        raise ImageError(f"time axis {axis}: the image has the axes 0 to {len(size) - 1}", code="image-dimension")
    steps, size[axis] = size[axis], 0
    # GUESS: where the remaining axes do not span their own subspace (a sagittal cine), the direction becomes identity
    strategy = sitk.ExtractImageFilter.DIRECTIONCOLLAPSETOGUESS
    starts = ([step if i == axis else 0 for i in range(len(size))] for step in range(steps))
    return [sitk.Extract(image, size, start, strategy) for start in starts]


def join_frames(images: Sequence[sitk.Image], like: sitk.Image | None = None) -> sitk.Image:
    """Stack frames along a new last axis, 3D to 4D; the inverse of `frames`.

    Frames store no time: `like`, the sequence they came from, gives the grid (else time 0, 1, 2, …).
    """
    for number, image in enumerate(images):
        require_same_grid(images[0], image, f"frame {number} is not on the grid of frame 0", "", code="image-frames")
    aligned = [sitk.Image(image) for image in images]
    for image in aligned:
        image.CopyInformation(images[0])  # the filter rejects even rounding differences
    joined = sitk.JoinSeries(aligned)
    if like is not None:
        joined.CopyInformation(like)
    return joined


def to_array(image: sitk.Image) -> npt.NDArray[np.float32]:
    """Pixels as float32 (C, Z, Y, X), a copy; Z = 1 in 2D, C = 1 for grey. A 4D image goes through `frames` first."""
    return np.array(array_view(image), dtype=np.float32, order="C")


def array_view(image: sitk.Image) -> npt.NDArray[Any]:
    """View of the pixels (C, Z, Y, X), not a copy: valid only while the image exists."""
    if image.GetDimension() > 3:
        raise ImageError(
            f"an image of size {image.GetSize()} is a sequence; split it with frames() first", code="image-dimension"
        )
    view: npt.NDArray[Any] = sitk.GetArrayViewFromImage(image)
    if image.GetNumberOfComponentsPerPixel() == 1:
        view = view[..., None]  # ([Z,] Y, X, C)
    if image.GetDimension() == 2:
        view = view[None]  # (Z, Y, X, C)
    return np.moveaxis(view, -1, 0)  # (C, Z, Y, X)
