"""A batch of cases that loses nothing: each by itself, written down at once, not made again without need."""

from __future__ import annotations

import dataclasses
import tempfile
import time
import traceback
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

from medseg.batch.case_log import CaseLog
from medseg.batch.entry import Entry
from medseg.batch.resume import PreviousRun, combine_hashes, hash_content, hash_files, paths_relative_to
from medseg.batch.workers import SerialPool, WorkerCrash, WorkerPool
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

    work: what the one who makes it needs besides. hashes: digest of each file that is read, and input_hash of all of
    them and of the values, once they are known.
    """

    name: str
    input: Path
    reads: Sequence[Path]
    facts: Any = None
    work: Any = None
    hashes: Mapping[Path, str] = field(default_factory=dict)
    input_hash: str = ""

    def hashed(self) -> Job:
        """The same with digests; each file is read once."""
        hashes = hash_files(self.reads)
        return dataclasses.replace(self, hashes=hashes, input_hash=combine_hashes(hashes.values(), self.facts))


@dataclass(frozen=True)
class CaseResult:
    """What became of a case: rows for tables, files that were written, and what to say of it."""

    rows: Rows = field(default_factory=dict)
    files: Sequence[Path] = ()
    status: str = "ok"
    code: str = ""
    message: str = ""
    output: str = ""  # the file that a person looks at
    seconds: float = 0.0
    hint: str = ""  # as in `MedsegError`


@dataclass(frozen=True)
class BatchOptions:
    """How a batch is to go: end at the first failure; drop what an earlier run left of other cases."""

    fail_fast: bool = False
    overwrite: bool = False


DEFAULT_OPTIONS = BatchOptions()


@contextmanager
def open_case_log(
    out: Path, cases: Sequence[str], key: str, options: BatchOptions, endings: Sequence[str]
) -> Iterator[CaseLog]:
    """The log of a table OUT.csv: OUT_cases.csv and .json, and a hidden file of rows to go on from.

    `endings`: what the command writes, ".csv" for the table. Held against a second process. Where no case could be
    used, what an earlier run wrote is removed: the tables hold what the log says, and nothing older.
    """
    with lock_table(out, [*endings, "_cases.csv", "_cases.json"]):
        file = sibling_path(out, "_cases.csv")
        previous = PreviousRun(file, cases, options.overwrite, hidden_path(out, ROWS))
        warn_outdated(previous, key, out)
        older = endings if previous.entries else ()
        with CaseLog(file, previous, key, options.fail_fast) as log:
            try:
                yield log
            except ImageError as error:
                for ending in older if error.code == "no-usable-case" else ():
                    sibling_path(out, ending).unlink(missing_ok=True)
                raise


def warn_outdated(previous: PreviousRun, key: str, out: Path) -> None:
    """Say that what another model or other settings made is replaced, before it is."""
    if aged := previous.aged(key):
        warn(
            f"{out}: {aged} results of another model, other settings or another version are made again and replaced; "
            "choose another output to keep both"
        )


def run_serial(
    jobs: Sequence[Job], make: Callable[[Job], CaseResult], log: CaseLog, label: str
) -> Iterator[tuple[str, Rows]]:
    """`run_cases` in this process, in the order of the jobs."""
    return run_cases(jobs, SerialPool(partial(run_case, make)), log, label)


def run_cases(
    jobs: Sequence[Job], pool: WorkerPool | SerialPool, log: CaseLog, label: str
) -> Iterator[tuple[str, Rows]]:
    """Have every case made; yields the rows of those that have some, by name, as they are ready.

    A case that fails is named and the others go on. What is kept from an earlier run is not made again. The work of
    `pool` is a `run_case`. Raises `OutputError` where nothing can be written.
    """
    with progress(label, len(jobs)) as bar:
        for given in jobs:
            for done, result in pool.until_free():
                yield from _record(done, result, log, bar)
            job = given.hashed() if log.key else given
            kept = log.previous.kept(job.name, job.input_hash, log.key) if log.previous else None
            if kept is not None:
                yield from _keep(kept, log, bar)
            elif log.stopped:
                skipped = CaseResult(status="skipped", code="fail-fast", message="an earlier case failed")
                yield from _record(job, skipped, log, bar)
            else:
                pool.submit(job)
        for done, result in pool.as_completed():
            yield from _record(done, result, log, bar)


def _keep(entry: Entry, log: CaseLog, bar: Progress) -> Iterator[tuple[str, Rows]]:
    """Take over what an earlier run left of a case; its rows, where it has some."""
    log.kept += 1
    log.add(entry)
    _announce(entry, "", bar)
    if log.previous and (rows := log.previous.rows(entry.case)):
        yield entry.case, rows


def _record(job: Job, result: CaseResult | WorkerCrash, log: CaseLog, bar: Progress) -> Iterator[tuple[str, Rows]]:
    """Write down how a case went; its rows, where it has some. `OutputError` where the log's folder takes no more."""
    if isinstance(result, WorkerCrash):
        result = _crashed(job, result)
    if result.code == "image-write":
        _require_room(log.folder)
    if log.previous is not None:
        # an older answer must not stand beside a newer one, or a failure
        log.previous.forget(job.name, result.files)
        if result.rows:
            log.previous.note(job.name, result.rows)
    made = bool(log.key and (result.rows or result.files))
    entry = Entry(
        case=job.name,
        status=result.status,
        code=result.code,
        message=result.message,
        seconds=result.seconds,
        input=str(job.input),
        output=result.output,
        input_hash=job.input_hash,
        key=log.key,
        outputs=paths_relative_to(log.folder, result.files) if made else "",
        output_hash=hash_content(result.files, result.rows or None) if made else "",
    )
    log.add(entry)
    _announce(entry, result.hint, bar)
    if result.rows:
        yield job.name, result.rows


def _announce(entry: Entry, hint: str, bar: Progress) -> None:
    if entry.status == "failed":
        warn(entry.message, hint)
    if entry.status == "review":
        warn(f"{entry.case}: look at it: {entry.message}")
    bar.advance(1, entry.case)


def run_case(make: Callable[[Job], CaseResult], job: Job) -> CaseResult:
    """Make a case; an error of it is a result, too. `OutputError` where results cannot be written."""
    started = time.monotonic()
    try:
        result = make(job)
    except OutputError:
        raise
    except Exception as error:  # noqa: BLE001  # a file that nobody foresaw, or a bug: the other cases go on
        result = _failed(error, job.input)
    return dataclasses.replace(result, seconds=round(time.monotonic() - started, 3))


@contextmanager
def case_errors(log: CaseLog, case: str, path: Path, outcome: str = "", consequence: str = "") -> Iterator[None]:
    """Do one case inside: where it goes wrong, that is its entry in `log` and is said, and the next case can go on.

    outcome: what is said of the case before the message, such as "is left out"; consequence: what ends the message. A
    case that goes well gets an entry, too, unless it has one already.
    """
    started = time.monotonic()
    result = CaseResult()
    try:
        yield
    except OutputError:
        raise
    except Exception as error:  # noqa: BLE001  # as in `run_case`
        result = _failed(error, path)
        result = dataclasses.replace(result, message="; ".join(filter(None, (result.message, consequence))))
        warn(f"{case} {outcome}: {result.message}" if outcome else result.message, result.hint)
    seconds = round(time.monotonic() - started, 3)
    if not log.has(case):
        log.add(Entry(case, result.status, result.code, result.message, seconds, str(path)))
    elif result.status == "failed":
        log.fail(case, result.code, result.message)


def _failed(error: Exception, path: Path) -> CaseResult:
    """The result of a case that could not be used; its message names the file."""
    if not isinstance(error, MedsegError | MemoryError | RuntimeError):  # ITK and torch raise RuntimeError
        _show(error)
    code, text, hint = "case-error", f"{type(error).__name__}: {str(error).strip()[-300:]}", ""
    if isinstance(error, MedsegError):
        code, text, hint = error.code, str(error), error.hint
    if str(path) not in text:
        text = f"{path}: {text}"
    return CaseResult(status="failed", code=code, message=text, hint=hint)


def _show(error: Exception) -> None:
    """The traceback, so that no bug is hidden; a second case that fails at the same place adds nothing."""
    place = "".join(traceback.format_tb(error.__traceback__))
    if place not in _shown:
        _shown.add(place)
        traceback.print_exception(error)


def _crashed(job: Job, crash: WorkerCrash) -> CaseResult:
    error = MedsegError(
        f"{job.input}: the worker that had it {crash.reason}: out of memory, or a fault in a library; the same command "
        "tries it again, with fewer workers each has more memory",
        code="worker-died",
        hint="workers",
    )
    return _failed(error, job.input)


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
