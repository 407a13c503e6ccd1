"""What happened to every case: statuses, atomic writes, exit statuses."""

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
    """Entries of a batch, added to a CSV file as they come, so that a killed run leaves what it did.

    While it runs, the file may hold an earlier run's line of a case above its new one: the later one counts. `close`
    makes the lines unique and writes the same as JSON beside it (cases.csv, cases.json): {"finished", "cases",
    "counts", "exit_status", "ledger", "entries"}. As a context it is closed at the end, also when interrupted. Without
    `file` it is kept in memory only.

    previous: what need not be made again. key: digest of model, settings and version; blank where nobody asks for
    hashes. fail_fast: after a failure all further cases are skipped.
    """

    def __init__(
        self, file: Path | None, previous: PreviousRun | None = None, key: str = "", fail_fast: bool = False
    ) -> None:
        self.file, self.previous, self.key, self.fail_fast = file, previous, key, fail_fast
        self.entries: list[Entry] = []
        self.kept = 0  # entries taken over from an earlier run
        self._before = dict(previous.entries) if previous else {}  # until this run comes to the case
        self._names: set[str] = set()
        self._begun = self._closed = self._failed = False

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        if kind is not None and issubclass(kind, OutputError):
            return  # nothing more can be written
        self.close(finished=kind is None or issubclass(kind, MedsegError))

    def add(self, entry: Entry) -> None:
        """Append and write at once."""
        known = self._before.pop(entry.case, None)
        self.entries.append(entry)
        self._names.add(entry.case)
        self._failed = self._failed or entry.status == "failed"
        if not self._begun:
            self._write()
        elif self.file is not None and entry != known:
            append_text(self.file, _lines([entry]))
        self._closed = False

    def has(self, case: str) -> bool:
        """Whether this run has come to a case."""
        return case in self._names

    def amend(self, entries: Sequence[Entry]) -> None:
        """Say something else of the cases so far."""
        self.entries = list(entries)
        self._write()

    def review(self, reasons: Mapping[str, str]) -> None:
        """Mark cases that went well as such to be looked at, each with its reason; a blank reason marks nothing."""
        self.amend(
            [
                replace(entry, status="review", code="review", message=reasons[entry.case])
                if reasons.get(entry.case) and entry.status in SUCCEEDED
                else entry
                for entry in self.entries
            ]
        )

    def fail(self, case: str, code: str, message: str) -> None:
        """Say of a case that went well so far that it failed after all."""
        self.amend(
            [
                replace(entry, status="failed", code=code, message=message) if entry.case == case else entry
                for entry in self.entries
            ]
        )

    def close(self, finished: bool = True) -> None:
        """Write CSV and JSON, each whole; `finished` is false where cases may be missing."""
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
        self.file.with_suffix(".json").unlink(missing_ok=True)  # an earlier run's: no longer true

    @property
    def folder(self) -> Path:
        """Where the log lies; its entries name files as seen from there."""
        return self.file.parent if self.file else Path()

    @property
    def stopped(self) -> bool:
        """Whether all further cases are to be skipped."""
        return self.fail_fast and self._failed

    @property
    def counts(self) -> dict[str, int]:
        """Number of entries of each status."""
        return dict(Counter(entry.status for entry in self.entries))

    def exit_status(self) -> int:
        """0 all well, 1 nothing worked, 3 some cases failed."""
        counts = self.counts
        if not counts.get("failed"):
            return EXIT_OK
        return EXIT_SOME if any(counts.get(status) for status in SUCCEEDED) else EXIT_NOTHING

    def summary(self) -> dict[str, Any]:
        """For a script: counts, exit status and every entry."""
        return {
            "cases": len(self.entries),
            "counts": self.counts,
            "exit_status": self.exit_status(),
            "ledger": self.file and str(self.file),
            "entries": [asdict(entry) for entry in self.entries],
        }


def _lines(entries: Iterable[Entry]) -> str:
    text = io.StringIO()
    csv.writer(text, lineterminator="\n").writerows(
        [getattr(entry, field.name) for field in fields(Entry)] for entry in entries
    )
    return text.getvalue()
