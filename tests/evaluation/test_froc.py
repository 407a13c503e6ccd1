"""Free-response ROC on candidates that can be counted by hand."""

import math

import pytest

from medseg.evaluation.froc import DetectionResult, froc, ranking


def image(patient: str, hits: list[int], scores: list[float], structures: int = 1) -> DetectionResult:
    return DetectionResult(patient, structures, scores, [-s for s in scores], hits)


def test_sensitivity_at_false_candidates_an_image_is_as_counted_by_hand() -> None:
    images = [
        image("a", [1, 0], [0.9, 0.8]),
        image("b", [0, 1], [0.7, 0.6]),
        image("c", [0], [0.5]),  # missed
        image("d", [0, 0], [0.85, 0.1], structures=0),
    ]
    found = froc(images)  # 3 structures, 4 images
    assert found["0.125"] == pytest.approx(1 / 3)  # no false one may come in: only .9
    assert found["0.25"] == pytest.approx(1 / 3)  # one may: .85
    assert found["0.5"] == pytest.approx(1 / 3)  # .85 and .8
    assert found["1"] == pytest.approx(2 / 3)  # down to the .5: .6 comes in
    assert found["8"] == pytest.approx(2 / 3)


def test_a_structure_counts_once_and_a_tie_with_a_false_one_does_not_count() -> None:
    twice = froc([image("a", [1, 1], [0.9, 0.8], structures=2)])
    assert set(twice.values()) == {0.5}
    assert froc([image("a", [0, 1], [0.9, 0.9])])["0.125"] == 0


def test_nothing_to_find_is_no_number() -> None:
    assert all(math.isnan(value) for value in froc([image("a", [0], [0.5], structures=0)]).values())
    summary = ranking([image("a", [0], [0.5], structures=0)])
    assert summary["top1"]["mean"] is None
    assert summary["froc"]["1"]["mean"] is None


def test_first_by_score_stands_beside_first_by_size() -> None:
    images = [image("a", [1, 0], [0.9, 0.8]), image("b", [0, 1], [0.7, 0.6]), image("c", [], [])]
    summary = ranking(images)
    assert summary["top1"]["mean"] == pytest.approx(1 / 3)
    assert summary["top1_largest"]["mean"] == pytest.approx(1 / 3)  # sizes stand the other way round
    assert summary["among_candidates"]["mean"] == pytest.approx(2 / 3)
    assert summary["candidates_per_image"] == pytest.approx(4 / 3)
