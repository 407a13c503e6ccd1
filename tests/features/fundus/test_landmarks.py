"""Disc and fovea of a drawn eye, and angles and distances from them by hand."""

import numpy as np
import numpy.typing as npt
import pytest
import SimpleITK as sitk

from medseg.features.fundus.landmarks import Landmarks, find_landmarks
from tests.features.fundus.eye import DIAMETER, DISC, FOVEA, SIZE, eye


@pytest.mark.parametrize("left", [False, True])
def test_disc_and_fovea_are_found(left: bool) -> None:
    landmarks = find_landmarks(eye(left))
    assert landmarks is not None
    for place, expected in ((landmarks.disc, DISC), (landmarks.fovea, FOVEA)):
        column = SIZE - 1 - expected[0] if left else expected[0]
        assert np.hypot(place[0] - column, place[1] - expected[1]) < 0.25 * DIAMETER
    assert landmarks.diameter == pytest.approx(DIAMETER, rel=0.05)


@pytest.mark.parametrize("factor", [2, 3])
def test_places_are_in_pixels_of_the_image_whatever_its_size(factor: int) -> None:
    small = find_landmarks(eye())
    array = sitk.GetArrayFromImage(eye())
    large = find_landmarks(
        sitk.GetImageFromArray(np.kron(array, np.ones((factor, factor, 1), np.uint8)), isVector=True)
    )
    assert small is not None
    assert large is not None
    assert large.diameter == pytest.approx(small.diameter * factor, rel=0.02)
    for one, other in ((small.disc, large.disc), (small.fovea, large.fovea)):
        assert other == pytest.approx([(place + 0.5) * factor - 0.5 for place in one], abs=3 * factor)


def test_without_a_field_or_colour_there_are_none() -> None:
    assert find_landmarks(sitk.GetImageFromArray(np.full((80, 80), 90, np.uint8))) is None
    assert find_landmarks(sitk.GetImageFromArray(sitk.GetArrayFromImage(eye())[..., 1])) is None


def test_a_fovea_outside_the_picture_is_placed_where_it_would_be() -> None:
    array = sitk.GetArrayFromImage(eye())
    bright = np.where(array > 0, np.maximum(array, 60), 0).astype(np.uint8)
    landmarks = find_landmarks(sitk.GetImageFromArray(bright, isVector=True))
    assert landmarks is not None
    away = np.hypot(*np.subtract(landmarks.fovea, landmarks.disc)) / landmarks.diameter
    assert 1.7 <= away <= 3.4  # 2.5 disc diameters, give or take where the darkest place near it lies


def test_distances_count_from_the_fovea_in_disc_diameters() -> None:
    landmarks = Landmarks((310.0, 200.0), (160.0, 200.0), DIAMETER)
    points = np.array([[160.0, 200.0], [160 + DIAMETER, 200.0], [160.0, 200 - 2 * DIAMETER], [160 - DIAMETER, 200.0]])
    distance, angle = landmarks.polar(points)
    assert distance == pytest.approx([0, 1, 2, 1])
    assert angle[1:] == pytest.approx([0, 90, 180])  # nasal, superior, temporal


def test_quadrants_turn_with_a_tilted_head() -> None:
    """The axis runs from fovea to disc, so that a photograph tilted by 20 degrees keeps its quadrants."""
    tilt = np.radians(20)
    turn = np.array([[np.cos(tilt), -np.sin(tilt)], [np.sin(tilt), np.cos(tilt)]])
    points = np.array([[200.0, 120.0], [60.0, 300.0], [90.0, 90.0]])
    level = Landmarks((310.0, 200.0), (160.0, 200.0), DIAMETER)
    tilted = Landmarks(tuple(turn @ (310, 200)), tuple(turn @ (160, 200)), DIAMETER)
    for one, other in zip(level.polar(points), tilted.polar(points @ turn.T), strict=True):
        assert one == pytest.approx(other)


def test_angles_are_the_same_for_both_eyes() -> None:
    points: npt.NDArray[np.float64] = np.array([[300.0, 100.0], [20.0, 300.0]])
    right = Landmarks((300.0, 200.0), (150.0, 200.0), 60.0)
    left = Landmarks((100.0, 200.0), (250.0, 200.0), 60.0)
    mirrored = points * [-1, 1] + [400, 0]
    for one, other in zip(right.polar(points), left.polar(mirrored), strict=True):
        assert one == pytest.approx(other)
    assert right.polar(np.array([[150.0, 140.0]]))[1] == pytest.approx(90)
    assert right.polar(np.array([[150.0, 140.0]]))[0] == pytest.approx(1)
