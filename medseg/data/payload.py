"""Is a file as long as its own header promises? Image readers accept a truncated file without a word; this does not.

`verify` streams a file in pieces, never holding it whole, and raises ImageError with code image-empty (0 bytes),
image-truncated (shorter than promised, with both numbers), image-missing (a data file beside the header), image-nan
(NIfTI, where ITK hides them) or image-unreadable (not this format, or damaged). Compressed data are decompressed to
their end: bytes are counted, the checksum is compared. The checks themselves raise Short and ValueError.
"""

from __future__ import annotations

import contextlib
import math
import re
import struct
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import BinaryIO, NoReturn

import numpy as np

from medseg.data.payload_photo import (
    CHUNK,
    Short,
    check_bmp,
    check_jpeg,
    check_png,
    check_tiff,
    read_head,
    require,
    size_of,
)
from medseg.errors import ImageError

HEADER_LIMIT = 1 << 16  # bytes; text headers of MetaImage and NRRD are far shorter
GZIP = b"\x1f\x8b"
GZIP_OR_ZLIB = 47  # zlib's `wbits` for either kind of stream, with the largest window
NIFTI1, NIFTI2 = 348, 540  # header lengths, which are also the first number of the header
NIFTI_FLOATS = {16: "f4", 32: "f4", 64: "f8", 1792: "f8"}  # by datatype; 32 and 1792 are pairs (complex)
META_BYTES = {"CHAR": 1, "UCHAR": 1, "SHORT": 2, "USHORT": 2, "INT": 4, "UINT": 4, "LONG": 4, "ULONG": 4}
META_BYTES |= {"LONG_LONG": 8, "ULONG_LONG": 8, "FLOAT": 4, "DOUBLE": 8}
NRRD_BYTES = {
    r"signed char|int8(_t)?|uchar|unsigned char|uint8(_t)?": 1,
    r"(signed |unsigned )?short( int)?|ushort|u?int16(_t)?": 2,
    r"(signed |unsigned )?int|uint|u?int32(_t)?|float": 4,
    r"(signed |unsigned )?long long( int)?|u?longlong|u?int64(_t)?|double": 8,
}


def verify(path: Path, suffix: str) -> None:
    """Raise ImageError unless `path` holds every byte that its format, named by the lower-case `suffix`, promises."""
    try:
        with path.open("rb") as file:
            if size_of(file) == 0:
                raise ImageError(f"{path}: the file is empty (0 bytes); copy or download it again", code="image-empty")
            _CHECKS[suffix](file)
    except Short as short:
        truncated(path, short)
    except FileNotFoundError as error:
        raise ImageError(f"{path}: {error.filename} is missing; keep the two together", code="image-missing") from error
    except zlib.error as error:
        raise ImageError(f"{path}: its compressed data are damaged ({error})", code="image-unreadable") from error
    except (ValueError, TypeError, OverflowError, struct.error) as error:
        raise ImageError(f"{path}: {error}; copy or export it again", code="image-unreadable") from error


def truncated(path: Path, short: Short) -> NoReturn:
    """Raise ImageError image-truncated, naming the file and the bytes expected and found."""
    raise ImageError(
        f"{path}: the file is truncated{short.where}: {short.expected} bytes expected, {short.found} found; "
        "copy or download it again",
        code="image-truncated",
    ) from short


def not_finite(path: Path, nan: int, infinite: int, total: int) -> NoReturn:
    """Raise ImageError image-nan, with the number of bad values among `total`."""
    raise ImageError(
        f"{path}: {nan} of {total} values are NaN and {infinite} are infinite; "
        "save it with finite values in their place (such as that of the background)",
        code="image-nan",
    )


def _inflate(file: BinaryIO) -> Iterator[bytes]:
    """Pieces of at most 1 MiB of the gzip (all members) or zlib stream that begins here.

    Raises EOFError where the stream has no end, zlib.error where it is damaged or its checksum is another.
    """
    data = b""
    while True:
        stream = zlib.decompressobj(GZIP_OR_ZLIB)
        while not stream.eof:
            data = data or file.read(CHUNK >> 4)
            piece = stream.decompress(data, CHUNK)
            if not (data or piece or stream.eof):
                raise EOFError
            yield piece
            data = stream.unconsumed_tail
        data = stream.unused_data + file.read(len(GZIP))
        if not data.startswith(GZIP):
            return


def _require_inflated(file: BinaryIO, expected: int, floats: _Floats | None = None) -> None:
    """Raise unless the stream from here ends well and holds `expected` bytes; `floats` looks at them on their way."""
    found = 0
    try:
        for piece in _inflate(file):
            found += len(piece)
            if floats:
                floats.feed(piece)
    except EOFError:
        require(expected, found, " (counted after decompression)")
        raise Short(size_of(file) + 1, size_of(file), " in the checksum that ends its compressed data") from None
    require(expected, found, " (counted after decompression)")


class _Floats:
    """Counts NaN and infinity in a NIfTI stream fed in pieces: ITK reads both as 0, without a word.

    `start` and `end` bound the pixels in bytes, `kind` is their numpy type.
    """

    def __init__(self, start: int, end: int, kind: str) -> None:
        self.skip, self.left, self.kind = start, end - start, np.dtype(kind)
        self.rest = b""
        self.nan = self.infinite = 0
        self.total = self.left // self.kind.itemsize

    def feed(self, piece: bytes) -> None:
        data = self.rest + piece[self.skip : self.skip + self.left]
        self.left -= len(data) - len(self.rest)
        self.skip = max(0, self.skip - len(piece))
        values = np.frombuffer(data, self.kind, len(data) // self.kind.itemsize)
        self.rest = data[values.nbytes :]
        if not np.isfinite(values).all():
            self.nan += int(np.isnan(values).sum())
            self.infinite += int(np.isinf(values).sum())

    def require_finite(self, file: BinaryIO) -> None:
        if self.nan or self.infinite:
            not_finite(Path(file.name), self.nan, self.infinite, self.total)


def _nifti_layout(head: bytes) -> tuple[int, _Floats | None]:
    """Length of the whole file, and the watch over its pixels where they are floats, from its first 540 bytes.

    Source: nifti1.h and nifti2.h, nifti.nimh.nih.gov.
    """
    require(4, len(head))
    order = "<" if int.from_bytes(head[:4], "little") in (NIFTI1, NIFTI2) else ">"
    (version,) = struct.unpack_from(order + "i", head)
    if version not in (NIFTI1, NIFTI2):
        raise ValueError(f"the content is not NIfTI (it begins with {head[:8]!r})")
    require(version, len(head))
    fields = (("8h", 40), ("2h", 70), ("f", 108)) if version == NIFTI1 else (("8q", 16), ("2h", 12), ("q", 168))
    dims, (datatype, bits), (offset,) = (struct.unpack_from(order + layout, head, at) for layout, at in fields)
    sizes = dims[1 : dims[0] + 1]
    if not 1 <= dims[0] <= 7 or min(sizes) < 1 or bits < 1:
        raise ValueError(f"its header makes no sense (dimensions {dims}, {bits} bits a voxel)")
    start = max(int(offset), version)
    end = start + (math.prod(sizes) * int(bits) + 7) // 8
    kind = NIFTI_FLOATS.get(datatype)
    return end, _Floats(start, end, order + kind) if kind else None


def _check_nifti(file: BinaryIO) -> None:
    head = file.read(NIFTI2)
    if head.startswith(GZIP):
        raise ValueError("it is compressed and needs the suffix .nii.gz")
    expected, floats = _nifti_layout(head)
    require(expected, size_of(file))
    if floats:
        file.seek(0)
        for piece in iter(lambda: file.read(CHUNK), b""):
            floats.feed(piece)
        floats.require_finite(file)


def _check_nifti_gz(file: BinaryIO) -> None:
    read_head(file, (GZIP,), len(GZIP))
    file.seek(0)
    head = b""
    with contextlib.suppress(EOFError):  # the whole pass below says what is missing
        for piece in _inflate(file):
            head += piece
            if len(head) >= NIFTI2:
                break
    expected, floats = _nifti_layout(head[:NIFTI2])
    file.seek(0)
    _require_inflated(file, expected, floats)
    if floats:
        floats.require_finite(file)


def _require_data(header: BinaryIO, name: str, following: bytes, expected: int, compressed: bool) -> None:
    """Raise unless the data files of a header hold `expected` bytes together.

    `name` is a file beside the header, LIST (the lines `following` name them) or `pattern first last step`.
    """
    folder, words = Path(header.name).parent, name.split()
    if words[0].upper() == "LIST":
        files = [folder / line.strip() for line in following.decode().splitlines() if line.strip()]
    elif "%" in name and len(words) >= 4:
        first, last, step = (int(word) for word in words[1:4])
        files = [folder / (words[0] % number) for number in range(first, last + 1, max(1, step))]
    else:
        files = [folder / name]
    if not compressed:
        require(expected, sum(file.stat().st_size for file in files), " in its data file")
    elif len(files) == 1:  # ITK reads no compressed lists
        with files[0].open("rb") as data:
            _require_inflated(data, expected)


def _check_meta(file: BinaryIO) -> None:
    """MetaImage: lines `Key = value` up to ElementDataFile. Source: itk.org/Wiki/ITK/MetaIO/Documentation."""
    head = file.read(HEADER_LIMIT)
    if not re.match(rb"\w+[ \t]*(=|$)", head):
        raise ValueError(f"the content is not MetaImage (it begins with {head[:8]!r})")
    last = re.search(rb"^ElementDataFile[ \t]*=[ \t]*([^\r\n]*[^\r\n\s])[ \t]*(\r?\n|\Z)", head, re.MULTILINE)
    if last is None or not (last[2] or (Path(file.name).parent / last[1].decode("latin-1")).exists()):
        raise Short(len(head) + 1, len(head), " in its header")
    lines = (line.partition("=") for line in head[: last.start()].decode("latin-1").splitlines())
    field = {key.strip(): value.strip() for key, _, value in lines}
    voxel = META_BYTES.get(field.get("ElementType", "").removeprefix("MET_"))
    if voxel is None or "DimSize" not in field:
        raise ValueError("its header lacks DimSize or a known ElementType")
    expected = math.prod(map(int, field["DimSize"].split())) * voxel * int(field.get("ElementNumberOfChannels", 1))
    if field.get("BinaryData", "True").lower() == "false":
        return  # numbers written as text have no promised length
    compressed, name = field.get("CompressedData", "").lower() == "true", last[1].decode()
    if name.upper() != "LOCAL":
        _require_data(file, name, head[last.end() :], expected, compressed)
    elif compressed:
        file.seek(last.end())
        _require_inflated(file, expected)
    else:
        require(last.end() + expected, size_of(file))


def _check_nrrd(file: BinaryIO) -> None:
    """NRRD: lines `field: value` up to an empty line or, detached, to the end. Source: teem.sourceforge.net/nrrd."""
    read_head(file, (b"NRRD000",), 8)
    file.seek(0)
    head = file.read(HEADER_LIMIT)
    gap = re.search(rb"\n\r?\n", head)
    lines = (line.partition(":") for line in head[: gap.start() if gap else None].decode("latin-1").splitlines())
    field = {key.strip().lower(): value.strip() for key, _, value in lines}
    name = field.get("data file") or field.get("datafile")
    cut = not (name and (head.endswith(b"\n") or (Path(file.name).parent / name).exists()) and "sizes" in field)
    if gap is None and cut:
        raise Short(len(head) + 1, len(head), " in its header")
    voxel = next((n for names, n in NRRD_BYTES.items() if re.fullmatch(names, field.get("type", ""))), None)
    if voxel is None or "sizes" not in field:
        raise ValueError("its header lacks sizes or a known type")
    expected = math.prod(map(int, field["sizes"].split())) * voxel + max(0, int(field.get("byte skip", 0)))
    encoding = field.get("encoding", "").lower()
    if encoding not in ("raw", "gzip", "gz"):
        return  # text has no promised length; ITK refuses bzip2
    if name:
        _require_data(file, name, head.partition(b"LIST")[2], expected, encoding != "raw")
    elif gap and encoding == "raw":
        require(gap.end() + expected, size_of(file))
    elif gap:
        file.seek(gap.end())
        _require_inflated(file, expected)


_CHECKS: dict[str, Callable[[BinaryIO], None]] = {
    ".nii.gz": _check_nifti_gz,
    ".nii": _check_nifti,
    ".mha": _check_meta,
    ".mhd": _check_meta,
    ".nrrd": _check_nrrd,
    ".png": check_png,
    ".jpg": check_jpeg,
    ".jpeg": check_jpeg,
    ".tif": check_tiff,
    ".tiff": check_tiff,
    ".bmp": check_bmp,
}
