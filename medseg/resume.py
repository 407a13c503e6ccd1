"""A batch that goes on where it stopped: a case is done only if its input, model, settings and version are the same."""

from __future__ import annotations

import csv
import fcntl
import hashlib
import json
import os
import re
import shutil
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import fields
from pathlib import Path
from typing import Any

import medseg
from medseg.errors import ConfigError
from medseg.ledger import Entry, sha256
from medseg.runs import Run

DONE = ("ok", "review")
ROWS = ".rows.jsonl"  # of the tables beside the ledger, a line a case, as they come
DRAFT = ".writing-"  # how the folders of half-written files begin


@contextmanager
def only_one(out: Path) -> Iterator[None]:
    """Hold an output folder; a second process is refused, and one that died holds nothing.

    What a killed process left half-written is removed. Raises `ConfigError` (busy, or where nothing can be written).
    """
    try:
        out.mkdir(parents=True, exist_ok=True)
        file = (out / ".lock").open("w")
    except OSError as error:
        raise ConfigError(f"{out}: cannot be written ({error.strerror}); choose another output folder") from error
    with file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            raise ConfigError(
                f"{out}: another medseg writes there now; wait for it, or choose another output folder", code="busy"
            ) from error
        for draft in out.rglob(DRAFT + "*"):
            shutil.rmtree(draft, ignore_errors=True)
        yield


def sweep(folder: Path) -> None:
    """Remove what a killed process left of files that `atomic_write_bytes` had not finished."""
    for path in folder.rglob(".*"):
        if path.is_file() and re.fullmatch(r"\..+\.[a-z0-9_]{8}", path.name):
            path.unlink(missing_ok=True)


def content_of(paths: Sequence[Path]) -> str:
    """Digest of files, or of all files below folders; blank where one cannot be read."""
    digest = hashlib.sha256()
    try:
        for path in paths:
            files = sorted(part for part in path.rglob("*") if part.is_file()) if path.is_dir() else [path]
            for file in files:
                digest.update(bytes.fromhex(sha256(file)))
    except OSError:
        return ""
    return digest.hexdigest()


def key_of(runs: Sequence[Run], settings: dict[str, Any]) -> str:
    """Digest of models, settings and medseg's version."""
    models = [run.read_json("manifest.json")["sha256"] for run in runs]
    text = json.dumps([medseg.__version__, models, settings], sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()


class Before:
    """What an earlier run of the same command left: entries by case, and rows of its other tables."""

    def __init__(self, ledger: Path, cases: Sequence[str], replace: bool = False) -> None:
        self.folder = ledger.parent
        self.entries = _entries(ledger)
        self._rows = _rows(self.folder / ROWS)
        strange = sorted(set(self.entries) - set(cases))
        if strange and not replace:
            raise ConfigError(
                f"{self.folder}: holds results of {len(strange)} other cases ({', '.join(strange[:3])}…), which would "
                "be mixed with these; choose another output folder, or drop them with --replace",
                code="mixed",
            )
        for name in strange:
            for file in _outputs(self.entries.pop(name)):
                file.unlink(missing_ok=True)

    def kept(self, case: str, inputs: str, key: str) -> Entry | None:
        """The entry of a case that need not be made again: all is as it was, and its files are whole."""
        entry = self.entries.get(case)
        if entry is None or entry.status not in DONE or not inputs or (entry.input_hash, entry.key) != (inputs, key):
            return None
        files = _outputs(entry)
        return entry if files and content_of(files) == entry.output_hash else None

    def rows(self, case: str) -> dict[str, list[dict[str, Any]]]:
        """What the other tables said of a case, by table."""
        return self._rows.get(case, {})

    def note(self, case: str, rows: dict[str, list[dict[str, Any]]]) -> None:
        """Keep what the other tables say of a case, at once and to stay."""
        with (self.folder / ROWS).open("a", encoding="utf-8") as file:
            file.write(json.dumps({"case": case, "rows": rows}) + "\n")
            file.flush()
            os.fsync(file.fileno())


def _outputs(entry: Entry) -> list[Path]:
    return [Path(path) for path in entry.outputs.split("\n") if path]


def _rows(file: Path) -> dict[str, dict[str, list[dict[str, Any]]]]:
    """By case, the later line of two; a line that a killed process did not finish is left out."""
    found = {}
    for line in file.read_text(encoding="utf-8").splitlines() if file.is_file() else []:
        try:
            content = json.loads(line)
        except ValueError:
            continue
        found[content["case"]] = content["rows"]
    return found


def _entries(file: Path) -> dict[str, Entry]:
    """Entries of an earlier ledger; one of another version, or none, means that nothing is known."""
    if not file.is_file():
        return {}
    names = {field.name for field in fields(Entry)}
    with file.open(newline="", encoding="utf-8") as stream:
        rows = list(csv.DictReader(stream))
    if not rows or not names <= set(rows[0]):
        return {}
    kept = [{name: row[name] for name in names} for row in rows]
    return {row["case"]: Entry(**{**row, "seconds": float(row["seconds"])}) for row in kept}  # type: ignore[arg-type]
