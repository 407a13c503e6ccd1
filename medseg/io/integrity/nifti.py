"""Checks of a NIfTI header: length of the file, geometry, and finite values.

Source: nifti1.h and nifti2.h, nifti.nimh.nih.gov. ITK accepts invalid headers and guesses.
"""

from __future__ import annotations

import math
import struct
from pathlib import Path
from typing import Any, BinaryIO, NamedTuple, NoReturn

import numpy as np
import numpy.typing as npt

from medseg.errors import ImageError
from medseg.io.integrity.photo import SpaceError, require

NIFTI1, NIFTI2 = 348, 540  # header lengths, which are also the first number of the header
FLOATS = {16: "f4", 32: "f4", 64: "f8", 1792: "f8"}  # by datatype; 32 and 1792 are pairs (complex)
BITS = {2: 8, 4: 16, 8: 32, 16: 32, 32: 64, 64: 64, 128: 24, 256: 8, 512: 16, 768: 32, 1024: 64, 1280: 64, 1536: 128}
BITS |= {1792: 128, 2048: 256, 2304: 32}  # a voxel, by datatype; the header's own count is often wrong
QUATERNION_NOISE = 1e-3  # excess of the length of b, c, d over 1 by float32 rounding


class Layout(NamedTuple):
    """Length of the file in bytes, and the counter of non-finite pixels if they are floats."""

    end: int
    floats: Floats | None


class Floats:
    """Count NaN and infinity in a NIfTI stream fed in chunks: ITK silently reads both as 0.

    `start` and `end` bound the pixels in bytes, `kind` is their numpy type.
    """

    def __init__(self, start: int, end: int, kind: str) -> None:
        self.skip, self.left, self.kind = start, end - start, np.dtype(kind)
        self.rest = b""
        self.nan = self.infinite = 0
        self.total = self.left // self.kind.itemsize

    def feed(self, chunk: bytes) -> None:
        """Count in the next bytes of the file."""
        data = self.rest + chunk[self.skip : self.skip + self.left]
        self.left -= len(data) - len(self.rest)
        self.skip = max(0, self.skip - len(chunk))
        values = np.frombuffer(data, self.kind, len(data) // self.kind.itemsize)
        self.rest = data[values.nbytes :]
        if not np.isfinite(values).all():
            self.nan += int(np.isnan(values).sum())
            self.infinite += int(np.isinf(values).sum())

    def require_finite(self, file: BinaryIO) -> None:
        """Raise ImageError image-nan if there were any."""
        if self.nan or self.infinite:
            not_finite(Path(file.name), self.nan, self.infinite, self.total)


def not_finite(path: Path, nan: int, infinite: int, total: int) -> NoReturn:
    """Raise ImageError image-nan, with the number of non-finite values among `total`."""
    raise ImageError(
        f"{path}: {nan} of {total} values are NaN and {infinite} are infinite; "
        "replace them by finite values (such as the background's)",
        code="image-nan",
    )


class _Header:
    """Fields of the first 540 bytes in either version and byte order."""

    def __init__(self, head: bytes) -> None:
        require(4, len(head))
        self.head = head
        self.order = "<" if int.from_bytes(head[:4], "little") in (NIFTI1, NIFTI2) else ">"
        (self.version,) = struct.unpack_from(self.order + "i", head)
        if self.version not in (NIFTI1, NIFTI2):
            raise ValueError(f"the content is not NIfTI (it begins with {head[:8]!r})")
        require(self.version, len(head))
        magic, offset = (b"n+1\0", 344) if self.version == NIFTI1 else (b"n+2\0", 4)
        if head[offset : offset + 4] != magic:
            raise ValueError(
                "it is an Analyze file or half of a pair, which ITK would have to guess; convert it to NIfTI first"
            )

    def get(self, nifti1: tuple[str, int], nifti2: tuple[str, int]) -> tuple[Any, ...]:
        """Unpack a field by its layout and offset in NIfTI-1 or NIfTI-2."""
        layout, offset = nifti1 if self.version == NIFTI1 else nifti2
        return struct.unpack_from(self.order + layout, self.head, offset)


def layout(head: bytes) -> Layout:
    """Parse the first 540 bytes. Raises TruncatedFile, ValueError for an invalid header, SpaceError."""
    header = _Header(head)
    dims, (datatype,) = header.get(("8h", 40), ("8q", 16)), header.get(("h", 70), ("h", 12))
    sizes = dims[1 : dims[0] + 1]
    if not 1 <= dims[0] <= 7 or min(sizes) < 1 or datatype not in BITS:
        raise ValueError(f"its header is invalid (dimensions {dims}, datatype {datatype})")
    (offset,) = header.get(("f", 108), ("q", 168))
    if not header.version <= offset < math.inf:
        raise ValueError(f"its header puts the pixels at byte {offset:g}, inside the header")
    _require_scale(*header.get(("2f", 112), ("2d", 176)))
    _require_space(header, sizes)
    start = int(offset)
    end = start + (math.prod(sizes) * BITS[datatype] + 7) // 8
    dtype = FLOATS.get(datatype)
    return Layout(end, Floats(start, end, header.order + dtype) if dtype else None)


def _require_scale(slope: float, intercept: float) -> None:
    """Slope 0 or NaN means unscaled: ITK would still add the intercept."""
    scaled = slope != 0 and not math.isnan(slope)
    if math.isinf(slope) or (scaled and not math.isfinite(intercept)):
        raise ValueError(f"its values are scaled by {slope:g} and {intercept:g}")
    if not scaled and math.isfinite(intercept) and intercept != 0:
        raise ValueError(f"its header has the intercept {intercept:g} but no slope")


def _require_space(header: _Header, sizes: tuple[int, ...]) -> None:
    """Raise SpaceError unless voxel sizes, sform and qform are finite and agree.

    ITK takes the sizes from `pixdim`, with 1 mm for 0 and NaN and a flip for negative values, and ignores the sform's;
    it takes the rest from the sform if there is no qform or its code is 1 (scanner), else from the qform.
    """
    steps = header.get(("3f", 80), ("3d", 112))[: len(sizes)]
    if any(not (math.isfinite(step) and step > 0) and size > 1 for step, size in zip(steps, sizes, strict=False)):
        raise SpaceError(f"its voxels measure {_listed(steps)}")
    qform, sform = header.get(("2h", 252), ("2i", 344))
    affine = np.reshape(header.get(("12f", 280), ("12d", 400)), (3, 4))
    if sform > 0 and not np.isfinite(affine).all():
        raise SpaceError(f"its sform is {affine.tolist()}")
    if qform > 0 and sform <= 0:
        quaternion = header.get(("6f", 256), ("6d", 352))  # b, c, d, then the offset
        if not np.isfinite(quaternion).all() or np.linalg.norm(quaternion[:3]) > 1 + QUATERNION_NOISE:
            raise SpaceError(f"its qform is {_listed(quaternion)}")
    if sform > 0 and (qform <= 0 or sform == 1):
        _require_agreement(affine, steps, sizes)
    (handed,) = header.get(("f", 76), ("d", 104))  # −1 or 1: handedness of the qform
    if sform > 0 and qform > 0 and len(sizes) > 2 and np.linalg.det(affine[:, :3]) * (-1 if handed < 0 else 1) < 0:
        raise SpaceError("its qform and its sform disagree on left and right")


def _require_agreement(affine: npt.NDArray[Any], steps: tuple[float, ...], sizes: tuple[int, ...]) -> None:
    """Raise SpaceError unless sform and `pixdim` agree on the voxel size of each axis with more than one voxel."""
    lengths = np.linalg.norm(affine[:, : len(steps)], axis=0)
    differs = [not math.isclose(a, b, rel_tol=1e-3) for a, b in zip(lengths, steps, strict=True)]
    if any(differ and size > 1 for differ, size in zip(differs, sizes, strict=False)):
        raise SpaceError(f"its voxels measure {_listed(steps)} by pixdim and {_listed(lengths)} by the sform")


def _listed(values: Any) -> str:
    return "(" + ", ".join(f"{value:g}" for value in values) + ")"
