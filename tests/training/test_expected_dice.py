"""Expected Dice of held-out cases: calibrations, columns and the ranking."""

from typing import Any

import numpy as np
import pytest

from medseg.segmentation.uncertainty import Confidence, DiceCalibration
from medseg.training.expected_dice import ExpectedDice, ranking_line


def filled() -> tuple[ExpectedDice, list[dict[str, Any]]]:
    """30 cases whose Dice is the square of the raw value, and 12 empty masks, of which the 6 least sure ones missed a
    lesion.
    """
    expected, rows = ExpectedDice(), []
    for number in range(30):
        raw = (number + 1) / 31
        score = {"case": f"c{number}", "label": "lesion", "status": "ok", "dice": raw**2}
        rows.append(score)
        expected.add({"patient": f"p{number}"}, {"lesion": Confidence(raw, 0.1, empty=False)}, [score])
    for number in range(12):
        missed = number < 6
        score = {"case": f"e{number}", "label": "lesion", "status": "missed" if missed else "empty_both"}
        score["dice"] = 0.0 if missed else None
        rows.append(score)
        confidence = Confidence(0.3 + number / 20, 0.1, empty=True)
        expected.add({"patient": f"q{number}"}, {"lesion": confidence}, [score])
    return expected, rows


def test_calibrations_judge_empty_masks_apart() -> None:
    calibration = DiceCalibration.from_state(filled()[0].calibrations()["lesion"])
    assert (calibration.mask.n, calibration.empty.n) == (30, 12)
    assert float(calibration.mask(0.5)) == pytest.approx(0.25, abs=0.03)
    assert float(calibration.empty(0.3)) == 0  # such empty masks missed a lesion
    assert float(calibration.empty(0.85)) == 1


def test_summary_leaves_images_without_the_label_out() -> None:
    summary = filled()[0].summary()["lesion"]
    assert summary["n"] == 36
    assert 0.5 < summary["spearman"] < 1  # missed lesions are not ranked last
    assert summary["dice_of_kept_80"] > summary["dice_of_all"]
    assert "lesion" in ranking_line({"labels": {"lesion": {"expected_dice": summary}}})
    assert ranking_line({"labels": {"lesion": {}}}) == ""


def test_columns_are_set_in_the_evaluation_rows() -> None:
    expected, rows = filled()
    expected.write_columns()
    values = np.array([row["expected_dice"] for row in rows[:30]])
    assert values == pytest.approx([row["dice"] for row in rows[:30]], abs=0.15)


def test_cases_without_confidence_are_left_out() -> None:
    expected = ExpectedDice()
    expected.add({"patient": "p"}, {}, [{"label": "lesion", "status": "missed", "dice": 0.0}])
    assert (expected.calibrations(), expected.summary()) == ({}, {})
