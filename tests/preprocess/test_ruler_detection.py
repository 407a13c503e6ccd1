"""Rulers drawn on skin: a line with evenly spaced teeth; lines without teeth, or with uneven teeth, are not rulers."""

import cv2
import numpy as np
import pytest

from medseg.preprocess.ruler_detection import ANGLES, detect_rulers

SIDE = 400


def drawn(teeth, angle=0.0):
    """Grey image (Y, X), its dark lines and their direction; `teeth`: positions along a line of 300 pixels."""
    image = np.full((SIDE, SIDE), 200, np.uint8)
    direction = np.array([np.cos(angle), np.sin(angle)])
    across = np.array([-direction[1], direction[0]])
    start = np.array([SIDE / 2, SIDE / 2]) - 150 * direction
    lines, directions = np.zeros((SIDE, SIDE), np.uint8), np.zeros((SIDE, SIDE), np.uint8)
    strokes = [(start, start + 300 * direction, angle)]
    strokes += [(start + at * direction, start + at * direction + 10 * across, angle + np.pi / 2) for at in teeth]
    for start, end, turn in strokes:
        ends = [tuple(map(int, np.rint(point))) for point in (start, end)]
        cv2.line(image, *ends, 60, 2)
        cv2.line(lines, *ends, 1, 2)
        cv2.line(directions, *ends, round(turn / np.pi * ANGLES) % ANGLES, 2)
    return lines > 0, directions, image


@pytest.mark.parametrize("angle", [0.0, np.pi / 12, np.pi / 2, 2.0])
def test_detect_rulers_finds_ruler_and_teeth(angle):
    lines, directions, image = drawn(np.arange(6, 300, 10), angle)
    rulers = detect_rulers(lines, directions, image)
    assert rulers[lines].mean() > 0.55
    near = cv2.dilate(lines.astype(np.uint8), np.ones((25, 25))) > 0
    assert not rulers[~near].any()


def test_detect_rulers_ignores_a_bare_line():
    lines, directions, image = drawn([])
    assert not detect_rulers(lines, directions, image).any()


def test_detect_rulers_ignores_hairs_at_uneven_distances():
    positions = np.sort(np.random.default_rng(3).uniform(0, 300, 9))
    lines, directions, image = drawn(positions)
    assert not detect_rulers(lines, directions, image).any()


def test_detect_rulers_plain_skin_has_none():
    nothing = np.zeros((SIDE, SIDE), bool)
    assert not detect_rulers(nothing, nothing.astype(np.uint8), np.full((SIDE, SIDE), 180, np.uint8)).any()
