"""Jobs handed out one by one to processes that prepare once; a process that dies is replaced and its job is told.

`concurrent.futures` is no help here: there, one process that dies ends them all. What goes through the pipes is
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

SPAWN = multiprocessing.get_context("spawn")  # a fork would copy the locks of threads that do not live on in it
STOPS = (signal.SIGINT, signal.SIGTERM)
BLOCK, RESTORE = getattr(signal, "SIG_BLOCK", 0), getattr(signal, "SIG_SETMASK", 0)  # not on Windows
JOIN_TIMEOUT_S = 1.0  # seconds for a process that closed its pipe to end, so that its own exit status is known

Work = Callable[[Any], Any]  # job → result
Load = Callable[..., Work]  # a function of a module's top level that prepares once; its arguments are pickled


@dataclass(frozen=True)
class WorkerCrash:
    """How a process ended while it had a job."""

    reason: str


class SerialPool:
    """The face of a `WorkerPool` for this process alone: a job is done when its result is asked for."""

    def __init__(self, work: Work) -> None:
        self.work = work
        self._waiting: list[Any] = []

    def submit(self, job: Any) -> None:
        """Take a job."""
        self._waiting.append(job)

    def until_free(self) -> Iterator[tuple[Any, Any]]:
        """The job that was taken, with its result."""
        return self.as_completed()

    def as_completed(self) -> Iterator[tuple[Any, Any]]:
        """The jobs that were taken, with their results."""
        while self._waiting:
            job = self._waiting.pop(0)
            yield job, self.work(job)


@contextmanager
def open_pool(count: int, load: Load, *arguments: Any) -> Iterator[WorkerPool | SerialPool]:
    """`count` processes that each call `load(*arguments)` and then do jobs; with 0 or 1 it is this process.

    No process is left behind, however this ends. A `MedsegError` of `load` is raised here.
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
    """Processes that do jobs one by one. For each job that is submitted comes a result, or a `WorkerCrash`, once.

    for job in jobs:
        for done, result in pool.until_free(): ...
        pool.submit(job)
    for done, result in pool.as_completed(): ...
    """

    def __init__(self, load: Load, arguments: tuple[Any, ...]) -> None:
        self._load = (load, arguments)
        self._workers: list[_Worker] = []
        self._returned: deque[Any] = deque()  # jobs whose process died before it had them

    def start(self, count: int) -> None:
        """Start the processes and wait for the first that is ready."""
        for _ in range(count):
            with _undisturbed():
                self._workers.append(_Worker(*self._load))
        while not any(worker.ready for worker in self._workers):
            for _ in self._events():
                pass

    def kill(self) -> None:
        """End all processes, whatever they do."""
        for worker in self._workers:
            worker.process.kill()
        for worker in self._workers:
            worker.process.join()

    def submit(self, job: Any) -> None:
        """Give a job to a free process; where none is, it waits for one."""
        self._returned.append(job)
        self._hand_out()

    def until_free(self) -> Iterator[tuple[Any, Any]]:
        """Jobs that are over, with their results, until a process is free for another job."""
        yield from self._events(timeout=0)
        while self._returned or not self._free():
            yield from self._events()

    def as_completed(self) -> Iterator[tuple[Any, Any]]:
        """Jobs that are over, with their results, until none is left."""
        while self._returned or any(worker.busy for worker in self._workers):
            yield from self._events()

    def _free(self) -> list[_Worker]:
        return [worker for worker in self._workers if worker.ready and not worker.busy]

    def _hand_out(self) -> None:
        """Jobs that wait go to processes that are free."""
        while self._returned and (free := self._free()):
            job = self._returned.popleft()
            try:
                free[0].give(job)
            except OSError:  # it died while idle: the job is not to blame
                self._returned.appendleft(job)
                self._replace(free[0])

    def _events(self, timeout: float | None = None) -> Iterator[tuple[Any, Any]]:
        """Wait until something happens, or for `timeout` seconds; jobs that are over."""
        for connection in wait([worker.connection for worker in self._workers], timeout):
            worker = next(worker for worker in self._workers if worker.connection is connection)
            try:
                message = worker.connection.recv()
            except (EOFError, OSError):
                reason = worker.end()
                if not worker.ready:
                    self._lose(worker, reason)
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
        with _undisturbed():
            self._workers[self._workers.index(worker)] = _Worker(*self._load)

    def _lose(self, worker: _Worker, reason: str) -> None:
        """One that could not even load is not tried again; the others go on."""
        self._workers.remove(worker)
        if not self._workers:
            raise MedsegError(
                f"no worker is left: the last one {reason} while it loaded; give fewer workers",
                code="worker-died",
                hint="workers",
            )


class _Worker:
    """A process as its parent sees it."""

    def __init__(self, load: Load, arguments: tuple[Any, ...]) -> None:
        self.connection, other = SPAWN.Pipe()
        self.process = SPAWN.Process(target=_serve, args=(other, load, arguments, quiet_level()), daemon=True)
        self.process.start()
        other.close()  # or its end would not be noticed
        self.ready = self.busy = False
        self.job: Any = None

    def give(self, job: Any) -> None:
        self.connection.send(job)
        self.busy, self.job = True, job

    def done(self) -> Any:
        job, self.busy, self.job = self.job, False, None
        return job

    def end(self) -> str:
        """Wait for a process that died; how it did."""
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
def _undisturbed() -> Iterator[None]:
    """Start a process: here a signal waits until the process is known, and the process itself is deaf to it.

    A terminal sends Ctrl-C to the whole family, but it is the parent that ends its children.
    """
    came: list[int] = []
    handlers = {number: signal.signal(number, lambda caught, _: came.append(caught)) for number in STOPS}
    try:
        with _blocked():
            yield
    finally:
        for number, handler in handlers.items():
            signal.signal(number, handler)
        for caught in came:
            signal.raise_signal(caught)


@contextmanager
def _blocked() -> Iterator[None]:
    """Signals blocked here and in the processes that are started; Windows has no such mask, see `_serve`."""
    if not hasattr(signal, "pthread_sigmask"):
        yield
        return
    resource_tracker.ensure_running()  # multiprocessing's own helper; where it starts, it takes the mask away
    mask = signal.pthread_sigmask(BLOCK, STOPS)
    try:
        yield
    finally:
        signal.pthread_sigmask(RESTORE, mask)


def _serve(connection: Connection, load: Load, arguments: tuple[Any, ...], quiet: bool | None) -> None:
    """The life of a process: prepare once, then a result for each job. What ends a batch is raised in the parent."""
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
    """None where nobody hands out any more."""
    try:
        return connection.recv()
    except EOFError:
        return None


def _end_with_parent() -> None:
    """Not even a parent that was killed leaves a process behind, which would go on writing."""
    parent = multiprocessing.parent_process()
    if parent is not None:
        parent.join()
        os._exit(1)
