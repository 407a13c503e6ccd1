"""One process an output: locks, and removal of half-written files."""

from __future__ import annotations

import fcntl
import glob
import shutil
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from medseg.errors import ConfigError, OutputError
from medseg.utils.files import DRAFT, beside, draft_of

ROWS = ".rows.jsonl"  # of the tables beside the ledger, a line a case, as they come


@contextmanager
def only_one(out: Path) -> Iterator[None]:
    """Hold an output folder; a second process is refused, and one that died holds nothing.

    What a killed process left half-written is removed. Raises `ConfigError` (busy), `OutputError` where nothing can be
    written.
    """
    with _held(out / ".lock", out):
        sweep(out)
        try:
            yield
        finally:  # of workers that died
            sweep(out)


@contextmanager
def only_table(out: Path, endings: Sequence[str]) -> Iterator[None]:
    """`only_one` for a table and what is written beside it; other tables of the folder are nobody's business."""
    with _held(hidden(out, ".lock"), out):
        for file in [hidden(out, ROWS), *(beside(out, ending) for ending in endings)]:
            _clear(out.parent.glob(glob.escape(draft_of(file)) + "*"))
        sweep(beside(out, "_pictures"))
        yield


def hidden(out: Path, ending: str) -> Path:
    """features.csv, ".lock" → .features.lock."""
    return out.with_name("." + beside(out, ending).name)


@contextmanager
def _held(lock: Path, out: Path) -> Iterator[None]:
    try:
        lock.parent.mkdir(parents=True, exist_ok=True)
        file = lock.open("w")
    except OSError as error:
        raise OutputError(f"{out}: cannot be written ({error.strerror}); choose another output") from error
    with file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            raise ConfigError(
                f"{out}: another medseg writes there now; wait for it, or choose another output", code="busy"
            ) from error
        yield


def sweep(folder: Path) -> None:
    """Remove what a killed process left of files that it had not finished."""
    _clear(folder.rglob(DRAFT + "*"))


def _clear(drafts: Iterable[Path]) -> None:
    for draft in list(drafts):
        if draft.is_dir():
            shutil.rmtree(draft, ignore_errors=True)
        else:
            draft.unlink(missing_ok=True)
