"""Resume a batch: a case's result is reused only if its input, model, settings and version are unchanged."""

from __future__ import annotations

import csv
import hashlib
import json
from collections.abc import Iterable, Sequence
from dataclasses import fields
from pathlib import Path
from typing import Any

import medseg
from medseg.batch.entry import SUCCEEDED, Entry
from medseg.config.load import load, to_yaml, without_paths
from medseg.errors import ConfigError
from medseg.runs.run import MODEL_FILES, Run, hash_run_input
from medseg.utils.files import append_text, atomic_write_text
from medseg.utils.locks import ROWS


def hash_files(paths: Sequence[Path]) -> dict[Path, str]:
    """Digest of each file, or of all files below a folder, as in a run's split.csv; each is read once."""
    return {path: hash_run_input(path) for path in paths}


def combine_hashes(hashes: Iterable[str], facts: Any = None) -> str:
    """One digest of several hashes and of plain values; "" if a hash is "", because its file could not be read."""
    digest = hashlib.sha256()
    for file_hash in hashes:
        if not file_hash:
            return ""
        digest.update(bytes.fromhex(file_hash))
    if facts is not None:
        digest.update(_text(facts).encode())
    return digest.hexdigest()


def hash_content(paths: Sequence[Path], facts: Any = None) -> str:
    """Digest of files, or of all files below folders, and of plain values; "" if a file cannot be read."""
    return combine_hashes((hash_run_input(path) for path in paths), facts)


def settings_key(runs: Sequence[Run], settings: dict[str, Any]) -> str:
    """Digest of the models' prediction files, settings and medseg's version; a package has the digest of its run."""
    models = []
    for run in runs:
        hashes = run.read_json("manifest.json")["sha256"]
        model_hashes = {name: hashes[name] for name in MODEL_FILES if name in hashes}
        models.append([model_hashes, to_yaml(without_paths(load(run.file("config.yaml"))))])
    text = json.dumps([medseg.__version__, models, settings], sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()


def paths_relative_to(folder: Path, files: Sequence[Path]) -> str:
    """Paths relative to the folder of the case log, one per line."""
    return "\n".join((file.relative_to(folder) if file.is_relative_to(folder) else file).as_posix() for file in files)


class PreviousRun:
    """Results of an earlier run of the same command: entries by case, and rows of its other tables.

    `rows`: the file with those rows, by default that of the folder. Raises `ConfigError` (output-mixed) if there are
    results of cases that are not in `cases` and `overwrite` is false, and if `log_file` is not a case log.
    """

    def __init__(self, log_file: Path, cases: Sequence[str], overwrite: bool = False, rows: Path | None = None) -> None:
        self.folder = log_file.parent
        self._file = rows or self.folder / ROWS
        self.entries, names = _entries(log_file)
        self._rows = _rows(self._file)
        others = sorted(names - set(cases))
        if others and not overwrite:
            raise ConfigError(
                f"{log_file}: contains results of {len(others)} other cases ({', '.join(others[:3])}…); choose "
                "another output, or delete them",
                code="output-mixed",
                hint="overwrite",
            )
        for case in others:
            self.discard(case)
        self._compact()

    def reusable(self, case: str, inputs: str, key: str) -> Entry | None:
        """The entry of a case whose inputs and key are unchanged and whose files and rows are intact, else None."""
        entry = self.entries.get(case)
        if entry is None or entry.status not in SUCCEEDED or not inputs or not entry.output_hash:
            return None
        if (entry.input_hash, entry.key) != (inputs, key):
            return None
        files = self._outputs(entry)
        hashes = [hash_content(files)] if files else []
        return entry if entry.output_hash in (*hashes, hash_content(files, self.rows(case) or None)) else None

    def count_outdated(self, key: str) -> int:
        """Number of results of another model, other settings or another version."""
        return sum(entry.status in SUCCEEDED and entry.key != key for entry in self.entries.values())

    def rows(self, case: str) -> dict[str, Any]:
        """Rows of a case in the other tables, by table."""
        rows: dict[str, Any] = json.loads(self._rows[case])["rows"] if case in self._rows else {}
        return rows

    def record(self, case: str, rows: dict[str, Any]) -> None:
        """Append a case's rows of the other tables to the file."""
        append_text(self._file, json.dumps({"case": case, "rows": rows}) + "\n")

    def discard(self, case: str, keep: Sequence[Path] = ()) -> None:
        """Delete a case's entry, rows and files, except those to `keep` and those outside the folder."""
        self._rows.pop(case, None)
        entry = self.entries.pop(case, None)
        keep_paths = {file.resolve() for file in keep}
        for file in self._outputs(entry) if entry else []:
            if file.resolve() not in keep_paths and file.resolve().is_relative_to(self.folder.resolve()):
                file.unlink(missing_ok=True)

    def _outputs(self, entry: Entry) -> list[Path]:
        """Files written for a case."""
        return [self.folder / path for path in entry.outputs.split("\n") if path]

    def _compact(self) -> None:
        """Rewrite the file of rows with one complete line per succeeded case, so that lines can be appended."""
        done = {case for case, entry in self.entries.items() if entry.status in SUCCEEDED}
        self._rows = {case: line for case, line in self._rows.items() if case in done}
        text = "".join(line + "\n" for line in self._rows.values())
        if self._file.is_file() and self._file.read_bytes() != text.encode(errors="backslashreplace"):
            atomic_write_text(self._file, text)


def _text(content: Any) -> str:
    return json.dumps(content, sort_keys=True)


def _rows(file: Path) -> dict[str, str]:
    """Lines by case, the later of two; an incomplete line of a killed process is ignored."""
    lines = {}
    for line in file.read_text(encoding="utf-8", errors="replace").split("\n") if file.is_file() else []:
        try:
            lines[json.loads(line)["case"]] = line
        except (ValueError, KeyError, TypeError):
            continue
    return lines


def _entries(file: Path) -> tuple[dict[str, Entry], set[str]]:
    """Entries of an earlier case log by case, the later of two, and all its cases; of another version only the cases.

    An incomplete line of a killed process is ignored.
    """
    require_case_log(file)
    if not file.is_file():
        return {}, set()
    names = [field.name for field in fields(Entry)]
    with file.open(newline="", encoding="utf-8", errors="replace") as stream:
        reader = csv.DictReader(stream)
        rows = [row for row in reader if row.get("case") and None not in row.values()]
        columns = set(reader.fieldnames or [])
    if not set(names) <= columns:
        return {}, {row["case"] for row in rows}
    entries = {row["case"]: Entry(**{**{n: row[n] for n in names}, "seconds": _seconds(row)}) for row in rows}  # type: ignore[arg-type]
    return entries, set(entries)


def require_case_log(file: Path) -> None:
    """`ConfigError` if a case log would overwrite a table that is not a case log."""
    if not file.is_file():
        return
    with file.open(newline="", encoding="utf-8", errors="replace") as stream:
        columns = next(csv.reader(stream), [])
    if columns and not {"case", "status", "code"} <= set(columns):
        raise ConfigError(f"{file}: is not a case log of medseg and would be overwritten; choose another output")


def _seconds(row: dict[str, Any]) -> float:
    try:
        return float(row["seconds"])
    except ValueError:
        return 0.0
