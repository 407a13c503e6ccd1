"""One process an output: locks, and removal of half-written files."""

from __future__ import annotations

import fcntl
import glob
import shutil
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from medseg.errors import ConfigError, OutputError
from medseg.utils.files import DRAFT, draft_prefix, sibling_path

ROWS = ".rows.jsonl"  # of the tables beside the ledger, a line a case, as they come


@contextmanager
def lock_output(out: Path) -> Iterator[None]:
    """Hold an output folder; a second process is refused, and one that died holds nothing.

    What a killed process left half-written is removed. Raises `ConfigError` (busy), `OutputError` where nothing can be
    written.
    """
    with _held(out / ".lock", out):
        remove_drafts(out)
        try:
            yield
        finally:  # of workers that died
            remove_drafts(out)


@contextmanager
def lock_table(out: Path, endings: Sequence[str]) -> Iterator[None]:
    """`only_one` for a table and what is written beside it; other tables of the folder are nobody's business."""
    with _held(hidden_path(out, ".lock"), out):
        for file in [hidden_path(out, ROWS), *(sibling_path(out, ending) for ending in endings)]:
            _clear(out.parent.glob(glob.escape(draft_prefix(file)) + "*"))
        remove_drafts(sibling_path(out, "_pictures"))
        yield


def hidden_path(out: Path, ending: str) -> Path:
    """features.csv, ".lock" → .features.lock."""
    return out.with_name("." + sibling_path(out, ending).name)


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
                f"{out}: another medseg writes there now; wait for it, or choose another output", code="output-locked"
            ) from error
        yield


def remove_drafts(folder: Path) -> None:
    """Remove what a killed process left of files that it had not finished."""
    _clear(folder.rglob(DRAFT + "*"))


def _clear(drafts: Iterable[Path]) -> None:
    for draft in list(drafts):
        if draft.is_dir():
            shutil.rmtree(draft, ignore_errors=True)
        else:
            draft.unlink(missing_ok=True)
