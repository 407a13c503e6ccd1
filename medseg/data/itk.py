"""ITK's manners: what it and its libraries print stays off the terminal, and its errors become one line."""

from __future__ import annotations

import ctypes
import os
import re
import tempfile
import threading
from collections.abc import Iterator
from contextlib import contextmanager

import SimpleITK as sitk

sitk.ProcessObject.SetGlobalWarningDisplay(False)

_NOISE = re.compile(r"Exception thrown in SimpleITK \w+:|\S+\.[ch]xx:\d+:|(ITK |sitk::)ERROR:|\w+\(0x[0-9a-f]+\):")
# libjpeg, libtiff, zlib and MetaIO fill what they cannot decode with grey or zeros and only print that they did
_DAMAGE = re.compile(
    ".*(premature end|bad huffman|not enough data|lack of data|uncompress failed|fail after read).*", re.IGNORECASE
)
_LOCK = threading.Lock()  # the two streams belong to the whole process
_STREAMS = (1, 2)  # standard output and error: ITK's own JPEG messages go to the first, most others to the second
_C = ctypes.CDLL(None) if os.name != "nt" else ctypes.CDLL("msvcrt")


@contextmanager
def quiet() -> Iterator[None]:
    """Keep what C libraries print inside the block off the terminal.

    Raises RuntimeError, as ITK does, where they print that pixels are damaged.
    """
    with _LOCK, tempfile.TemporaryFile() as file:
        _C.fflush(None)  # what waits in C's buffers belongs to the terminal before the block, and to us after it
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


def reason(error: Exception) -> str:
    """What ITK or the system complained of, in one line without C++ paths and addresses."""
    text = error.strerror if isinstance(error, OSError) and error.strerror else str(error)
    return " ".join(_NOISE.sub("", text).split()) or type(error).__name__
