"""Check that PNG, JPEG, TIFF and BMP files have the length that their headers state. Called by `verify`.

A check takes the open file at its start. It raises TruncatedFile if bytes are missing, and ValueError, with the reason,
if the content is not of this format or damaged.
"""

from __future__ import annotations

import mmap
import os
import re
import struct
import zlib
from pathlib import Path
from typing import BinaryIO

CHUNK = 1 << 20  # bytes read at a time
MAX_DEFLATE_RATIO = 1032  # decompressed bytes per byte of zlib's format
MAX_JPEG_RATIO = 4096  # JPEG: at least a bit per block of 64 pixels and component, subsampled colours included
MAX_BMP_RATIO = 1024  # run-length BMP: two bytes for 255 pixels, or for a blank line
JPEG_MARKER = re.compile(rb"\xff[\x01-\xcf\xd8-\xfe]")  # neither a stuffed FF 00, a fill byte nor a restart
JPEG_END, JPEG_ALONE = 0xD9, (0x01, 0xD8)  # end of image; markers without a segment
JPEG_FRAME = {*range(0xC0, 0xD0)} - {0xC4, 0xC8, 0xCC}  # headers with the image size
TIFF_BYTES = {1: 1, 2: 1, 3: 2, 4: 4, 5: 8, 6: 1, 7: 1, 8: 2, 9: 4, 10: 8, 11: 4, 12: 8, 13: 4, 16: 8, 17: 8, 18: 8}
TIFF_INTEGERS = {3: "H", 4: "I", 16: "Q"}
TIFF_PIXELS = {273: 279, 324: 325}  # StripOffsets: StripByteCounts, TileOffsets: TileByteCounts
TIFF_PLAIN, TIFF_SUBSAMPLED = (
    1,
    6,
)  # Compression: none; PhotometricInterpretation: YCbCr, whose colours may be subsampled
PNG_SAMPLES = {0: 1, 2: 3, 3: 1, 4: 2, 6: 4}  # by colour type
BMP_DEPTHS = {1: (0,), 4: (0, 2), 8: (0, 1), 16: (0, 3), 24: (0,), 32: (0, 3)}  # bits per pixel: compressions
TIFF_KIND, TIFF_SHAPE = 254, (256, 257, 258, 277)  # NewSubfileType; ImageWidth, -Length, BitsPerSample, SamplesPerPixel


COMPRESSED_NOTE = " (the most that its compressed data can decode to)"


class TruncatedFile(Exception):  # noqa: N818 - `verify` adds the file name and raises an ImageError
    """The file has `found` bytes, the format needs at least `expected`; `where` begins with a space."""

    def __init__(self, expected: int, found: int, where: str = "") -> None:
        super().__init__(expected, found, where)
        self.expected, self.found, self.where = expected, found, where


class SpaceError(Exception):
    """The header's spacing, origin or axes are invalid; the message continues after the file name."""


def size_of(file: BinaryIO) -> int:
    """Length of the open file in bytes."""
    return os.fstat(file.fileno()).st_size


def require(expected: int, found: int, where: str = "") -> None:
    """Raise TruncatedFile if `found` is less than `expected`."""
    if found < expected:
        raise TruncatedFile(expected, found, where)


def read_head(file: BinaryIO, magics: tuple[bytes, ...], length: int) -> bytes:
    """Read the first `length` bytes, which must begin with one of `magics`."""
    head = file.read(length)
    if not head.startswith(magics) and not any(magic.startswith(head) for magic in magics):
        raise ValueError(f"the content does not match the suffix (it begins with {head[:8]!r})")
    require(length, len(head))
    return head


def check_png(file: BinaryIO) -> None:
    """Chunk by chunk to IEND, comparing checksums. Source: W3C PNG specification, section 5."""
    size = size_of(file)
    position = len(read_head(file, (b"\x89PNG\r\n\x1a\n",), 8))
    name, head, pixels = b"", b"", 0  # bytes of compressed pixels
    while name != b"IEND":
        require(position + 12, size)  # length, name and checksum of the next chunk
        length, name = struct.unpack(">I4s", file.read(8))
        position += 12 + length
        require(position, size)
        crc, chunk = zlib.crc32(name), b""
        for start in range(0, length, CHUNK):
            chunk = file.read(min(CHUNK, length - start))
            crc = zlib.crc32(chunk, crc)
        if crc != int.from_bytes(file.read(4), "big"):
            raise ValueError(f"its chunk {name.decode('latin-1')!r} is damaged (checksum)")
        head = head or chunk  # IHDR comes first
        pixels += length if name == b"IDAT" else 0
    if len(head) < 13:
        raise ValueError("its header is not a PNG header")
    width, height, depth, colour_type = struct.unpack_from(">IIBB", head)
    expected = (width * depth * PNG_SAMPLES.get(colour_type, 1) + 7) // 8 * height
    require(expected, pixels * MAX_DEFLATE_RATIO, COMPRESSED_NOTE)


def check_jpeg(file: BinaryIO) -> None:
    """Segment by segment to the end-of-image marker. Source: ITU-T T.81, annex B."""
    size = size_of(file)
    position = len(read_head(file, (b"\xff\xd8",), 2))
    with mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as data:
        while marker := JPEG_MARKER.search(data, position):
            position, code = marker.end(), data[marker.end() - 1]
            if code == JPEG_END:
                return
            if code in JPEG_FRAME:
                require(position + 8, size)
                height, width, components = struct.unpack_from(">HHB", data, position + 3)
                require(height * width * components, size * MAX_JPEG_RATIO, COMPRESSED_NOTE)
            if code not in JPEG_ALONE:
                require(position + 2, size)
                position += int.from_bytes(data[position : position + 2], "big")
                require(position + 2, size)  # the end marker at least must follow
    raise TruncatedFile(size + 2, size, " before its end marker")


def check_tiff(file: BinaryIO) -> None:
    """Every directory, value, strip and tile lies inside the file. Source: TIFF 6.0, section 2; BigTIFF."""
    read_head(file, (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+"), 8)
    with mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as data:
        tiff = _Tiff(data)
        (directory,) = tiff.unpack(tiff.word, 8 if tiff.big else 4)
        visited = set()
        while directory:
            if directory in visited:  # ITK would loop for ever
                raise ValueError("its directories form a loop")
            visited.add(directory)
            directory = tiff.check_directory(directory)
        if len(tiff.pages) > 1:  # ITK would read out of bounds
            raise ValueError(f"its pages differ in size or pixel type {sorted(tiff.pages)}; save each as its own file")


class _Tiff:
    """A mapped TIFF or BigTIFF file: the layout of its numbers, and the walk through one of its directories."""

    def __init__(self, data: mmap.mmap) -> None:
        self.data = data
        self.order = ">" if data[:1] == b"M" else "<"
        self.big = b"+" in data[:4]
        self.word = "Q" if self.big else "I"  # format of an offset
        self.pages: set[tuple[int, ...]] = set()  # the different (width, height, bits, …) of the pages

    def unpack(self, layout: str, start: int) -> tuple[int, ...]:
        layout = self.order + layout
        require(start + struct.calcsize(layout), len(self.data))
        return struct.unpack_from(layout, self.data, start)

    def check_directory(self, start: int) -> int:
        """Raise TruncatedFile if data of the directory at `start` are outside the file; return the next offset."""
        (count,) = self.unpack("Q" if self.big else "H", start)
        start += 8 if self.big else 2
        values: dict[int, tuple[int, ...]] = {}
        for _ in range(count):
            tag, kind, number = self.unpack("HH" + self.word, start)
            inline = struct.calcsize(self.order + self.word)  # bytes; longer values are stored elsewhere
            offset, length = start + 4 + inline, number * TIFF_BYTES.get(kind, 1)
            start = offset + inline
            if length > inline:
                (offset,) = self.unpack(self.word, offset)
                require(offset + length, len(self.data))
            if kind in TIFF_INTEGERS:
                values[tag] = self.unpack(f"{number}{TIFF_INTEGERS[kind]}", offset)
        for offsets, lengths in TIFF_PIXELS.items():
            for pair in zip(values.get(offsets, ()), values.get(lengths, ()), strict=False):
                require(sum(pair), len(self.data))
        if not (values.get(TIFF_KIND) or (0,))[0] & 1:  # previews are not read
            self.pages.add(tuple(number for tag in TIFF_SHAPE for number in values.get(tag, ())))
            self._require_pixels(values)
        return self.unpack(self.word, start)[0]

    @staticmethod
    def _require_pixels(values: dict[int, tuple[int, ...]]) -> None:
        """Raise TruncatedFile unless uncompressed strips or tiles have the length of the page's size."""
        width, height, bits, samples = (values.get(tag) or (1,) for tag in TIFF_SHAPE)
        compression, colours = ((values.get(tag) or (0,))[0] for tag in (259, 262))
        lengths = next((values[tag] for tag in TIFF_PIXELS.values() if tag in values), None)
        if lengths is not None and compression == TIFF_PLAIN and colours != TIFF_SUBSAMPLED:
            voxel = sum(bits) if len(bits) > 1 else bits[0] * samples[0]
            require(width[0] * height[0] * voxel // 8, sum(lengths), " in its pixels")


def check_bmp(file: BinaryIO) -> None:
    """The rows of an uncompressed image, or the stated size of a compressed one. Source: BITMAPINFOHEADER."""
    head = read_head(file, (b"BM",), 54)
    offset, width, height = struct.unpack_from("<I", head, 10)[0], *struct.unpack_from("<ii", head, 18)
    depth, compression, stated_bytes = struct.unpack_from("<HII", head, 28)
    (length,) = struct.unpack_from("<I", head, 14)
    if width < 1 or height == 0 or depth not in BMP_DEPTHS or compression not in BMP_DEPTHS[depth] or length < 40:
        size = f"{width}×{height}, {depth} bits per pixel, compression {compression}, {length} bytes"
        raise ValueError(f"its header is invalid ({size})")
    rows = (width * depth + 31) // 32 * 4 * abs(height)  # bytes; each row is padded to 4
    if compression in (1, 2):  # runs
        require(width * abs(height), (size_of(file) - offset) * MAX_BMP_RATIO, COMPRESSED_NOTE)
    require(offset + (stated_bytes if compression in (1, 2) else rows), size_of(file))


def bmp_kind(path: Path) -> tuple[int, int]:
    """Bits per pixel of a BMP file, and its compression: 0 none, 1 and 2 runs, 3 bit fields."""
    with path.open("rb") as file:
        depth, compression = struct.unpack_from("<HI", read_head(file, (b"BM",), 54), 28)
    return depth, compression
