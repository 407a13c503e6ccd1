"""Pictures that are read: PNG, JPEG, TIFF and BMP of every kind; and the makers of those that are not."""

from __future__ import annotations

import struct
import zlib
from pathlib import Path
from typing import Any

import numpy as np
import tifffile
from PIL import Image, ImageOps

from medseg.typing import AnyArray
from tests.zoo.kind import ANY, GREY, PICTURE, Make, Specimen, patched, raw

LOSSY = 18.0  # how far JPEG may be off at the edges of the picture
ROWS, COLUMNS = GREY.shape
ALPHA = np.full_like(GREY, 255)
TURNED = {2: 0, 3: 3, 4: 1, 5: 5, 6: 2, 7: 6, 8: 4}  # EXIF orientation: the Pillow transposition that makes it


def held(array: AnyArray, kind: str, mode: str | None = None, **options: Any) -> Make:
    """A maker that writes through Pillow as `kind`, whatever the file's name."""

    def make(path: Path) -> None:
        image = Image.fromarray(array)
        image = image.convert(mode) if mode else image
        image.save(path, kind, **options)

    return make


def turned(orientation: int, kind: str) -> Make:
    """A maker of a picture that lies as a camera held otherwise writes it, with the EXIF entry that says so."""

    def make(path: Path) -> None:
        lying = Image.fromarray(PICTURE)
        back = TURNED.get(orientation)
        if back is not None:
            lying = lying.transpose(Image.Transpose(back))
        exif = Image.Exif()
        exif[274] = orientation
        lying.save(path, kind, exif=exif, **({"quality": 95, "subsampling": 0} if kind == "JPEG" else {}))
        with Image.open(path) as saved:
            assert ImageOps.exif_transpose(saved).size == (COLUMNS, ROWS)

    return make


def chunk(name: bytes, content: bytes) -> bytes:
    return struct.pack(">I", len(content)) + name + content + struct.pack(">I", zlib.crc32(name + content))


def png(
    width: int = COLUMNS,
    height: int = ROWS,
    kind: int = 2,
    data: bytes | None = None,
    more: bytes = b"",
    depth: int = 8,
) -> bytes:
    """A PNG by hand: stated size, colour type, compressed pixels and chunks before them."""
    rows = b"".join(b"\0" + row.tobytes() for row in PICTURE)
    head = struct.pack(">IIBBBBB", width, height, depth, kind, 0, 0, 0)
    pixels = zlib.compress(rows) if data is None else data
    return (
        b"\x89PNG\r\n\x1a\n"
        + chunk(b"IHDR", head)
        + more
        + (chunk(b"IDAT", pixels) if pixels else b"")
        + chunk(b"IEND", b"")
    )


def tiff(array: AnyArray, **options: Any) -> Make:
    return lambda path: tifffile.imwrite(path, array, metadata=None, **options)


def pages(path: Path) -> None:
    with tifffile.TiffWriter(path) as file:
        file.write(PICTURE, photometric="rgb", metadata=None)
        file.write(PICTURE[:20, :30], photometric="rgb", metadata=None)


def loop(path: Path) -> None:
    """A TIFF whose first directory names itself as the next."""
    tiff(PICTURE, photometric="rgb")(path)
    content = bytearray(path.read_bytes())
    (start,) = struct.unpack_from("<I", content, 4)
    (count,) = struct.unpack_from("<H", content, start)
    struct.pack_into("<I", content, start + 2 + 12 * count, start)
    path.write_bytes(content)


def retagged(make: Make, tag: int, value: int) -> Make:
    """A maker of a TIFF with another number in one entry."""

    def spoil(path: Path) -> None:
        make(path)
        content = bytearray(path.read_bytes())
        (start,) = struct.unpack_from("<I", content, 4)
        (count,) = struct.unpack_from("<H", content, start)
        for place in range(start + 2, start + 2 + 12 * count, 12):
            if struct.unpack_from("<H", content, place)[0] == tag:
                struct.pack_into("<HII", content, place + 2, 4, 1, value)
        path.write_bytes(content)

    return spoil


def jpeg_size(height: int, width: int) -> Make:
    """A maker of a JPEG that claims another size in its frame header."""

    def make(path: Path) -> None:
        JPEG(path)
        content = bytearray(path.read_bytes())
        struct.pack_into(">HH", content, content.index(b"\xff\xc0") + 5, height, width)
        path.write_bytes(content)

    return make


def animated(kind: str) -> Make:
    def make(path: Path) -> None:
        first, second = Image.fromarray(PICTURE), Image.fromarray(255 - PICTURE)
        first.save(
            path, kind, save_all=True, append_images=[second], **({"default_image": True} if kind == "PNG" else {})
        )

    return make


def runs(path: Path) -> None:
    """A grey BMP of runs of equal pixels (RLE8)."""
    pixels = b"".join(b"".join(bytes([1, value]) for value in row) + b"\0\0" for row in GREY[::-1]) + b"\0\1"
    colours = b"".join(bytes([value] * 3 + [0]) for value in range(256))
    start = 54 + len(colours)
    head = struct.pack("<IHHI", start + len(pixels), 0, 0, start)
    head += struct.pack("<IiiHHIIiiII", 40, COLUMNS, ROWS, 1, 8, 1, len(pixels), 0, 0, 256, 0)
    path.write_bytes(b"BM" + head + colours + pixels)


def bitmap(*changes: tuple[int, bytes]) -> Make:
    return patched(held(PICTURE, "BMP"), *changes)


PNG, JPEG = held(PICTURE, "PNG"), held(PICTURE, "JPEG", quality=95, subsampling=0)
TIFF, BMP = tiff(PICTURE, photometric="rgb"), held(PICTURE, "BMP")
RGBA = np.dstack([PICTURE, ALPHA])
WIDE = np.tile(PICTURE, (1, 209, 1))[:, :20_000]
RED = PICTURE.astype(np.uint16) * 257
FLOAT = GREY.astype(np.float32) / 255
POISONED = FLOAT.copy()
POISONED[4, 5] = np.nan

RIGHT = [
    Specimen(name, make, pixels=pixels, tolerance=LOSSY if name.endswith((".jpg", ".jpeg")) else 0)
    for name, (make, pixels) in {
        "good-1.png": (PNG, PICTURE),
        "good-2.jpg": (JPEG, PICTURE),
        "good-3.bmp": (BMP, PICTURE),
        "good-4.tif": (TIFF, PICTURE),
        "UPPER.PNG": (PNG, PICTURE),
        "16-bit.png": (
            raw(png(depth=16, data=zlib.compress(b"".join(b"\0" + r.astype(">u2").tobytes() for r in RED)))),
            RED,
        ),
        "grey.png": (held(GREY, "PNG"), GREY),
        "grey-alpha.png": (held(np.dstack([GREY, ALPHA]), "PNG"), np.dstack([GREY, ALPHA])),
        "rgba.png": (held(RGBA, "PNG"), RGBA),
        "palette.png": (
            held(
                PICTURE,
                "PNG",
                "P",
            ),
            np.array(Image.fromarray(PICTURE).convert("P").convert("RGB")),
        ),
        "animated.png": (animated("PNG"), PICTURE),
        "handmade.png": (raw(png()), PICTURE),
        "grey-16.png": (held(GREY.astype(np.uint16) * 257, "PNG"), GREY.astype(np.uint16) * 257),
        "grey.jpg": (held(GREY, "JPEG", quality=95), GREY),
        "progressive.jpg": (held(PICTURE, "JPEG", quality=95, subsampling=0, progressive=True), PICTURE),
        "cmyk.jpg": (held(PICTURE, "JPEG", "CMYK", quality=98), PICTURE),
        "trailing.jpg": (lambda path: JPEG(path) or path.write_bytes(path.read_bytes() + b"more"), PICTURE),
        "runs.bmp": (runs, GREY),
        "grey.bmp": (held(GREY, "BMP"), GREY),
        "alpha.bmp": (held(RGBA, "BMP"), RGBA),
        "16-bit.tif": (tiff(RED, photometric="rgb"), RED),
        "float.tif": (tiff(FLOAT), FLOAT),
        "grey.tif": (tiff(GREY), GREY),
        "signed.tif": (tiff(GREY.astype(np.int16)), GREY),
        "big-endian.tif": (tiff(PICTURE, photometric="rgb", byteorder=">"), PICTURE),
        "big.tif": (tiff(PICTURE, photometric="rgb", bigtiff=True), PICTURE),
        "tiled.tif": (tiff(PICTURE, photometric="rgb", tile=(32, 32)), RGBA),
        "planar.tif": (tiff(np.moveaxis(PICTURE, -1, 0), photometric="rgb", planarconfig="separate"), RGBA),
        "lzw.tif": (held(PICTURE, "TIFF", compression="tiff_lzw"), PICTURE),
        "deflate.tif": (held(PICTURE, "TIFF", compression="tiff_adobe_deflate"), PICTURE),
        "rgba.tif": (held(RGBA, "TIFF"), RGBA),
        "white-is-zero.tif": (tiff(255 - GREY, photometric="miniswhite"), GREY),
        **{f"exif-{n}.jpg": (turned(n, "JPEG"), PICTURE) for n in range(1, 9)},
        **{f"exif-{n}.tif": (turned(n, "TIFF"), PICTURE) for n in range(1, 9)},
        "exif-9.jpg": (turned(9, "JPEG"), PICTURE),
    }.items()
]
ODD = [
    Specimen("wide.png", held(WIDE, "PNG"), pixels=WIDE, mask=ANY),
    Specimen("nan.tif", tiff(POISONED), "image-nan"),
    Specimen("constant.png", held(np.full_like(PICTURE, 200), "PNG"), pixels=np.full_like(PICTURE, 200), mask="empty"),
    Specimen("black.png", held(np.zeros_like(PICTURE), "PNG"), pixels=np.zeros_like(PICTURE), mask="empty"),
    Specimen("one-pixel.png", held(PICTURE[:1, :1], "PNG"), pixels=PICTURE[:1, :1], mask="empty"),
    Specimen("one-row.png", held(PICTURE[30:31], "PNG"), pixels=PICTURE[30:31], mask=ANY),
    Specimen("one-bit.png", held(GREY, "PNG", "1"), mask=ANY),
    Specimen("one-bit.bmp", held(GREY, "BMP", "1"), mask=ANY),
    Specimen("one-bit.tif", held(GREY, "TIFF", "1"), mask=ANY),
    Specimen("palette-clear.png", held(PICTURE, "PNG", "P", transparency=0), mask=ANY),
    Specimen("palette.tif", held(PICTURE, "TIFF", "P"), mask=ANY),
    Specimen("palette.bmp", held(PICTURE, "BMP", "P"), mask=ANY),
    Specimen("cmyk.tif", held(PICTURE, "TIFF", "CMYK"), mask=ANY),
    Specimen("jpeg-inside.tif", held(PICTURE, "TIFF", compression="jpeg"), mask=ANY),
    Specimen("long.tif", tiff(GREY.astype(np.uint32)), mask=ANY),
    Specimen(
        "five-bands.tif",
        tiff(np.dstack([RGBA, GREY]), photometric="rgb", extrasamples=[0, 0]),
        refused="image-channels",
        mask=ANY,
    ),
    Specimen(
        "pages-alike.tif",
        tiff(np.stack([PICTURE] * 3), photometric="rgb"),
        pixels=np.stack([PICTURE] * 3),
        refused="hair-dimension",
    ),
    Specimen("many-pixels.jpg", held(np.zeros((14_000, 14_000), np.uint8), "JPEG"), mask="empty", slow=True),
]
