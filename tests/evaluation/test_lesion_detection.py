import numpy as np
import pytest

from medseg.evaluation.lesion_detection import LesionDetection


def squares(*corners: tuple[int, int]) -> np.ndarray:
    mask = np.zeros((1, 40, 40), bool)
    for y, x in corners:
        mask[0, y : y + 4, x : x + 4] = True
    return mask


def test_lesions_are_found_or_missed_one_by_one_and_others_are_false() -> None:
    pieces = LesionDetection()
    pieces.add("spot", "a", squares((1, 1), (20, 20), (30, 1)), squares((3, 3), (21, 22), (10, 30), (1, 20)))
    pieces.add("spot", "b", squares((5, 5)), squares())
    found = pieces.summary()["spot"]
    assert (found["true"], found["found"], found["false"]) == (4, 2, 2)
    assert found["sensitivity"]["mean"] == pytest.approx(0.5)  # the image without any does not count
    assert found["sensitivity"]["n"] == 1
    assert found["false_positives_per_image"]["mean"] == pytest.approx(1.0)
    assert found["false_positives_per_image"]["ci95"] is not None


def test_one_region_over_two_lesions_finds_both_and_corners_connect() -> None:
    pieces = LesionDetection()
    pieces.add("spot", "a", np.ones((1, 40, 40), bool), squares((1, 1), (20, 20)))
    pieces.add("spot", "b", squares(), squares((1, 1), (5, 5)))
    found = pieces.summary()["spot"]
    assert (found["true"], found["found"], found["false"]) == (3, 2, 0)


def test_nothing_to_find_is_no_sensitivity() -> None:
    pieces = LesionDetection()
    pieces.add("spot", "a", squares(), squares())
    found = pieces.summary()["spot"]
    assert found["sensitivity"]["mean"] is None
    assert found["false_positives_per_image"]["mean"] == 0
