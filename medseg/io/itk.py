"""SimpleITK wrapper: suppresses the console output of ITK and shortens its errors to one line."""

from __future__ import annotations

import ctypes
import math
import os
import re
import tempfile
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import psutil
import SimpleITK as sitk

from medseg.errors import ImageError

sitk.ProcessObject.SetGlobalWarningDisplay(False)

_NOISE = re.compile(r"Exception thrown in SimpleITK \w+:|\S+\.[ch]xx:\d+:|(ITK |sitk::)ERROR:|\w+\(0x[0-9a-f]+\):")
# libjpeg, libtiff, zlib and MetaIO fill what they cannot decode with grey or zeros and only print that they did
_DAMAGE = re.compile(
    ".*(premature end|bad huffman|not enough data|lack of data|uncompress failed|fail after read).*", re.IGNORECASE
)
_SPACE = re.compile(r"spacing is not supported|Bad direction|orthonormal", re.IGNORECASE)
# by suffix, as in `verify`: otherwise ITK tries all its readers, and knows few suffixes in capitals
READERS = {".nii.gz": "NiftiImageIO", ".nii": "NiftiImageIO", ".mha": "MetaImageIO", ".mhd": "MetaImageIO"}
READERS |= {".nrrd": "NrrdImageIO", ".png": "PNGImageIO", ".jpg": "JPEGImageIO", ".jpeg": "JPEGImageIO"}
READERS |= {".tif": "TIFFImageIO", ".tiff": "TIFFImageIO", ".bmp": "BMPImageIO"}
_LOCK = threading.Lock()  # the two streams belong to the whole process
_STREAMS = (1, 2)  # standard output and error: ITK's own JPEG messages go to the first, most others to the second
_C = ctypes.CDLL(None) if os.name != "nt" else ctypes.CDLL("ucrtbase")


@contextmanager
def quiet() -> Iterator[None]:
    """Keep the output of C libraries in the block off the terminal.

    Raises RuntimeError, as ITK does, if the output reports damaged pixels.
    """
    with _LOCK, tempfile.TemporaryFile() as file:
        _C.fflush(None)  # C buffers filled before the block go to the terminal, those filled in it to the file
        terminals = [os.dup(stream) for stream in _STREAMS]
        for stream in _STREAMS:
            os.dup2(file.fileno(), stream)
        try:
            yield
        finally:
            _C.fflush(None)
            for stream, terminal in zip(_STREAMS, terminals, strict=True):
                os.dup2(terminal, stream)
                os.close(terminal)
        file.seek(0)
        damage = _DAMAGE.search(file.read().decode("utf-8", "replace"))
    if damage:
        raise RuntimeError(f"its pixels are damaged ({damage[0].strip()})")


def read(path: Path, suffix: str) -> sitk.Image:
    """Read a file of the lower-case `suffix` without console output; RuntimeError as ITK raises it.

    Raises ImageError image-memory if it is larger than the free memory, image-space if ITK rejects its geometry.
    """
    reader = sitk.ImageFileReader()
    reader.SetImageIO(READERS[suffix])
    reader.SetFileName(str(path))
    try:
        with quiet():
            reader.ReadImageInformation()
            _require_memory(reader, path)
            return reader.Execute()
    except RuntimeError as error:
        if not _SPACE.search(str(error)):
            raise
        raise ImageError(
            f"{path}: its header has an invalid geometry: {first_line(error)}; correct the header, or export it again",
            code="image-space",
        ) from error


def _require_memory(reader: sitk.ImageFileReader, path: Path) -> None:
    bits = re.search(r"(\d+)-bit", sitk.GetPixelIDValueAsString(reader.GetPixelID()))
    require_memory(path, reader.GetSize(), reader.GetNumberOfComponents() * int(bits[1] if bits else 8) // 8)


def require_memory(path: Path, size: Sequence[int], voxel: int) -> None:
    """Raise ImageError image-memory if `size` voxels of `voxel` bytes exceed the free memory."""
    needed, free = math.prod(size) * voxel, psutil.virtual_memory().available
    if needed > free:
        raise ImageError(
            f"{path}: {'×'.join(map(str, size))} pixels need {needed / 1e9:.1f} GB of memory, "
            f"{free / 1e9:.1f} GB are free; crop or resample it, or use a larger machine",
            code="image-memory",
        )


def first_line(error: Exception) -> str:
    """Message of an ITK or system error in one line, without C++ paths and addresses."""
    text = error.strerror if isinstance(error, OSError) and error.strerror else str(error)
    return " ".join(_NOISE.sub("", text).split()) or type(error).__name__
