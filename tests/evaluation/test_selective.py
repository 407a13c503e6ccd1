"""Rank correlation and kept cases of known scores."""

import numpy as np
import pytest

from medseg.evaluation.selective import ranking_quality


def test_ranking_quality_of_perfect_order() -> None:
    true = np.arange(10) / 10
    result = ranking_quality(true**3, true, [f"p{n}" for n in range(10)])
    assert result["spearman"] == pytest.approx(1)
    assert result["n"] == 10
    assert result["ci95"] == [pytest.approx(1), pytest.approx(1)]
    assert result["dice_of_kept_80"] == pytest.approx(np.arange(2, 10).mean() / 10)
    assert result["dice_of_all"] == pytest.approx(0.45)


def test_ranking_quality_has_a_reason_without_a_correlation() -> None:
    one = ranking_quality(np.array([0.5, 0.6, 0.7]), np.ones(3), ["a", "b", "c"])
    assert one["spearman"] is None
    assert "one value" in one["reason"]
    none = ranking_quality(np.zeros(0), np.zeros(0), [])
    assert (none["dice_of_kept_80"], none["n"]) == (None, 0)
