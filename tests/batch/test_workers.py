"""Processes that come and go, without a model."""

import multiprocessing
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterable, Iterator
from typing import Any

import psutil
import pytest

from medseg.batch.workers import SerialPool, WorkerCrash, WorkerPool, open_pool
from medseg.errors import ConfigError, MedsegError, OutputError
from tests.conftest import ROOT, posix


def load(word: str) -> Callable[[int], tuple[int, int]]:
    """What the processes do: square a number; 13 kills, 14 crashes, 15 is a fault, 16 finds no room, 99 waits."""
    if word == "refuse":
        raise ConfigError("no such model", code="model")
    if word == "die":
        os.kill(os.getpid(), signal.SIGKILL)
    loaded = os.getpid()

    def work(number: int) -> tuple[int, int]:
        if number in (13, 14):
            os.kill(os.getpid(), {13: signal.SIGKILL, 14: signal.SIGSEGV}[number])
        if number == 15:
            os._exit(7)
        if number == 16:
            raise OutputError("the disk is full")
        if number == 99:
            time.sleep(60)
        assert os.getpid() == loaded
        return number**2, loaded

    return work


def results(pool: WorkerPool | SerialPool, jobs: Iterable[int]) -> Iterator[tuple[int, Any]]:
    """Each job with what became of it; one is handed out when a process is free."""
    for job in jobs:
        yield from pool.until_free()
        pool.submit(job)
    yield from pool.as_completed()


@pytest.fixture(autouse=True)
def nobody_is_left() -> Iterator[None]:
    yield
    assert not multiprocessing.active_children()


def test_pool_returns_every_job_and_loads_once() -> None:
    taken: list[int] = []

    def jobs() -> Iterator[int]:
        for number in range(12):
            taken.append(number)
            yield number

    with open_pool(2, load, "it") as pool:
        assert taken == []
        completed = []
        for job, result in results(pool, jobs()):
            completed.append((job, result[0]))
            assert len(taken) <= len(completed) + 2  # handed out one by one
            assert result[1] != os.getpid()
    assert sorted(completed) == [(number, number**2) for number in range(12)]


@pytest.mark.parametrize("count", [0, 1])
def test_pool_of_one_is_this_process(count: int) -> None:
    with open_pool(count, load, "here") as pool:
        assert list(results(pool, [3, 4])) == [(3, (9, os.getpid())), (4, (16, os.getpid()))]


@posix
def test_pool_with_dead_process_replaces_it_and_returns_its_job_once() -> None:
    jobs = [1, 13, 2, 14, 3, 15, 13, 4]
    with open_pool(2, load, "it") as pool:
        completed = list(results(pool, jobs))
    assert sorted(job for job, _ in completed) == sorted(jobs)
    reasons = [(job, result.reason) for job, result in completed if isinstance(result, WorkerCrash)]
    assert sorted(reasons) == [
        (13, "was ended by SIGKILL"),
        (13, "was ended by SIGKILL"),
        (14, "was ended by SIGSEGV"),
        (15, "ended with status 7"),
    ]
    assert {job: result[0] for job, result in completed if not isinstance(result, WorkerCrash)} == {
        1: 1,
        2: 4,
        3: 9,
        4: 16,
    }


def test_pool_with_process_dead_while_idle_loses_no_job() -> None:
    with open_pool(2, load, "it") as pool:
        completed: list[tuple[int, Any]] = []

        def jobs() -> Iterator[int]:
            yield 1
            yield 2
            while len(completed) < 2:
                yield 3
            for child in multiprocessing.active_children():
                child.kill()
                child.join()
            yield from (4, 5, 6)

        for job, result in results(pool, jobs()):
            completed.append((job, result))
    assert {1, 2, 4, 5, 6} <= {job for job, result in completed if not isinstance(result, WorkerCrash)}
    assert {job for job, result in completed if isinstance(result, WorkerCrash)} <= {
        3
    }  # a process that had a job just then


def test_pool_with_error_in_load_raises_it() -> None:
    with pytest.raises(ConfigError, match="no such model") as caught, open_pool(2, load, "refuse"):
        pass
    assert caught.value.code == "model"


@posix
def test_pool_with_death_in_load_ends() -> None:
    with pytest.raises(MedsegError, match="no worker is left: the last one was ended by SIGKILL") as caught:  # noqa: SIM117
        with open_pool(2, load, "die"):
            pass
    assert caught.value.code == "worker-died"


def test_pool_where_a_job_meets_an_error_that_ends_the_batch_raises_it() -> None:
    with pytest.raises(OutputError, match="the disk is full"), open_pool(2, load, "it") as pool:
        list(results(pool, [1, 2, 16, 3]))


def test_pool_exit_kills_processes() -> None:
    started = time.monotonic()
    with open_pool(2, load, "it") as pool:
        job, _ = next(results(pool, [99, 1, 2]))
    assert job == 1
    assert time.monotonic() - started < 30


PARENT = """
import multiprocessing, sys, time
from tests.batch.test_workers import load, results
from medseg.batch.workers import open_pool
with open_pool(2, load, "it") as pool:
    for _ in results(pool, [1, 99, 2, 99]):
        print(*[child.pid for child in multiprocessing.active_children()], flush=True)
"""


def test_pool_of_killed_parent_leaves_no_process() -> None:
    process = subprocess.Popen([sys.executable, "-c", PARENT], stdout=subprocess.PIPE, text=True, cwd=ROOT)
    assert process.stdout
    children = [int(word) for word in process.stdout.readline().split()]
    assert len(children) == 2
    process.kill()
    process.communicate()
    psutil.wait_procs([psutil.Process(pid) for pid in children if psutil.pid_exists(pid)], timeout=10)
    assert not [pid for pid in children if psutil.pid_exists(pid)]
