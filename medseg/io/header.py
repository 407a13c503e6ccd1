"""An image's size and type, read from its header alone."""

from __future__ import annotations

import math
import warnings
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import SimpleITK as sitk
from PIL import Image

from medseg.errors import MedsegError
from medseg.io import itk
from medseg.io.detached import detached
from medseg.io.image import image_suffix, require_name
from medseg.io.photo import PIXELS

FLOAT_BYTES = 4

MAX_DEFLATE_RATIO = (
    1100  # deflate cannot compress more (RFC 1951): a header that states more is forged, and reading fails
)


@dataclass(frozen=True)
class ImageHeader:
    """A file's geometry (x, y(, z)) and the bytes of all its frames; `values` is the number of values in a pixel."""

    size: tuple[int, ...]
    spacing: tuple[float, ...]
    direction: tuple[float, ...]
    values: int
    bytes: int

    @property
    def voxels(self) -> int:
        """Number of voxels in one frame."""
        return math.prod(self.size[:3])


def read_image_header(path: Path) -> ImageHeader | None:
    """Read the header of an image or DICOM folder; None if it cannot be read (reading the image gives the error)."""
    try:
        require_name(path)
        header = _pictured(path) if image_suffix(path) in PIXELS else _scanned(path)
        forged = header is None or not _sane(header) or header.bytes > MAX_DEFLATE_RATIO * _weight(path)
    except (MedsegError, RuntimeError, OSError, ValueError, Image.DecompressionBombError):
        return None
    return None if forged else header


def _weight(path: Path) -> int:
    """Size on disk in bytes."""
    files = [entry for entry in path.iterdir() if entry.is_file()] if path.is_dir() else [path, *detached(path)]
    return sum(file.stat().st_size for file in files)


def _pictured(path: Path) -> ImageHeader | None:
    """Header of a photograph; Pillow reads the header only and cannot crash the process."""
    if not path.is_file():  # opening a pipe would block
        return None
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        with Image.open(path) as photo:
            size, values = photo.size, len(photo.getbands())
            width = 2 if photo.mode.startswith("I;16") else FLOAT_BYTES if photo.mode in "IF" else 1
    return ImageHeader(size, (1.0, 1.0), (1.0, 0.0, 0.0, 1.0), values, math.prod(size) * width * values)


def _scanned(path: Path) -> ImageHeader | None:
    """Header of a volume file, or of a DICOM folder from its first file."""
    files = sorted(p for p in path.iterdir() if p.is_file() and not p.name.startswith(".")) if path.is_dir() else [path]
    if not files or not files[0].is_file():
        return None
    reader = sitk.ImageFileReader()
    reader.SetFileName(str(files[0]))
    with itk.quiet():
        reader.ReadImageInformation()
    size, n_axes = list(reader.GetSize()), reader.GetDimension()
    if path.is_dir():
        size[2:] = [len(files)]
    # a pixel type without an array type (complex) is an error when the image is read
    pixel_type = sitk.GetPixelIDValueAsString(reader.GetPixelID())
    width = next((int(bits) // 8 for bits in ("64", "32", "16", "8") if bits in pixel_type.split("-")[0]), FLOAT_BYTES)
    values = reader.GetNumberOfComponents()
    geometry = (tuple(size), reader.GetSpacing(), reader.GetDirection())
    if n_axes == 4:  # the axes of a frame
        matrix = np.reshape(geometry[2], (4, 4))[:3, :3]
        geometry = (geometry[0], geometry[1][:3], tuple(matrix.ravel()))
    return ImageHeader(*geometry, values, math.prod(size) * width * values)


def _sane(header: ImageHeader) -> bool:
    """Return whether an image of this geometry is possible."""
    n_axes = len(header.spacing)
    if n_axes not in (2, 3) or len(header.direction) != n_axes**2 or min(header.size) < 1:
        return False
    numbers = np.array([*header.spacing, *header.direction])
    if not np.isfinite(numbers).all() or min(header.spacing) <= 0:
        return False
    return bool(abs(np.linalg.det(np.reshape(header.direction, (n_axes, n_axes)))) > 1e-6)
