"""Volumes: NIfTI, MetaImage and NRRD, whole and spoilt."""

from __future__ import annotations

import gzip
import struct
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import SimpleITK as sitk

from tests.zoo.kind import (
    ANY,
    SHAPE,
    SPACING,
    VOLUME,
    Array,
    Make,
    Specimen,
    cut,
    flipped,
    patched,
    raw,
    reworded,
    saved,
    volume,
    without,
)

KINDS = {"u1": 2, "i2": 4, "i4": 8, "f4": 16, "c8": 32, "f8": 64, "i1": 256, "u2": 512, "u4": 768, "i8": 1024}
KINDS |= {"u8": 1280}
HTML = "<!DOCTYPE html>\n<html><head><title>404 Not Found</title></head><body>No such file</body></html>\n"


def nifti(
    array: Array = VOLUME, order: str = "<", sizes: tuple[int, ...] = (), fields: Mapping[int, bytes] | None = None
) -> bytes:
    """A NIfTI-1 file by hand: its pixels, byte order, stated sizes (x, y, …) and bytes put at places of the header."""
    sizes = sizes or array.shape[::-1]
    head = bytearray(352)
    struct.pack_into(order + "i", head, 0, 348)
    struct.pack_into(order + "8h", head, 40, len(sizes), *sizes, *[1] * (7 - len(sizes)))
    struct.pack_into(order + "2h", head, 70, KINDS[array.dtype.str[1:]], 8 * array.itemsize)
    struct.pack_into(order + "8f", head, 76, 1, *SPACING, 1, 1, 1, 1)
    struct.pack_into(order + "3f", head, 108, 352, 1, 0)  # start of the pixels, slope, intercept
    struct.pack_into(order + "2h", head, 252, 0, 1)
    x, y, z = SPACING
    struct.pack_into(order + "12f", head, 280, -x, 0, 0, 0, 0, -y, 0, 0, 0, 0, z, 0)
    head[344:348] = b"n+1\0"
    for place, new in (fields or {}).items():
        head[place : place + len(new)] = new
    return bytes(head) + array.astype(array.dtype.newbyteorder(order)).tobytes()


def floats(*values: float) -> bytes:
    return struct.pack(f"<{len(values)}f", *values)


def bomb(path: Path) -> None:
    """A header of 352 bytes and 2 GB of zeros, as 2 MB of gzip members."""
    path.write_bytes(gzip.compress(nifti()) + gzip.compress(bytes(1 << 24), 9) * 128)


def slices(path: Path) -> None:
    """A MetaImage that names its data as a pattern of a million million files."""
    saved(volume())(path)
    name = f"{path.stem}.raw".encode()
    path.write_bytes(path.read_bytes().replace(name, f"{path.stem}%d.raw 0 999999999999 1".encode()))


def detached(encoding: str = "raw") -> Make:
    def make(path: Path) -> None:
        head = f"NRRD0004\ntype: short\ndimension: 3\nsizes: {SHAPE[2]} {SHAPE[1]} {SHAPE[0]}\nendian: little\n"
        head += f"encoding: {encoding}\nspacings: 8 8 12\ndata file: {path.stem}.data\n"
        path.write_text(head)
        data = VOLUME.tobytes()
        path.with_name(f"{path.stem}.data").write_bytes(data if encoding == "raw" else gzip.compress(data))

    return make


def poisoned(value: float) -> Array:
    array = VOLUME.astype(np.float32)
    array[3, 5:7, 8] = value
    return array


def colours(path: Path) -> None:
    """A volume of three values a voxel."""
    sitk.WriteImage(sitk.Compose([volume()] * 3), str(path))


def claimed(*sizes: int) -> Make:
    return reworded(META, b"DimSize = 44 36 10", b"DimSize = " + " ".join(map(str, sizes)).encode())


META, META_GZ = saved(volume()), saved(volume(), compress=True)
NII, NII_GZ = raw(nifti()), raw(gzip.compress(nifti()))
MILLION_MILLION = (10_000, 10_000, 10_000)
NAN = float("nan")

GOOD = [
    Specimen(name, make, pixels=VOLUME)
    for name, make in {
        "good-1.nii.gz": NII_GZ, "good-2.mha": META, "good-3.nrrd": META, "good-4.nii": NII, "good-5.mhd": META,
        "UPPER.NII.GZ": NII_GZ, "Upper.Nrrd": META, "UPPER.MHA": META, "two.nii.nii.gz": NII_GZ, "two.mha.nii": NII,
        "compressed.mha": META_GZ, "compressed.nrrd": META_GZ, "compressed.mhd": META_GZ,
        "detached.nrrd": detached(), "detached-gzip.nrrd": detached("gzip"),
        "big-endian.nii": raw(nifti(order=">")), "big-endian.nii.gz": raw(gzip.compress(nifti(order=">"))),
        "members.nii.gz": raw(gzip.compress(nifti()[:400]) + gzip.compress(nifti()[400:])),
        "slope-zero.nii": raw(nifti(fields={112: floats(0, 0)})),
        "slope-nan.nii": raw(nifti(fields={112: floats(NAN, NAN)})),
        "slope-two.nii": raw(nifti(VOLUME // 2, fields={112: floats(2, 0)})),
        "bits-wrong.nii": raw(nifti(fields={72: struct.pack("<h", 8)})), "mirrored.mha": reworded(META, b"ElementSpacing = 8 8 12", b"ElementSpacing = 8 -8 12"),
        "trailing-bytes.nii": raw(nifti() + b"appended"),
        **{f"type-{kind}.nii.gz": raw(gzip.compress(nifti(VOLUME.astype(kind)))) for kind in ("i4", "i8", "f4", "f8")},
        **{f"type-{k}.nii": raw(nifti((VOLUME + 1000).astype(k), fields={112: floats(1, -1000)})) for k in ("u2", "u4", "u8")},
    }.items()
]  # fmt: skip
EMPTY = [Specimen(f"empty{suffix}", raw(b""), "image-empty") for suffix in (".nii.gz", ".nii", ".mha", ".mhd", ".nrrd")]
TRUNCATED = [
    Specimen(f"cut-{name}", make, "image-truncated")
    for name, make in {
        "head.nii.gz": cut(NII_GZ, 40), "middle.nii.gz": cut(NII_GZ, 0.5), "byte.nii.gz": cut(NII_GZ, -1),
        "trailer.nii.gz": cut(NII_GZ, -8), "inside.nii.gz": raw(gzip.compress(nifti()[:-900])),
        "head.nii": cut(NII, 100), "middle.nii": cut(NII, 0.5), "byte.nii": cut(NII, -1),
        "head.mha": cut(META, 60), "middle.mha": cut(META, 0.5), "byte.mha": cut(META, -1),
        "middle-gz.mha": cut(META_GZ, 0.8), "byte-gz.mha": cut(META_GZ, -1),
        "head.mhd": cut(META, 60), "data.mhd": cut(META, 0.5, "cut-data.raw"),
        "data-gz.mhd": cut(META_GZ, 0.5, "cut-data-gz.zraw"),
        "head.nrrd": cut(META, 60), "middle.nrrd": cut(META, 0.5), "byte.nrrd": cut(META, -1),
        "middle-gz.nrrd": cut(META_GZ, 0.8), "trailer-gz.nrrd": cut(META_GZ, -8),
        "detached-head.nrrd": cut(detached(), 60), "detached-data.nrrd": cut(detached(), -1, "cut-detached-data.data"),
        "detached-gz.nrrd": cut(detached("gzip"), 0.5, "cut-detached-gz.data"),
        "data-empty.mhd": cut(META, 0, "cut-data-empty.raw"),
    }.items()
]  # fmt: skip
LOST = [
    Specimen("lost-data.mhd", without(META, "lost-data.raw"), "image-missing"),
    Specimen("lost-data.nrrd", without(detached(), "lost-data.data"), "image-missing"),
    Specimen("lost-slices.mhd", slices, "image-missing"),
]
OTHER = [
    Specimen(f"other-{name}", make, "image-unreadable")
    for name, make in {
        "text.nii.gz": raw("these are words, no volume\n"), "page.nii": raw(HTML), "page.mha": raw(HTML),
        "page.nrrd": raw(HTML), "plain.nii.gz": NII, "gzip.nii": NII_GZ, "noise.mha": raw(bytes(range(256)) * 4),
        "picture.nrrd": raw(b"\x89PNG\r\n\x1a\n" + bytes(200)),
        "gzip-of-text.nii.gz": raw(gzip.compress(b"words " * 200)), "zip.nii.gz": raw(b"PK\3\4" + bytes(400)),
        "analyze.nii": patched(NII, (344, bytes(4))), "pair.nii": patched(NII, (344, b"ni1\0")),
        "type-9999.nii": raw(nifti(fields={70: struct.pack("<2h", 9999, 16)})),
        "intercept-alone.nii": raw(nifti(fields={112: floats(0, 7)})), "slope-infinite.nii": raw(nifti(fields={112: floats(float("inf"), 0)})),
        "intercept-nan.nii": raw(nifti(fields={112: floats(1, NAN)})),
        "complex.nii": raw(nifti(VOLUME.astype("c8"))), "bzip2.nrrd": reworded(META, b"encoding: raw", b"encoding: bzip2"),
        "checksum.nii.gz": patched(NII_GZ, (len(gzip.compress(nifti())) - 8, b"\0\1\2\3")),
        "damaged.nii.gz": patched(NII_GZ, (500, bytes(range(40)))),
        "dims-zero.nii": raw(nifti(sizes=(44, 0, 10))), "dims-negative.mha": claimed(44, -36, 10),
        "dims-words.mha": reworded(META, b"DimSize = 44 36 10", b"DimSize = many few none"),
        "dims-few.mha": claimed(44, 360), "dims-none.mha": reworded(META, b"DimSize = 44 36 10\n", b""),
        "dims-none.nrrd": reworded(META, b"sizes: 44 36 10\n", b""), "dims-few.nrrd": reworded(META, b"sizes: 44 36 10", b"sizes: 44 360"),
        "line.nii": raw(nifti(VOLUME[5, 5])), "start-negative.nii": raw(nifti(fields={108: floats(-400)})), "start-inside.nii": raw(nifti(fields={108: floats(100)})),
        "start-nan.nii": raw(nifti(fields={108: floats(NAN)})), "device.mhd": reworded(META_GZ, b"other-device.zraw", b"/dev/zero"),
        "folder.mhd": reworded(META, b"other-folder.raw", b"."),
    }.items()
]  # fmt: skip
UNFINISHED = [
    Specimen("nan.nii.gz", raw(gzip.compress(nifti(poisoned(NAN)))), "image-nan"),
    Specimen("nan.nii", raw(nifti(poisoned(NAN))), "image-nan"),
    Specimen("infinite.mha", saved(volume(poisoned(float("inf")))), "image-nan"),
    Specimen("nan.nrrd", saved(volume(poisoned(NAN))), "image-nan"),
    Specimen("all-nan.mha", saved(volume(np.full_like(poisoned(0), NAN))), "image-nan"),
]
SPACE = [
    Specimen(f"space-{name}", make, "image-space")
    for name, make in {
        "pixdim-zero.nii": raw(nifti(fields={76: floats(1, 8, 0, 12)})), "pixdim-negative.nii": raw(nifti(fields={76: floats(1, 8, -8, 12)})),
        "pixdim-nan.nii": raw(nifti(fields={76: floats(1, 8, NAN, 12)})), "pixdim-other.nii": raw(nifti(fields={76: floats(1, 4, 4, 6)})),
        "sides.nii": raw(nifti(fields={252: struct.pack("<2h6f", 1, 2, 0, 0, 1, 0, 0, 0), 280: floats(8)})),
        "qform-nan.nii": raw(nifti(fields={252: struct.pack("<2h6f", 1, 0, NAN, 0, 0, 0, 0, 0)})),
        "qform-long.nii": raw(nifti(fields={252: struct.pack("<2h6f", 1, 0, 3, 4, 5, 0, 0, 0)})),
        "zero.mha": reworded(META, b"ElementSpacing = 8 8 12", b"ElementSpacing = 8 0 12"),
        "nan.mha": reworded(META, b"ElementSpacing = 8 8 12", b"ElementSpacing = 8 nan 12"),
        "infinite.mha": reworded(META, b"ElementSpacing = 8 8 12", b"ElementSpacing = 8 inf 12"),
        "origin-nan.mha": reworded(META, b"Offset = 0 0 0", b"Offset = 0 nan 0"),
        "singular.mha": reworded(META, b"TransformMatrix = 1 0 0 0 1 0 0 0 1", b"TransformMatrix = 1 0 0 1 0 0 0 0 1"),
        "no-axes.mha": reworded(META, b"TransformMatrix = 1 0 0 0 1 0 0 0 1", b"TransformMatrix = 0 0 0 0 0 0 0 0 0"),
        "nan-axes.mha": reworded(META, b"TransformMatrix = 1 0 0", b"TransformMatrix = nan 0 0"),
        "sheared.mha": reworded(META, b"TransformMatrix = 1 0 0 0 1 0", b"TransformMatrix = 1 0 0 0.5 1 0"),
        "zero.nrrd": reworded(META, b"(0,8,0)", b"(0,0,0)"), "nan.nrrd": reworded(META, b"(0,8,0)", b"(0,nan,0)"),
        "singular.nrrd": reworded(META, b"(0,8,0)", b"(8,0,0)"), "sheared.nrrd": reworded(META, b"(0,8,0)", b"(4,8,0)"),
        "sheared.nii": raw(nifti(fields={284: floats(4)})), "sform-zero.nii": raw(nifti(fields={280: floats(*[0] * 12)})),
        "sform-nan.nii": raw(nifti(fields={280: floats(*[NAN] * 12)})), "singular.nii": raw(nifti(fields={280: floats(8, 0, 0, 0, 8)})),
        "origin-nan.nii": raw(nifti(fields={292: floats(NAN)})),
    }.items()
]  # fmt: skip
CLAIMS = [  # a million million voxels, and other sizes that no file has
    Specimen("claims.nii", raw(nifti(sizes=MILLION_MILLION)), "image-truncated"),
    Specimen("claims.nii.gz", raw(gzip.compress(nifti(sizes=MILLION_MILLION))), "image-truncated"),
    Specimen("claims.mha", claimed(*MILLION_MILLION), "image-truncated"),
    Specimen("claims-2e96.mha", claimed(*[1 << 32] * 3), "image-truncated"),
    Specimen("claims-gz.mha", reworded(META_GZ, b"DimSize = 44 36 10", b"DimSize = 10000 10000 10000"), "image-truncated"),
    Specimen("claims.nrrd", reworded(META, b"sizes: 44 36 10", b"sizes: 10000 10000 10000"), "image-truncated"),
    Specimen("claims-2e96.nrrd", reworded(META, b"sizes: 44 36 10", b"sizes: 4294967296 4294967296 4294967296"), "image-truncated"),
    Specimen("claims-start.nii", raw(nifti(fields={108: floats(1e30)})), "image-truncated"),
    Specimen("bomb.nii.gz", bomb, "image-excess"),
]  # fmt: skip
ODD = [
    Specimen("constant.nii.gz", raw(gzip.compress(nifti(np.full_like(VOLUME, 40)))), pixels=np.full_like(VOLUME, 40), mask="empty"),
    Specimen("one-voxel.nii", raw(nifti(VOLUME[:1, :1, :1])), pixels=VOLUME[:1, :1, :1], mask="empty"),
    Specimen("one-slice.nii", raw(nifti(VOLUME[5:6])), pixels=VOLUME[5:6], mask=ANY),
    Specimen("one-row.nii", raw(nifti(VOLUME[5:6, 18:19])), pixels=VOLUME[5:6, 18:19], mask=ANY),
    Specimen("flat.nii", raw(nifti(VOLUME[5])), pixels=VOLUME[5], mask=ANY),
    Specimen("narrow-type.nii", raw(nifti((VOLUME // 16).astype("i1"), fields={112: floats(16, 0)})), pixels=VOLUME // 16 * 16),
    Specimen("sequence.nii", raw(nifti(np.stack([VOLUME] * 2))), pixels=np.stack([VOLUME] * 2)),
    Specimen("five-axes.nii", raw(nifti(np.stack([np.stack([VOLUME] * 2)] * 2))), "image-dimension"),
    Specimen("seven-axes.nii", raw(nifti(VOLUME[:, :4, :4], sizes=(4, 4, 10, 1, 1, 1, 1))), pixels=VOLUME[:, :4, :4], mask=ANY),
    Specimen("vector.nii", raw(nifti(np.stack([VOLUME] * 3)[:, None], sizes=(*SHAPE[::-1], 1, 3), fields={68: struct.pack("<h", 1007)})), refused="image-channels"),
    Specimen("colours.mha", colours, refused="image-channels"),
]  # fmt: skip
FLIPPED = [
    Specimen(f"flipped-{seed}{suffix}", flipped(make, seed, 352), code=ANY, mask=ANY)
    for suffix, make in {".nii": NII, ".nii.gz": NII_GZ, ".mha": META, ".nrrd": META, ".mhd": META}.items()
    for seed in range(4)
]
VOLUMES = [*GOOD, *EMPTY, *TRUNCATED, *LOST, *OTHER, *UNFINISHED, *SPACE, *CLAIMS, *ODD, *FLIPPED]
