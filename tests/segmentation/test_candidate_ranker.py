"""Look-alikes that differ in their place alone: the ranker must find the right one, and say that the place told it."""

import json

import numpy as np
import pytest

from medseg.errors import DataError
from medseg.segmentation.candidate_ranker import Ranker
from medseg.segmentation.candidates import Candidate, CandidateFinder

SIZE, RADIUS = 96, 6


def look_alikes(rng: np.random.Generator, others: int) -> tuple[list[Candidate], list[int]]:
    """Candidates of a picture with equal discs: the structure at middle depth near the middle, the others elsewhere."""
    positions: list[tuple[float, float]] = []
    while len(positions) < others + 1:
        if not positions:
            position = (rng.uniform(0.4, 0.6), rng.uniform(0.35, 0.65))
        else:
            position = (rng.choice([rng.uniform(0.1, 0.28), rng.uniform(0.72, 0.9)]), rng.uniform(0.1, 0.9))
        if all(np.hypot(*np.subtract(position, known)) * SIZE > 3 * RADIUS for known in positions):
            positions.append(position)
    y, x = np.mgrid[:SIZE, :SIZE] / SIZE
    distance = np.min([np.hypot(y - row, x - column) for row, column in positions], axis=0) * SIZE
    probability = (0.8 * (distance <= RADIUS))[None].astype(np.float32)
    picture = (0.6 - 0.4 * (distance <= RADIUS) + rng.normal(0, 0.05, (SIZE, SIZE)))[None].astype(np.float32)
    regions = CandidateFinder().find(probability, picture)
    row, column = (int(fraction * SIZE) for fraction in positions[0])
    return regions.candidates, [int(c.number == regions.numbers[0, row, column]) for c in regions.candidates]


def cohort(seed: int, pictures: int) -> list[tuple[list[Candidate], list[int]]]:
    rng = np.random.default_rng(seed)
    return [look_alikes(rng, int(rng.integers(3, 7))) for _ in range(pictures)]


def learnt(leave_out: tuple[str, ...] = ()) -> Ranker:
    seen = cohort(1, 40)
    candidates = [c for found, _ in seen for c in found]
    hits = [hit for _, right in seen for hit in right]
    patients = [str(n) for n, (found, _) in enumerate(seen) for _ in found]
    return Ranker.fit(candidates, hits, patients, leave_out)


def top1(ranker: Ranker) -> float:
    right = [hits[int(np.argmax([c.score for c in ranker.score(candidates)]))] for candidates, hits in cohort(2, 60)]
    return float(np.mean(right))


def test_the_place_alone_tells_the_structure_from_its_look_alikes() -> None:
    assert top1(learnt()) >= 0.95


def test_without_the_place_it_is_a_guess() -> None:
    position_features = ("depth", "lateral", "surface", "border", "nearest", "below")
    assert top1(learnt(position_features)) < 0.5


def test_the_reasons_add_up_and_name_the_place() -> None:
    ranker = learnt()
    candidates, hits = cohort(3, 1)[0]
    scored = ranker.score(candidates)
    for candidate in scored:
        odds = np.log(candidate.score / (1 - candidate.score))
        assert sum(candidate.reasons.values()) + ranker.constant == pytest.approx(odds, abs=1e-6)
    best = scored[hits.index(1)]
    strongest = sorted(best.reasons, key=lambda name: -best.reasons[name])[:3]
    assert {"depth", "surface"} & set(strongest)


def test_kept_as_json_it_is_the_same() -> None:
    ranker = learnt()
    again = Ranker.from_state(json.loads(json.dumps(ranker.state())))
    candidates, _ = cohort(4, 1)[0]
    assert [c.score for c in again.score(candidates)] == [c.score for c in ranker.score(candidates)]
    assert again.score([]) == []


def test_candidates_of_one_kind_teach_nothing() -> None:
    candidates, _ = cohort(5, 1)[0]
    with pytest.raises(DataError, match="that are the structure and others"):
        Ranker.fit(candidates, [0] * len(candidates), ["a"] * len(candidates))


def test_a_single_patient_is_enough_to_learn_from() -> None:
    candidates, hits = cohort(6, 1)[0]
    scores = [c.score for c in Ranker.fit(candidates, hits, ["a"] * len(candidates)).score(candidates)]
    assert int(np.argmax(scores)) == hits.index(1)


def test_folds_that_choose_the_penalty_keep_a_patient_together(monkeypatch: pytest.MonkeyPatch) -> None:
    from medseg.segmentation import candidate_ranker

    split = candidate_ranker.stratified_group_folds
    used_folds: list[tuple[np.ndarray, np.ndarray]] = []
    patients = [f"p{number // 8}" for number in range(48)]

    def noted(truth: np.ndarray, groups: list[str], folds: int) -> list[tuple[np.ndarray, np.ndarray]]:
        assert list(groups) == patients
        found = split(truth, groups, folds)
        used_folds.extend(found)
        return found

    monkeypatch.setattr(candidate_ranker, "stratified_group_folds", noted)
    pairs = cohort(3, 12)
    candidates = [candidate for one, _ in pairs for candidate in one][:48]
    hits = [hit for _, one in pairs for hit in one][:48]
    Ranker.fit(candidates, hits, patients)
    assert used_folds
    for train, held in used_folds:
        assert not {patients[n] for n in train} & {patients[n] for n in held}
