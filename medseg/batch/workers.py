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
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from multiprocessing import resource_tracker
from multiprocessing.connection import Connection, wait
from typing import Any

from medseg.errors import MedsegError

SPAWN = multiprocessing.get_context("spawn")  # a fork would copy the locks of threads that do not live on in it
STOPS = (signal.SIGINT, signal.SIGTERM)
BLOCK, RESTORE = getattr(signal, "SIG_BLOCK", 0), getattr(signal, "SIG_SETMASK", 0)  # not on Windows
JOIN_TIMEOUT_S = 1.0  # seconds for a process that closed its pipe to end, so that its own exit status is known

Load = Callable[..., tuple[Any, Callable[[Any], Any]]]  # arguments → facts about what was loaded, and job → result


@dataclass(frozen=True)
class WorkerCrash:
    """How a process ended while it had a job."""

    reason: str


class InProcess:
    """The same for this process alone."""

    def __init__(self, load: Load, arguments: tuple[Any, ...]) -> None:
        self.facts, self._work = load(*arguments)

    def __call__(self, jobs: Iterable[Any]) -> Iterator[tuple[Any, Any]]:
        """Each job with its result, in their order."""
        return ((job, self._work(job)) for job in jobs)


@contextmanager
def open_workers(count: int, load: Load, *arguments: Any) -> Iterator[InProcess | Workers]:
    """`count` processes that each call `load(*arguments)`, one of the module's top level, and then work.

    None is left behind, however this ends. With 0 or 1 it is done in this process. A `MedsegError` of `load` is raised
    here.
    """
    if count <= 1:
        yield InProcess(load, arguments)
        return
    workers = Workers(load, arguments)
    try:
        workers.hire(count)
        yield workers
    finally:
        workers.dismiss()


class Workers:
    """Processes that wait for jobs. `facts` is what `load` said of itself, the same in each."""

    def __init__(self, load: Load, arguments: tuple[Any, ...]) -> None:
        self._start = (load, arguments)
        self._hands: list[_Worker] = []
        self._returned: deque[Any] = deque()  # jobs that never reached a process
        self.facts: Any = None

    def hire(self, count: int) -> None:
        """Start the processes and wait for the first that is ready."""
        for _ in range(count):
            with _undisturbed():
                self._hands.append(_Worker(*self._start))
        while not any(hand.ready for hand in self._hands):
            for _ in self._news():
                pass

    def dismiss(self) -> None:
        """End all processes, whatever they do."""
        for hand in self._hands:
            hand.process.kill()
        for hand in self._hands:
            hand.process.join()

    def __call__(self, jobs: Iterable[Any]) -> Iterator[tuple[Any, Any]]:
        """Each job with its result or a `Death`, as they are ready. The next job is taken when a process is free."""
        waiting = iter(jobs)
        while True:
            for hand in [hand for hand in self._hands if hand.ready and not hand.busy]:
                try:
                    job = self._returned.popleft() if self._returned else next(waiting)
                except StopIteration:
                    if any(hand.busy for hand in self._hands):
                        break
                    return
                self._give(hand, job)
            yield from self._news()

    def _give(self, hand: _Worker, job: Any) -> None:
        try:
            hand.give(job)
        except OSError:  # it died while idle: the job is not to blame
            self._returned.append(job)
            self._replace(hand)

    def _news(self) -> Iterator[tuple[Any, Any]]:
        """Wait until something happens; jobs that are over."""
        for connection in wait([hand.connection for hand in self._hands]):
            hand = next(hand for hand in self._hands if hand.connection is connection)
            try:
                message = hand.connection.recv()
            except (EOFError, OSError):
                reason = hand.end()
                if not hand.ready:
                    self._lose(hand, reason)
                else:
                    self._replace(hand)
                if hand.busy:
                    yield hand.job, WorkerCrash(reason)
                continue
            if hand.ready:
                job = hand.done()
                yield job, message
            elif isinstance(message, MedsegError):
                raise message
            else:
                hand.ready, self.facts = True, message

    def _replace(self, hand: _Worker) -> None:
        with _undisturbed():
            self._hands[self._hands.index(hand)] = _Worker(*self._start)

    def _lose(self, hand: _Worker, reason: str) -> None:
        """One that could not even load is not tried again; the others go on."""
        self._hands.remove(hand)
        if not self._hands:
            raise MedsegError(
                f"no worker is left: the last one {reason} while it loaded; give fewer with --workers",
                code="worker-died",
            )


class _Worker:
    """A process as its parent sees it."""

    def __init__(self, load: Load, arguments: tuple[Any, ...]) -> None:
        self.connection, other = SPAWN.Pipe()
        self.process = SPAWN.Process(target=_serve, args=(other, load, arguments), daemon=True)
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


def _serve(connection: Connection, load: Load, arguments: tuple[Any, ...]) -> None:
    """The life of a process: prepare once, then a result for each job."""
    if not hasattr(signal, "pthread_sigmask"):
        for number in STOPS:
            signal.signal(number, signal.SIG_IGN)
    threading.Thread(target=_end_with_parent, daemon=True).start()
    try:
        facts, work = load(*arguments)
    except MedsegError as error:
        connection.send(error)
        return
    connection.send(facts)
    while True:
        try:
            job = connection.recv()
        except EOFError:  # nobody hands out any more
            return
        connection.send(work(job))


def _end_with_parent() -> None:
    """Not even a parent that was killed leaves a process behind, which would go on writing."""
    parent = multiprocessing.parent_process()
    if parent is not None:
        parent.join()
        os._exit(1)
