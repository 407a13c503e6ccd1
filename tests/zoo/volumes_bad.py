"""Volumes that are refused: cut off, of another format, or with a header that makes no sense."""

from __future__ import annotations

import gzip
import struct

import numpy as np

from tests.zoo.kind import ANY, VOLUME, Specimen, cut, flipped, patched, raw, reworded, saved, volume, without
from tests.zoo.volumes import (
    HTML,
    META,
    META_GZ,
    MILLION_MILLION,
    NAN,
    NII,
    NII_GZ,
    bomb,
    claimed,
    detached,
    floats,
    nifti,
    poisoned,
    slices,
)

EMPTY = [Specimen(f"empty{suffix}", raw(b""), "image-empty") for suffix in (".nii.gz", ".nii", ".mha", ".mhd", ".nrrd")]
TRUNCATED = [
    Specimen(f"cut-{name}", make, "image-truncated")
    for name, make in {
        "head.nii.gz": cut(NII_GZ, 40),
        "middle.nii.gz": cut(NII_GZ, 0.5),
        "byte.nii.gz": cut(NII_GZ, -1),
        "trailer.nii.gz": cut(NII_GZ, -8),
        "inside.nii.gz": raw(gzip.compress(nifti()[:-900])),
        "head.nii": cut(NII, 100),
        "middle.nii": cut(NII, 0.5),
        "byte.nii": cut(NII, -1),
        "head.mha": cut(META, 60),
        "middle.mha": cut(META, 0.5),
        "byte.mha": cut(META, -1),
        "middle-gz.mha": cut(META_GZ, 0.8),
        "byte-gz.mha": cut(META_GZ, -1),
        "head.mhd": cut(META, 60),
        "data.mhd": cut(META, 0.5, "cut-data.raw"),
        "data-gz.mhd": cut(META_GZ, 0.5, "cut-data-gz.zraw"),
        "head.nrrd": cut(META, 60),
        "middle.nrrd": cut(META, 0.5),
        "byte.nrrd": cut(META, -1),
        "middle-gz.nrrd": cut(META_GZ, 0.8),
        "trailer-gz.nrrd": cut(META_GZ, -8),
        "detached-head.nrrd": cut(detached(), 60),
        "detached-data.nrrd": cut(detached(), -1, "cut-detached-data.data"),
        "detached-gz.nrrd": cut(detached("gzip"), 0.5, "cut-detached-gz.data"),
        "data-empty.mhd": cut(META, 0, "cut-data-empty.raw"),
    }.items()
]
LOST = [
    Specimen("lost-data.mhd", without(META, "lost-data.raw"), "image-missing"),
    Specimen("lost-data.nrrd", without(detached(), "lost-data.data"), "image-missing"),
    Specimen("lost-slices.mhd", slices, "image-missing"),
]
OTHER = [
    Specimen(f"other-{name}", make, "image-unreadable")
    for name, make in {
        "text.nii.gz": raw("these are words, no volume\n"),
        "page.nii": raw(HTML),
        "page.mha": raw(HTML),
        "page.nrrd": raw(HTML),
        "plain.nii.gz": NII,
        "gzip.nii": NII_GZ,
        "noise.mha": raw(bytes(range(256)) * 4),
        "picture.nrrd": raw(b"\x89PNG\r\n\x1a\n" + bytes(200)),
        "gzip-of-text.nii.gz": raw(gzip.compress(b"words " * 200)),
        "zip.nii.gz": raw(b"PK\3\4" + bytes(400)),
        "analyze.nii": patched(NII, (344, bytes(4))),
        "pair.nii": patched(NII, (344, b"ni1\0")),
        "type-9999.nii": raw(nifti(fields={70: struct.pack("<2h", 9999, 16)})),
        "intercept-alone.nii": raw(nifti(fields={112: floats(0, 7)})),
        "slope-infinite.nii": raw(nifti(fields={112: floats(float("inf"), 0)})),
        "intercept-nan.nii": raw(nifti(fields={112: floats(1, NAN)})),
        "complex.nii": raw(nifti(VOLUME.astype("c8"))),
        "bzip2.nrrd": reworded(META, b"encoding: raw", b"encoding: bzip2"),
        "checksum.nii.gz": patched(NII_GZ, (len(gzip.compress(nifti())) - 8, b"\0\1\2\3")),
        "damaged.nii.gz": patched(NII_GZ, (500, bytes(range(40)))),
        "dims-zero.nii": raw(nifti(sizes=(44, 0, 10))),
        "dims-negative.mha": claimed(44, -36, 10),
        "dims-words.mha": reworded(META, b"DimSize = 44 36 10", b"DimSize = many few none"),
        "dims-few.mha": claimed(44, 360),
        "dims-none.mha": reworded(META, b"DimSize = 44 36 10\n", b""),
        "dims-none.nrrd": reworded(META, b"sizes: 44 36 10\n", b""),
        "dims-few.nrrd": reworded(META, b"sizes: 44 36 10", b"sizes: 44 360"),
        "line.nii": raw(nifti(VOLUME[5, 5])),
        "start-negative.nii": raw(nifti(fields={108: floats(-400)})),
        "start-inside.nii": raw(nifti(fields={108: floats(100)})),
        "start-nan.nii": raw(nifti(fields={108: floats(NAN)})),
        "device.mhd": reworded(META_GZ, b"other-device.zraw", b"/dev/zero"),
        "folder.mhd": reworded(META, b"other-folder.raw", b"."),
    }.items()
]
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
        "pixdim-zero.nii": raw(nifti(fields={76: floats(1, 8, 0, 12)})),
        "pixdim-negative.nii": raw(nifti(fields={76: floats(1, 8, -8, 12)})),
        "pixdim-nan.nii": raw(nifti(fields={76: floats(1, 8, NAN, 12)})),
        "pixdim-other.nii": raw(nifti(fields={76: floats(1, 4, 4, 6)})),
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
        "zero.nrrd": reworded(META, b"(0,8,0)", b"(0,0,0)"),
        "nan.nrrd": reworded(META, b"(0,8,0)", b"(0,nan,0)"),
        "singular.nrrd": reworded(META, b"(0,8,0)", b"(8,0,0)"),
        "sheared.nrrd": reworded(META, b"(0,8,0)", b"(4,8,0)"),
        "sheared.nii": raw(nifti(fields={284: floats(4)})),
        "sform-zero.nii": raw(nifti(fields={280: floats(*[0] * 12)})),
        "sform-nan.nii": raw(nifti(fields={280: floats(*[NAN] * 12)})),
        "singular.nii": raw(nifti(fields={280: floats(8, 0, 0, 0, 8)})),
        "origin-nan.nii": raw(nifti(fields={292: floats(NAN)})),
    }.items()
]
CLAIMS = [  # a million million voxels, and other sizes that no file has
    Specimen("claims.nii", raw(nifti(sizes=MILLION_MILLION)), "image-truncated"),
    Specimen("claims.nii.gz", raw(gzip.compress(nifti(sizes=MILLION_MILLION))), "image-truncated"),
    Specimen("claims.mha", claimed(*MILLION_MILLION), "image-truncated"),
    Specimen("claims-2e96.mha", claimed(*[1 << 32] * 3), "image-truncated"),
    Specimen(
        "claims-gz.mha", reworded(META_GZ, b"DimSize = 44 36 10", b"DimSize = 10000 10000 10000"), "image-truncated"
    ),
    Specimen("claims.nrrd", reworded(META, b"sizes: 44 36 10", b"sizes: 10000 10000 10000"), "image-truncated"),
    Specimen(
        "claims-2e96.nrrd",
        reworded(META, b"sizes: 44 36 10", b"sizes: 4294967296 4294967296 4294967296"),
        "image-truncated",
    ),
    Specimen("claims-start.nii", raw(nifti(fields={108: floats(1e30)})), "image-truncated"),
    Specimen("bomb.nii.gz", bomb, "image-excess"),
]
FLIPPED = [
    Specimen(f"flipped-{seed}{suffix}", flipped(make, seed, 352), code=ANY, mask=ANY)
    for suffix, make in {".nii": NII, ".nii.gz": NII_GZ, ".mha": META, ".nrrd": META, ".mhd": META}.items()
    for seed in range(4)
]
BAD_VOLUMES = [*EMPTY, *TRUNCATED, *LOST, *OTHER, *UNFINISHED, *SPACE, *CLAIMS, *FLIPPED]
