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

FLOAT = 4  # bytes

MAX_DEFLATE_RATIO = (
    1100  # deflate makes no more of less (RFC 1951): a header that says so is forged, as reading will tell
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
        """Of one frame."""
        return math.prod(self.size[:3])


def read_image_header(path: Path) -> ImageHeader | None:
    """What the header of an image or of a DICOM folder says; None where it cannot be read, as reading will tell."""
    try:
        require_name(path)
        found = _pictured(path) if image_suffix(path) in PIXELS else _scanned(path)
        forged = found is None or not _sane(found) or found.bytes > MAX_DEFLATE_RATIO * _weight(path)
    except (MedsegError, RuntimeError, OSError, ValueError, Image.DecompressionBombError):
        return None
    return None if forged else found


def _weight(path: Path) -> int:
    """Bytes on the disk."""
    files = [part for part in path.iterdir() if part.is_file()] if path.is_dir() else [path, *detached(path)]
    return sum(file.stat().st_size for file in files)


def _pictured(path: Path) -> ImageHeader | None:
    """Of a photograph: Pillow stops at the header, and nothing of it ends the process."""
    if not path.is_file():  # a pipe waits for ever
        return None
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        with Image.open(path) as picture:
            size, values = picture.size, len(picture.getbands())
            width = 2 if picture.mode.startswith("I;16") else FLOAT if picture.mode in "IF" else 1
    return ImageHeader(size, (1.0, 1.0), (1.0, 0.0, 0.0, 1.0), values, math.prod(size) * width * values)


def _scanned(path: Path) -> ImageHeader | None:
    """Of a volume's file or a DICOM folder, by its first file."""
    files = sorted(p for p in path.iterdir() if p.is_file() and not p.name.startswith(".")) if path.is_dir() else [path]
    if not files or not files[0].is_file():
        return None
    reader = sitk.ImageFileReader()
    reader.SetFileName(str(files[0]))
    with itk.quiet():
        reader.ReadImageInformation()
    size, count = list(reader.GetSize()), reader.GetDimension()
    if path.is_dir():
        size[2:] = [len(files)]
    # a pixel type without an array type (complex) is refused when it is read
    kind = sitk.GetPixelIDValueAsString(reader.GetPixelID())
    width = next((int(bits) // 8 for bits in ("64", "32", "16", "8") if bits in kind.split("-")[0]), FLOAT)
    values = reader.GetNumberOfComponents()
    geometry = (tuple(size), reader.GetSpacing(), reader.GetDirection())
    if count == 4:  # a frame's own axes
        matrix = np.reshape(geometry[2], (4, 4))[:3, :3]
        geometry = (geometry[0], geometry[1][:3], tuple(matrix.ravel()))
    return ImageHeader(*geometry, values, math.prod(size) * width * values)


def _sane(header: ImageHeader) -> bool:
    """Whether an image of this geometry can be made at all."""
    count = len(header.spacing)
    if count not in (2, 3) or len(header.direction) != count**2 or min(header.size) < 1:
        return False
    numbers = np.array([*header.spacing, *header.direction])
    if not np.isfinite(numbers).all() or min(header.spacing) <= 0:
        return False
    return bool(abs(np.linalg.det(np.reshape(header.direction, (count, count)))) > 1e-6)
