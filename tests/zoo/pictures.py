"""Pictures: PNG, JPEG, TIFF and BMP, whole and spoilt."""

from __future__ import annotations

import io
import struct
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import SimpleITK as sitk
import tifffile
from PIL import Image, ImageOps

from tests.zoo.kind import ANY, GREY, PICTURE, Array, Make, Specimen, cut, flipped, patched, raw
from tests.zoo.volumes import HTML

LOSSY = 18.0  # how far JPEG may be off at the edges of the picture
ROWS, COLUMNS = GREY.shape
ALPHA = np.full_like(GREY, 255)
TURNED = {2: 0, 3: 3, 4: 1, 5: 5, 6: 2, 7: 6, 8: 4}  # EXIF orientation: the Pillow transposition that undoes it


def held(array: Array, kind: str, mode: str | None = None, **options: Any) -> Make:
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
        back = {2: 0, 3: 3, 4: 1, 5: 5, 6: 2, 7: 6, 8: 4}.get(orientation)
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
        b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", head) + more + (chunk(b"IDAT", pixels) if pixels else b"") + chunk(b"IEND", b"")
    )  # fmt: skip


def tiff(array: Array, **options: Any) -> Make:
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


def bytes_of(make: Make, kind: str) -> Callable[[Path], object]:
    """A maker of the same bytes under another ending."""

    def spoil(path: Path) -> None:
        other = path.with_name("draft" + kind)
        make(other)
        other.replace(path)

    return spoil


def bitmap(*changes: tuple[int, bytes]) -> Make:
    return patched(held(PICTURE, "BMP"), *changes)


def palette() -> Array:
    return np.array(Image.fromarray(PICTURE).convert("P", palette=Image.Palette.ADAPTIVE).convert("RGB"))


def small_png(array: Array) -> bytes:
    stream = io.BytesIO()
    Image.fromarray(array).save(stream, "PNG")
    return stream.getvalue()


PNG, JPEG = held(PICTURE, "PNG"), held(PICTURE, "JPEG", quality=95, subsampling=0)
TIFF, BMP = tiff(PICTURE, photometric="rgb"), held(PICTURE, "BMP")
RGBA = np.dstack([PICTURE, ALPHA])
WIDE = (
    np.repeat(PICTURE, 21, axis=1)[:, :20_000]
    if COLUMNS * 21 >= 20_000
    else np.repeat(PICTURE, 210, axis=1)[:, :20_000]
)
RED = PICTURE.astype(np.uint16) * 257
FLOAT = GREY.astype(np.float32) / 255
POISONED = FLOAT.copy()
POISONED[4, 5] = np.nan

RIGHT: list[Specimen] = [
    Specimen(name, make, pixels=pixels, tolerance=LOSSY if name.endswith((".jpg", ".jpeg")) else 0)
    for name, (make, pixels) in {
        "good-1.png": (PNG, PICTURE), "good-2.jpg": (JPEG, PICTURE), "good-3.bmp": (BMP, PICTURE), "good-4.tif": (TIFF, PICTURE),
        "UPPER.PNG": (PNG, PICTURE), "16-bit.png": (raw(png(depth=16, data=zlib.compress(b"".join(b"\0" + r.astype(">u2").tobytes() for r in RED)))), RED),
        "grey.png": (held(GREY, "PNG"), GREY), "grey-alpha.png": (held(np.dstack([GREY, ALPHA]), "PNG"), np.dstack([GREY, ALPHA])),
        "rgba.png": (held(RGBA, "PNG"), RGBA), "palette.png": (held(PICTURE, "PNG", "P", ), np.array(Image.fromarray(PICTURE).convert("P").convert("RGB"))),
        "animated.png": (animated("PNG"), PICTURE), "handmade.png": (raw(png()), PICTURE),
        "grey-16.png": (held(GREY.astype(np.uint16) * 257, "PNG"), GREY.astype(np.uint16) * 257),
        "grey.jpg": (held(GREY, "JPEG", quality=95), GREY), "progressive.jpg": (held(PICTURE, "JPEG", quality=95, subsampling=0, progressive=True), PICTURE),
        "cmyk.jpg": (held(PICTURE, "JPEG", "CMYK", quality=98), PICTURE), "trailing.jpg": (lambda path: JPEG(path) or path.write_bytes(path.read_bytes() + b"more"), PICTURE),
        "grey.bmp": (held(GREY, "BMP"), GREY), "alpha.bmp": (held(RGBA, "BMP"), RGBA),
        "16-bit.tif": (tiff(RED, photometric="rgb"), RED), "float.tif": (tiff(FLOAT), FLOAT), "grey.tif": (tiff(GREY), GREY),
        "signed.tif": (tiff(GREY.astype(np.int16)), GREY), "big-endian.tif": (tiff(PICTURE, photometric="rgb", byteorder=">"), PICTURE),
        "big.tif": (tiff(PICTURE, photometric="rgb", bigtiff=True), PICTURE), "tiled.tif": (tiff(PICTURE, photometric="rgb", tile=(32, 32)), RGBA),
        "planar.tif": (tiff(np.moveaxis(PICTURE, -1, 0), photometric="rgb", planarconfig="separate"), RGBA),
        "lzw.tif": (held(PICTURE, "TIFF", compression="tiff_lzw"), PICTURE), "deflate.tif": (held(PICTURE, "TIFF", compression="tiff_adobe_deflate"), PICTURE),
        "rgba.tif": (held(RGBA, "TIFF"), RGBA), "white-is-zero.tif": (tiff(255 - GREY, photometric="miniswhite"), GREY),
        **{f"exif-{n}.jpg": (turned(n, "JPEG"), PICTURE) for n in range(1, 9)},
        **{f"exif-{n}.tif": (turned(n, "TIFF"), PICTURE) for n in range(1, 9)},
        "exif-9.jpg": (turned(9, "JPEG"), PICTURE),
        "wide.png": (held(WIDE, "PNG"), WIDE),
    }.items()
]  # fmt: skip
TRUNCATED = [
    Specimen(f"cut-{where}{suffix}", cut(make, length), "image-truncated")
    for suffix, make in {".png": PNG, ".jpg": JPEG, ".tif": TIFF, ".bmp": BMP}.items()
    for where, length in {"head": 20, "middle": 0.5, "byte": -1}.items()
]
EMPTY = [Specimen(f"empty{end}", raw(b""), "image-empty") for end in (".png", ".jpg", ".jpeg", ".tif", ".tiff", ".bmp")]
OTHER = [
    Specimen(f"other-{name}", make, "image-unreadable")
    for name, make in {
        "page.png": raw(HTML), "page.jpg": raw(HTML), "page.tif": raw(HTML), "page.bmp": raw(HTML), "png.jpg": PNG, "jpeg.png": JPEG,
        "gif.png": animated("GIF"), "webp.jpg": held(PICTURE, "WEBP"), "png.tif": PNG, "png.bmp": PNG, "zeros.png": raw(bytes(4096)),
        "checksum.png": lambda path: path.write_bytes(png()[:-20] + bytes(4) + png()[-16:]),
        "stream.png": raw(png(data=zlib.compress(b"\0" * 20_808)[:40] + b"damaged")),
        "no-palette.png": raw(png(kind=3)), "size-zero.png": raw(png(0, 0)), "kind-9.png": raw(png(kind=9)), "depth-5.png": raw(png(depth=5)),
        "size-zero.jpg": jpeg_size(0, 0), "size-zero.tif": retagged(TIFF, 256, 0), 
        "width-negative.bmp": bitmap((18, struct.pack("<i", -96))), "pages.tif": pages, "loop.tif": loop, "double.tif": tiff(GREY.astype(float)),
        "rows.png": raw(png(height=ROWS + 9)), "rows.jpg": jpeg_size(ROWS + 64, COLUMNS),
        "compression-9999.tif": retagged(TIFF, 259, 9999), "planes-0.bmp": bitmap((28, struct.pack("<H", 0))),
    }.items()
]  # fmt: skip
CLAIMS = [
    Specimen(f"claims-{name}", make, "image-truncated")
    for name, make in {
        "no-pixels.png": raw(png(data=b"")), "million.png": raw(png(1_000_000, 1_000_000)), "most.png": raw(png(2**31 - 1, 2**31 - 1)),
        "most.jpg": jpeg_size(65_500, 65_500),
        "bits-7000.tif": retagged(TIFF, 258, 7000), "rows.tif": retagged(TIFF, 257, ROWS + 9), "million.tif": retagged(retagged(TIFF, 256, 10**6), 257, 10**6),
        "rows.bmp": bitmap((22, struct.pack("<i", ROWS + 9))), "million.bmp": bitmap((18, struct.pack("<ii", 10**6, 10**6))),
    }.items()
]  # fmt: skip
ODD = [
    Specimen("nan.tif", tiff(POISONED), "image-nan"),
    Specimen("constant.png", held(np.full_like(PICTURE, 200), "PNG"), pixels=np.full_like(PICTURE, 200), mask="empty"),
    Specimen("black.png", held(np.zeros_like(PICTURE), "PNG"), pixels=np.zeros_like(PICTURE), mask="empty"),
    Specimen("one-pixel.png", held(PICTURE[:1, :1], "PNG"), pixels=PICTURE[:1, :1], mask="empty"),
    Specimen("one-row.png", held(PICTURE[30:31], "PNG"), pixels=PICTURE[30:31], mask=ANY),
    Specimen("one-bit.png", held(GREY, "PNG", "1"), mask=ANY), Specimen("one-bit.tif", held(GREY, "TIFF", "1"), mask=ANY),
    Specimen("palette-clear.png", held(PICTURE, "PNG", "P", transparency=0), mask=ANY),
    Specimen("palette.tif", held(PICTURE, "TIFF", "P"), mask=ANY), Specimen("palette.bmp", held(PICTURE, "BMP", "P"), mask=ANY),
    Specimen("cmyk.tif", held(PICTURE, "TIFF", "CMYK"), mask=ANY), Specimen("jpeg-inside.tif", held(PICTURE, "TIFF", compression="jpeg"), mask=ANY),
    Specimen("long.tif", tiff(GREY.astype(np.uint32)), mask=ANY),
    Specimen("five-bands.tif", tiff(np.dstack([RGBA, GREY]), photometric="rgb", extrasamples=[0, 0]), refused="image-channels", mask=ANY),
    Specimen("pages-alike.tif", tiff(np.stack([PICTURE] * 3), photometric="rgb"), pixels=np.stack([PICTURE] * 3), refused="hair-dimension"),
    Specimen("many-pixels.jpg", held(np.zeros((14_000, 14_000), np.uint8), "JPEG"), mask="empty", slow=True),
]  # fmt: skip
FLIPPED = [
    Specimen(f"flipped-{seed}{suffix}", flipped(make, seed, 200), code=ANY, mask=ANY)
    for suffix, make in {".png": PNG, ".jpg": JPEG, ".tif": TIFF, ".bmp": BMP}.items()
    for seed in range(4)
]
PICTURES = [*RIGHT, *TRUNCATED, *EMPTY, *OTHER, *CLAIMS, *ODD, *FLIPPED]
