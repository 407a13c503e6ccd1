"""Run a batch of cases: failures stay with their case, every result is logged at once, unchanged results are reused."""

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
MIN_FREE_BYTES = 1 << 20  # that the output folder must still accept
_printed_tracebacks: set[str] = set()


@dataclass(frozen=True)
class Job:
    """One case: the file that messages name, and all files (`reads`) and plain values (`facts`) its result depends on.

    work: further input of the function that runs it. hashes: digest of each file in `reads`; input_hash: digest of
    all of them and of `facts`; both are set by `hashed`.
    """

    name: str
    input: Path
    reads: Sequence[Path]
    facts: Any = None
    work: Any = None
    hashes: Mapping[Path, str] = field(default_factory=dict)
    input_hash: str = ""

    def hashed(self) -> Job:
        """A copy with digests; each file is read once."""
        hashes = hash_files(self.reads)
        return dataclasses.replace(self, hashes=hashes, input_hash=combine_hashes(hashes.values(), self.facts))


@dataclass(frozen=True)
class CaseResult:
    """The result of a case: rows for tables, written files, and its status in the case log."""

    rows: Rows = field(default_factory=dict)
    files: Sequence[Path] = ()
    status: str = "ok"
    code: str = ""
    message: str = ""
    output: str = ""  # the main output file
    seconds: float = 0.0
    hint: str = ""  # as in `MedsegError`


@dataclass(frozen=True)
class BatchOptions:
    """fail_fast: stop at the first failure; overwrite: delete an earlier run's results of other cases."""

    fail_fast: bool = False
    overwrite: bool = False


DEFAULT_OPTIONS = BatchOptions()


@contextmanager
def open_case_log(
    out: Path, cases: Sequence[str], key: str, options: BatchOptions, suffixes: Sequence[str]
) -> Iterator[CaseLog]:
    """The case log of a table OUT.csv: OUT_cases.csv and .json, and a hidden file of rows for resuming.

    `suffixes`: suffixes of the files that the command writes, ".csv" for the table. Locked against a second process. If
    no case could be used, an earlier run's files are deleted, so that tables and case log always agree.
    """
    with lock_table(out, [*suffixes, "_cases.csv", "_cases.json"]):
        file = sibling_path(out, "_cases.csv")
        previous = PreviousRun(file, cases, options.overwrite, hidden_path(out, ROWS))
        warn_outdated(previous, key, out)
        outdated = suffixes if previous.entries else ()
        with CaseLog(file, previous, key, options.fail_fast) as log:
            try:
                yield log
            except ImageError as error:
                for suffix in outdated if error.code == "no-usable-case" else ():
                    sibling_path(out, suffix).unlink(missing_ok=True)
                raise


def warn_outdated(previous: PreviousRun, key: str, out: Path) -> None:
    """Warn that results of another model or other settings will be replaced."""
    if count := previous.count_outdated(key):
        warn(
            f"{out}: {count} results of another model, other settings or another version are replaced; choose another "
            "output to keep both"
        )


def run_serial(
    jobs: Sequence[Job], make: Callable[[Job], CaseResult], log: CaseLog, label: str
) -> Iterator[tuple[str, Rows]]:
    """`run_cases` in this process, in the order of the jobs."""
    return run_cases(jobs, SerialPool(partial(run_case, make)), log, label)


def run_cases(
    jobs: Sequence[Job], pool: WorkerPool | SerialPool, log: CaseLog, label: str
) -> Iterator[tuple[str, Rows]]:
    """Run every case; yields (name, rows) of cases with rows as they finish.

    A failed case is reported and the others continue. Unchanged results of an earlier run are reused. The pool's work
    function is `run_case`. Raises `OutputError` if results cannot be written.
    """
    with progress(label, len(jobs)) as bar:
        for unhashed in jobs:
            for done, result in pool.until_free():
                yield from _record(done, result, log, bar)
            job = unhashed.hashed() if log.key else unhashed
            reusable = log.previous.reusable(job.name, job.input_hash, log.key) if log.previous else None
            if reusable is not None:
                yield from _reuse(reusable, log, bar)
            elif log.stopped:
                skipped = CaseResult(status="skipped", code="fail-fast", message="an earlier case failed")
                yield from _record(job, skipped, log, bar)
            else:
                pool.submit(job)
        for done, result in pool.as_completed():
            yield from _record(done, result, log, bar)


def _reuse(entry: Entry, log: CaseLog, bar: Progress) -> Iterator[tuple[str, Rows]]:
    """Reuse an earlier run's result of a case; yields its rows if it has some."""
    log.n_reused += 1
    log.add(entry)
    _announce(entry, "", bar)
    if log.previous and (rows := log.previous.rows(entry.case)):
        yield entry.case, rows


def _record(job: Job, result: CaseResult | WorkerCrash, log: CaseLog, bar: Progress) -> Iterator[tuple[str, Rows]]:
    """Log a case's result and yield its rows if it has some. `OutputError` if the log's folder is full."""
    if isinstance(result, WorkerCrash):
        result = _crashed(job, result)
    if result.code == "image-write":
        _require_free_space(log.folder)
    if log.previous is not None:
        # an earlier result must not remain next to a newer one, or a failure
        log.previous.discard(job.name, result.files)
        if result.rows:
            log.previous.record(job.name, result.rows)
    has_output = bool(log.key and (result.rows or result.files))
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
        outputs=paths_relative_to(log.folder, result.files) if has_output else "",
        output_hash=hash_content(result.files, result.rows or None) if has_output else "",
    )
    log.add(entry)
    _announce(entry, result.hint, bar)
    if result.rows:
        yield job.name, result.rows


def _announce(entry: Entry, hint: str, bar: Progress) -> None:
    if entry.status == "failed":
        warn(entry.message, hint)
    if entry.status == "review":
        warn(f"{entry.case}: needs review: {entry.message}")
    bar.advance(1, entry.case)


def run_case(make: Callable[[Job], CaseResult], job: Job) -> CaseResult:
    """Run a case; an error becomes a failed result, but `OutputError` (results cannot be written) is raised."""
    started = time.monotonic()
    try:
        result = make(job)
    except OutputError:
        raise
    except Exception as error:  # noqa: BLE001  # an unexpected file, or a bug: the other cases continue
        result = _failed(error, job.input)
    return dataclasses.replace(result, seconds=round(time.monotonic() - started, 3))


@contextmanager
def case_errors(log: CaseLog, case: str, path: Path, outcome: str = "", consequence: str = "") -> Iterator[None]:
    """Context of one case: an error is logged in `log` and printed, and the next case can continue.

    outcome: text before the message, such as "is left out"; consequence: text after it. A successful case gets an
    entry, too, unless it has one.
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
    """The result of a failed case; its message names the file."""
    if not isinstance(error, MedsegError | MemoryError | RuntimeError):  # ITK and torch raise RuntimeError
        _print_traceback(error)
    code, text, hint = "case-error", f"{type(error).__name__}: {str(error).strip()[-300:]}", ""
    if isinstance(error, MedsegError):
        code, text, hint = error.code, str(error), error.hint
    if str(path) not in text:
        text = f"{path}: {text}"
    return CaseResult(status="failed", code=code, message=text, hint=hint)


def _print_traceback(error: Exception) -> None:
    """Print an unexpected error's traceback, once for each origin."""
    text = "".join(traceback.format_tb(error.__traceback__))
    if text not in _printed_tracebacks:
        _printed_tracebacks.add(text)
        traceback.print_exception(error)


def _crashed(job: Job, crash: WorkerCrash) -> CaseResult:
    error = MedsegError(
        f"{job.input}: its worker process {crash.reason}: probably out of memory, or a library crashed; repeat the "
        "command to retry it, with fewer workers if memory is short",
        code="worker-died",
        hint="workers",
    )
    return _failed(error, job.input)


def _require_free_space(folder: Path) -> None:
    """`OutputError` if a folder is full: then all remaining cases would fail one by one."""
    try:
        with tempfile.TemporaryFile(dir=folder) as file:
            file.write(bytes(MIN_FREE_BYTES))
            file.flush()
    except OSError as error:
        raise OutputError(
            f"{folder}: no more files can be written ({error.strerror}); free disk space and repeat the command: "
            "finished cases are kept"
        ) from error
