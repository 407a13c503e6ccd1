"""A training that is killed anywhere, and goes on: the same weights, history and scores as if it had not been."""

import os
import signal
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
import torch

from medseg.runs.run import Run
from medseg.training.checkpointing import read_progress
from medseg.utils.files import hash_path
from medseg.utils.locks import lock_output
from tests.conftest import TINY, TINY_UNET
from tests.killing import Killing
from tests.training.test_stacked_classifier import QUICK, write_table
from tests.training.test_train import read_csv

RESULTS = ("model.safetensors", "history.csv", "metrics.json", "split.csv")
KILL, TERM, INT = getattr(signal, "SIGKILL", signal.SIGTERM), signal.SIGTERM, signal.SIGINT


@pytest.fixture(scope="module")
def killing(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Killing]:
    if not hasattr(os, "fork"):
        pytest.skip("its processes are forks, which Windows has not")
    with Killing(tmp_path_factory.mktemp("killing") / "log") as made:
        yield made


@pytest.fixture
def words(cohort: Path, tmp_path: Path) -> list[str]:
    """Epochs of 6 steps of 30, validated often, with dropout, augmentation and averaged weights."""
    places = [f"data.root={cohort}", f"data.cache={tmp_path / 'cache'}"]
    more = [
        "segmenter.max_samples=6000",
        "trainer.checkpoint_every_n_steps=7",
        "segmenter.network.dropout=0.1",
        "trainer.n_validations=3",
    ]
    return ["train", *TINY, *TINY_UNET, *places, *more]


def outcome(run: Path) -> dict[str, str]:
    return {name: hash_path(run / name) for name in RESULTS}


def whole(killing: Killing, words: list[str], run: Path) -> float:
    """The uninterrupted run, and the seconds it takes."""
    started = time.monotonic()
    assert killing.run([*words, f"run_dir={run}"]) == 0, killing.said()
    return time.monotonic() - started


def go_on(
    killing: Killing,
    words: list[str],
    run: Path,
    number: signal.Signals | None = None,
    when: Callable[[], bool] | float = 0.0,
) -> int:
    """Start the run, or resume it where it has begun, and send it the signal."""
    again = ["train", f"resume={run}"] if (run / "config.yaml").is_file() else [*words, f"run_dir={run}"]
    status = killing.run(again, number, when)
    if (run / "checkpoints" / "last.ckpt").is_file():
        torch.load(run / "checkpoints" / "last.ckpt", weights_only=True)  # whole, whatever happened
    return status


def rows(run: Path) -> int:
    return (run / "history.csv").read_text().count("\n") if (run / "history.csv").is_file() else 0


@pytest.mark.parametrize("kills", [3, pytest.param(25, marks=pytest.mark.torture)])
def test_train_segmenter_killed_at_random_resumes_to_the_same_run(
    killing: Killing, words: list[str], tmp_path: Path, kills: int
) -> None:
    seconds = whole(killing, words, tmp_path / "whole")
    random = np.random.default_rng(kills)
    run, hits, ended = tmp_path / "cut0", 0, 0
    for kill in range(kills):
        number = (KILL, TERM, INT)[kill % 3]
        status = go_on(killing, words, run, number, float(random.uniform(0.1, 0.9)) * seconds)
        hits += status != 0
        assert status in (0, -number, 130), killing.said()
        if status == 130 and "run folder" in killing.said():
            assert f"resume={run}" in killing.said()
        if status == 0:  # it was faster than the signal
            assert outcome(run) == outcome(tmp_path / "whole")
            ended += 1
            run = tmp_path / f"cut{ended}"
    assert go_on(killing, words, run) == 0, killing.said()
    assert outcome(run) == outcome(tmp_path / "whole")
    assert hits


@pytest.mark.parametrize(
    ("kind", "kills"), [("stack", 1), ("lstm", 1), pytest.param("stack", 20, marks=pytest.mark.torture)]
)
def test_train_classifier_killed_at_random_resumes_to_the_same_run(
    killing: Killing, breathing: Path, tmp_path: Path, kind: str, kills: int
) -> None:
    if kind == "stack":
        data = write_table(tmp_path / "data", count=60)
        words = ["train", *QUICK, "classifier.profile_length=4", f"data.root={data}", "data.test_fraction=0.4"]
        words += ["classifier.n_folds=2", "classifier.ensemble.n_trees=6", "classifier.max_samples=960"]
    else:
        words = ["train", *TINY, "task=diagnosis", f"data.root={breathing}", "trainer.fraction=0.2"]
    seconds = whole(killing, words, tmp_path / "whole")
    random = np.random.default_rng(kills)
    run = tmp_path / "cut"
    for kill in range(kills):
        number = (KILL, TERM, INT)[kill % 3]
        assert go_on(killing, words, run, number, float(random.uniform(0.2, 0.9)) * seconds) in (0, -number, 130)
    assert killing.run(["train", f"resume={run}"]) == 0, killing.said()
    assert outcome(run) == outcome(tmp_path / "whole")
    assert not (run / "folds").exists()


@pytest.mark.parametrize("number", [TERM, INT])
def test_train_interrupted_saves_the_current_step(
    killing: Killing, words: list[str], tmp_path: Path, number: signal.Signals
) -> None:
    run = tmp_path / "run"
    words = [*words, "trainer.checkpoint_every_n_steps=100000", "trainer.n_validations=0"]  # one epoch
    assert go_on(killing, words, run, number, lambda: rows(run) >= 4) == 130
    assert "stopping after this step" in killing.said()
    assert f"medseg train resume={run}" in killing.said()
    assert read_progress(Run(run)).step >= int(read_csv(run / "history.csv")[-1]["step"]) >= 3
    assert not (run / "manifest.json").exists()


def test_train_killed_during_evaluation_only_evaluates_again(
    killing: Killing, words: list[str], tmp_path: Path
) -> None:
    run = tmp_path / "run"
    words = [*words, "segmenter.max_samples=1000"]
    assert go_on(killing, words, run, KILL, lambda: (run / "model.safetensors").is_file()) == -KILL
    files = [run / "checkpoints" / "last.ckpt", run / "model.safetensors"]
    before = files[0].stat().st_mtime_ns, hash_path(files[1])
    assert killing.run(["train", f"resume={run}"]) == 0
    assert before == (files[0].stat().st_mtime_ns, hash_path(files[1]))
    assert (run / "manifest.json").exists()


def test_two_trainings_do_not_write_one_run(killing: Killing, words: list[str], tmp_path: Path) -> None:
    run = tmp_path / "run"
    run.mkdir()
    with lock_output(run):
        assert killing.run([*words, f"run_dir={run}"]) == 2
    assert "another medseg process is writing there" in killing.said()
