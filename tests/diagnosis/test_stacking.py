"""A good diagnoser beside one that guesses: together they must not be worse than the good one."""

import json

import numpy as np
import pytest

from medseg.diagnosis.stacking import Stacking


def said(count: int, seed: int) -> tuple[dict[str, np.ndarray], np.ndarray]:
    """ "good" is right 4 times of 5, "guess" is noise, both as probabilities (N, 2)."""
    rng = np.random.default_rng(seed)
    truth = rng.integers(0, 2, count)
    right = np.where(rng.random(count) < 0.8, truth, 1 - truth)
    good = np.where(right[:, None] == [0, 1], 0.7, 0.3)
    guess = rng.dirichlet([1, 1], count)
    return {"good": good, "guess": guess}, truth


def test_the_good_one_is_followed_and_its_sureness_corrected() -> None:
    stack = Stacking.fit(*said(2000, 0), c=1.0)
    probabilities, truth = said(2000, 1)
    prediction = stack.predict(probabilities)
    agrees = (prediction.argmax(axis=1) == probabilities["good"].argmax(axis=1)).mean()
    assert agrees > 0.97
    assert prediction.max(axis=1).mean() == pytest.approx(0.8, abs=0.03)  # it said .7 and was right .8 of the time
    assert (prediction.argmax(axis=1) == truth).mean() == pytest.approx(0.8, abs=0.03)


def test_kept_as_json_it_is_the_same_and_the_order_of_members_does_not_matter() -> None:
    probabilities, truth = said(200, 2)
    stack = Stacking.from_state(json.loads(json.dumps(Stacking.fit(probabilities, truth).state())))
    turned = dict(reversed(probabilities.items()))
    assert (stack.predict(turned) == stack.predict(probabilities)).all()
