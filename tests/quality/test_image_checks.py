"""Checks of 2D images: good ones of every size and gain pass, each fault is reported with its value."""

import time
from collections.abc import Callable

import cv2
import numpy as np
import numpy.typing as npt
import pytest
import SimpleITK as sitk
from scipy import ndimage

from medseg.preprocess.field_of_view import Dermoscope, Fundus, Sector
from medseg.quality.image_checks import Blank, Blur, Colour, ColourOrder, Exposure, FieldOfViewFraction, Hair, Size
from medseg.typing import ByteArray

Check = Callable[[sitk.Image], str | None]
SKIN, ECHO = Dermoscope(), Sector()
RED, PALE = (0.75, 0.45, 0.3), (0.85, 0.65, 0.55)


def scene(width: int = 320, colour: tuple[float, ...] = PALE, disc: bool = False, seed: int = 0) -> ByteArray:
    """Texture of all sizes, as tissue has, with a dark spot of sharp border; with `disc` round in a black surround."""
    rng = np.random.default_rng(seed)
    height = width * 3 // 4
    y, x = np.indices((height, width)) / width
    texture = sum(
        ndimage.zoom(rng.normal(0, 1, (3 * n + 1, 4 * n + 1)), (height / (3 * n + 1), width / (4 * n + 1)), order=1)
        for n in (4, 8, 16, 32, 64)
    )
    grey = 0.8 + 0.04 * texture - 0.35 * (np.hypot(y - 0.37, x - 0.5) < 0.12)
    shown = grey[..., None] * np.array(colour)
    if disc:
        shown *= (np.hypot(y - 0.375, x - 0.5) < 0.36)[..., None]
    return np.rint(shown.clip(0, 1) * 255).astype(np.uint8)


def image(array: npt.NDArray[np.generic]) -> sitk.Image:
    return sitk.GetImageFromArray(array, isVector=array.ndim == 3 and array.shape[-1] <= 4)


def blurred(array: ByteArray, share: float) -> ByteArray:
    return np.asarray(cv2.GaussianBlur(array, (0, 0), share * max(array.shape)), np.uint8)


CHECKS: list[Check] = [
    Size(64), Blank(), FieldOfViewFraction(SKIN, 0.25), Colour(0.03), ColourOrder(0.95, SKIN),
    Exposure(0.75, 0.2, 0.3, SKIN), Blur(0.2, SKIN), Hair(0.2),
]  # fmt: skip


@pytest.mark.parametrize("check", CHECKS, ids=lambda check: type(check).__name__)
@pytest.mark.parametrize("width", [96, 320, 1600])
def test_checks_pass_a_good_image_of_any_size_and_type(check: Check, width: int) -> None:
    shown = scene(width)
    wide = (shown / 255).astype(np.float32)
    for array in (shown, wide, (wide * 65535).astype(np.uint16), np.dstack([shown, np.full(shown.shape[:2], 255)])):
        assert check(image(array.astype(shown.dtype) if array.shape[-1] == 4 else array)) is None


@pytest.mark.parametrize("width", [256, 1200])
@pytest.mark.parametrize("gain", [0.4, 1.0])
def test_blur_does_not_depend_on_resolution_or_gain(width: int, gain: float) -> None:
    shown = (scene(width) * gain).astype(np.uint8)
    assert Blur(0.2, SKIN)(image(shown)) is None
    reason = Blur(0.2, SKIN)(image(blurred(shown, 0.02)))
    assert reason is not None
    assert "blurred" in reason
    assert "0.2" in reason


def test_blur_is_checked_inside_the_field_only() -> None:
    shown = blurred(scene(disc=True, colour=RED), 0.02)
    inside = scene(disc=True) > 0
    sharp_rim = shown * inside
    assert Blur(0.145, Fundus())(image(sharp_rim)) is not None


@pytest.mark.parametrize(
    ("gain", "word"), [(4.0, "overexposed: 100%"), (0.25, "underexposed"), (1.0, None), (0.7, None), (1.2, None)]
)
def test_exposure_flags_factor_four(gain: float, word: str | None) -> None:
    shown = np.clip(scene().astype(float) * gain, 0, 255).astype(np.uint8)
    reason = Exposure(0.75, 0.2, 0.3, SKIN)(image(shown))
    assert reason is None if word is None else reason is not None and word in reason


def test_exposure_of_a_dark_field_ignores_the_surround() -> None:
    check = Exposure(0.5, 0.2, 0.3, Fundus())
    shown = scene(disc=True, colour=RED)
    assert check(image(shown)) is None
    half = shown.copy()
    half[: half.shape[0] // 2] = 0
    reason = Exposure(0.5, 0.2, 0.3)(image(half))
    assert reason is not None
    assert "mostly dark" in reason


def test_colour_and_colour_order_flag_grey_and_bgr() -> None:
    shown = scene()
    grey = np.repeat(shown.mean(-1, keepdims=True), 3, -1).astype(np.uint8)
    noisy = np.clip(grey + np.random.default_rng(0).integers(-1, 2, grey.shape), 0, 255).astype(np.uint8)  # as JPEG
    for array in (grey, noisy, grey[..., 0]):
        assert "grey where colour" in str(Colour(0.03)(image(array)))
        assert Colour(0.0, 0.03)(image(array)) is None
    assert "coloured where grey" in str(Colour(0.0, 0.03)(image(shown)))
    assert "BGR" in str(ColourOrder(0.95, SKIN)(image(shown[..., ::-1].copy())))
    assert ColourOrder()(image(grey[..., 0])) is None


def test_colour_passes_small_coloured_marks() -> None:
    echo = np.repeat(scene(colour=(0.5,)), 3, -1)
    echo[5:12, 5:30] = (0, 200, 0)
    assert Colour(0.0, 0.03)(image(echo)) is None


@pytest.mark.parametrize("level", [0, 90, 255])
@pytest.mark.parametrize("field", [SKIN, ECHO, Fundus(), None])
def test_blank_flags_a_blank_image(level: int, field: Fundus | None) -> None:
    for array in (np.full((80, 100, 3), level, np.uint8), np.full((80, 100), level, np.uint8)):
        blank = image(array)
        assert "blank" in str(Blank()(blank))
        assert Blur(0.2, field)(blank) is None
        for check in (Exposure(0.5, 0.5, 0.3, field), Colour(0.03), ColourOrder(1.0, field), Hair(0.2)):
            check(blank)


def test_field_of_view_fraction_flags_a_full_frame_fundus() -> None:
    check = FieldOfViewFraction(Fundus(), 0.15, 0.97, "fundus")
    assert check(image(scene(disc=True, colour=RED))) is None
    assert check(image(scene())) == "shows no fundus: the detected field covers 100% of the image, usual is 15% to 97%"


def test_field_of_view_fraction_flags_a_small_field() -> None:
    echo = np.zeros((200, 200), np.uint8)
    echo[80:110, 80:120] = scene(160, (0.6,))[:30, :40, 0]
    assert "shows no echoes" in str(FieldOfViewFraction(ECHO, 0.2, what="echoes")(image(echo)))
    assert "shows no echoes" not in str(FieldOfViewFraction(ECHO, 0.01, what="echoes")(image(echo)))


def test_hair_flags_much_but_not_some() -> None:
    def hairy(count: int) -> sitk.Image:
        shown, rng = scene(512), np.random.default_rng(0)
        for _ in range(count):
            turn = rng.uniform(0, 2 * np.pi) + rng.uniform(-1, 1) * np.linspace(-0.5, 0.5, 60)
            steps = 4 * np.column_stack([np.cos(turn), np.sin(turn)])
            points = rng.uniform(0.1, 0.9, 2) * (512, 384) + np.cumsum(steps, axis=0)
            cv2.polylines(shown, [points.astype(np.int32)], False, (30, 22, 20), 3, cv2.LINE_AA)
        return image(shown)

    assert Hair(0.1)(hairy(5)) is None
    assert "covered by hair" in str(Hair(0.1)(hairy(30)))


def test_size_checks_both_long_sides() -> None:
    assert Size(64)(sitk.Image([64, 200], sitk.sitkUInt8)) is None
    assert Size(64)(sitk.Image([64, 70, 1], sitk.sitkUInt8)) is None
    assert Size(64)(sitk.Image([70, 1, 66, 5], sitk.sitkUInt8)) is None  # slices lie across any axis
    assert Size(64)(sitk.Image([63, 200], sitk.sitkUInt8)) == (
        "has only 63 × 200 pixels; at least 64 along both long sides are needed"
    )


def test_checks_of_a_stack_use_its_middle_slice() -> None:
    stack = np.stack([scene(seed=number)[..., 0] for number in range(3)])
    dark = stack.copy()
    dark[1] //= 4
    check = Exposure(0.5, 0.5, 0.3)
    assert check(image(stack)) is None
    assert "underexposed" in str(check(image(dark)))


@pytest.mark.parametrize("check", CHECKS, ids=lambda check: type(check).__name__)
def test_checks_do_not_change_the_input(check: Check) -> None:
    shown = image(scene())
    before = sitk.GetArrayFromImage(shown)
    check(shown)
    assert np.array_equal(sitk.GetArrayFromImage(shown), before)


@pytest.mark.parametrize("check", CHECKS, ids=lambda check: type(check).__name__)
def test_checks_of_a_megapixel_take_little_time(check: Check) -> None:
    shown = image(scene(1152))
    check(shown)
    start = time.process_time()
    check(shown)
    assert time.process_time() - start < 0.2  # a quarter of that where nothing else runs


@pytest.mark.parametrize(
    ("make", "wrong"),
    [
        (Size, {"minimum": 0}),
        (Blank, {"minimum": 1.0}),
        (FieldOfViewFraction, {"field": SKIN, "minimum": 0.5, "maximum": 0.4}),
        (Blur, {"minimum": 0.0}),
        (Exposure, {"bright": 0.0, "black": 0.5, "minimum": 0.3}),
        (Colour, {"minimum": 0.5, "maximum": 0.4}),
        (ColourOrder, {"minimum": -1.0}),
        (Hair, {"maximum": 1.5}),
    ],
)
def test_checks_invalid_limits_raise(make: Callable[..., Check], wrong: dict[str, object]) -> None:
    with pytest.raises(ValueError, match=r"minimum|maximum"):
        make(**wrong)
