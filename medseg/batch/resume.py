"""A batch that goes on where it stopped: a case is done only if its input, model, settings and version are the same."""

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
    """Digest of each file, or of all files below a folder, as a run's split knows them; each is read once."""
    return {path: hash_run_input(path) for path in paths}


def combine_hashes(hashes: Iterable[str], facts: Any = None) -> str:
    """One digest of several and of plain values; blank where one is, since its file could not be read."""
    digest = hashlib.sha256()
    for one in hashes:
        if not one:
            return ""
        digest.update(bytes.fromhex(one))
    if facts is not None:
        digest.update(_text(facts).encode())
    return digest.hexdigest()


def hash_content(paths: Sequence[Path], facts: Any = None) -> str:
    """Digest of files, or of all files below folders, and of plain values; blank where a file cannot be read."""
    return combine_hashes((hash_run_input(path) for path in paths), facts)


def settings_key(runs: Sequence[Run], settings: dict[str, Any]) -> str:
    """Digest of what models answer with, settings and medseg's version; a package has that of the run it was made
    from."""
    models = []
    for run in runs:
        hashes = run.read_json("manifest.json")["sha256"]
        answers = {name: hashes[name] for name in MODEL_FILES if name in hashes}
        models.append([answers, to_yaml(without_paths(load(run.file("config.yaml"))))])
    text = json.dumps([medseg.__version__, models, settings], sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()


def paths_relative_to(folder: Path, files: Sequence[Path]) -> str:
    """Files as seen from the ledger's folder, a line each, so that they are found again from any other."""
    return "\n".join((file.relative_to(folder) if file.is_relative_to(folder) else file).as_posix() for file in files)


class PreviousRun:
    """What an earlier run of the same command left: entries by case, and rows of its other tables.

    `rows`: the file that keeps those, else the folder's. Raises `ConfigError`: mixed, where there are other cases than
    `cases` and `overwrite` does not drop them; where `ledger` is the file of somebody else.
    """

    def __init__(self, ledger: Path, cases: Sequence[str], overwrite: bool = False, rows: Path | None = None) -> None:
        self.folder = ledger.parent
        self._file = rows or self.folder / ROWS
        self.entries, named = _entries(ledger)
        self._rows = _rows(self._file)
        strange = sorted(named - set(cases))
        if strange and not overwrite:
            raise ConfigError(
                f"{ledger}: tells of results of {len(strange)} other cases ({', '.join(strange[:3])}…), which would "
                "be mixed with these; choose another output, or have them dropped",
                code="output-mixed",
                hint="overwrite",
            )
        for name in strange:
            self.forget(name)
        self._settle()

    def kept(self, case: str, inputs: str, key: str) -> Entry | None:
        """The entry of a case that need not be made again: all is as it was, and its files and rows are whole."""
        entry = self.entries.get(case)
        if entry is None or entry.status not in SUCCEEDED or not inputs or not entry.output_hash:
            return None
        if (entry.input_hash, entry.key) != (inputs, key):
            return None
        files = self._outputs(entry)
        whole = [hash_content(files)] if files else []
        return entry if entry.output_hash in (*whole, hash_content(files, self.rows(case) or None)) else None

    def aged(self, key: str) -> int:
        """How many cases were done by another model, with other settings or another version."""
        return sum(entry.status in SUCCEEDED and entry.key != key for entry in self.entries.values())

    def rows(self, case: str) -> dict[str, Any]:
        """What the other tables said of a case, by table."""
        rows: dict[str, Any] = json.loads(self._rows[case])["rows"] if case in self._rows else {}
        return rows

    def note(self, case: str, rows: dict[str, Any]) -> None:
        """Keep what the other tables say of a case, at once and to stay."""
        append_text(self._file, json.dumps({"case": case, "rows": rows}) + "\n")

    def forget(self, case: str, keep: Sequence[Path] = ()) -> None:
        """Drop what is known of a case, and remove its files but those to `keep`; none that lies elsewhere."""
        self._rows.pop(case, None)
        entry = self.entries.pop(case, None)
        kept = {file.resolve() for file in keep}
        for file in self._outputs(entry) if entry else []:
            if file.resolve() not in kept and file.resolve().is_relative_to(self.folder.resolve()):
                file.unlink(missing_ok=True)

    def _outputs(self, entry: Entry) -> list[Path]:
        """Files that were made for a case."""
        return [self.folder / path for path in entry.outputs.split("\n") if path]

    def _settle(self) -> None:
        """Leave one whole line a case that is done in the file of rows: nothing may be appended to half a line."""
        done = {case for case, entry in self.entries.items() if entry.status in SUCCEEDED}
        self._rows = {case: line for case, line in self._rows.items() if case in done}
        text = "".join(line + "\n" for line in self._rows.values())
        if self._file.is_file() and self._file.read_bytes() != text.encode(errors="backslashreplace"):
            atomic_write_text(self._file, text)


def _text(content: Any) -> str:
    return json.dumps(content, sort_keys=True)


def _rows(file: Path) -> dict[str, str]:
    """Lines by case, the later of two; a line that a killed process did not finish is left out."""
    found = {}
    for line in file.read_text(encoding="utf-8", errors="replace").split("\n") if file.is_file() else []:
        try:
            found[json.loads(line)["case"]] = line
        except (ValueError, KeyError, TypeError):
            continue
    return found


def _entries(file: Path) -> tuple[dict[str, Entry], set[str]]:
    """Entries of an earlier ledger by case, the later of two, and every case it names; of another version only these.

    A line that a killed process did not finish is left out.
    """
    require_case_log(file)
    if not file.is_file():
        return {}, set()
    names = [field.name for field in fields(Entry)]
    with file.open(newline="", encoding="utf-8", errors="replace") as stream:
        reader = csv.DictReader(stream)
        rows = [row for row in reader if row.get("case") and None not in row.values()]
        known = set(reader.fieldnames or [])
    if not set(names) <= known:
        return {}, {row["case"] for row in rows}
    entries = {row["case"]: Entry(**{**{n: row[n] for n in names}, "seconds": _seconds(row)}) for row in rows}  # type: ignore[arg-type]
    return entries, set(entries)


def require_case_log(file: Path) -> None:
    """`ConfigError` where a ledger would be written over a table that is none."""
    if not file.is_file():
        return
    with file.open(newline="", encoding="utf-8", errors="replace") as stream:
        known = next(csv.reader(stream), [])
    if known and not {"case", "status", "code"} <= set(known):
        raise ConfigError(f"{file}: would be written over, and is no ledger of medseg; choose another output")


def _seconds(row: dict[str, Any]) -> float:
    try:
        return float(row["seconds"])
    except ValueError:
        return 0.0
