import csv
from pathlib import Path

import pytest

from medseg.errors import DataError
from medseg.ledger import Entry, Ledger, append_text, atomic_write_text, sha256, write_json
from medseg.resume import Before


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


def rows(file: Path) -> list[dict[str, str]]:
    with file.open(newline="") as stream:
        return list(csv.DictReader(stream))


def test_a_case_costs_a_line_and_not_the_whole_ledger(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    written: list[str] = []
    monkeypatch.setattr(
        "medseg.ledger.atomic_write_text", lambda file, text: (written.append(text), atomic_write_text(file, text))
    )
    ledger = Ledger(tmp_path / "cases.csv", {f"c{n}": Entry(f"c{n}", "ok", message="old") for n in range(40)})
    for number in range(100):
        ledger.add(Entry(f"c{number}", "ok", message="new" if number % 2 else "old"))
    assert len(written) == 2  # with the first, and when nothing old was left
    assert [(row["case"], row["message"]) for row in rows(ledger.file)] == [
        (f"c{n}", "new" if n % 2 else "old") for n in range(100)
    ]


def test_a_stopped_batch_leaves_both_lines_of_a_case_and_the_later_counts(tmp_path: Path) -> None:
    file = tmp_path / "cases.csv"
    ledger = Ledger(file, {name: Entry(name, "failed") for name in "abc"})
    ledger.add(Entry("c", "ok"))
    ledger.add(Entry("a", "ok"))
    assert [(row["case"], row["status"]) for row in rows(file)] == [
        ("c", "ok"), ("a", "failed"), ("b", "failed"), ("a", "ok"),
    ]  # fmt: skip
    assert {name: entry.status for name, entry in Before(file, "abc").entries.items()} == {
        "a": "ok", "b": "failed", "c": "ok",
    }  # fmt: skip


def test_cases_are_put_in_order_whichever_was_ready_first(tmp_path: Path) -> None:
    ledger = Ledger(tmp_path / "cases.csv")
    for name in "cab":
        ledger.add(Entry(name, "ok"))
    ledger.sort(["a", "b", "c"])
    assert [row["case"] for row in rows(ledger.file)] == [entry.case for entry in ledger.entries] == ["a", "b", "c"]


def test_a_line_that_was_torn_anywhere_is_left_out_and_the_others_stay(tmp_path: Path) -> None:
    file = tmp_path / "cases.csv"
    ledger = Ledger(file)
    for name in "ab":
        ledger.add(
            Entry(name, "ok", "", 'two "lines"\nof text', 1.5, "in", "out", "i" * 64, "k" * 64, "o\np", "h" * 64)
        )
    whole = file.read_bytes()
    first = whole.index(b"\nb,") + 1
    for end in range(first, len(whole) - 65):
        file.write_bytes(whole[:end])
        assert list(Before(file, "ab").entries) == ["a"]
    for end in range(len(whole) - 65, len(whole)):  # its last field is short: a hash of no file, so it is made again
        file.write_bytes(whole[:end])
        assert Before(file, "ab").entries["b"].output_hash == "h" * (64 - len(whole) + 1 + end)


def test_rows_after_a_torn_line_are_read(tmp_path: Path) -> None:
    before = Before(tmp_path / "cases.csv", [])
    before.note("a", {"t": [{"x": 1}]})
    with (tmp_path / ".rows.jsonl").open("a") as file:
        file.write('\n{"case": "b", "ro')
    before.note("c", {"t": [{"x": 3}]})
    again = Before(tmp_path / "cases.csv", [])
    assert [again.rows(name) for name in "abc"] == [{"t": [{"x": 1}]}, {}, {"t": [{"x": 3}]}]


def test_a_line_that_does_not_fit_leaves_the_file_as_it_was(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = tmp_path / "a.txt"
    file.write_text("old\n")

    def full(_descriptor: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("medseg.ledger.os.fsync", full)
    with pytest.raises(DataError, match=r"a\.txt: cannot be written \(No space left"):
        append_text(file, "new\n")
    assert file.read_text() == "old\n"


def test_json_refuses_nan(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="JSON"):
        write_json(tmp_path / "a.json", {"x": float("nan")})


def test_sha256_is_the_known_one(tmp_path: Path) -> None:
    (tmp_path / "a").write_bytes(b"abc")
    assert sha256(tmp_path / "a") == "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"
