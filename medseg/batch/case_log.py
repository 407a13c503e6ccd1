"""What happened to every case: statuses, atomic writes, exit statuses."""

from __future__ import annotations

import csv
import io
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, fields, replace
from pathlib import Path
from typing import Any, Self

from medseg.errors import EXIT_INTERRUPTED, EXIT_NOTHING, EXIT_OK, EXIT_SOME, MedsegError, OutputError
from medseg.utils.files import append_text, atomic_write_text, write_json

SUCCEEDED = ("ok", "review")


@dataclass(frozen=True)
class Entry:
    """One case's line: `status` is ok | failed | skipped | review.

    input_hash: SHA-256 of what was read; key: of model, settings and version; outputs: files that were written, a line
    each; output_hash: SHA-256 of those.
    """

    case: str
    status: str
    code: str = ""
    message: str = ""
    seconds: float = 0.0
    input: str = ""
    output: str = ""
    input_hash: str = ""
    key: str = ""
    outputs: str = ""
    output_hash: str = ""


class CaseLog:
    """Entries of a batch, added to a CSV file as they come, so that a killed run leaves what it did.

    While it runs, the file may hold an earlier run's line of a case above its new one: the later one counts. `close`
    makes the lines unique and writes the same as JSON beside it (cases.csv, cases.json): {"finished", "cases",
    "counts", "exit_status", "ledger", "entries"}. As a context it is closed at the end, also when interrupted. Without
    `file` it is kept in memory only.
    """

    def __init__(self, file: Path | None, before: Mapping[str, Entry] | None = None) -> None:
        self.file = file
        self.entries: list[Entry] = []
        self.kept = 0  # entries taken over from an earlier run
        self._before = dict(before or {})  # of an earlier run, until this one comes to the case
        self._begun = self._closed = False

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
        if not self._begun:
            self._write()
        elif self.file is not None and entry != known:
            append_text(self.file, _lines([entry]))
        self._closed = False

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
        """For `--json`: counts, exit status and every entry."""
        return {
            "cases": len(self.entries),
            "counts": self.counts,
            "exit_status": self.exit_status(),
            "ledger": self.file and str(self.file),
            "entries": [asdict(entry) for entry in self.entries],
        }


def failed_entry(case: str, path: Path, error: Exception, seconds: float) -> Entry:
    """The entry of a case that could not be used; its message names the file."""
    code, text = "case-error", f"{type(error).__name__}: {str(error).strip()[-300:]}"
    if isinstance(error, MedsegError):
        code, text = error.code, str(error)
    if str(path) not in text:
        text = f"{path}: {text}"
    return Entry(case, "failed", code, text, round(seconds, 3), str(path))


def _lines(entries: Iterable[Entry]) -> str:
    text = io.StringIO()
    csv.writer(text, lineterminator="\n").writerows(
        [getattr(entry, field.name) for field in fields(Entry)] for entry in entries
    )
    return text.getvalue()
