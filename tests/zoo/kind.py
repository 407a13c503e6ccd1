"""What a specimen is, the picture and the volume that most of them spoil or hold in another way, and tools to do so."""

from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import SimpleITK as sitk

from medseg.typing import AnyArray

Make = Callable[[Path], object]
ANY = "any"


@dataclass(frozen=True)
class Specimen:
    """One file or folder, and what must come of it.

    `code`: of the error that reading gives, blank where it is read right, `any` where either is well.
    `pixels`: what is read then ([Z,] Y, X[, C]) within `tolerance`; None: not compared.
    `refused`: the code of segmenting, where reading goes well but the model cannot take it.
    `mask`: what segmenting gives: `usual`, the one of the plain picture or volume; `empty`; or `any`.
    `alone`: it is no case of a folder, only an error where it is named. `slow`: seconds and gigabytes.
    """

    name: str  # of the file or folder below pictures/ or volumes/
    make: Make
    code: str = ""
    pixels: AnyArray | None = None
    refused: str = ""
    mask: str = "usual"
    tolerance: float = 0.0
    alone: bool = False
    slow: bool = False

    def fault(self, image: sitk.Image) -> str:
        """What is wrong with the image that was read; blank where nothing is."""
        if self.code not in ("", ANY):
            return f"was read as {image.GetSize()}, should be {self.code}"
        if self.pixels is None:
            return ""
        view = sitk.GetArrayViewFromImage(image)
        if view.shape != self.pixels.shape:
            return f"has the shape {view.shape}, should have {self.pixels.shape}"
        worst = float(np.abs(view.astype(float) - self.pixels).max())
        return f"differs by up to {worst:g}" if worst > self.tolerance else ""


def _ellipsoid(shape: tuple[int, ...], centre: tuple[float, ...], radius: tuple[float, ...]) -> AnyArray:
    axes = np.meshgrid(*(np.linspace(-1, 1, size) for size in shape), indexing="ij")
    away = sum(((axis - c) / r) ** 2 for axis, c, r in zip(axes, centre, radius, strict=True))
    return np.asarray(away <= 1)


PLAIN = _ellipsoid((72, 96), (-0.1, 0.15), (0.4, 0.3))  # (Y, X) the truth of the picture
PICTURE = np.where(PLAIN[..., None], (90, 60, 50), (220, 180, 160)).astype(np.uint8)  # (Y, X, C)
PICTURE[3:9, 4:12] = (235, 200, 180)  # no turn or flip looks like another
GREY = PICTURE[..., 1].copy()  # (Y, X)

SHAPE = (10, 36, 44)  # Z, Y, X
SPACING = (8.0, 8.0, 12.0)  # mm, x y z
LUNGS = np.zeros(SHAPE, np.uint8)  # (Z, Y, X) the truth of the volume; the patient's right is at small x
LUNGS[_ellipsoid(SHAPE, (0, 0, -0.4), (0.8, 0.5, 0.25))] = 1
LUNGS[_ellipsoid(SHAPE, (0.1, 0, 0.42), (0.7, 0.45, 0.22))] = 2
BODY = _ellipsoid(SHAPE, (0, 0, 0), (9.0, 0.85, 0.9))
VOLUME = np.where(LUNGS > 0, -800, np.where(BODY, 40, -1000)).astype(np.int16)  # HU


def volume(array: AnyArray = VOLUME, kind: type | None = None) -> sitk.Image:
    """The volume as an image, of numpy type `kind`."""
    image = sitk.GetImageFromArray(array if kind is None else array.astype(kind))
    image.SetSpacing(SPACING[: image.GetDimension()])
    return image


def saved(image: sitk.Image, compress: bool = False) -> Make:
    """A maker that writes through ITK."""
    return lambda path: sitk.WriteImage(image, str(path), useCompression=compress)


def raw(content: bytes | str) -> Make:
    """A maker of a file of these bytes."""
    return lambda path: path.write_bytes(content.encode() if isinstance(content, str) else content)


def cut(make: Make, length: int | float, other: str = "") -> Make:
    """A maker that keeps `length` bytes, a share of them, or all but so many where negative; of `other` beside it."""

    def spoil(path: Path) -> None:
        make(path)
        file = path.with_name(other) if other else path
        content = file.read_bytes()
        file.write_bytes(content[: round(length * len(content)) if isinstance(length, float) else length])

    return spoil


def patched(make: Make, *changes: tuple[int, bytes]) -> Make:
    """A maker that puts bytes at places."""

    def spoil(path: Path) -> None:
        make(path)
        content = bytearray(path.read_bytes())
        for place, new in changes:
            content[place : place + len(new)] = new
        path.write_bytes(content)

    return spoil


def reworded(make: Make, old: bytes, new: bytes) -> Make:
    """A maker that replaces words of a text header."""

    def spoil(path: Path) -> None:
        make(path)
        content = path.read_bytes()
        assert old in content, (path.name, content[:400])
        path.write_bytes(content.replace(old, new, 1))

    return spoil


def flipped(make: Make, seed: int, within: int = 400, bits: int = 3) -> Make:
    """A maker that turns a few bits among the first bytes."""

    def spoil(path: Path) -> None:
        make(path)
        content, chance = bytearray(path.read_bytes()), random.Random(seed)
        for _ in range(bits):
            content[chance.randrange(min(within, len(content)))] ^= 1 << chance.randrange(8)
        path.write_bytes(content)

    return spoil


def without(make: Make, other: str) -> Make:
    """A maker that loses the file `other` beside it."""

    def spoil(path: Path) -> None:
        make(path)
        path.with_name(other).unlink()

    return spoil


def named(make: Make, suffix: str) -> Make:
    """A maker whose file gets another ending than the one its writer looks at."""

    def spoil(path: Path) -> None:
        draft = path.with_name("draft" + suffix)
        make(draft)
        draft.replace(path)

    return spoil
