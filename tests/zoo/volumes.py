"""Volumes that are read: NIfTI, MetaImage and NRRD of every kind; and the makers of those that are not."""

from __future__ import annotations

import gzip
import struct
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import SimpleITK as sitk

from medseg.typing import AnyArray
from tests.zoo.kind import ANY, SHAPE, SPACING, VOLUME, Make, Specimen, named, raw, reworded, saved, volume

KINDS = {"u1": 2, "i2": 4, "i4": 8, "f4": 16, "c8": 32, "f8": 64, "i1": 256, "u2": 512, "u4": 768, "i8": 1024}
KINDS |= {"u8": 1280}
HTML = "<!DOCTYPE html>\n<html><head><title>404 Not Found</title></head><body>No such file</body></html>\n"


def nifti(
    array: AnyArray = VOLUME, order: str = "<", sizes: tuple[int, ...] = (), fields: Mapping[int, bytes] | None = None
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


def poisoned(value: float) -> AnyArray:
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
        "good-1.nii.gz": NII_GZ,
        "good-2.mha": META,
        "good-3.nrrd": META,
        "good-4.nii": NII,
        "good-5.mhd": META,
        "UPPER.NII.GZ": NII_GZ,
        "Upper.Nrrd": named(META, ".nrrd"),
        "UPPER.MHA": named(META, ".mha"),
        "two.nii.nii.gz": NII_GZ,
        "two.mha.nii": NII,
        "compressed.mha": META_GZ,
        "compressed.nrrd": META_GZ,
        "compressed.mhd": META_GZ,
        "detached.nrrd": detached(),
        "detached-gzip.nrrd": detached("gzip"),
        "big-endian.nii": raw(nifti(order=">")),
        "big-endian.nii.gz": raw(gzip.compress(nifti(order=">"))),
        "members.nii.gz": raw(gzip.compress(nifti()[:400]) + gzip.compress(nifti()[400:])),
        "slope-zero.nii": raw(nifti(fields={112: floats(0, 0)})),
        "slope-nan.nii": raw(nifti(fields={112: floats(NAN, NAN)})),
        "slope-two.nii": raw(nifti(VOLUME // 2, fields={112: floats(2, 0)})),
        "bits-wrong.nii": raw(nifti(fields={72: struct.pack("<h", 8)})),
        "mirrored.mha": reworded(META, b"ElementSpacing = 8 8 12", b"ElementSpacing = 8 -8 12"),
        "trailing-bytes.nii": raw(nifti() + b"appended"),
        **{f"type-{kind}.nii.gz": raw(gzip.compress(nifti(VOLUME.astype(kind)))) for kind in ("i4", "i8", "f4", "f8")},
        **{
            f"type-{k}.nii": raw(nifti((VOLUME + 1000).astype(k), fields={112: floats(1, -1000)}))
            for k in ("u2", "u4", "u8")
        },
    }.items()
]
ODD = [
    Specimen(
        "constant.nii.gz",
        raw(gzip.compress(nifti(np.full_like(VOLUME, 40)))),
        pixels=np.full_like(VOLUME, 40),
        mask="empty",
    ),
    Specimen("one-voxel.nii", raw(nifti(VOLUME[:1, :1, :1])), pixels=VOLUME[:1, :1, :1], mask="empty"),
    Specimen("one-slice.nii", raw(nifti(VOLUME[5:6])), pixels=VOLUME[5:6], mask=ANY),
    Specimen("one-row.nii", raw(nifti(VOLUME[5:6, 18:19])), pixels=VOLUME[5:6, 18:19], mask=ANY),
    Specimen("flat.nii", raw(nifti(VOLUME[5])), pixels=VOLUME[5], mask=ANY),
    Specimen(
        "narrow-type.nii",
        raw(nifti((VOLUME // 16).astype("i1"), fields={112: floats(16, 0)})),
        pixels=VOLUME // 16 * 16,
    ),
    Specimen("sequence.nii", raw(nifti(np.stack([VOLUME] * 2))), pixels=np.stack([VOLUME] * 2)),
    Specimen("five-axes.nii", raw(nifti(np.stack([np.stack([VOLUME] * 2)] * 2))), "image-dimension"),
    Specimen(
        "seven-axes.nii",
        raw(nifti(VOLUME[:, :4, :4], sizes=(4, 4, 10, 1, 1, 1, 1))),
        pixels=VOLUME[:, :4, :4],
        mask=ANY,
    ),
    Specimen(
        "vector.nii",
        raw(nifti(np.stack([VOLUME] * 3)[:, None], sizes=(*SHAPE[::-1], 1, 3), fields={68: struct.pack("<h", 1007)})),
        refused="image-channels",
    ),
    Specimen("colours.mha", colours, refused="image-channels"),
]
