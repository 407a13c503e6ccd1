"""Checks of volumes on a body of cylinders: air, soft tissue, lungs, bone and noise, in HU."""

import time

import numpy as np
import numpy.typing as npt
import pytest
import SimpleITK as sitk
from scipy import ndimage

from medseg.preprocess.field_of_view import Body, Head
from medseg.quality.image_checks import Blank, Blur, FieldOfViewFraction
from medseg.quality.volume_checks import Hounsfield, NotHounsfield
from medseg.typing import Float32Array

CT = Hounsfield(air=-700, air_share=0.01, soft=(-150, 150), soft_share=0.05, limits=(-3100, 2500))
MRI = NotHounsfield(-500, 0.005)


def chest(side: int = 96) -> Float32Array:
    """HU (Z, Y, X)."""
    y, x = np.indices((side, side)) / side - 0.5
    hu = np.where(np.hypot(x / 0.45, y / 0.35) < 1, 30.0, -1000.0)
    hu[np.hypot((np.abs(x) - 0.2) / 0.14, y / 0.22) < 1] = -820
    hu[np.hypot(x, y - 0.25) < 0.04] = 700
    volume = np.repeat(hu[None], 12, 0) + np.random.default_rng(0).normal(0, 15, (12, side, side))
    return np.asarray(volume.clip(-1024, 3071), np.float32)


def head(side: int = 96) -> Float32Array:
    """A T1-like head without unit (Z, Y, X)."""
    y, x = np.indices((side, side)) / side - 0.5
    far = np.hypot(x / 0.36, y / 0.44)
    mri = 900.0 * (far < 1) - 650 * ((far > 0.8) & (far < 0.88)) + 250 * (far < 0.5)
    return np.asarray(np.abs(np.repeat(mri[None], 12, 0) + np.random.default_rng(1).normal(0, 20, (12, side, side))))


def image(array: npt.NDArray[np.generic]) -> sitk.Image:
    made = sitk.GetImageFromArray(array)
    made.SetSpacing([4.0, 4.0, 8.0][: array.ndim])
    return made


def test_checks_pass_a_good_ct_and_mri() -> None:
    for hu in (chest(), np.rint(chest()).astype(np.int16), chest()[6], chest(40)):
        assert CT(image(hu)) is None
        assert Blank()(image(hu)) is None
    assert Blur(0.22)(image(chest())) is None
    assert FieldOfViewFraction(Body(), 0.03)(image(chest())) is None
    for mri in (head(), head() / 2000, (head() - 300) / 300, (head() - 300) / 50):
        assert MRI(image(mri)) is None
        assert FieldOfViewFraction(Head(), 0.02)(image(mri)) is None
    assert Blur(0.22)(image(head())) is None


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda hu: hu + 1000, "look like HU + 1000"),
        (lambda hu: (hu + 1024).clip(0).astype(np.uint16), "look like HU + 1000"),
        (lambda hu: np.rint(hu).astype(np.int16).astype(np.uint16), "unsigned integers"),
        (lambda hu: hu * 4, "in HU, -3100 to 2500 are usual"),
        (lambda hu: hu / 4, "0.0% of its voxels are air below -700 HU; usual: 1% or more"),
        (lambda hu: ((hu + 1000) / 1400).clip(0, 1), "its values are 0 to 0"),
        (lambda hu: np.full_like(hu, -1000), "hardly any soft tissue: 0.0%"),
        (lambda hu: np.where(hu < -500, hu, 600), "hardly any soft tissue"),
    ],
)
def test_hounsfield_flags_other_units(change: object, words: str) -> None:
    assert words in str(CT(image(change(chest()))))  # type: ignore[operator]


def test_hounsfield_flags_an_offset_despite_filled_corners() -> None:
    hu = chest()
    y, x = np.indices(hu.shape[1:]) / 96 - 0.5
    hu[:, np.hypot(x, y) > 0.5] = -2000
    assert CT(image(hu)) is None
    assert "HU + 1000" in str(CT(image(hu + 1000)))


@pytest.mark.parametrize("scale", [1.0, 1 / 2000, 0.3, 4.0])
def test_hounsfield_flags_mri(scale: float) -> None:
    assert CT(image(head() * scale)) is not None


def test_not_hounsfield_flags_ct() -> None:
    assert "looks like CT, not MRI" in str(MRI(image(chest())))


@pytest.mark.parametrize("volume", [chest(128), head(128)])
def test_blur_flags_a_blurred_volume(volume: Float32Array) -> None:
    sigma = 0.03 * 128
    assert "blurred" in str(Blur(0.22)(image(ndimage.gaussian_filter(volume, (sigma / 2, sigma, sigma)))))


def test_blur_of_a_volume_is_checked_in_plane() -> None:
    """A slab that was scanned along y: its slices lie across that axis."""
    slab = np.moveaxis(chest(), 0, 1)
    made = sitk.GetImageFromArray(np.ascontiguousarray(slab))
    made.SetSpacing((4.0, 8.0, 4.0))
    assert Blur(0.22)(made) is None


@pytest.mark.parametrize("level", [0.0, -1000.0, -3.6])
def test_blank_flags_a_constant_volume(level: float) -> None:
    blank = image(np.full((6, 40, 40), level, np.float32))
    assert "blank" in str(Blank()(blank))
    assert Blur(0.22)(blank) is None


def test_checks_of_a_sequence_use_its_middle_frame() -> None:
    frames = [image(chest(48)) for _ in range(3)]
    sequence = sitk.JoinSeries(frames)
    shifted = sitk.JoinSeries([frames[0], frames[1] + 1000, frames[2]])
    for check in (CT, Blank(), Blur(0.22), FieldOfViewFraction(Body(), 0.03)):
        assert check(sequence) is None
    assert "HU + 1000" in str(CT(shifted))


def test_field_of_view_fraction_reports_errors_of_the_field() -> None:
    colour = sitk.GetImageFromArray(np.zeros((40, 40, 3), np.uint8), isVector=True)
    assert "body cannot be detected" in str(FieldOfViewFraction(Body(), 0.03, what="body")(colour))
    assert CT(colour) is not None


def test_checks_of_a_volume_take_less_than_a_second() -> None:
    volume = image(np.tile(chest(512), (10, 1, 1)))
    for check in (CT, MRI, Blank(), Blur(0.22), FieldOfViewFraction(Body(), 0.03)):
        start = time.process_time()
        check(volume)
        assert time.process_time() - start < 1


def test_checks_invalid_limits_raise() -> None:
    with pytest.raises(ValueError, match="must rise"):
        Hounsfield(0, 0.01, (-150, 150), 0.05, (-3100, 2500))
    with pytest.raises(ValueError, match="below 0"):
        NotHounsfield(10, 0.1)
