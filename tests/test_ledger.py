import csv
import os
from pathlib import Path

import pytest

from medseg.errors import DataError
from medseg.ledger import Entry, Ledger, atomic_write_text, sha256, write_json


@pytest.mark.parametrize(
    ("statuses", "exit_status"),
    [(["ok", "ok"], 0), (["failed"], 1), (["ok", "failed"], 3), (["skipped", "review"], 0), ([], 0)],
)
def test_exit_status_tells_how_a_batch_went(tmp_path: Path, statuses: list[str], exit_status: int) -> None:
    ledger = Ledger(tmp_path / "cases.csv")
    for number, status in enumerate(statuses):
        ledger.add(Entry(f"c{number}", status))
    assert ledger.exit_status() == exit_status
    assert ledger.summary()["cases"] == len(statuses)


def test_every_entry_is_on_disk_at_once(tmp_path: Path) -> None:
    ledger = Ledger(tmp_path / "deep" / "cases.csv")
    for number in range(3):
        ledger.add(Entry(f"c{number}", "ok", message='a "quoted", text\nof two lines'))
        with ledger.file.open(newline="") as file:
            rows = list(csv.DictReader(file))
        assert [row["case"] for row in rows] == [f"c{n}" for n in range(number + 1)]
    assert rows[0]["message"] == 'a "quoted", text\nof two lines'


def test_a_failed_write_leaves_the_old_file_and_no_rest(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    target = tmp_path / "a.txt"
    atomic_write_text(target, "old")

    def full(_descriptor: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("medseg.ledger.os.fsync", full)
    with pytest.raises(DataError, match="No space left"):
        atomic_write_text(target, "new")
    assert target.read_text() == "old"
    assert [p.name for p in tmp_path.iterdir()] == ["a.txt"]


def test_json_refuses_nan(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="JSON"):
        write_json(tmp_path / "a.json", {"x": float("nan")})


def test_sha256_is_the_known_one(tmp_path: Path) -> None:
    (tmp_path / "a").write_bytes(b"abc")
    assert sha256(tmp_path / "a") == "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"


def test_a_name_that_is_not_utf8_stands_in_the_ledger_with_an_escape(tmp_path: Path) -> None:
    ledger = Ledger(tmp_path / "cases.csv")
    ledger.add(Entry("a", "failed", "image-name", "rename it", input=os.fsdecode(b"in/\xe9.png")))
    assert "in/\\udce9.png" in (tmp_path / "cases.csv").read_text(encoding="utf-8")


def test_a_pipe_has_no_digest(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(OSError, match="no regular file"):
        sha256(tmp_path / "pipe")
