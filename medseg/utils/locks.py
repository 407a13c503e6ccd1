"""Locks, so that one process writes to an output, and removal of drafts of killed processes."""

from __future__ import annotations

import glob
import os
import secrets
import shutil
import tempfile
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from functools import partial
from pathlib import Path

from filelock import FileLock, Timeout

from medseg.errors import ConfigError, OutputError
from medseg.utils.files import DRAFT, draft_prefix, sibling_path

ROWS = ".rows.jsonl"  # of the tables next to the case log, one line a case, in order of completion
LOCK_SUFFIX = ".held"  # of the lock next to a temporary folder


@contextmanager
def lock_output(out: Path) -> Iterator[None]:
    """Lock an output folder; a second process is refused, and the lock of a dead process is void.

    Drafts of killed processes are removed. Raises `ConfigError` (busy), `OutputError` where nothing can be
    written.
    """
    with _lock(out / ".lock", out):
        remove_drafts(out)
        try:
            yield
        finally:  # of workers that died
            remove_drafts(out)


@contextmanager
def lock_table(out: Path, endings: Sequence[str]) -> Iterator[None]:
    """`lock_output` for a table and the files that belong to it; other tables in the folder stay unlocked."""
    with _lock(hidden_path(out, ".lock"), out):
        for file in [hidden_path(out, ROWS), *(sibling_path(out, ending) for ending in endings)]:
            _clear(out.parent.glob(glob.escape(draft_prefix(file)) + "*"))
        remove_drafts(sibling_path(out, "_pictures"))
        yield


def hidden_path(out: Path, ending: str) -> Path:
    """features.csv, ".lock" → .features.lock."""
    return out.with_name("." + sibling_path(out, ending).name)


@contextmanager
def _lock(lock: Path, out: Path) -> Iterator[None]:
    try:
        lock.parent.mkdir(parents=True, exist_ok=True)
        acquired = FileLock(lock, blocking=False).acquire()
    except Timeout as error:
        raise ConfigError(
            f"{out}: another medseg process is writing there; wait for it, or choose another output",
            code="output-locked",
        ) from error
    except OSError as error:
        raise OutputError(f"{out}: cannot be written ({error.strerror}); choose another output") from error
    with acquired:
        yield


def temporary_folder(prefix: str) -> tuple[Path, Callable[[], None]]:
    """A new temporary folder, and a function that removes it, in this process alone.

    Its lock file is next to it and is locked first, so that a folder with a free lock belongs to nobody.
    """
    while True:
        folder = Path(tempfile.gettempdir()) / f"{prefix}{secrets.token_hex(8)}"
        lock = _lock_of(folder)
        try:
            lock.acquire()
        except Timeout:  # another process's `sweep_temporary` looks at it
            continue
        folder.mkdir(mode=0o700)
        return folder, partial(_remove, folder, lock, os.getpid())


def sweep_temporary(prefix: str) -> None:
    """Remove temporary folders left by killed processes of this user."""
    for file in Path(tempfile.gettempdir()).glob(f"{prefix}*{LOCK_SUFFIX}"):
        with suppress(OSError):  # held, or gone
            if hasattr(os, "getuid") and file.lstat().st_uid != os.getuid():  # Windows: a place for each user
                continue
            lock = _lock_of(file.with_suffix(""))
            lock.acquire()
            _remove(file.with_suffix(""), lock, os.getpid())


def _lock_of(folder: Path) -> FileLock:
    return FileLock(f"{folder}{LOCK_SUFFIX}", blocking=False, thread_local=False)


def _remove(folder: Path, lock: FileLock, process: int) -> None:
    if os.getpid() != process:  # a fork leaves the folder to its parent
        return
    shutil.rmtree(folder, ignore_errors=True)
    with suppress(OSError):  # Windows removes no open file; there the release does
        Path(lock.lock_file).unlink()
    lock.release()


def remove_drafts(folder: Path) -> None:
    """Remove drafts of files that a killed process left unfinished."""
    _clear(folder.rglob(DRAFT + "*"))


def _clear(drafts: Iterable[Path]) -> None:
    for draft in list(drafts):
        if draft.is_dir():
            shutil.rmtree(draft, ignore_errors=True)
        else:
            draft.unlink(missing_ok=True)
