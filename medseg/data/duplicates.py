"""Images that show the same: byte for byte, or scaled, compressed anew, a little brighter."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
import numpy.typing as npt
import SimpleITK as sitk

from medseg.errors import MedsegError
from medseg.io.image import read_image
from medseg.typing import Float32Array
from medseg.utils.files import hash_path

HASH = 8  # × 8 bits: differences of neighbours in a thumbnail (difference hash)
NEAR = 8  # bits of 64 in which the hashes of near duplicates may differ; strangers differ in about 30
SIDE = 32  # of the thumbnails that are compared then
ALIKE = 0.98  # correlation of the thumbnails
DETAIL = 0.9  # and of what is left when the coarse picture is taken off: two round fields are not the same eye


@dataclass(frozen=True)
class DuplicatePair:
    """Two cases that show the same; kind: exact or near."""

    one: str
    other: str
    kind: str
    same_patient: bool


class PerceptualHashes:
    """Hashes and thumbnails of images, an image at a time; nothing else is kept."""

    def __init__(self) -> None:
        self._cases: list[tuple[str, str]] = []  # case, patient
        self._digests: list[str] = []
        self._bits: list[npt.NDArray[np.bool_]] = []
        self._small: list[Float32Array] = []

    def add(self, case: str, patient: str, path: Path, image: sitk.Image | None = None) -> None:
        """Remember an image; one that cannot be read, or shows one value only, is compared by its bytes alone."""
        try:
            small = thumbnail(image if image is not None else read_image(path), 4 * SIDE)
        except (MedsegError, RuntimeError):  # ITK raises RuntimeError
            small = np.zeros((4 * SIDE, 4 * SIDE), np.float32)
        self._cases.append((case, patient))
        self._digests.append(hash_path(path) if path.is_file() or path.is_dir() else str(path))
        tiny = cv2.resize(small, (HASH + 1, HASH), interpolation=cv2.INTER_AREA)
        self._bits.append((tiny[:, 1:] > tiny[:, :-1]).ravel())
        self._small.append(cv2.resize(small, (SIDE, SIDE), interpolation=cv2.INTER_AREA))

    def twins(self) -> list[DuplicatePair]:
        """Every pair that shows the same, in the order of the cases."""
        found = []
        bits = np.array(self._bits, bool).reshape(len(self._cases), -1)
        for one in range(len(self._cases)):
            apart = (bits[one + 1 :] != bits[one]).sum(axis=1)
            same = np.array([digest == self._digests[one] for digest in self._digests[one + 1 :]], bool)
            for offset in np.flatnonzero(same | (apart <= NEAR)):
                other = one + 1 + int(offset)
                exact = bool(same[offset])
                if exact or same_content(self._small[one], self._small[other]):
                    (a, first), (b, second) = self._cases[one], self._cases[other]
                    found.append(DuplicatePair(a, b, "exact" if exact else "near", first == second))
        return found


def thumbnail(image: sitk.Image, side: int) -> Float32Array:
    """A grey picture (side, side): the middle slice of a volume, the first frame of a sequence."""
    array = sitk.GetArrayViewFromImage(image).astype(np.float32)
    if image.GetNumberOfComponentsPerPixel() > 1:
        array = array.mean(axis=-1)
    while array.ndim > 2:
        array = array[array.shape[0] // 2]
    return np.asarray(cv2.resize(array, (side, side), interpolation=cv2.INTER_AREA), np.float32)


def same_content(one: Float32Array, other: Float32Array) -> bool:
    """Whether two thumbnails show the same, coarsely and in detail; never for pictures of one value."""
    detail = [part - cv2.GaussianBlur(part, (0, 0), 3) for part in (one, other)]
    return _correlation(one, other) >= ALIKE and _correlation(*detail) >= DETAIL


def _correlation(one: Float32Array, other: Float32Array) -> float:
    a, b = one - one.mean(), other - other.mean()
    scale = float(np.linalg.norm(a) * np.linalg.norm(b))
    return float((a * b).sum()) / scale if scale > 1e-6 else 0.0
