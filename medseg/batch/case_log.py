"""The case log of a batch: status of every case, atomic writes, exit status."""

from __future__ import annotations

import csv
import io
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, fields, replace
from pathlib import Path
from typing import Any, Self

from medseg.batch.entry import SUCCEEDED, Entry
from medseg.batch.resume import PreviousRun
from medseg.errors import EXIT_INTERRUPTED, EXIT_NOTHING, EXIT_OK, EXIT_SOME, MedsegError, OutputError
from medseg.utils.files import append_text, atomic_write_text, write_json


class CaseLog:
    """Entries of a batch, appended to a CSV file as cases finish, so that a killed run leaves its results.

    While it runs, the file may have an earlier run's line of a case above its new one: the later one counts. `close`
    makes the lines unique and writes the same as JSON next to it (cases.csv, cases.json): {"finished", "cases",
    "counts", "exit_status", "case_log", "entries"}. As a context it is closed at the end, also if interrupted. Without
    `file` it is in memory only.

    previous: results that may be reused. key: digest of model, settings and version; "": no hashes. fail_fast: after a
    failure all further cases are skipped.
    """

    def __init__(
        self, file: Path | None, previous: PreviousRun | None = None, key: str = "", fail_fast: bool = False
    ) -> None:
        self.file, self.previous, self.key, self.fail_fast = file, previous, key, fail_fast
        self.entries: list[Entry] = []
        self.n_reused = 0  # entries reused from an earlier run
        self._before = dict(previous.entries) if previous else {}  # entries of cases that this run has not reached
        self._names: set[str] = set()
        self._begun = self._closed = self._failed = False

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        if kind is not None and issubclass(kind, OutputError):
            return  # nothing more can be written
        self.close(finished=kind is None or issubclass(kind, MedsegError))

    def add(self, entry: Entry) -> None:
        """Append an entry and write it at once."""
        previous_entry = self._before.pop(entry.case, None)
        self.entries.append(entry)
        self._names.add(entry.case)
        self._failed = self._failed or entry.status == "failed"
        if not self._begun:
            self._write()
        elif self.file is not None and entry != previous_entry:
            append_text(self.file, _lines([entry]))
        self._closed = False

    def has(self, case: str) -> bool:
        """Whether this run has an entry of a case."""
        return case in self._names

    def amend(self, entries: Sequence[Entry]) -> None:
        """Replace the entries of this run."""
        self.entries = list(entries)
        self._write()

    def review(self, reasons: Mapping[str, str]) -> None:
        """Set status review, with its reason, for succeeded cases; an empty reason changes nothing."""
        self.amend(
            [
                replace(entry, status="review", code="review", message=reasons[entry.case])
                if reasons.get(entry.case) and entry.status in SUCCEEDED
                else entry
                for entry in self.entries
            ]
        )

    def fail(self, case: str, code: str, message: str) -> None:
        """Change a case's entry to failed."""
        self.amend(
            [
                replace(entry, status="failed", code=code, message=message) if entry.case == case else entry
                for entry in self.entries
            ]
        )

    def close(self, finished: bool = True) -> None:
        """Write CSV and JSON, each atomically; `finished` is false if cases may be missing."""
        if self._closed or self.file is None:
            return
        self._write()
        content = {"finished": finished, **self.summary()}
        if not finished:
            content["exit_status"] = EXIT_INTERRUPTED
        content["entries"] += [asdict(entry) for entry in self._before.values()]
        write_json(self.file.with_suffix(".json"), content)
        self._closed = True

    def _write(self) -> None:
        self._begun, self._closed = True, False
        if self.file is None:
            return
        head = ",".join(field.name for field in fields(Entry)) + "\n"
        atomic_write_text(self.file, head + _lines([*self.entries, *self._before.values()]))
        self.file.with_suffix(".json").unlink(missing_ok=True)  # an earlier run's, outdated

    @property
    def folder(self) -> Path:
        """Folder of the log; paths in its entries are relative to it."""
        return self.file.parent if self.file else Path()

    @property
    def stopped(self) -> bool:
        """Whether all further cases must be skipped."""
        return self.fail_fast and self._failed

    @property
    def counts(self) -> dict[str, int]:
        """Number of entries of each status."""
        return dict(Counter(entry.status for entry in self.entries))

    def exit_status(self) -> int:
        """0: no case failed, 1: all failed, 3: some failed."""
        counts = self.counts
        if not counts.get("failed"):
            return EXIT_OK
        return EXIT_SOME if any(counts.get(status) for status in SUCCEEDED) else EXIT_NOTHING

    def summary(self) -> dict[str, Any]:
        """Counts, exit status and every entry, for JSON."""
        return {
            "cases": len(self.entries),
            "counts": self.counts,
            "exit_status": self.exit_status(),
            "case_log": self.file and str(self.file),
            "entries": [asdict(entry) for entry in self.entries],
        }


def _lines(entries: Iterable[Entry]) -> str:
    text = io.StringIO()
    csv.writer(text, lineterminator="\n").writerows(
        [getattr(entry, field.name) for field in fields(Entry)] for entry in entries
    )
    return text.getvalue()
