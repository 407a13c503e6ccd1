"""Rulers drawn on skin: a line with evenly spaced teeth; lines without, and uneven teeth, are none."""

import cv2
import numpy as np
import pytest

from medseg.preprocess.ruler_detection import ANGLES, detect_rulers

SIDE = 400


def drawn(teeth, angle=0.0):
    """Grey picture (Y, X), its dark lines and their direction; `teeth`: places along a line of 300 pixels."""
    picture = np.full((SIDE, SIDE), 200, np.uint8)
    way = np.array([np.cos(angle), np.sin(angle)])
    across = np.array([-way[1], way[0]])
    start = np.array([SIDE / 2, SIDE / 2]) - 150 * way
    lines, directions = np.zeros((SIDE, SIDE), np.uint8), np.zeros((SIDE, SIDE), np.uint8)
    strokes = [(start, start + 300 * way, angle)]
    strokes += [(start + at * way, start + at * way + 10 * across, angle + np.pi / 2) for at in teeth]
    for one, other, turn in strokes:
        ends = [tuple(map(int, np.rint(place))) for place in (one, other)]
        cv2.line(picture, *ends, 60, 2)
        cv2.line(lines, *ends, 1, 2)
        cv2.line(directions, *ends, round(turn / np.pi * ANGLES) % ANGLES, 2)
    return lines > 0, directions, picture


@pytest.mark.parametrize("angle", [0.0, np.pi / 12, np.pi / 2, 2.0])
def test_a_ruler_is_found_with_its_teeth(angle):
    lines, directions, picture = drawn(np.arange(6, 300, 10), angle)
    found = detect_rulers(lines, directions, picture)
    assert found[lines].mean() > 0.55
    near = cv2.dilate(lines.astype(np.uint8), np.ones((25, 25))) > 0
    assert not found[~near].any()


def test_a_bare_line_is_hair():
    lines, directions, picture = drawn([])
    assert not detect_rulers(lines, directions, picture).any()


def test_hairs_that_cross_a_line_at_uneven_places_are_no_ruler():
    places = np.sort(np.random.default_rng(3).uniform(0, 300, 9))
    lines, directions, picture = drawn(places)
    assert not detect_rulers(lines, directions, picture).any()


def test_nothing_on_plain_skin():
    nothing = np.zeros((SIDE, SIDE), bool)
    assert not detect_rulers(nothing, nothing.astype(np.uint8), np.full((SIDE, SIDE), 180, np.uint8)).any()
