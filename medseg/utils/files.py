"""Atomic writes, appends and digests of files."""

from __future__ import annotations

import contextlib
import errno
import hashlib
import json
import os
import re
import tempfile
from pathlib import Path
from typing import Any

from medseg.errors import OutputError

DRAFT = ".writing-"  # how the names of half-written files and folders begin
WINDOWS = os.name == "nt"
# characters that no name has on Windows, ends that it drops, and names that are devices there whatever their ending
_UNFIT = re.compile(
    r'.*[<>:"|?*\x00-\x1f].*|.*[. ]|(con|prn|aux|nul|conin\$|conout\$|(com|lpt)[0-9¹²³])(\..*)?', re.IGNORECASE
)


def sibling_path(out: Path, ending: str) -> Path:
    """features.csv, "_steps.csv" → features_steps.csv."""
    return out.with_name(out.name.removesuffix(".csv") + ending)


def unfit_name(name: str) -> bool:
    """Whether Windows cannot create a file or folder of this name ("/" separates folders); False elsewhere."""
    components = re.split(r"[/\\]", name)
    return WINDOWS and any(component == "" or _UNFIT.fullmatch(component) for component in components)


def draft_prefix(path: Path) -> str:
    """The prefix of the draft of `path`."""
    return f"{DRAFT}{path.name[:80]}."


def atomic_write_bytes(path: Path, content: bytes) -> None:
    """Write a file atomically: temporary file, fsync, rename, fsync of the folder.

    Raises `OutputError`.
    """
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        handle, name = tempfile.mkstemp(dir=path.parent, prefix=draft_prefix(path))
    except OSError as error:
        raise _unwritten(path, error) from error
    try:
        with os.fdopen(handle, "wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        Path(name).chmod(0o644)
        Path(name).replace(path)
    except OSError as error:
        raise _unwritten(path, error) from error
    finally:
        Path(name).unlink(missing_ok=True)
    _sync_folder(path.parent)


def _sync_folder(folder: Path) -> None:
    """Make a rename outlast a power cut, where the file system can."""
    with contextlib.suppress(OSError):
        handle = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(handle)
        finally:
            os.close(handle)


def sync(path: Path) -> None:
    """Flush a file to disk, so that it outlasts a power cut; opened for writing, as Windows requires."""
    with path.open("r+b") as file:
        os.fsync(file.fileno())


def append_text(path: Path, text: str) -> None:
    """Append and flush to disk; a partial append is undone. Raises `OutputError`."""
    unwritten = memoryview(text.encode(errors="backslashreplace"))
    try:
        with path.open("ab", buffering=0) as file:
            size = file.seek(0, os.SEEK_END)
            try:
                while unwritten:
                    unwritten = unwritten[file.write(unwritten) :]
                os.fsync(file.fileno())
            except OSError:
                file.truncate(size)
                raise
    except OSError as error:
        raise _unwritten(path, error) from error


def _unwritten(path: Path, error: OSError) -> OutputError:
    return OutputError(
        f"{path}: cannot be written ({error.strerror}); free disk space, change the permissions or use another output"
    )


def atomic_write_text(path: Path, text: str) -> None:
    """`atomic_write_bytes` in UTF-8; other bytes in names of files are escaped."""
    atomic_write_bytes(path, text.encode(errors="backslashreplace"))


def write_json(path: Path, content: Any) -> None:
    """Indented JSON, written atomically; NaN raises ValueError, since it is not valid JSON."""
    atomic_write_text(path, json.dumps(content, indent=2, allow_nan=False, ensure_ascii=False) + "\n")


def hash_path(path: Path) -> str:
    """SHA-256 of a file's bytes, in hex; of a folder, of the digests of all files in it, in the order of their names.

    Files are streamed. Raises OSError for a missing file, a pipe or a device.
    """
    if path.is_dir():
        files = sorted((file for file in path.rglob("*") if file.is_file()), key=lambda file: file.as_posix())
        return hashlib.sha256(b"".join(bytes.fromhex(hash_path(file)) for file in files)).hexdigest()
    if path.exists() and not path.is_file():
        raise OSError(errno.EINVAL, "is no regular file", str(path))
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
