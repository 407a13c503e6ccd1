"""A table that is made case by case: stopped, repeated, altered, shared, on a full disk."""

import csv
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import fields
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import SimpleITK as sitk
from filelock import FileLock

from medseg.batch.case_log import CaseLog
from medseg.batch.entry import Entry
from medseg.batch.resume import hash_content
from medseg.batch.runner import DEFAULT_OPTIONS, BatchOptions, CaseResult, Job, case_errors, open_case_log, run_serial
from medseg.errors import ConfigError, ImageError, OutputError
from medseg.runs.run import hash_run_input
from tests.conftest import posix

Command = Callable[..., Any]
CASES = [f"c{number}" for number in range(10)]
SIDE = 48  # voxels: a case takes long enough to be killed in it


def volume(number: int) -> tuple[sitk.Image, sitk.Image]:
    z, y, x = np.mgrid[: SIDE // 2, :SIDE, :SIDE]
    inside = (np.hypot(y - SIDE // 2, x - SIDE // 2) < 8 + number) & (z > 3)
    image = sitk.GetImageFromArray(np.where(inside, -700.0 + 10 * number, 40.0).astype(np.float32))
    return image, sitk.GetImageFromArray(inside.astype(np.uint8))


@pytest.fixture
def data(tmp_path: Path) -> Path:
    for name, number in zip(CASES, range(10), strict=True):
        for kind, image in zip(("images", "masks"), volume(number), strict=True):
            (tmp_path / kind).mkdir(exist_ok=True)
            sitk.WriteImage(image, str(tmp_path / kind / f"{name}.nii.gz"))
    return tmp_path


def words(data: Path, out: Path) -> list[str]:
    return ["extract-features", str(data / "images"), str(data / "masks"), str(out), "--features", "breathing", "-q"]


def entries(out: Path) -> dict[str, dict[str, str]]:
    log_file = out.with_name(f"{out.stem}_cases.csv")
    rows = csv.DictReader(log_file.read_text().splitlines()) if log_file.is_file() else []
    return {row["case"]: row for row in rows}


def contents(folder: Path) -> dict[str, Any]:
    """The content of every file: case logs without times and paths, the hidden file of rows by case."""
    content: dict[str, Any] = {}
    for path in sorted(folder.iterdir()):
        if path.name.endswith("_cases.csv"):
            content[path.name] = pd.read_csv(path).drop(columns="seconds").to_csv()
        elif path.name.endswith("_cases.json"):
            content[path.name] = [e | {"seconds": 0} for e in json.loads(path.read_text())["entries"]]
        elif path.suffix == ".jsonl":
            content[path.name] = sorted(path.read_text().splitlines())
        else:
            content[path.name] = path.read_bytes()
    return content


def test_extract_features_repeated_extracts_changed_case_only(
    medseg: Command, data: Path, extracted: list[str]
) -> None:
    out = data / "out" / "f.csv"
    assert medseg(*words(data, out)).status == 0
    assert extracted == CASES
    before = contents(out.parent)
    assert medseg(*words(data, out)).status == 0
    assert extracted == CASES
    assert contents(out.parent) == before
    shutil.copy(data / "images" / "c2.nii.gz", data / "images" / "c6.nii.gz")
    assert medseg(*words(data, out)).status == 0
    assert extracted[10:] == ["c6"]
    _, mask = volume(3)
    sitk.WriteImage(mask, str(data / "masks" / "c8.nii.gz"))
    assert medseg(*words(data, out)).status == 0
    assert extracted[11:] == ["c8"]
    table = pd.read_csv(out).set_index("case")
    assert list(table.index) == CASES
    assert table.loc["c8", "label_1.volume_ml"] == table.loc["c3", "label_1.volume_ml"]
    fresh = data / "fresh" / "f.csv"
    assert medseg(*words(data, fresh)).status == 0
    assert out.read_bytes() == fresh.read_bytes()


def test_extract_features_with_other_settings_extracts_all(
    medseg: Command, data: Path, extracted: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    out = data / "out" / "f.csv"
    medseg(*words(data, out))
    assert (out.parent / "f_steps.csv").is_file()
    result = medseg(*words(data, out), "--features", "radiomics")
    assert result.status == 0
    assert "10 results of another model, other settings" in " ".join(result.err.split())
    assert extracted == 2 * CASES
    assert not (out.parent / "f_steps.csv").exists()  # it would be read with the new table
    monkeypatch.setattr("medseg.__version__", "99")
    assert medseg(*words(data, out), "--features", "radiomics").status == 0
    assert len(extracted) == 30
    out.unlink()
    assert medseg(*words(data, out), "--features", "radiomics").status == 0
    assert len(extracted) == 30
    assert len(pd.read_csv(out)) == 10


def test_extract_features_retries_failed_cases_and_fail_fast_stops(
    medseg: Command, data: Path, extracted: list[str]
) -> None:
    out, broken = data / "out" / "f.csv", data / "images" / "c4.nii.gz"
    whole = broken.read_bytes()
    broken.write_bytes(whole[:-40])
    assert medseg(*words(data, out), "--fail-fast").status == 3
    rows = entries(out)
    assert [rows[name]["status"] for name in CASES] == 4 * ["ok"] + ["failed"] + 5 * ["skipped"]
    assert rows["c4"]["code"] == "image-truncated"
    assert rows["c9"]["code"] == "fail-fast"
    assert len(pd.read_csv(out)) == 4
    broken.write_bytes(whole)
    assert medseg(*words(data, out)).status == 0
    assert extracted == CASES[:5] + CASES[4:]
    broken.write_bytes(whole[:-40])
    assert medseg(*words(data, out), "--fail-fast").status == 3
    assert len(pd.read_csv(out)) == 9  # what was done before is not skipped


def test_extract_features_of_other_cases_needs_overwrite(medseg: Command, data: Path, extracted: list[str]) -> None:
    out, other = data / "out" / "f.csv", data / "other"
    medseg(*words(data, out))
    before = contents(out.parent)
    for kind in ("images", "masks"):
        (other / kind).mkdir(parents=True)
        shutil.copy(data / kind / "c1.nii.gz", other / kind / "new.nii.gz")
    result = medseg(*words(other, out))
    assert result.status == 2
    assert "10 other cases" in result.err
    assert "--overwrite" in result.err
    assert contents(out.parent) == before
    assert medseg(*words(other, out), "--overwrite").status == 0
    assert pd.read_csv(out)["case"].tolist() == ["new"]
    assert set(entries(out)) == {"new"}
    assert "c1" not in (out.parent / ".f.rows.jsonl").read_text()
    assert medseg(*words(data, out.with_name("g.csv"))).status == 0  # another table of the folder


def test_extract_features_keeps_a_table_that_is_no_case_log(medseg: Command, data: Path) -> None:
    out = data / "mine.csv"
    (data / "mine_cases.csv").write_text("case,image\nc1,images/c1.nii.gz\n")
    result = medseg(*words(data, out))
    assert result.status == 2
    assert "is not a case log" in result.err
    assert not out.exists()
    log = ["data", "check", data, "organ=lung", "--out", data / "mine_cases.csv"]
    assert medseg(*log).status == 2
    assert (data / "mine_cases.csv").read_text() == "case,image\nc1,images/c1.nii.gz\n"


def test_case_log_of_older_version_gives_its_cases(tmp_path: Path) -> None:
    (tmp_path / "f_cases.csv").write_text("case,status,code\nold,ok,\n")
    with (
        pytest.raises(ConfigError, match="other cases"),
        open_case_log(tmp_path / "f.csv", ["a"], "k", DEFAULT_OPTIONS, (".csv",)),
    ):
        pass
    with open_case_log(tmp_path / "f.csv", ["old"], "k", DEFAULT_OPTIONS, (".csv",)) as book:
        assert book.previous is not None
        assert book.previous.entries == {}


def test_extract_features_with_no_usable_case_removes_old_tables(medseg: Command, data: Path) -> None:
    out = data / "out" / "f.csv"
    medseg(*words(data, out))
    for path in (data / "images").iterdir():
        path.write_bytes(b"broken")
    result = medseg(*words(data, out))
    assert result.status == 1
    assert not out.exists()
    assert {entry["status"] for entry in entries(out).values()} == {"failed"}
    assert json.loads((out.parent / "f_cases.json").read_text())["exit_status"] == 1


@posix
@pytest.mark.parametrize("kills", [3, pytest.param(24, marks=pytest.mark.torture)])
def test_extract_features_killed_at_random_resumes_to_the_same_tables(
    medseg: Command, data: Path, extracted: list[str], kills: int
) -> None:
    whole, out = data / "whole" / "f.csv", data / "out" / "f.csv"
    assert medseg(*words(data, whole)).status == 0
    random = np.random.default_rng(kills)
    amid = 0
    for number in range(kills):
        if number % 3 == 0:
            shutil.rmtree(out.parent, ignore_errors=True)
        journal, size = out.parent / ".f.rows.jsonl", len(CASES)
        done = journal.read_text().count("\n") if journal.is_file() else 0
        size_at_kill = done + int(random.integers(1, max(2, size - done)))
        process = subprocess.Popen([sys.executable, "-m", "medseg", *words(data, out)], stderr=subprocess.DEVNULL)
        while process.poll() is None and (not journal.is_file() or journal.read_text().count("\n") < size_at_kill):
            time.sleep(0.005)
        time.sleep(random.uniform(0, 0.05))
        process.send_signal(signal.SIGKILL)
        process.wait()
        amid += not out.is_file()
        if out.is_file():
            assert out.read_bytes() == whole.read_bytes()
        assert {entry["status"] for entry in entries(out).values()} <= {"ok"}
    assert amid > 0
    known = len(entries(out))
    extracted.clear()
    assert medseg(*words(data, out)).status == 0
    assert extracted == CASES[known:]
    assert contents(out.parent) == contents(whole.parent)


@posix
def test_extract_features_interrupted_writes_complete_case_log(data: Path) -> None:
    out = data / "out" / "f.csv"
    process = subprocess.Popen([sys.executable, "-m", "medseg", *words(data, out)], stderr=subprocess.DEVNULL)
    while process.poll() is None and not out.with_name("f_cases.csv").is_file():
        time.sleep(0.005)
    process.send_signal(signal.SIGINT)
    assert process.wait() == 130
    content = json.loads(out.with_name("f_cases.json").read_text())
    assert not content["finished"]
    assert [entry["case"] for entry in content["entries"]] == list(entries(out))
    assert 0 < len(content["entries"]) < len(CASES)


@posix
@pytest.mark.parametrize("limit", [1_000, 20_000])
def test_a_full_disk_is_one_error_and_earlier_results_stay(medseg: Command, data: Path, limit: int) -> None:
    resource = pytest.importorskip("resource")
    out = data / "out" / "f.csv"
    medseg(*words(data, out))
    before = contents(out.parent)
    for number, name in enumerate(CASES):
        image, _ = volume(number + 1)
        sitk.WriteImage(image, str(data / "images" / f"{name}.nii.gz"))
    done = subprocess.run(
        [sys.executable, "-m", "medseg", *words(data, out)],
        preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (limit, limit)),
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 2, done.stderr
    assert done.stderr.count("error:") == 1
    assert "cannot be written" in " ".join(done.stderr.split())
    assert "Traceback" not in done.stderr
    for name in ("f.csv", "f_steps.csv", "f_units.json"):
        assert contents(out.parent)[name] == before[name]
    assert set(contents(out.parent)) <= set(before)
    assert len(entries(out)) == 10
    assert medseg(*words(data, out)).status == 0
    assert set(contents(out.parent)) == set(before)
    assert pd.read_csv(out)["label_1.volume_ml"].notna().all()


def test_extract_features_without_write_access_is_one_error(medseg: Command, data: Path, extracted: list[str]) -> None:
    (data / "file").write_text("no folder")
    result = medseg(*words(data, data / "file" / "f.csv"))
    assert result.status == 2
    assert result.err.count("cannot be written") == 1
    assert extracted == []


def test_extract_features_in_read_only_folder_keeps_results(medseg: Command, data: Path) -> None:
    out = data / "out" / "f.csv"
    medseg(*words(data, out))
    before = contents(out.parent)
    shutil.copy(data / "images" / "c2.nii.gz", data / "images" / "c6.nii.gz")
    for path in [*out.parent.iterdir(), out.parent]:
        path.chmod(0o500 if path.is_dir() else 0o400)
    if os.access(out.parent, os.W_OK):
        pytest.skip("this user may write anywhere")
    result = medseg(*words(data, out))
    out.parent.chmod(0o700)
    assert result.status == 2
    assert result.err.count("cannot be written") == 1
    assert contents(out.parent) == before


def test_lock_table_refuses_second_process_of_same_table(medseg: Command, data: Path) -> None:
    out = data / "out" / "f.csv"
    out.parent.mkdir()
    with FileLock(out.parent / ".f.lock"):
        result = medseg(*words(data, out))
        assert result.status == 2
        assert "another medseg" in result.err
        assert not out.exists()
        draft = out.parent / ".writing-f.csv.abcdefgh"  # of that process
        draft.write_text("half")
        assert medseg(*words(data, out.with_name("f_b.csv"))).status == 0
        assert draft.is_file()
    assert medseg(*words(data, out)).status == 0
    assert not draft.exists()


def test_extract_features_twice_at_once_leaves_one_complete_result(medseg: Command, data: Path) -> None:
    out, whole = data / "out" / "f.csv", data / "whole" / "f.csv"
    command = [sys.executable, "-m", "medseg", *words(data, out)]
    both = [subprocess.Popen(command, stderr=subprocess.PIPE, text=True) for _ in range(2)]
    errors = [process.communicate()[1] for process in both]
    statuses = sorted(process.returncode for process in both)
    assert statuses in ([0, 0], [0, 2])  # the second came too late to meet the first, or was refused
    if statuses == [0, 2]:
        assert any("another medseg" in " ".join(text.split()) for text in errors)
    medseg(*words(data, whole))
    assert contents(out.parent) == contents(whole.parent)


def test_extract_features_ignores_incomplete_line(medseg: Command, data: Path, extracted: list[str]) -> None:
    out = data / "out" / "f.csv"
    medseg(*words(data, out))
    whole = contents(out.parent)
    journal, log = out.with_name(".f.rows.jsonl"), out.with_name("f_cases.csv")
    journal.write_bytes(journal.read_bytes()[:-300])
    log.write_bytes(log.read_bytes()[:-150])
    extracted.clear()
    medseg(*words(data, out))
    assert extracted == ["c9"]
    assert contents(out.parent) == whole


def test_extract_features_does_not_reuse_rows_of_other_settings(tmp_path: Path) -> None:
    """A run with key two recorded its row and was killed before its log entry: key one must not reuse that row."""
    out, image = tmp_path / "f.csv", tmp_path / "a.bin"
    image.write_bytes(b"a")
    jobs, ledgers = [Job("a", image, [image])], []
    for key, number in (("one", 1), ("two", 2)):
        with open_case_log(out, ["a"], key, DEFAULT_OPTIONS, (".csv",)) as book:
            list(run_serial(jobs, lambda _, n=number: CaseResult({"n": n}), book, "count"))
        ledgers.append((tmp_path / "f_cases.csv").read_bytes())
    (tmp_path / "f_cases.csv").write_bytes(ledgers[0])
    with open_case_log(out, ["a"], "one", DEFAULT_OPTIONS, (".csv",)) as book:
        assert list(run_serial(jobs, lambda _: CaseResult({"n": 1}), book, "count")) == [("a", {"n": 1})]


def test_run_serial_logs_failures_and_prints_tracebacks(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    def make(job: Job) -> CaseResult:
        if job.name == "image":
            raise ImageError("bad", code="image-nan")
        if job.name == "library":
            raise RuntimeError("filter failed")
        if job.name == "look":
            return CaseResult({"n": 1}, status="review", code="review", message="why")
        if job.name == "disk":
            raise OutputError("x: cannot be written")
        return CaseResult({"n": 0}) if job.name == "good" else {}["bug"]

    def run(*names: str) -> tuple[list[str], CaseLog]:
        log = CaseLog(tmp_path / "cases.csv", key="key")
        jobs = [Job(name, tmp_path / name, []) for name in names]
        return [name for name, _ in run_serial(jobs, make, log, "try")], log

    names, log = run("image", "good", "library", "look")
    assert names == ["good", "look"]
    assert [entry.code for entry in log.entries] == ["image-nan", "", "case-error", "review"]
    assert str(tmp_path / "library") in log.entries[2].message
    assert all(len(entry.input_hash) == 64 for entry in log.entries)
    assert [len(entry.output_hash) for entry in log.entries] == [0, 64, 0, 64]
    with pytest.raises(OutputError):
        run("good", "disk", "look")
    assert "Traceback" not in capsys.readouterr().err
    names, log = run("bug", "other bug", "good")
    assert names == ["good"]
    assert [entry.code for entry in log.entries] == ["case-error", "case-error", ""]
    assert log.entries[1].message == f"{tmp_path / 'other bug'}: KeyError: 'bug'"
    printed = capsys.readouterr().err
    assert printed.count("Traceback") == 1
    assert "in make" in printed


def test_case_errors_become_entries_and_the_next_case_goes_on(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    log, done = CaseLog(tmp_path / "cases.csv"), []
    for name, error in {
        "good": None,
        "bad": ImageError("cut off", code="image-truncated"),
        "bug": KeyError("x"),
    }.items():
        with case_errors(log, name, tmp_path / name, "is left out", "and is not counted"):
            if error:
                raise error
            done.append(name)
    assert done == ["good"]
    outcomes = {entry.case: (entry.status, entry.code, entry.message) for entry in log.entries}
    assert outcomes == {
        "good": ("ok", "", ""),
        "bad": ("failed", "image-truncated", f"{tmp_path / 'bad'}: cut off; and is not counted"),
        "bug": ("failed", "case-error", f"{tmp_path / 'bug'}: KeyError: 'x'; and is not counted"),
    }
    assert f"bad is left out: {tmp_path / 'bad'}: cut off" in " ".join(capsys.readouterr().err.split())
    with case_errors(log, "good", tmp_path / "good"):  # a second step of a case that is known
        pass
    assert log.entries[0].status == "ok"
    assert len(log.entries) == 3
    with case_errors(log, "good", tmp_path / "good"):
        raise ImageError("no tiles", code="too-large")
    assert (log.entries[0].status, log.entries[0].code) == ("failed", "too-large")
    with pytest.raises(OutputError), case_errors(log, "good", tmp_path / "good"):
        raise OutputError("x: cannot be written")


def test_run_serial_where_files_are_read_digests_each_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    read: list[str] = []

    def counted(path: Path) -> str:
        read.append(path.name)
        return hash_run_input(path)

    monkeypatch.setattr("medseg.batch.resume.hash_run_input", counted)
    files = [tmp_path / "image", tmp_path / "mask"]
    for file in files:
        file.write_text(file.name)
    jobs_run: list[Job] = []

    def make(job: Job) -> CaseResult:
        jobs_run.append(job)
        return CaseResult()

    log = CaseLog(tmp_path / "cases.csv", key="k")
    assert list(run_serial([Job("a", files[0], files)], make, log, "try")) == []
    assert read == ["image", "mask"]
    assert jobs_run[0].hashes == {file: hash_run_input(file) for file in files}
    assert log.entries[0].input_hash == jobs_run[0].input_hash == hash_content(files)


def test_paths_relative_to_log_resolve_from_another_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)

    def draw(job: Job) -> CaseResult:
        Path("out/pictures").mkdir(exist_ok=True)
        Path(f"out/pictures/{job.name}.png").write_text(job.name)
        drawn.append(job.name)
        return CaseResult({"n": 1}, [Path(f"out/pictures/{job.name}.png")])

    drawn: list[str] = []
    for out in (Path("out/f.csv"), tmp_path / "out" / "f.csv"):
        with open_case_log(out, ["a"], "k", DEFAULT_OPTIONS, (".csv",)) as book:
            assert list(run_serial([Job("a", tmp_path, [])], draw, book, "draw")) == [("a", {"n": 1})]
    assert drawn == ["a"]
    monkeypatch.chdir("/")
    with open_case_log(tmp_path / "out" / "f.csv", ["b"], "k", BatchOptions(overwrite=True), (".csv",)):
        assert not (tmp_path / "out/pictures/a.png").exists()


def test_exit_status_of_skipped_cases_is_no_success(tmp_path: Path) -> None:
    def fail(_: Job) -> CaseResult:
        raise ImageError("bad")

    with open_case_log(tmp_path / "f.csv", ["a", "b"], "k", BatchOptions(fail_fast=True), (".csv",)) as book:
        assert list(run_serial([Job(n, tmp_path, []) for n in "ab"], fail, book, "try")) == []
    assert [entry.status for entry in book.entries] == ["failed", "skipped"]
    assert book.exit_status() == 1


def test_batch_commands_share_exit_statuses(medseg: Command, data: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(data)
    Path("set").mkdir()
    for kind in ("images", "masks"):
        shutil.copytree(kind, f"set/{kind}")
    references, masks = Path("truth"), Path("set/masks")
    shutil.copytree(masks, references)
    commands: dict[str, tuple[list[str], Path]] = {
        "extract": (
            ["extract-features", "set/images", "set/masks", "f.csv", "--features", "breathing"],
            Path("f_cases.csv"),
        ),
        "evaluate": (["evaluate", "set/masks", "truth", "--out", "ev"], Path("ev/evaluation_cases.csv")),
        "check": (["data", "check", "set", "organ=skin", "organ.labels={lesion: 1}"], Path("data_check.csv")),
    }
    columns = [field.name for field in fields(Entry)]

    def all_end_with(status: int, code: str) -> None:
        for name, (command, log) in commands.items():
            result = medseg(*command, "--json")
            assert result.status == status, (name, result.err)
            table = pd.read_csv(log, keep_default_na=False)
            assert list(table) == columns, name
            content = json.loads(log.with_suffix(".json").read_text())
            assert [entry["case"] for entry in content["entries"]] == table["case"].tolist()
            assert [list(entry) for entry in content["entries"]] == [columns] * len(table)
            assert set(table["status"]) <= {"ok", "failed", "skipped", "review"}
            cases = table[table["case"].isin(CASES)]
            assert len(cases) == 10
            assert (cases["input_hash"].str.len() == 64).all()
            assert cases["key"].nunique() == 1
            assert "broken" not in code or set(cases["code"]) & {"image-unreadable", "image-truncated"}

    all_end_with(0, "")
    (masks / "c5.nii.gz").write_bytes((masks / "c5.nii.gz").read_bytes()[:-60])
    all_end_with(3, "broken")
    assert len(pd.read_csv("ev/evaluation.csv")) == 9
    assert json.loads(Path("ev/metrics.json").read_text())["n_failed"] == 1
    for path in masks.iterdir():
        path.write_bytes(b"broken")
    (masks / "labels.json").write_text('{"lesion": 1}')
    all_end_with(1, "broken")
    for command in (["extract-features", "no", "masks", "g.csv"], ["evaluate", "no", "truth"], ["data", "check", "no"]):
        assert medseg(*command).status == 2
