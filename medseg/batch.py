"""A batch of cases that loses nothing: each by itself, written down at once, not made again without need."""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from medseg.console import progress, warn
from medseg.errors import ImageError, MedsegError, OutputError
from medseg.ledger import Entry, Ledger, beside, failure
from medseg.resume import ROWS, Before, content_of, hidden, named_from, only_table

Rows = dict[str, Any]


@dataclass(frozen=True)
class Job:
    """One case: the file that messages name, all files that shape its result, and the plain values that do."""

    name: str
    input: Path
    reads: Sequence[Path]
    facts: Any = None


@dataclass(frozen=True)
class Made:
    """What became of a case: rows for tables, files that were written, and what to say of it."""

    rows: Rows = field(default_factory=dict)
    files: Sequence[Path] = ()
    status: str = "ok"
    code: str = ""
    message: str = ""


@dataclass(frozen=True)
class Book:
    """Where a batch is written down.

    key: digest of model, settings and version; blank where nobody asks for hashes. before: what need not be made again.
    """

    ledger: Ledger
    key: str = ""
    before: Before | None = None
    fail_fast: bool = False


@dataclass(frozen=True)
class Ways:
    """How a batch is to go: end at the first failure; drop what an earlier run left of other cases."""

    fail_fast: bool = False
    replace: bool = False


PLAIN = Ways()


@contextmanager
def table_book(out: Path, cases: Sequence[str], key: str, ways: Ways, endings: Sequence[str]) -> Iterator[Book]:
    """The book of a table OUT.csv: the ledger OUT_cases.csv and .json, and a hidden file of rows to go on from.

    `endings`: what the command writes, ".csv" for the table. Held against a second process. Where no case could be
    used, what an earlier run wrote is removed: the tables hold what the ledger says, and nothing older.
    """
    with only_table(out, [*endings, "_cases.csv", "_cases.json"]):
        file = beside(out, "_cases.csv")
        before = Before(file, cases, ways.replace, hidden(out, ROWS))
        tell_aged(before, key, out)
        older = endings if before.entries else ()
        with Ledger(file, before.entries) as ledger:
            try:
                yield Book(ledger, key, before, ways.fail_fast)
            except ImageError as error:
                for ending in older if error.code == "nothing" else ():
                    beside(out, ending).unlink(missing_ok=True)
                raise


def tell_aged(before: Before, key: str, out: Path) -> None:
    """Say that what another model or other settings made is replaced, before it is."""
    if aged := before.aged(key):
        warn(
            f"{out}: {aged} results of another model, other settings or another version are made again and replaced; "
            "choose another output to keep both"
        )


def go_through(jobs: Sequence[Job], make: Callable[[Job], Made], book: Book, label: str) -> Iterator[tuple[str, Rows]]:
    """Make every case; yields the rows of those that have some, by name, in order.

    A case that fails is named and the others go on. What is kept from an earlier run is not made again. Raises
    `OutputError` where nothing can be written.
    """
    stopped = False
    with progress(label, len(jobs)) as bar:
        for job in jobs:
            entry, rows = _one(job, make, book, stopped)
            book.ledger.add(entry)
            if entry.status == "failed":
                warn(entry.message)
            if entry.status == "review":
                warn(f"{job.name}: look at it: {entry.message}")
            stopped = stopped or (book.fail_fast and entry.status == "failed")
            bar.advance(1, job.name)
            if rows:
                yield job.name, rows


def _one(job: Job, make: Callable[[Job], Made], book: Book, stopped: bool) -> tuple[Entry, Rows]:
    inputs = content_of(job.reads, job.facts) if book.key else ""
    if book.before is not None and (kept := book.before.kept(job.name, inputs, book.key)):
        book.ledger.kept += 1
        return kept, book.before.rows(job.name)
    if stopped:
        if book.before is not None:
            book.before.forget(job.name)
        return Entry(job.name, "skipped", "fail-fast", "an earlier case failed", 0.0, str(job.input)), {}
    started = time.monotonic()
    try:
        made = make(job)
    except OutputError:
        raise
    except (MedsegError, MemoryError, RuntimeError) as error:  # ITK and torch raise RuntimeError
        entry, made = failure(job.name, job.input, error, time.monotonic() - started), Made()
    else:
        seconds = round(time.monotonic() - started, 3)
        entry = Entry(job.name, made.status, made.code, made.message, seconds, str(job.input))
    entry = dataclasses.replace(entry, input_hash=inputs, key=book.key)
    if book.before is not None:
        book.before.forget(job.name, made.files)  # an older answer must not stand beside a newer one, or a failure
        if made.rows:
            book.before.note(job.name, made.rows)
    if book.key and (made.rows or made.files):
        digest = content_of(made.files, made.rows or None)
        folder = book.ledger.file.parent if book.ledger.file else Path()
        entry = dataclasses.replace(entry, outputs=named_from(folder, made.files), output_hash=digest)
    return entry, made.rows
