"""A pool of processes that load once and then run jobs; a process that dies is replaced and its job is reported.

`concurrent.futures` does not fit: there a process that dies breaks the whole pool. Messages through the pipes are
pickled, but only between a process and its own children.
"""

from __future__ import annotations

import multiprocessing
import os
import signal
import threading
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from multiprocessing import resource_tracker
from multiprocessing.connection import Connection, wait
from typing import Any

from medseg.errors import MedsegError
from medseg.utils.console import be_quiet, quiet_level

SPAWN = multiprocessing.get_context("spawn")  # a fork would copy the locks of threads that it does not copy
STOPS = (signal.SIGINT, signal.SIGTERM)
BLOCK, RESTORE = getattr(signal, "SIG_BLOCK", 0), getattr(signal, "SIG_SETMASK", 0)  # not on Windows
JOIN_TIMEOUT_S = 1.0  # seconds for a process that closed its pipe to end with its own exit status

Work = Callable[[Any], Any]  # job → result
Load = Callable[..., Work]  # a module-level function that prepares a process once; its arguments are pickled


@dataclass(frozen=True)
class WorkerCrash:
    """The reason why a process ended during a job."""

    reason: str


class SerialPool:
    """A `WorkerPool` without processes: a job runs in this process when its result is read."""

    def __init__(self, work: Work) -> None:
        self.work = work
        self._waiting: list[Any] = []

    def submit(self, job: Any) -> None:
        """Queue a job."""
        self._waiting.append(job)

    def until_free(self) -> Iterator[tuple[Any, Any]]:
        """The queued job with its result."""
        return self.as_completed()

    def as_completed(self) -> Iterator[tuple[Any, Any]]:
        """The queued jobs with their results."""
        while self._waiting:
            job = self._waiting.pop(0)
            yield job, self.work(job)


@contextmanager
def open_pool(count: int, load: Load, *arguments: Any) -> Iterator[WorkerPool | SerialPool]:
    """A pool of `count` processes that each call `load(*arguments)` and then run jobs; with 0 or 1 this process does.

    All processes are ended on exit. A `MedsegError` in `load` is raised here.
    """
    if count <= 1:
        yield SerialPool(load(*arguments))
        return
    pool = WorkerPool(load, arguments)
    try:
        pool.start(count)
        yield pool
    finally:
        pool.kill()


class WorkerPool:
    """Processes that run jobs. Each submitted job is returned once, with a result or a `WorkerCrash`.

    for job in jobs:
        for done, result in pool.until_free(): ...
        pool.submit(job)
    for done, result in pool.as_completed(): ...
    """

    def __init__(self, load: Load, arguments: tuple[Any, ...]) -> None:
        self._load = (load, arguments)
        self._workers: list[_Worker] = []
        self._queue: deque[Any] = deque()  # jobs that wait for a process

    def start(self, count: int) -> None:
        """Start the processes and wait until one is ready."""
        for _ in range(count):
            with _deferred_signals():
                self._workers.append(_Worker(*self._load))
        while not any(worker.ready for worker in self._workers):
            for _ in self._events():
                pass

    def kill(self) -> None:
        """Kill all processes."""
        for worker in self._workers:
            worker.process.kill()
        for worker in self._workers:
            worker.process.join()

    def submit(self, job: Any) -> None:
        """Give a job to a free process, or queue it."""
        self._queue.append(job)
        self._hand_out()

    def until_free(self) -> Iterator[tuple[Any, Any]]:
        """Yield finished jobs with their results until a process is free for another job."""
        yield from self._events(timeout=0)
        while self._queue or not self._free():
            yield from self._events()

    def as_completed(self) -> Iterator[tuple[Any, Any]]:
        """Yield finished jobs with their results until none is left."""
        while self._queue or any(worker.busy for worker in self._workers):
            yield from self._events()

    def _free(self) -> list[_Worker]:
        return [worker for worker in self._workers if worker.ready and not worker.busy]

    def _hand_out(self) -> None:
        """Give queued jobs to free processes."""
        while self._queue and (free := self._free()):
            job = self._queue.popleft()
            try:
                free[0].give(job)
            except OSError:  # the process died while idle, not because of the job
                self._queue.appendleft(job)
                self._replace(free[0])

    def _events(self, timeout: float | None = None) -> Iterator[tuple[Any, Any]]:
        """Wait for messages, at most `timeout` seconds; yield finished jobs."""
        for connection in wait([worker.connection for worker in self._workers], timeout):
            worker = next(worker for worker in self._workers if worker.connection is connection)
            try:
                message = worker.connection.recv()
            except (EOFError, OSError):
                reason = worker.end()
                if not worker.ready:
                    self._remove(worker, reason)
                else:
                    self._replace(worker)
                if worker.busy:
                    yield worker.job, WorkerCrash(reason)
                continue
            if isinstance(message, MedsegError):
                raise message
            if worker.ready:
                yield worker.done(), message
            else:
                worker.ready = True
        self._hand_out()

    def _replace(self, worker: _Worker) -> None:
        with _deferred_signals():
            self._workers[self._workers.index(worker)] = _Worker(*self._load)

    def _remove(self, worker: _Worker, reason: str) -> None:
        """Remove a process that failed to load; it is not restarted, the others continue."""
        self._workers.remove(worker)
        if not self._workers:
            raise MedsegError(
                f"no worker is left: the last one {reason} while loading; use fewer workers",
                code="worker-died",
                hint="workers",
            )


class _Worker:
    """A process as its parent sees it."""

    def __init__(self, load: Load, arguments: tuple[Any, ...]) -> None:
        self.connection, other = SPAWN.Pipe()
        self.process = SPAWN.Process(target=_serve, args=(other, load, arguments, quiet_level()), daemon=True)
        self.process.start()
        other.close()  # else the end of the process would not close the pipe
        self.ready = self.busy = False
        self.job: Any = None

    def give(self, job: Any) -> None:
        self.connection.send(job)
        self.busy, self.job = True, job

    def done(self) -> Any:
        job, self.busy, self.job = self.job, False, None
        return job

    def end(self) -> str:
        """Wait for a process that died; return the reason."""
        self.process.join(JOIN_TIMEOUT_S)
        self.process.kill()
        self.process.join()
        code = self.process.exitcode or 0
        return f"was ended by {_signal_name(-code)}" if code < 0 else f"ended with status {code}"


def _signal_name(number: int) -> str:
    try:
        return signal.Signals(number).name
    except ValueError:  # a real-time signal, or one that this platform does not name
        return f"signal {number}"


@contextmanager
def _deferred_signals() -> Iterator[None]:
    """Defer SIGINT and SIGTERM here while a process starts; the new process ignores them.

    A terminal sends Ctrl-C to parent and children, but the parent ends its children.
    """
    received: list[int] = []
    handlers = {number: signal.signal(number, lambda caught, _: received.append(caught)) for number in STOPS}
    try:
        with _blocked():
            yield
    finally:
        for number, handler in handlers.items():
            signal.signal(number, handler)
        for caught in received:
            signal.raise_signal(caught)


@contextmanager
def _blocked() -> Iterator[None]:
    """Block signals here and in processes started meanwhile; Windows has no signal mask, see `_serve`."""
    if not hasattr(signal, "pthread_sigmask"):
        yield
        return
    resource_tracker.ensure_running()  # multiprocessing's helper process would unblock signals when it starts
    mask = signal.pthread_sigmask(BLOCK, STOPS)
    try:
        yield
    finally:
        signal.pthread_sigmask(RESTORE, mask)


def _serve(connection: Connection, load: Load, arguments: tuple[Any, ...], quiet: bool | None) -> None:
    """Main function of a process: load once, then send a result for each job. Errors of `load` go to the parent."""
    if quiet is not None:
        be_quiet(quiet)
    if not hasattr(signal, "pthread_sigmask"):
        for number in STOPS:
            signal.signal(number, signal.SIG_IGN)
    threading.Thread(target=_end_with_parent, daemon=True).start()
    try:
        work = load(*arguments)
        connection.send("ready")
        while (job := _next_job(connection)) is not None:
            connection.send(work(job))
    except MedsegError as error:
        connection.send(error)


def _next_job(connection: Connection) -> Any:
    """The next job, or None after the parent closed the pipe."""
    try:
        return connection.recv()
    except EOFError:
        return None


def _end_with_parent() -> None:
    """End this process when its parent ends, even if killed: it must not go on writing."""
    parent = multiprocessing.parent_process()
    if parent is not None:
        parent.join()
        os._exit(1)
