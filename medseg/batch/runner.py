"""A batch of cases that loses nothing: each by itself, written down at once, not made again without need."""

from __future__ import annotations

import dataclasses
import tempfile
import time
import traceback
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from medseg.batch.case_log import CaseLog, Entry, failed_entry
from medseg.batch.resume import PreviousRun, hash_content, paths_relative_to
from medseg.batch.workers import WorkerCrash
from medseg.errors import ImageError, MedsegError, OutputError
from medseg.utils.console import Progress, progress, warn
from medseg.utils.files import sibling_path
from medseg.utils.locks import ROWS, hidden_path, lock_table

Rows = dict[str, Any]
MAX_QUEUED = 1 << 20  # bytes that a folder must still take
_shown: set[str] = set()  # places of unforeseen errors


@dataclass(frozen=True)
class Job:
    """One case: the file that messages name, all files that shape its result, and the plain values that do.

    work: what the one who makes it needs besides. inputs: digest of what it reads, once that is known.
    """

    name: str
    input: Path
    reads: Sequence[Path]
    facts: Any = None
    work: Any = None
    inputs: str = ""


@dataclass(frozen=True)
class CaseResult:
    """What became of a case: rows for tables, files that were written, and what to say of it."""

    rows: Rows = field(default_factory=dict)
    files: Sequence[Path] = ()
    status: str = "ok"
    code: str = ""
    message: str = ""
    output: str = ""  # the file that a person looks at


CaseOutcome = tuple[Entry, CaseResult]
Team = Callable[[Iterator[Job]], Iterator[tuple[Job, CaseOutcome | WorkerCrash]]]  # jobs → each with what became of it


@dataclass(frozen=True)
class BatchLog:
    """Where a batch is written down.

    key: digest of model, settings and version; blank where nobody asks for hashes. before: what need not be made again.
    """

    ledger: CaseLog
    key: str = ""
    before: PreviousRun | None = None
    fail_fast: bool = False


@dataclass(frozen=True)
class BatchOptions:
    """How a batch is to go: end at the first failure; drop what an earlier run left of other cases."""

    fail_fast: bool = False
    replace: bool = False


DEFAULT_OPTIONS = BatchOptions()


@contextmanager
def open_batch_log(
    out: Path, cases: Sequence[str], key: str, ways: BatchOptions, endings: Sequence[str]
) -> Iterator[BatchLog]:
    """The book of a table OUT.csv: the ledger OUT_cases.csv and .json, and a hidden file of rows to go on from.

    `endings`: what the command writes, ".csv" for the table. Held against a second process. Where no case could be
    used, what an earlier run wrote is removed: the tables hold what the ledger says, and nothing older.
    """
    with lock_table(out, [*endings, "_cases.csv", "_cases.json"]):
        file = sibling_path(out, "_cases.csv")
        before = PreviousRun(file, cases, ways.replace, hidden_path(out, ROWS))
        warn_outdated(before, key, out)
        older = endings if before.entries else ()
        with CaseLog(file, before.entries) as ledger:
            try:
                yield BatchLog(ledger, key, before, ways.fail_fast)
            except ImageError as error:
                for ending in older if error.code == "no-usable-case" else ():
                    sibling_path(out, ending).unlink(missing_ok=True)
                raise


def warn_outdated(before: PreviousRun, key: str, out: Path) -> None:
    """Say that what another model or other settings made is replaced, before it is."""
    if aged := before.aged(key):
        warn(
            f"{out}: {aged} results of another model, other settings or another version are made again and replaced; "
            "choose another output to keep both"
        )


def run_serial(
    jobs: Sequence[Job], make: Callable[[Job], CaseResult], book: BatchLog, label: str
) -> Iterator[tuple[str, Rows]]:
    """`work_through` in this process, in the order of the jobs."""

    def team(waiting: Iterator[Job]) -> Iterator[tuple[Job, CaseOutcome | WorkerCrash]]:
        return ((job, run_case(make, job)) for job in waiting)

    return run_cases(jobs, team, book, label)


def run_cases(jobs: Sequence[Job], team: Team, book: BatchLog, label: str) -> Iterator[tuple[str, Rows]]:
    """Have every case made; yields the rows of those that have some, by name, as they are ready.

    A case that fails is named and the others go on. What is kept from an earlier run is not made again. Raises
    `OutputError` where nothing can be written.
    """
    with progress(label, len(jobs)) as bar:
        desk = _Recorder(book, bar)
        for job, said in team(desk.to_do(jobs)):
            desk.take(job, said)
            yield from desk.ready()
        yield from desk.ready()


def run_case(make: Callable[[Job], CaseResult], job: Job) -> CaseOutcome:
    """Make a case; its line says how that went. `OutputError` where results cannot be written."""
    started = time.monotonic()
    try:
        made = make(job)
    except OutputError:
        raise
    except Exception as error:  # noqa: BLE001  # a file that nobody foresaw, or a bug: the other cases go on
        if not isinstance(error, MedsegError | MemoryError | RuntimeError):  # ITK and torch raise RuntimeError
            _show(error)
        return failed_entry(job.name, job.input, error, time.monotonic() - started), CaseResult()
    seconds = round(time.monotonic() - started, 3)
    return Entry(job.name, made.status, made.code, made.message, seconds, str(job.input), made.output), made


def _show(error: Exception) -> None:
    """The traceback, so that no bug is hidden; a second case that fails at the same place adds nothing."""
    place = "".join(traceback.format_tb(error.__traceback__))
    if place not in _shown:
        _shown.add(place)
        traceback.print_exception(error)


class _Recorder:
    """What becomes of the cases, an earlier run's and this one's. Only the batch's own process writes it down."""

    def __init__(self, book: BatchLog, bar: Progress) -> None:
        self.book, self.bar = book, bar
        self._ready: list[tuple[str, Rows]] = []
        self._stopped = False

    def to_do(self, jobs: Sequence[Job]) -> Iterator[Job]:
        """The jobs that are to be done; the others are written down on the way."""
        book = self.book
        for job in jobs:
            inputs = hash_content(job.reads, job.facts) if book.key else ""
            if book.before is not None and (kept := book.before.kept(job.name, inputs, book.key)):
                book.ledger.kept += 1
                self._tell(kept, book.before.rows(job.name))
            elif self._stopped:
                if book.before is not None:
                    book.before.forget(job.name)
                text = "an earlier case failed"
                self._tell(Entry(job.name, "skipped", "fail-fast", text, 0.0, str(job.input)), {})
            else:
                yield dataclasses.replace(job, inputs=inputs)

    def take(self, job: Job, said: CaseOutcome | WorkerCrash) -> None:
        """Write down how a job went; `OutputError` where the ledger's folder takes no more."""
        entry, made = _lost(job, said) if isinstance(said, WorkerCrash) else said
        book, folder = self.book, self.book.ledger.file.parent if self.book.ledger.file else Path()
        if entry.code == "image-write":
            _require_room(folder)
        entry = dataclasses.replace(entry, input_hash=job.inputs, key=book.key)
        if book.before is not None:
            book.before.forget(job.name, made.files)  # an older answer must not stand beside a newer one, or a failure
            if made.rows:
                book.before.note(job.name, made.rows)
        if book.key and (made.rows or made.files):
            digest = hash_content(made.files, made.rows or None)
            entry = dataclasses.replace(entry, outputs=paths_relative_to(folder, made.files), output_hash=digest)
        self._tell(entry, made.rows)
        self._stopped = self._stopped or (book.fail_fast and entry.status == "failed")

    def ready(self) -> list[tuple[str, Rows]]:
        """Rows of the cases that were written down since this was asked last."""
        found, self._ready = self._ready, []
        return found

    def _tell(self, entry: Entry, rows: Rows) -> None:
        self.book.ledger.add(entry)
        if rows:
            self._ready.append((entry.case, rows))
        if entry.status == "failed":
            warn(entry.message)
        if entry.status == "review":
            warn(f"{entry.case}: look at it: {entry.message}")
        self.bar.advance(1, entry.case)


def _lost(job: Job, death: WorkerCrash) -> CaseOutcome:
    error = MedsegError(
        f"{job.input}: the worker that had it {death.reason}: out of memory, or a fault in a library; the same command "
        "tries it again, with fewer --workers each has more memory",
        code="worker-died",
    )
    return failed_entry(job.name, job.input, error, 0.0), CaseResult()


def _require_room(folder: Path) -> None:
    """`OutputError` where a folder takes no more files: then all cases that are left would fail one by one."""
    try:
        with tempfile.TemporaryFile(dir=folder) as file:
            file.write(bytes(MAX_QUEUED))
            file.flush()
    except OSError as error:
        raise OutputError(
            f"{folder}: takes no more files ({error.strerror}); make room and give the same command again: "
            "what is done stays"
        ) from error
