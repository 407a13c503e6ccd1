import csv
import json
import os
import stat
import subprocess
import sys
from dataclasses import asdict
from pathlib import Path

import pytest

from medseg.batch.case_log import CaseLog
from medseg.batch.entry import Entry
from medseg.batch.resume import PreviousRun
from medseg.errors import DataError
from medseg.utils.files import atomic_write_text, hash_path, write_json
from tests.conftest import posix


@pytest.mark.parametrize(
    ("statuses", "exit_status"),
    [(["ok", "ok"], 0), (["failed"], 1), (["ok", "failed"], 3), (["skipped", "review"], 0), ([], 0)],
)
def test_exit_status_follows_entry_statuses(tmp_path: Path, statuses: list[str], exit_status: int) -> None:
    log = CaseLog(tmp_path / "cases.csv")
    for number, status in enumerate(statuses):
        log.add(Entry(f"c{number}", status))
    assert log.exit_status() == exit_status
    assert log.summary()["cases"] == len(statuses)


def test_case_log_add_writes_at_once(tmp_path: Path) -> None:
    log = CaseLog(tmp_path / "deep" / "cases.csv")
    for number in range(3):
        log.add(Entry(f"c{number}", "ok", message='a "quoted", text\nof two lines'))
        with log.file.open(newline="") as file:
            rows = list(csv.DictReader(file))
        assert [row["case"] for row in rows] == [f"c{n}" for n in range(number + 1)]
    assert rows[0]["message"] == 'a "quoted", text\nof two lines'


def test_atomic_write_failure_keeps_old_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    target = tmp_path / "a.txt"
    atomic_write_text(target, "old")

    def full(_descriptor: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("medseg.utils.files.os.fsync", full)
    with pytest.raises(DataError, match="No space left"):
        atomic_write_text(target, "new")
    assert target.read_text() == "old"
    assert [p.name for p in tmp_path.iterdir()] == ["a.txt"]


def test_json_refuses_nan(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="JSON"):
        write_json(tmp_path / "a.json", {"x": float("nan")})


def test_sha256_is_the_known_one(tmp_path: Path) -> None:
    (tmp_path / "a").write_bytes(b"abc")
    assert hash_path(tmp_path / "a") == "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"


def test_case_log_close_writes_json_and_finished(tmp_path: Path) -> None:
    file = tmp_path / "cases.csv"
    with CaseLog(file) as log:
        log.add(Entry("a", "ok", seconds=0.5))
        assert not file.with_suffix(".json").exists()
    content = json.loads(file.with_suffix(".json").read_text())
    assert (content["finished"], content["counts"], content["exit_status"]) == (True, {"ok": 1}, 0)
    assert content["entries"] == [asdict(Entry("a", "ok", seconds=0.5))]
    with CaseLog(file) as older:
        for name in "abc":
            older.add(Entry(name, "ok"))
    previous = PreviousRun(file, list("abc"))

    def interrupted() -> None:
        with CaseLog(file, previous) as log:
            log.add(Entry("b", "failed"))
            assert not file.with_suffix(".json").exists()  # the earlier one is no longer true
            raise SystemExit(130)

    with pytest.raises(SystemExit):
        interrupted()
    content = json.loads(file.with_suffix(".json").read_text())
    assert not content["finished"]
    assert content["exit_status"] == 130
    assert [(entry["case"], entry["status"]) for entry in content["entries"]] == [
        ("b", "failed"),
        ("a", "ok"),
        ("c", "ok"),
    ]


def test_case_log_add_cost_is_constant(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    CaseLog(tmp_path / "cases.csv").add(Entry("c5", "ok"))
    previous = PreviousRun(tmp_path / "cases.csv", ["c5"])
    written = []
    monkeypatch.setattr("medseg.batch.case_log.append_text", lambda _, text: written.append(len(text)))
    whole = []
    monkeypatch.setattr("medseg.batch.case_log.atomic_write_text", lambda _, text: whole.append(len(text)))
    log = CaseLog(tmp_path / "cases.csv", previous)
    for number in range(10):
        log.add(Entry(f"c{number}", "ok"))
    assert len(whole) == 1
    assert len(set(written)) == 1
    assert len(written) == 8  # c5 is as it was


@posix
def test_append_text_failure_restores_file(tmp_path: Path) -> None:
    """The operating system itself refuses more than 5000 bytes; a line of 4096 goes in, the next is cut."""
    code = (
        "import resource, sys; from pathlib import Path; from medseg.batch.case_log import append_text\n"
        "from medseg.errors import OutputError\n"
        "resource.setrlimit(resource.RLIMIT_FSIZE, (5000, 5000))\n"
        "append_text(Path('a'), 'x' * 4095 + '\\n')\n"
        "try: append_text(Path('a'), 'y' * 4095 + '\\n')\n"
        "except OutputError as error: sys.exit(str(error))"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True, check=False)
    assert "a: cannot be written" in done.stderr
    assert (tmp_path / "a").read_text() == "x" * 4095 + "\n"


@posix
def test_atomic_write_flushes_file_and_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    flushed = []
    sync = os.fsync

    def noted(descriptor: int) -> None:
        flushed.append(stat.S_ISDIR(os.fstat(descriptor).st_mode))
        sync(descriptor)

    monkeypatch.setattr("medseg.utils.files.os.fsync", noted)
    atomic_write_text(tmp_path / "a.txt", "new")
    assert flushed == [False, True]


def test_case_log_without_file_writes_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    with CaseLog(None) as log:
        log.add(Entry("a", "failed"))
        log.review({"a": "no"})
    assert log.exit_status() == 1
    assert log.summary()["case_log"] is None
    assert list(tmp_path.iterdir()) == []


@posix
def test_case_log_escapes_names_that_are_not_utf8(tmp_path: Path) -> None:
    log = CaseLog(tmp_path / "cases.csv")
    log.add(Entry("a", "failed", "image-name", "rename it", input=os.fsdecode(b"in/\xe9.png")))
    assert "in/\\udce9.png" in (tmp_path / "cases.csv").read_text(encoding="utf-8")


@posix
def test_a_pipe_has_no_digest(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(OSError, match="no regular file"):
        hash_path(tmp_path / "pipe")
