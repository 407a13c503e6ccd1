"""Check that a file has the length that its header states: image readers silently accept truncated files.

`verify` streams a file in chunks and raises ImageError with code image-empty (0 bytes),
image-truncated (too short, with both numbers), image-missing (a data file of the header), image-nan (NIfTI, where ITK
hides them), image-space (invalid voxel sizes or axes, which ITK would replace by a guess), image-excess (far too long)
or image-unreadable (another format, or damaged). Compressed data are decompressed to their end: bytes are counted, the
checksum is compared. The checks themselves raise TruncatedFile, SpaceError and ValueError.
"""

from __future__ import annotations

import contextlib
import math
import re
import struct
import zlib
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import BinaryIO, NoReturn

from medseg.errors import ImageError
from medseg.io.integrity.nifti import NIFTI2, Floats, layout
from medseg.io.integrity.photo import (
    CHUNK,
    COMPRESSED_NOTE,
    MAX_DEFLATE_RATIO,
    SpaceError,
    TruncatedFile,
    check_bmp,
    check_jpeg,
    check_png,
    check_tiff,
    read_head,
    require,
    size_of,
)

HEADER_LIMIT = 1 << 16  # bytes; text headers of MetaImage and NRRD are far shorter
EXCESS = 4  # times the stated bytes: some appended data are harmless, more is a decompression bomb
PATTERN_DIGITS = re.compile(r"[^%]*%0?[1-9]?d[^%]*")  # of the names of many data files
GZIP = b"\x1f\x8b"
GZIP_OR_ZLIB = 47  # zlib's `wbits` for either kind of stream, with the largest window
META_BYTES = {"CHAR": 1, "UCHAR": 1, "SHORT": 2, "USHORT": 2, "INT": 4, "UINT": 4, "LONG": 4, "ULONG": 4}
META_BYTES |= {"LONG_LONG": 8, "ULONG_LONG": 8, "FLOAT": 4, "DOUBLE": 8}
META_SPACE = {"ElementSpacing", "ElementSize", "Offset", "Position", "Origin"}
META_SPACE |= {"TransformMatrix", "Rotation", "Orientation"}
NRRD_SPACE = ("space directions", "space origin", "thicknesses")  # `spacings` is NaN along axes without a length
NRRD_BYTES = {
    r"signed char|int8(_t)?|uchar|unsigned char|uint8(_t)?": 1,
    r"(signed |unsigned )?short( int)?|ushort|u?int16(_t)?": 2,
    r"(signed |unsigned )?int|uint|u?int32(_t)?|float": 4,
    r"(signed |unsigned )?long long( int)?|u?longlong|u?int64(_t)?|double": 8,
}


def verify(path: Path, suffix: str) -> None:
    """Raise ImageError unless `path` is complete in the format of the lower-case `suffix`."""
    try:
        with path.open("rb") as file:
            if size_of(file) == 0:
                raise ImageError(f"{path}: the file is empty (0 bytes); copy or download it again", code="image-empty")
            _CHECKS[suffix](file)
    except TruncatedFile as short:
        truncated(path, short)
    except SpaceError as error:
        misplaced(path, str(error))
    except FileNotFoundError as error:
        raise ImageError(f"{path}: {error.filename} is missing; keep the two together", code="image-missing") from error
    except zlib.error as error:
        message = f"{path}: its compressed data are damaged ({error}); copy or download it again"
        raise ImageError(message, code="image-unreadable") from error
    except (ValueError, TypeError, OverflowError, struct.error) as error:
        raise ImageError(f"{path}: {error}; copy or export it again", code="image-unreadable") from error


def truncated(path: Path, short: TruncatedFile) -> NoReturn:
    """Raise ImageError image-truncated, naming the file and the bytes expected and found."""
    raise ImageError(
        f"{path}: the file is truncated{short.where}: {short.expected} bytes expected, {short.found} found; "
        "copy or download it again",
        code="image-truncated",
    ) from short


def misplaced(path: Path, message: str) -> NoReturn:
    """Raise ImageError image-space with the reason."""
    raise ImageError(
        f"{path}: its header has an invalid geometry: {message}; correct the header, or export it again",
        code="image-space",
    )


def _inflate(file: BinaryIO) -> Iterator[bytes]:
    """Yield chunks of at most 1 MiB of the gzip (all members) or zlib stream that begins here.

    Raises EOFError if the stream has no end, zlib.error if it is damaged or its checksum differs.
    """
    data = b""
    while True:
        stream = zlib.decompressobj(GZIP_OR_ZLIB)
        while not stream.eof:
            data = data or file.read(CHUNK >> 4)
            chunk = stream.decompress(data, CHUNK)
            if not (data or chunk or stream.eof):
                raise EOFError
            yield chunk
            data = stream.unconsumed_tail
        data = stream.unused_data + file.read(len(GZIP))
        if not data.startswith(GZIP):
            return


def _require_inflated(file: BinaryIO, expected: int, floats: Floats | None = None) -> None:
    """Raise unless the stream from here is complete and has `expected` bytes; `floats` checks them on the way."""
    require(expected, (size_of(file) - file.tell()) * MAX_DEFLATE_RATIO, COMPRESSED_NOTE)
    found = 0
    try:
        for chunk in _inflate(file):
            found += len(chunk)
            if found > EXCESS * expected + CHUNK:
                raise ImageError(
                    f"{file.name}: its compressed data exceed the {expected} bytes that its header states (over "
                    f"{found} bytes); the file is damaged or malicious: export it again",
                    code="image-excess",
                )
            if floats:
                floats.feed(chunk)
    except EOFError:
        require(expected, found, " (counted after decompression)")
        raise TruncatedFile(
            size_of(file) + 1, size_of(file), " in the checksum that ends its compressed data"
        ) from None
    require(expected, found, " (counted after decompression)")


def _check_nifti(file: BinaryIO) -> None:
    head = file.read(NIFTI2)
    if head.startswith(GZIP):
        raise ValueError("it is compressed and needs the suffix .nii.gz")
    expected, floats = layout(head)
    require(expected, size_of(file))
    if floats:
        file.seek(0)
        for chunk in iter(lambda: file.read(CHUNK), b""):
            floats.feed(chunk)
        floats.require_finite(file)


def _check_nifti_gz(file: BinaryIO) -> None:
    read_head(file, (GZIP,), len(GZIP))
    file.seek(0)
    head = b""
    with contextlib.suppress(EOFError):  # the full pass below reports what is missing
        for chunk in _inflate(file):
            head += chunk
            if len(head) >= NIFTI2:
                break
    expected, floats = layout(head[:NIFTI2])
    file.seek(0)
    _require_inflated(file, expected, floats)
    if floats:
        floats.require_finite(file)


def _require_data(header: BinaryIO, name: str, following: bytes, expected: int, compressed: bool) -> None:
    """Raise unless the data files of a header have `expected` bytes in total.

    `name` is a file next to the header, LIST (the lines `following` name them) or `pattern first last step`.
    """
    folder, words = Path(header.name).parent, name.split()
    files: Iterable[Path]
    if words[0].upper() == "LIST":
        files = [folder / line.strip() for line in following.decode().splitlines() if line.strip()]
    elif "%" in name and len(words) >= 4 and PATTERN_DIGITS.fullmatch(words[0]):
        first, last, step = (int(word) for word in words[1:4])
        # one by one: the first that is missing ends a list of millions
        files = (folder / (words[0] % number) for number in range(first, last + 1, max(1, step)))
    else:
        files = [folder / name]
    if not compressed:
        require(expected, sum(_regular(file).stat().st_size for file in files), " in its data file")
    elif isinstance(files, list) and len(files) == 1:  # ITK reads no compressed lists
        with _regular(files[0]).open("rb") as data:
            _require_inflated(data, expected)


def _regular(file: Path) -> Path:
    if file.exists() and not file.is_file():  # reading a pipe or a device may never end
        raise ValueError(f"its data file {file} is a folder, a pipe or a device")
    return file


def _check_meta(file: BinaryIO) -> None:
    """MetaImage: lines `Key = value` up to ElementDataFile. Source: itk.org/Wiki/ITK/MetaIO/Documentation."""
    head = file.read(HEADER_LIMIT)
    if not re.match(rb"\w+[ \t]*(=|$)", head):
        raise ValueError(f"the content is not MetaImage (it begins with {head[:8]!r})")
    last = re.search(rb"^ElementDataFile[ \t]*=[ \t]*([^\r\n]*[^\r\n\s])[ \t]*(\r?\n|\Z)", head, re.MULTILINE)
    if last is None or not (last[2] or (Path(file.name).parent / last[1].decode("latin-1")).exists()):
        raise TruncatedFile(len(head) + 1, len(head), " in its header")
    lines = (line.partition("=") for line in head[: last.start()].decode("latin-1").splitlines())
    field = {key.strip(): value.strip() for key, _, value in lines}
    voxel = META_BYTES.get(field.get("ElementType", "").removeprefix("MET_"))
    if voxel is None or "DimSize" not in field:
        raise ValueError("its header lacks DimSize or a known ElementType")
    sizes = [int(size) for size in field["DimSize"].split()]
    if min(sizes) < 1 or len(sizes) != int(field.get("NDims", len(sizes))):
        raise ValueError(f"its header is invalid (DimSize {sizes}, NDims {field.get('NDims')})")
    _require_numbers({name: field[name].split() for name in META_SPACE & set(field)})
    expected = math.prod(sizes) * voxel * int(field.get("ElementNumberOfChannels", 1))
    if field.get("BinaryData", "True").lower() == "false":
        return  # the length of values written as text is unknown
    compressed, name = field.get("CompressedData", "").lower() == "true", last[1].decode()
    if name.upper() != "LOCAL":
        _require_data(file, name, head[last.end() :], expected, compressed)
    elif compressed:
        file.seek(last.end())
        _require_inflated(file, expected)
    else:
        require(last.end() + expected, size_of(file))


def _require_numbers(fields: dict[str, list[str]]) -> None:
    """Raise SpaceError for words that are not finite numbers; ITK reads them as 0, or aborts."""
    for name, words in fields.items():
        for word in words:
            try:
                finite = math.isfinite(float(word))
            except ValueError:
                finite = False
            if not finite and word != "none":
                raise SpaceError(f"{name} is {' '.join(words)}")


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
        raise TruncatedFile(len(head) + 1, len(head), " in its header")
    voxel = next((n for names, n in NRRD_BYTES.items() if re.fullmatch(names, field.get("type", ""))), None)
    if voxel is None or "sizes" not in field:
        raise ValueError("its header lacks sizes or a known type")
    sizes = [int(size) for size in field["sizes"].split()]
    if min(sizes) < 1 or len(sizes) != int(field.get("dimension", len(sizes))):
        raise ValueError(f"its header is invalid (sizes {sizes}, dimension {field.get('dimension')})")
    _require_numbers({name: re.findall(r"[^\s(),]+", field[name]) for name in NRRD_SPACE if name in field})
    expected = math.prod(sizes) * voxel + max(0, int(field.get("byte skip", 0)))
    encoding = field.get("encoding", "").lower()
    if encoding not in ("raw", "gzip", "gz"):
        return  # the length of text is unknown; ITK rejects bzip2
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
