"""Hair painted on a picture without any: what is found, what is left alone, and how near the filling comes."""

import cv2
import numpy as np
import numpy.typing as npt
import pytest
import SimpleITK as sitk

from medseg.preprocess.hair import RemoveHair

Floats = npt.NDArray[np.float32]
Bools = npt.NDArray[np.bool_]
BLACK, BROWN, BLOND, WHITE = (0.12, 0.09, 0.08), (0.38, 0.24, 0.15), (0.55, 0.4, 0.25), (0.97, 0.95, 0.92)


def skin(width: int, seed: int = 0) -> Floats:
    """Skin with blotches, a lesion of ragged border with a pigment network, dark corners and noise, (Y, X, 3) 0..1."""
    rng = np.random.default_rng(seed)
    height = width * 3 // 4
    y, x = np.indices((height, width)) / width
    blotches = cv2.resize(rng.normal(0, 1, (9, 12)), (width, height), interpolation=cv2.INTER_CUBIC)
    angle, far = np.arctan2(y - 0.37, x - 0.5), np.hypot(y - 0.37, x - 0.5)
    ragged = 0.16 + 0.012 * np.sin(5 * angle + seed) + 0.008 * np.sin(11 * angle)
    lesion = 1 / (1 + np.exp((far - ragged) * 150))
    network = 0.5 + 0.5 * np.cos(2 * np.pi * x * 55) * np.cos(2 * np.pi * y * 55)
    light = 1 - 0.85 / (1 + np.exp((0.6 - far) * 60))
    colour = np.array([0.86, 0.69, 0.6]) + 0.02 * blotches[..., None]
    colour = colour - (lesion * (0.75 + 0.25 * network))[..., None] * np.array([0.4, 0.42, 0.4])
    return np.float32((colour * light[..., None] + rng.normal(0, 0.008, (height, width, 1))).clip(0, 1))


def strands(shape: tuple[int, ...], count: int, thick: float, seed: int = 0) -> Floats:
    """How far each pixel is covered, 0..1, by curved hair `thick` times the width of the image, anti-aliased."""
    rng, fine = np.random.default_rng(seed), 4
    height, width = shape[:2]
    cover = np.zeros((height * fine, width * fine), np.float32)
    for _ in range(count):
        way, start = rng.uniform(0, 2 * np.pi), rng.uniform(0.1, 0.9, 2) * (width, height)
        length, bend = rng.uniform(0.3, 0.7) * width, rng.uniform(-1, 1)
        t = np.linspace(-0.5, 0.5, 60)
        turn = way + bend * t
        points = start + np.cumsum(np.column_stack([np.cos(turn), np.sin(turn)]), axis=0) * length / 60
        cv2.polylines(cover, [np.int32(points * fine)], False, 1.0, max(1, round(thick * width * fine)))
    return np.asarray(cv2.resize(cover, (width, height), interpolation=cv2.INTER_AREA))


def painted(picture: Floats, cover: Floats, colour: tuple[float, float, float]) -> Floats:
    return np.float32(picture * (1 - cover[..., None]) + np.array(colour) * cover[..., None])


def image(array: npt.NDArray[np.generic]) -> sitk.Image:
    return sitk.GetImageFromArray(array, isVector=array.ndim == 3)


def psnr(one: Floats, other: Floats, where: Bools) -> float:
    return float(-10 * np.log10(((one - other)[where] ** 2).mean()))


def gain(width: int, colour: tuple[float, float, float], thick: float, seed: int = 0) -> float:
    """Decibels by which hair's neighbourhood comes nearer to the picture without hair."""
    clean = skin(width, seed)
    cover = strands(clean.shape, 12, thick, seed)
    hairy = painted(clean, cover, colour)
    after = sitk.GetArrayFromImage(RemoveHair()(image(hairy)))
    reach = 2 * max(1, width // 256) + 1
    near = cv2.dilate((cover > 0).astype(np.uint8), np.ones((reach, reach), np.uint8)) > 0
    return psnr(after, clean, near) - psnr(hairy, clean, near)


@pytest.mark.parametrize("thick", [0.002, 0.004, 0.007])
@pytest.mark.parametrize("colour", [BLACK, BROWN, WHITE])
def test_painted_hair_goes(colour: tuple[float, float, float], thick: float) -> None:
    assert gain(768, colour, thick) >= 6
