"""Find duplicate images: identical bytes, or the same image scaled, recompressed or slightly brighter."""

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

HASH_SIDE = 8  # × 8 bits: differences of neighbours in a thumbnail (difference hash)
MAX_DIFFERING_BITS = 8  # bits of 64 between the hashes of near duplicates; unrelated images differ in about 30
THUMBNAIL_SIDE_PX = 32  # of the thumbnails that are compared next
MIN_CORRELATION = 0.98  # correlation between the thumbnails
MIN_DETAIL_CORRELATION = 0.9  # and without low frequencies: two round fields of view are not the same eye


@dataclass(frozen=True)
class DuplicatePair:
    """Two cases that show the same image; kind: exact or near."""

    one: str
    other: str
    kind: str
    same_patient: bool


class PerceptualHashes:
    """Hashes and thumbnails of images, added one by one; the images are not kept."""

    def __init__(self) -> None:
        self._cases: list[tuple[str, str]] = []  # case, patient
        self._digests: list[str] = []
        self._bits: list[npt.NDArray[np.bool_]] = []
        self._small: list[Float32Array] = []

    def add(self, case: str, patient: str, path: Path, image: sitk.Image | None = None) -> None:
        """Add an image; one that is unreadable or constant is compared by its bytes alone."""
        try:
            small = thumbnail(image if image is not None else read_image(path), 4 * THUMBNAIL_SIDE_PX)
        except (MedsegError, RuntimeError):  # ITK raises RuntimeError
            small = np.zeros((4 * THUMBNAIL_SIDE_PX, 4 * THUMBNAIL_SIDE_PX), np.float32)
        self._cases.append((case, patient))
        self._digests.append(hash_path(path) if path.is_file() or path.is_dir() else str(path))
        tiny = cv2.resize(small, (HASH_SIDE + 1, HASH_SIDE), interpolation=cv2.INTER_AREA)
        self._bits.append((tiny[:, 1:] > tiny[:, :-1]).ravel())
        self._small.append(cv2.resize(small, (THUMBNAIL_SIDE_PX, THUMBNAIL_SIDE_PX), interpolation=cv2.INTER_AREA))

    def twins(self) -> list[DuplicatePair]:
        """All pairs of duplicates, in the order of the cases."""
        pairs = []
        bits = np.array(self._bits, bool).reshape(len(self._cases), -1)
        for first_index in range(len(self._cases)):
            differing_bits = (bits[first_index + 1 :] != bits[first_index]).sum(axis=1)
            identical = np.array(
                [digest == self._digests[first_index] for digest in self._digests[first_index + 1 :]], bool
            )
            for offset in np.flatnonzero(identical | (differing_bits <= MAX_DIFFERING_BITS)):
                second_index = first_index + 1 + int(offset)
                exact = bool(identical[offset])
                if exact or same_content(self._small[first_index], self._small[second_index]):
                    (first_case, first_patient), (second_case, second_patient) = (
                        self._cases[first_index],
                        self._cases[second_index],
                    )
                    pairs.append(
                        DuplicatePair(
                            first_case, second_case, "exact" if exact else "near", first_patient == second_patient
                        )
                    )
        return pairs


def thumbnail(image: sitk.Image, side: int) -> Float32Array:
    """A gray 2D image (side, side): the middle slice of a volume, the first frame of a sequence."""
    array = sitk.GetArrayViewFromImage(image).astype(np.float32)
    if image.GetNumberOfComponentsPerPixel() > 1:
        array = array.mean(axis=-1)
    while array.ndim > 2:
        array = array[array.shape[0] // 2]
    return np.asarray(cv2.resize(array, (side, side), interpolation=cv2.INTER_AREA), np.float32)


def same_content(first: Float32Array, second: Float32Array) -> bool:
    """Whether two thumbnails agree, coarsely and in detail; False for constant images."""
    details = [thumbnail_ - cv2.GaussianBlur(thumbnail_, (0, 0), 3) for thumbnail_ in (first, second)]
    return _correlation(first, second) >= MIN_CORRELATION and _correlation(*details) >= MIN_DETAIL_CORRELATION


def _correlation(first: Float32Array, second: Float32Array) -> float:
    first_centred, second_centred = first - first.mean(), second - second.mean()
    scale = float(np.linalg.norm(first_centred) * np.linalg.norm(second_centred))
    return float((first_centred * second_centred).sum()) / scale if scale > 1e-6 else 0.0
