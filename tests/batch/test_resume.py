"""A batch that is stopped, repeated, altered, shared."""

import csv
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import SimpleITK as sitk
from filelock import FileLock

from medseg.batch.case_log import CaseLog
from medseg.batch.entry import Entry
from medseg.batch.resume import PreviousRun, hash_content
from medseg.errors import ConfigError
from medseg.utils.locks import lock_output
from tests.conftest import posix, tree

Command = Callable[..., Any]


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    folder = tmp_path / "photos"
    folder.mkdir()
    y, x = np.mgrid[:96, :96]
    for number in range(10):
        disc = np.hypot(y - 40 - number, x - 48) < 20
        image = np.where(disc[..., None], (120, 70, 50), (220, 180, 160)).astype(np.uint8)
        sitk.WriteImage(sitk.GetImageFromArray(image, isVector=True), str(folder / f"p{number}.png"))
    return folder


def modification_times(out: Path) -> dict[str, int]:
    return {path.name: path.stat().st_mtime_ns for path in out.glob("*.png")}


def test_segment_repeated_redoes_changed_cases_only(medseg: Command, photos: Path, rule: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    assert medseg("segment", photos, out, "--model", rule, "-q").status == 0
    before = modification_times(out)
    assert medseg("segment", photos, out, "--model", rule, "-q").status == 0
    assert modification_times(out) == before
    shutil.copy(photos / "p3.png", photos / "p7.png")
    result = medseg("segment", photos, out, "--model", rule)
    assert result.status == 0
    assert "(9 unchanged since an earlier run)" in result.err
    after = modification_times(out)
    assert {name for name in before if before[name] != after[name]} == {"p7.png"}
    (out / "p2.png").write_bytes(b"altered")
    assert medseg("segment", photos, out, "--model", rule, "-q").status == 0
    assert {name for name, when in modification_times(out).items() if after[name] != when} == {"p2.png"}
    with (out / "cases.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == 10
    assert all(row["output_hash"] == hash_content([out / row["outputs"]]) for row in rows)


def test_segment_with_other_settings_warns_before_replacing(
    medseg: Command, photos: Path, rule: Path, tmp_path: Path
) -> None:
    words = ("segment", photos, tmp_path / "out", "--model", rule, "-q")
    messages = [" ".join(medseg(*words, *more).err.split()) for more in ((), (), ("--output-format", "nifti"), ())]
    assert ["10 results of another model" in text for text in messages] == [False, False, True, True]


def test_segment_resumes_from_another_working_directory(
    medseg: Command, photos: Path, rule: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    words = ["--model", rule, "-q", "--glob", "p[0-3].png"]
    monkeypatch.chdir(tmp_path)
    assert medseg("segment", "photos", "out", *words).status == 0
    before = modification_times(tmp_path / "out")
    monkeypatch.chdir(photos)
    for out in ("../out", tmp_path / "out"):
        assert medseg("segment", photos, out, *words).status == 0
        assert modification_times(tmp_path / "out") == before
    (photos / "p3.png").write_bytes(b"broken")
    assert medseg("segment", photos, "../out", *words).status == 3
    assert set(modification_times(tmp_path / "out")) == {"p0.png", "p1.png", "p2.png"}  # no older mask beside a failure


def test_reusable_without_output_hash_is_none(tmp_path: Path) -> None:
    log = tmp_path / "cases.csv"
    with CaseLog(log) as book:
        book.add(Entry("gone", "ok", input_hash="i", key="k", outputs="gone.png"))
        book.add(Entry("nothing", "ok", input_hash="i", key="k"))
    before = PreviousRun(log, ["gone", "nothing"])
    assert before.reusable("gone", "i", "k") is None
    assert before.reusable("nothing", "i", "k") is None


def test_a_failed_case_is_tried_again_and_fail_fast_skips(
    medseg: Command, photos: Path, rule: Path, tmp_path: Path
) -> None:
    whole = (photos / "p4.png").read_bytes()
    (photos / "p4.png").write_bytes(whole[:-40])
    out = tmp_path / "out"
    assert medseg("segment", photos, out, "--model", rule, "-q", "--fail-fast").status == 3
    with (out / "cases.csv").open(newline="") as file:
        statuses = {row["case"]: row["status"] for row in csv.DictReader(file)}
    assert statuses["p4"] == "failed"
    assert statuses["p9"] == "skipped"
    (photos / "p4.png").write_bytes(whole)
    assert medseg("segment", photos, out, "--model", rule, "-q").status == 0
    assert len(modification_times(out)) == 10


def test_segment_of_other_cases_is_refused(medseg: Command, photos: Path, rule: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    medseg("segment", photos, out, "--model", rule, "-q")
    other = tmp_path / "other"
    other.mkdir()
    shutil.copy(photos / "p1.png", other / "new.png")
    result = medseg("segment", other, out, "--model", rule, "-q")
    assert result.status == 2
    assert "10 other cases" in result.err
    assert len(modification_times(out)) == 10
    assert medseg("segment", other, out, "--model", rule, "-q", "--overwrite").status == 0
    assert set(modification_times(out)) == {"new.png"}


def test_segment_fail_on_quality_fails_reviewed_cases(
    medseg: Command, photos: Path, rule: Path, tmp_path: Path
) -> None:
    grey = sitk.GetImageFromArray(np.full((96, 96, 3), 128, np.uint8), isVector=True)
    sitk.WriteImage(grey, str(photos / "p0.png"))
    for words, status, expected in (([], "review", 0), (["--fail-on-quality"], "failed", 3)):
        out = tmp_path / f"out{len(words)}"
        assert medseg("segment", photos / "p0.png", out, "--model", rule, "-q", *words).status in (expected, 1)
        with (out / "cases.csv").open(newline="") as file:
            row = next(csv.DictReader(file))
        assert (row["status"], row["code"]) == (status, "quality")
        assert bool(modification_times(out)) == (status == "review")


def test_a_second_process_is_refused(medseg: Command, photos: Path, rule: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    out.mkdir()
    with FileLock(out / ".lock"):
        result = medseg("segment", photos, out, "--model", rule, "-q")
    assert result.status == 2
    assert "another medseg" in result.err
    assert not modification_times(out)


@pytest.mark.skipif(not hasattr(os, "geteuid") or os.geteuid() == 0, reason="root may write anywhere")
def test_a_read_only_output_is_one_error(medseg: Command, photos: Path, rule: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    out.mkdir(mode=0o500)
    result = medseg("segment", photos, out, "--model", rule, "-q")
    assert result.status == 2
    assert "cannot be written" in result.err


TORTURE = [pytest.param(20, workers, marks=pytest.mark.torture) for workers in (1, 2)]


@posix
@pytest.mark.parametrize(("kills", "workers"), [(3, 1), *TORTURE])
def test_a_killed_batch_goes_on_to_the_same_masks(
    medseg: Command, photos: Path, rule: Path, tmp_path: Path, kills: int, workers: int
) -> None:
    whole, out = tmp_path / "whole", tmp_path / "out"
    started = time.monotonic()
    command = [sys.executable, "-m", "medseg", "segment", str(photos), str(out), "--model", str(rule), "-q"]
    command += ["--workers", str(workers)]
    subprocess.run([*command[:5], str(whole), *command[6:]], check=True)
    seconds = time.monotonic() - started
    random = np.random.default_rng(kills)
    for _ in range(kills):
        process = subprocess.Popen(command, stderr=subprocess.DEVNULL)
        time.sleep(random.uniform(0.5, 1.0) * seconds)
        process.send_signal(signal.SIGKILL)
        process.wait()
        for path in out.rglob("p*.png"):
            if ".writing-" not in str(path):
                assert path.stat().st_size > 0
    assert medseg("segment", photos, out, "--model", rule, "-q").status == 0
    assert tree(out) == tree(whole)
    assert not list(out.rglob(".writing-*"))


def test_discard_removes_only_files_below_the_case_log(tmp_path: Path) -> None:
    """The case log has paths as on the command line: from another folder the same path may be another file."""
    out, mine = tmp_path / "out", tmp_path / "mine.png"
    out.mkdir()
    mine.write_bytes(b"mine")
    (out / "old.png").write_bytes(b"old")
    files = "\n".join([str(mine), str(out / "old.png")])
    CaseLog(out / "cases.csv").add(Entry("old", "ok", outputs=files))
    with pytest.raises(ConfigError, match="1 other cases"):
        PreviousRun(out / "cases.csv", ["new"])
    assert (out / "old.png").is_file()
    assert PreviousRun(out / "cases.csv", ["new"], overwrite=True).entries == {}
    assert mine.read_bytes() == b"mine"
    assert not (out / "old.png").exists()


def test_previous_run_reads_later_line_and_ignores_incomplete_one(tmp_path: Path) -> None:
    older = CaseLog(tmp_path / "cases.csv")
    for name in "ab":
        older.add(Entry(name, "ok", key="old"))
    log = CaseLog(tmp_path / "cases.csv", PreviousRun(tmp_path / "cases.csv", ["a", "b"]))
    log.add(Entry("c", "ok", key="new"))
    log.add(Entry("a", "failed", key="new"))
    with log.file.open("a") as file:  # type: ignore[union-attr]
        file.write("b,failed,im")
    entries = PreviousRun(tmp_path / "cases.csv", ["a", "b", "c"]).entries
    assert {name: (entry.status, entry.key) for name, entry in entries.items()} == {
        "a": ("failed", "new"),
        "b": ("ok", "old"),
        "c": ("ok", "new"),
    }


def test_facts_count_as_content(tmp_path: Path) -> None:
    (tmp_path / "a").write_bytes(b"a")
    assert hash_content([tmp_path / "a"], {"label": "x"}) != hash_content([tmp_path / "a"], {"label": "y"})
    assert hash_content([tmp_path / "a"], {"p": 1, "q": 2}) == hash_content([tmp_path / "a"], {"q": 2, "p": 1})
    assert hash_content([tmp_path / "none"], {"p": 1}) == ""


def test_half_written_files_of_a_killed_process_are_removed(tmp_path: Path) -> None:
    (tmp_path / ".writing-a.png").mkdir()
    (tmp_path / "deep").mkdir()
    for name in (".writing-cases.csv.abcdefgh", "deep/.writing-b.png.12345678", "deep/b.png"):
        (tmp_path / name).write_text("half")
    with lock_output(tmp_path):
        assert sorted(path.name for path in tmp_path.rglob("*")) == [".lock", "b.png", "deep"]
