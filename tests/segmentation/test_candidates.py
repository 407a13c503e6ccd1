"""Discs of known place, size and brightness: every one is a candidate, its measures are what they must be."""

import numpy as np
import pytest

from medseg.segmentation.candidates import Candidate, CandidateFinder, Regions, only_kept
from medseg.typing import Float32Array


def scene(discs: list[tuple[float, float, float, float]], size: int = 100) -> tuple[Float32Array, Float32Array]:
    """Probability and picture (1, Y, X) with discs (y, x, radius, peak), dark on grey, above which lies a black rim."""
    y, x = np.mgrid[:size, :size]
    probability, picture = np.zeros((size, size)), np.full((size, size), 0.6)
    for row, column, radius, peak in discs:
        inside = np.hypot(y - row, x - column) <= radius
        probability[inside], picture[inside] = peak, 0.2
    picture[:10] = 0
    return probability[None].astype(np.float32), picture[None].astype(np.float32)


def test_every_region_of_a_low_threshold_is_a_candidate() -> None:
    regions = CandidateFinder(threshold=0.2).find(*scene([(30, 30, 6, 0.9), (60, 70, 6, 0.25), (80, 20, 6, 0.1)]))
    assert len(regions.candidates) == 2
    assert regions.numbers[0, 30, 30] == 1  # the most probable first
    assert regions.numbers[0, 60, 70] == 2
    assert regions.numbers[0, 80, 20] == 0


def test_noise_is_no_candidate_and_there_is_a_limit() -> None:
    discs = [(20, 20 * n + 10, 0.5 if n == 1 else 4, 0.3 + 0.1 * n) for n in range(5)]
    assert len(CandidateFinder(min_fraction=0.001).find(*scene(discs)).candidates) == 4
    few = CandidateFinder(max_candidates=2).find(*scene(discs))
    assert [round(c.features["peak"], 1) for c in few.candidates] == [0.7, 0.6]


def test_measures_of_place_size_and_form() -> None:
    one, other = CandidateFinder().find(*scene([(50, 49.5, 8, 0.9), (80, 90, 4, 0.5)])).candidates
    assert one.features["depth"] == pytest.approx(0.505, abs=0.01)
    assert one.features["lateral"] == pytest.approx(0, abs=0.01)
    assert other.features["lateral"] == pytest.approx(0.81, abs=0.01)
    assert one.features["surface"] == pytest.approx(0.32, abs=0.015)  # 42 − 10 rows of 100
    assert other.features["border"] == pytest.approx(0.05, abs=0.015)
    assert np.exp(one.features["area"]) * 10_000 == pytest.approx(np.pi * 64, rel=0.05)
    assert one.features["lengthening"] == pytest.approx(0, abs=0.05)
    assert one.features["irregularity"] == pytest.approx(0, abs=0.03)
    assert one.features["wider"] == pytest.approx(0, abs=0.07)
    assert one.features["contrast"] < -1  # dark
    assert one.features["larger"] == pytest.approx(-other.features["larger"])
    assert one.features["surer"] == pytest.approx(np.log(0.9 / 0.5), abs=1e-4)
    assert one.features["nearest"] == pytest.approx(np.log(np.hypot(30, 40.5) / (np.sqrt(np.pi) * 8)), abs=0.05)


def test_an_ellipse_lying_flat_is_long_wide_and_regular_and_a_star_is_not() -> None:
    y, x = np.mgrid[:100, :100] - 50.0
    picture = np.full((1, 100, 100), 0.5, np.float32)
    ellipse = ((y / 6) ** 2 + (x / 24) ** 2 <= 1)[None].astype(np.float32)
    lying = CandidateFinder().find(ellipse, picture).candidates[0].features
    assert lying["lengthening"] == pytest.approx(np.log(4), abs=0.05)
    assert lying["wider"] == pytest.approx(np.log(4), abs=0.1)
    assert lying["irregularity"] < 0.05
    star = (np.hypot(y, x) <= 14 + 10 * np.cos(7 * np.arctan2(y, x)))[None].astype(np.float32)
    assert CandidateFinder().find(star, picture).candidates[0].features["irregularity"] > 0.2


def test_what_lies_below_is_told_from_what_lies_beside() -> None:
    probability, picture = scene([(40, 50, 8, 0.9)])
    shadow = picture.copy()
    shadow[0, 49:80, 42:59] = 0.1
    assert CandidateFinder().find(probability, picture).candidates[0].features["below"] == pytest.approx(0, abs=1e-5)
    assert CandidateFinder().find(probability, shadow).candidates[0].features["below"] < -1


def test_volumes_are_measured_in_three_dimensions() -> None:
    z, y, x = np.mgrid[:20, :40, :40]
    ball = ((z - 10) ** 2 + (y - 20) ** 2 + (x - 20) ** 2 <= 36).astype(np.float32)
    measures = CandidateFinder().find(ball, 1 - ball).candidates[0].features
    assert measures["irregularity"] == pytest.approx(0, abs=0.05)
    assert measures["lengthening"] == pytest.approx(0, abs=0.02)
    assert measures["depth"] == pytest.approx(0.51, abs=0.01)


def test_nothing_in_nothing_out() -> None:
    probability, picture = scene([])
    regions = CandidateFinder().find(probability, picture)
    assert regions.candidates == []
    assert not only_kept(probability, regions).any()


@pytest.mark.parametrize(
    ("keep", "kept"), [("best", [1]), ("all", [1, 2, 3]), ("threshold", [1, 2])], ids=["best", "all", "threshold"]
)
def test_what_is_kept(keep: str, kept: list[int]) -> None:
    candidates = [Candidate(n, {"peak": 0.9}, score) for n, score in ((1, 0.8), (2, 0.5), (3, 0.1))]
    chosen = CandidateFinder(keep=keep, min_score=0.3).choose(candidates)
    assert [c.number for c in chosen if c.kept] == kept


def test_the_best_is_not_kept_where_it_is_unlikely() -> None:
    assert not CandidateFinder(min_score=0.3).choose([Candidate(1, {"peak": 0.9}, 0.2)])[0].kept


def test_only_the_kept_is_left_and_a_faint_one_is_raised() -> None:
    numbers = np.array([[[0, 1, 1, 2, 2, 0]]], np.int32)
    probability = np.array([[[0.1, 0.9, 0.6, 0.4, 0.15, 0.1]]], np.float32)
    first, second = Candidate(1, {"peak": 0.9}), Candidate(2, {"peak": 0.4}, kept=True)
    left = only_kept(probability, Regions(numbers, [first, second]))
    assert left[0, 0].tolist() == pytest.approx([0, 0, 0, 1, 0.375, 0])  # above half its peak is above one half


@pytest.mark.parametrize("settings", [{"keep": "some"}, {"threshold": 0.0}])
def test_settings_that_mean_nothing_are_refused(settings: dict[str, float]) -> None:
    with pytest.raises(ValueError, match="candidates"):
        CandidateFinder(**settings)  # type: ignore[arg-type]
