"""Hair painted on a hairless image: detection, specificity, and error of the filling."""

import time

import cv2
import numpy as np
import numpy.typing as npt
import pytest
import SimpleITK as sitk
from skimage.metrics import structural_similarity

from medseg.errors import ImageError
from medseg.preprocess.hair_removal import RemoveHair, hair_mask
from medseg.typing import BoolArray, Float32Array

BLACK, BROWN, BLOND, WHITE = (0.12, 0.09, 0.08), (0.38, 0.24, 0.15), (0.55, 0.4, 0.25), (0.97, 0.95, 0.92)


def skin(width: int, seed: int = 0) -> Float32Array:
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
    shown = colour * light[..., None] + rng.normal(0, 0.008, (height, width, 1))
    return np.asarray(shown.clip(0, 1), np.float32)


def strands(shape: tuple[int, ...], count: int, thick: float, seed: int = 0) -> Float32Array:
    """How far each pixel is covered, 0..1, by curved hair `thick` times the width of the image, anti-aliased."""
    rng, fine = np.random.default_rng(seed), 4 if shape[1] <= 1024 else 1
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


def painted(photo: Float32Array, cover: npt.NDArray[np.floating], colour: tuple[float, float, float]) -> Float32Array:
    return np.asarray(photo * (1 - cover[..., None]) + np.array(colour) * cover[..., None], np.float32)


def image(array: npt.NDArray[np.generic]) -> sitk.Image:
    return sitk.GetImageFromArray(array, isVector=array.ndim == 3)


def psnr(a: Float32Array, b: Float32Array, where: BoolArray) -> float:
    return float(-10 * np.log10(((a - b)[where] ** 2).mean()))


def gain(width: int, colour: tuple[float, float, float], thick: float, seed: int = 0) -> float:
    """Gain of PSNR in dB around hair relative to the hairless image."""
    clean = skin(width, seed)
    cover = strands(clean.shape, 12, thick, seed)
    hairy = painted(clean, cover, colour)
    after = sitk.GetArrayFromImage(RemoveHair()(image(hairy)))
    reach = 2 * max(1, width // 256) + 1
    near = cv2.dilate((cover > 0).astype(np.uint8), np.ones((reach, reach), np.uint8)) > 0
    return psnr(after, clean, near) - psnr(hairy, clean, near)


def detected(photo: Float32Array) -> BoolArray:
    return np.asarray(sitk.GetArrayFromImage(hair_mask(image(photo))) > 0)


@pytest.mark.parametrize(("thick", "least"), [(0.002, 5), (0.004, 6), (0.007, 6)])  # the thinnest is a pixel wide
@pytest.mark.parametrize("colour", [BLACK, BROWN, BLOND, WHITE])
def test_remove_hair_removes_painted_hair(colour: tuple[float, float, float], thick: float, least: float) -> None:
    assert gain(512, colour, thick) >= least


@pytest.mark.parametrize("width", [128, 256, 2048])
def test_remove_hair_works_on_small_and_large_images(width: int) -> None:
    assert gain(width, BLACK, 0.006, seed=1) >= 6


@pytest.mark.parametrize("width", [128, 512, 1024, 2048])
def test_remove_hair_image_without_hair_is_unchanged(width: int) -> None:
    clean = skin(width, seed=2)
    assert detected(clean).mean() <= 0.01
    after = sitk.GetArrayFromImage(RemoveHair()(image(clean)))
    half = (slice(None, None, 1 + width // 1100),) * 2
    assert structural_similarity(clean[half], after[half], channel_axis=2, data_range=1.0) >= 0.99


def test_hair_mask_ignores_a_ruler_crossed_by_hair() -> None:
    clean = skin(800)
    ruler = np.zeros(clean.shape[:2], np.uint8)
    cv2.line(ruler, (200, 520), (540, 500), 255, 3, cv2.LINE_AA)
    for tooth in range(35):
        foot = (200 + 10 * tooth, round(520 - 20 / 34 * tooth))
        cv2.line(ruler, foot, (foot[0] - 1, foot[1] - (24 if tooth % 5 == 0 else 14)), 255, 1, cv2.LINE_AA)
    shown = painted(clean, ruler / 255, BLACK)
    assert detected(shown)[ruler > 0].mean() < 0.1
    hair = np.zeros_like(ruler)
    cv2.line(hair, (330, 380), (420, 590), 255, 3, cv2.LINE_AA)
    crossed = detected(painted(shown, hair / 255, BLACK))
    assert crossed[(ruler > 0) & (hair == 0)].mean() < 0.2
    assert crossed[(hair > 0) & (ruler == 0)].mean() > 0.8


@pytest.mark.parametrize("colour", [(0.45, 0.3, 0.62), (0.84, 0.35, 0.35)])
def test_hair_mask_ignores_ink_and_blood_vessels(colour: tuple[float, float, float]) -> None:
    clean = skin(640)
    cover = strands(clean.shape, 12, 0.004)
    assert detected(painted(clean, cover, colour)).mean() < 0.1 * detected(painted(clean, cover, BROWN)).mean()


def test_hair_mask_ignores_the_rim_of_the_dermoscope() -> None:
    clean = skin(800)
    rim = np.zeros(clean.shape[:2], np.uint8)
    cv2.circle(rim, (400, 300), 420, 255, 4, cv2.LINE_AA)
    assert not detected(painted(clean, rim / 255, BLACK)).any()


def test_remove_hair_dark_or_light_can_be_disabled() -> None:
    clean = skin(512)
    for colour, remover in ((BLACK, RemoveHair(dark=False)), (WHITE, RemoveHair(light=False))):
        hairy = image(painted(clean, strands(clean.shape, 8, 0.004), colour))
        assert np.array_equal(sitk.GetArrayFromImage(remover(hairy)), sitk.GetArrayFromImage(hairy))


def test_remove_hair_below_least_is_unchanged() -> None:
    clean = skin(512)
    hairy = image(painted(clean, strands(clean.shape, 1, 0.004), BLACK))
    share = sitk.GetArrayFromImage(hair_mask(hairy)).mean()
    assert 0 < share < 0.05
    same = sitk.GetArrayFromImage(RemoveHair(least=2 * share)(hairy))
    assert np.array_equal(same, sitk.GetArrayFromImage(hairy))
    assert not np.array_equal(sitk.GetArrayFromImage(RemoveHair(least=0.5 * share)(hairy)), same)


@pytest.mark.parametrize("width", [400, 1030])
@pytest.mark.parametrize("grey", [False, True])
def test_remove_hair_keeps_grid_and_pixel_type(width: int, grey: bool) -> None:
    clean = skin(width)
    shown = np.rint(painted(clean, strands(clean.shape, 8, 0.004), BLACK) * 255).astype(np.uint8)
    shown = shown[..., 1] if grey else shown
    hairy = image(shown)
    hairy.SetSpacing((0.1, 0.2))
    hairy.SetOrigin((3.0, 4.0))
    for result in (RemoveHair()(hairy), hair_mask(hairy)):
        assert result.GetSize() == hairy.GetSize()
        assert result.GetSpacing() == hairy.GetSpacing()
        assert result.GetOrigin() == hairy.GetOrigin()
    after = RemoveHair()(hairy)
    assert after.GetPixelID() == hairy.GetPixelID()
    changed = sitk.GetArrayFromImage(after) != sitk.GetArrayFromImage(hairy)
    mask = sitk.GetArrayFromImage(hair_mask(hairy)) > 0
    assert not (changed if grey else changed.any(axis=-1))[~mask].any()
    assert changed.any()
    assert np.array_equal(sitk.GetArrayFromImage(hairy), shown)  # the input stays


def test_remove_hair_takes_little_time() -> None:
    clean = skin(1024)
    hairy = image(painted(clean, strands(clean.shape, 30, 0.004), BLACK))
    start = time.process_time()
    RemoveHair()(hairy)
    assert time.process_time() - start < 1.5


@pytest.mark.parametrize("size", [1, 2, 5, 16])
def test_remove_hair_tiny_and_constant_images_pass(size: int) -> None:
    rng = np.random.default_rng(0)
    for array in (rng.random((size, size + 1, 3)), np.full((size, size, 3), 0.5)):
        assert RemoveHair()(image(array.astype(np.float32))).GetHeight() == size


def test_remove_hair_invalid_settings_or_volume_raise() -> None:
    with pytest.raises(ImageError, match="3 dimensions"):
        RemoveHair()(sitk.Image([8, 8, 8], sitk.sitkFloat32))
    with pytest.raises(ValueError, match="width=0"):
        RemoveHair(width=0)
