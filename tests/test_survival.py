"""A training that is killed anywhere, and goes on: the same weights, history and scores as if it had not been."""

import signal
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
import torch

from medseg.ledger import sha256
from tests.conftest import TINY, TINY_UNET
from tests.killing import Killing
from tests.test_train_classifier import QUICK, write_table

RESULTS = ("model.safetensors", "history.csv", "metrics.json", "split.csv")
KILL, TERM, INT = signal.SIGKILL, signal.SIGTERM, signal.SIGINT


@pytest.fixture(scope="module")
def killing(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Killing]:
    with Killing(tmp_path_factory.mktemp("killing") / "log") as made:
        yield made


@pytest.fixture
def words(cohort: Path, tmp_path: Path) -> list[str]:
    """Epochs of 7 steps of 60, validated often, with dropout, augmentation and averaged weights."""
    places = [f"data.root={cohort}", f"data.cache={tmp_path / 'cache'}"]
    more = ["segmenter.passes=12000", "trainer.checkpoint_every=7", "segmenter.network.dropout=0.1", "trainer.validate=3"]
    return ["train", *TINY, *TINY_UNET, *places, *more]


def outcome(run: Path) -> dict[str, str]:
    return {name: sha256(run / name) for name in RESULTS}


def whole(killing: Killing, words: list[str], run: Path) -> float:
    """The uninterrupted run, and the seconds it takes."""
    started = time.monotonic()
    assert killing.run([*words, f"run_dir={run}"]) == 0, killing.said()
    return time.monotonic() - started


def go_on(killing: Killing, words: list[str], run: Path, number: signal.Signals, when: Callable[[], bool] | float) -> int:
    """Start the run, or resume it where it has begun, and send it the signal."""
    again = ["train", f"resume={run}"] if (run / "config.yaml").is_file() else [*words, f"run_dir={run}"]
    status = killing.run(again, number, when)
    if (run / "checkpoints" / "last.ckpt").is_file():
        torch.load(run / "checkpoints" / "last.ckpt", weights_only=True)  # whole, whatever happened
    return status


def rows(run: Path) -> int:
    return (run / "history.csv").read_text().count("\n") if (run / "history.csv").is_file() else 0


@pytest.mark.parametrize("kills", [3, pytest.param(25, marks=pytest.mark.torture)])
def test_a_segmenter_that_is_killed_at_random_moments_ends_as_if_it_had_not_been(
    killing: Killing, words: list[str], tmp_path: Path, kills: int
) -> None:
    seconds = whole(killing, words, tmp_path / "whole")
    random = np.random.default_rng(kills)
    run, hits = tmp_path / "cut", 0
    for kill in range(kills):
        number = (KILL, TERM, INT)[kill % 3]
        status = go_on(killing, words, run, number, float(random.uniform(0.1, 0.9)) * seconds)
        hits += status != 0
        assert status in (0, -number, 130), killing.said()
        if status == 130:
            assert f"resume={run}" in killing.said()
    assert killing.run(["train", f"resume={run}"]) == 0, killing.said()
    assert outcome(run) == outcome(tmp_path / "whole")
    assert hits
