"""Pictures that are refused: cut off, of another format, or with a header that makes no sense."""

from __future__ import annotations

import struct
import zlib

from tests.zoo.kind import ANY, GREY, PICTURE, Specimen, cut, flipped, patched, raw
from tests.zoo.pictures import (
    BMP,
    COLUMNS,
    JPEG,
    PNG,
    ROWS,
    TIFF,
    animated,
    bitmap,
    held,
    jpeg_size,
    loop,
    pages,
    png,
    retagged,
    runs,
    tiff,
)
from tests.zoo.volumes import HTML

TRUNCATED = [
    Specimen(f"cut-{where}{suffix}", cut(make, length), "image-truncated")
    for suffix, make in {".png": PNG, ".jpg": JPEG, ".tif": TIFF, ".bmp": BMP}.items()
    for where, length in {"head": 20, "middle": 0.5, "byte": -1}.items()
]
EMPTY = [Specimen(f"empty{end}", raw(b""), "image-empty") for end in (".png", ".jpg", ".jpeg", ".tif", ".tiff", ".bmp")]
OTHER = [
    Specimen(f"other-{name}", make, "image-unreadable")
    for name, make in {
        "page.png": raw(HTML),
        "page.jpg": raw(HTML),
        "page.tif": raw(HTML),
        "page.bmp": raw(HTML),
        "png.jpg": PNG,
        "jpeg.png": JPEG,
        "gif.png": animated("GIF"),
        "webp.jpg": held(PICTURE, "WEBP"),
        "png.tif": PNG,
        "png.bmp": PNG,
        "zeros.png": raw(bytes(4096)),
        "checksum.png": lambda path: path.write_bytes(png()[:-20] + bytes(4) + png()[-16:]),
        "stream.png": raw(png(data=zlib.compress(b"\0" * 20_808)[:40] + b"damaged")),
        "no-palette.png": raw(png(kind=3)),
        "size-zero.png": raw(png(0, 0)),
        "kind-9.png": raw(png(kind=9)),
        "depth-5.png": raw(png(depth=5)),
        "size-zero.jpg": jpeg_size(0, 0),
        "size-zero.tif": retagged(TIFF, 256, 0),
        "width-negative.bmp": bitmap((18, struct.pack("<i", -96))),
        "pages.tif": pages,
        "loop.tif": loop,
        "double.tif": tiff(GREY.astype(float)),
        "rows.png": raw(png(height=ROWS + 9)),
        "rows.jpg": jpeg_size(ROWS + 64, COLUMNS),
        "compression-9999.tif": retagged(TIFF, 259, 9999),
        "runs-of-colour.bmp": bitmap((30, b"\1")),  # at which ITK ends the process
        "planes-0.bmp": bitmap((28, struct.pack("<H", 0))),
    }.items()
]
CLAIMS = [
    Specimen(f"claims-{name}", make, "image-truncated")
    for name, make in {
        "no-pixels.png": raw(png(data=b"")),
        "million.png": raw(png(1_000_000, 1_000_000)),
        "most.png": raw(png(2**31 - 1, 2**31 - 1)),
        "most.jpg": jpeg_size(65_500, 65_500),
        "bits-7000.tif": retagged(TIFF, 258, 7000),
        "rows.tif": retagged(TIFF, 257, ROWS + 9),
        "million.tif": retagged(retagged(TIFF, 256, 10**6), 257, 10**6),
        "rows.bmp": bitmap((22, struct.pack("<i", ROWS + 9))),
        "runs.bmp": patched(runs, (18, struct.pack("<ii", 100_000, 100_000))),
        "million.bmp": bitmap((18, struct.pack("<ii", 10**6, 10**6))),
    }.items()
]
FLIPPED = [
    Specimen(f"flipped-{seed}{suffix}", flipped(make, seed, 200), code=ANY, mask=ANY)
    for suffix, make in {".png": PNG, ".jpg": JPEG, ".tif": TIFF, ".bmp": BMP}.items()
    for seed in range(4)
]
BAD_PICTURES = [*TRUNCATED, *EMPTY, *OTHER, *CLAIMS, *FLIPPED]
