"""A drawn eye: disc, fovea and lesions at known places, for a right eye and its mirror image, a left one."""

import numpy as np
import pytest
import SimpleITK as sitk

from medseg.features.fundus.landmarks import find_landmarks
from medseg.features.fundus.lesions import frame_features, step_features
from medseg.io.labels import Labels
from tests.features.fundus.eye import DIAMETER, RADIUS, SIZE, eye

LABELS = Labels({"red": 1, "yellow": 2}, exclusive=False)


def lesions(left: bool = False) -> sitk.Image:
    """Red ones: 3 superior temporal, 1 inferior nasal; yellow: one that touches the macula, overlapping a red one."""
    red, yellow = np.zeros((2, SIZE, SIZE), bool)
    for row, column in ((120, 110), (140, 130), (100, 140), (320, 260)):
        red[row : row + 6, column : column + 6] = True
    yellow[215:225, 120:130] = True
    yellow[120:123, 110:113] = True
    red[0:3, 0:3] = True  # outside the field: no lesion
    red[300, 150] = True  # one pixel of a field 400 wide: 0.8 of it is the least, so it counts
    coded = LABELS.join({"red": red, "yellow": yellow})
    return sitk.GetImageFromArray(coded[:, ::-1].copy() if left else coded)


def test_a_picture_without_a_field_has_no_landmarks_but_counts() -> None:
    grey = sitk.GetImageFromArray(np.full((80, 80), 90, np.uint8))
    mask = np.zeros((80, 80), np.uint8)
    mask[10:14, 10:14] = 1
    features = frame_features(grey, sitk.GetImageFromArray(mask), {"red": 1})
    assert features["red.count"] == 1
    assert np.isnan(features["red.nearest_fovea_dd"])
    assert np.isnan(features["red.count_superior_nasal"])


@pytest.mark.parametrize("left", [False, True])
def test_lesions_are_counted_by_quadrant_and_distance_alike_in_both_eyes(left: bool) -> None:
    features = frame_features(eye(left), lesions(left), LABELS)
    assert features["red.count"] == 5
    assert features["red.count_superior_temporal"] == 3
    assert features["red.count_inferior_nasal"] == 1
    assert features["red.count_inferior_temporal"] == 1
    assert features["red.quadrants"] == 3
    assert features["red.fewest_in_quadrant"] == features["red.fewest_large_in_quadrant"] == 0
    field = np.pi * RADIUS**2
    assert features["red.area_percent"] == pytest.approx(100 * (4 * 36 + 1) / field, rel=0.03)
    assert features["red.largest_percent"] == pytest.approx(100 * 36 / field, rel=0.03)
    assert features["yellow.count"] == 2
    assert features["yellow.count_macula"] == 1
    assert features["red.count_macula"] == 0
    assert features["red.count_large"] == 4
    assert features["yellow.nearest_fovea_dd"] == pytest.approx(31 / DIAMETER, abs=0.25)
    assert features["red.nearest_disc_dd"] == pytest.approx(np.hypot(310 - 265, 205 - 320) / DIAMETER, abs=0.3)


def test_large_is_what_is_as_long_as_a_vein_is_wide() -> None:
    """A twelfth of the disc's diameter of 60 is 5 pixels, in any direction."""
    shapes = {
        (100, 100): np.eye(5),
        (100, 150): np.ones((6, 1)),
        (150, 100): np.ones((3, 3)),
        (300, 200): np.ones((2, 4)),
    }
    mask = np.zeros((SIZE, SIZE), np.uint8)
    for (row, column), shape in shapes.items():
        mask[row : row + shape.shape[0], column : column + shape.shape[1]] = shape
    features = frame_features(eye(), sitk.GetImageFromArray(mask), {"red": 1})
    assert features["red.count"] == 4
    assert features["red.count_large"] == 2  # the diagonal of 5 and the line of 6, not 3 × 3 (3.8 long) or 2 × 4 (4.2)


def test_no_lesion_is_zero_and_no_distance() -> None:
    empty = sitk.GetImageFromArray(np.zeros((SIZE, SIZE), np.uint8))
    features = frame_features(eye(), empty, LABELS)
    assert features["red.count"] == 0
    assert features["red.area_percent"] == 0
    assert np.isnan(features["red.nearest_fovea_dd"])


def test_a_row_a_quadrant() -> None:
    table = step_features(eye(), lesions(), LABELS)
    assert table["step"].tolist() == [0, 1, 2, 3]
    assert table["red.count"].tolist() == [0, 3, 1, 1]
    assert (table["red.area_percent"] > 0).tolist() == [False, True, True, True]
    assert table["field.brightness"].between(0.7, 1.3).all()


def test_haemorrhages_are_counted_in_each_quadrant_by_their_size() -> None:
    """Three large spots in each quadrant and one more in two of them; small ones beside do not count."""
    landmarks = find_landmarks(eye())
    assert landmarks is not None
    grid = np.array([(x, y) for x in range(110, 300, 14) for y in range(110, 300, 14)], np.float64)
    _, angle = landmarks.polar(grid)
    mask = np.zeros((SIZE, SIZE), np.uint8)
    for quadrant in range(4):
        mine = grid[(angle > 90 * quadrant + 10) & (angle < 90 * quadrant + 80)].astype(int)
        large = 3 + (quadrant % 2)
        for number, (x, y) in enumerate(mine[: large + 5]):
            width = 6 if number < large else 2
            mask[y : y + width, x : x + width] = 1
    features = frame_features(eye(), sitk.GetImageFromArray(mask), {"red": 1})
    assert features["red.count"] == 14 + 20
    assert features["red.count_large"] == 14
    assert features["red.fewest_in_quadrant"] == 8
    assert features["red.fewest_large_in_quadrant"] == 3
