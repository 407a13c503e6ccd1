"""What happened to every case: statuses, atomic writes, exit statuses."""

from __future__ import annotations

import csv
import errno
import hashlib
import io
import json
import os
import tempfile
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, fields, replace
from pathlib import Path
from typing import Any

from medseg.errors import DataError, MedsegError

EXIT_OK, EXIT_NOTHING, EXIT_USAGE, EXIT_SOME, EXIT_INTERRUPTED = 0, 1, 2, 3, 130


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


class Ledger:
    """Entries of a batch, written to a CSV file as they come, so that a killed run leaves what it did.

    Each entry is a line at the end of the file: rewriting it for every case would cost the square of their number. So a
    killed run may leave two lines of one case, the later one being right, and a last line that is not whole.
    """

    def __init__(self, file: Path, before: Mapping[str, Entry] | None = None) -> None:
        self.file = file
        self.entries: list[Entry] = []
        self._before = dict(before or {})  # of an earlier run, until this one comes to the case

    def add(self, entry: Entry) -> None:
        """Append and write at once."""
        self.entries.append(entry)
        earlier = self._before.pop(entry.case, None)
        if len(self.entries) == 1 or (earlier and not self._before):  # the first, or the last that stood there before
            self._write()
        elif entry != earlier:
            append_text(self.file, _lines([entry]))

    def sort(self, cases: Sequence[str]) -> None:
        """Put the entries in the order of the cases, whichever was ready first."""
        place = {case: number for number, case in enumerate(cases)}
        self.entries.sort(key=lambda entry: place[entry.case])
        self._write()

    def review(self, reasons: dict[str, str]) -> None:
        """Mark cases that went well as such to be looked at, each with its reason; a blank reason marks nothing."""
        for place, entry in enumerate(self.entries):
            reason = reasons.get(entry.case)
            if reason and entry.status == "ok":
                self.entries[place] = replace(entry, status="review", code="look", message=reason)
        self._write()

    def _write(self) -> None:
        header = ",".join(field.name for field in fields(Entry)) + "\n"
        atomic_write_text(self.file, header + _lines([*self.entries, *self._before.values()]))

    @property
    def counts(self) -> dict[str, int]:
        """Number of entries of each status."""
        return dict(Counter(entry.status for entry in self.entries))

    def exit_status(self) -> int:
        """0 all well, 1 nothing worked, 3 some cases failed."""
        failed = sum(entry.status == "failed" for entry in self.entries)
        if failed == 0:
            return EXIT_OK
        return EXIT_NOTHING if failed == len(self.entries) else EXIT_SOME

    def summary(self) -> dict[str, Any]:
        """For `--json`: counts, exit status and every entry."""
        return {
            "cases": len(self.entries),
            "counts": self.counts,
            "exit_status": self.exit_status(),
            "ledger": str(self.file),
            "entries": [asdict(entry) for entry in self.entries],
        }


def _lines(entries: Sequence[Entry]) -> str:
    text = io.StringIO()
    csv.writer(text, lineterminator="\n").writerows(asdict(entry).values() for entry in entries)
    return text.getvalue()


def failure(case: str, path: Path, error: Exception, seconds: float) -> Entry:
    """The entry of a case that could not be used; its message names the file."""
    code, text = "case-error", f"{type(error).__name__}: {str(error).strip()[-300:]}"
    if isinstance(error, MedsegError):
        code, text = error.code, str(error)
    if str(path) not in text:
        text = f"{path}: {text}"
    return Entry(case, "failed", code, text, round(seconds, 3), str(path))


def atomic_write_bytes(path: Path, content: bytes) -> None:
    """The whole content or the old file, never a part: temporary file, fsync, rename."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        handle, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name[:80]}.")
    except OSError as error:
        raise DataError(f"{path}: cannot be written ({error.strerror}); choose another output folder") from error
    try:
        with os.fdopen(handle, "wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        Path(name).chmod(0o644)
        Path(name).replace(path)
    except OSError as error:
        raise DataError(f"{path}: cannot be written ({error.strerror})") from error
    finally:
        Path(name).unlink(missing_ok=True)


def atomic_write_text(path: Path, text: str) -> None:
    """`atomic_write_bytes` in UTF-8."""
    atomic_write_bytes(path, text.encode())


def append_text(path: Path, text: str) -> None:
    """Add to a file, to stay; `DataError` where it does not fit, and the file is as it was."""
    content = text.encode()
    try:
        with path.open("ab", buffering=0) as file:
            size = file.seek(0, os.SEEK_END)
            try:
                if file.write(content) != len(content):  # what a full disk does first
                    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
                os.fsync(file.fileno())
            except OSError:
                file.truncate(size)
                raise
    except OSError as error:
        raise DataError(f"{path}: cannot be written ({error.strerror})") from error


def write_json(path: Path, content: Any) -> None:
    """Indented JSON, written atomically; NaN is refused, since it is no JSON."""
    atomic_write_text(path, json.dumps(content, indent=2, allow_nan=False, ensure_ascii=False) + "\n")


def sha256(path: Path) -> str:
    """Hex digest of a file's bytes."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
