"""A batch with workers, signals, odd names and no room."""

import contextlib
import csv
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import pytest
import SimpleITK as sitk

from medseg.batch.entry import SUCCEEDED
from medseg.batch.resume import hash_content
from tests.conftest import posix, tree

Command = Callable[..., Any]
SEGMENT = [sys.executable, "-m", "medseg", "segment"]


def paint(folder: Path, count: int, size: int = 64) -> Path:
    """Photographs of a dark disc, each at another place."""
    folder.mkdir()
    y, x = np.mgrid[:size, :size]
    for number in range(count):
        disc = np.hypot(y - size / 2 + number % 7, x - size / 2) < size / 4
        image = np.where(disc[..., None], (120, 70, 50), (220, 180, 160)).astype(np.uint8)
        sitk.WriteImage(sitk.GetImageFromArray(image, isVector=True), str(folder / f"p{number:03d}.png"))
    return folder


def read_log(out: Path) -> list[dict[str, str]]:
    file = out / "cases.csv"
    if not file.is_file():
        return []
    with file.open(newline="", encoding="utf-8") as stream:
        return list(csv.DictReader(stream))


def wait_for(what: Callable[[], bool], process: subprocess.Popen[str], seconds: float = 120) -> None:
    until = time.monotonic() + seconds
    while not what():
        assert process.poll() is None, "the batch ended"
        assert time.monotonic() < until
        time.sleep(0.02)


def workers_of(process: subprocess.Popen[str]) -> list[psutil.Process]:
    return [child for child in psutil.Process(process.pid).children() if "spawn_main" in " ".join(child.cmdline())]


def test_segment_with_workers_gives_equal_outputs(medseg: Command, rule: Path, tmp_path: Path) -> None:
    photos = paint(tmp_path / "photos", 12)
    (photos / "p004.png").write_bytes((photos / "p004.png").read_bytes()[:-40])
    outputs = {}
    for workers in (1, 2):
        out = tmp_path / f"out{workers}"
        assert medseg("segment", photos, out, "--model", rule, "-q", "--workers", workers).status == 3
        rows = read_log(out)
        assert [row["case"] for row in rows] == [f"p{number:03d}" for number in range(12)]
        assert {row["case"] for row in rows if row["status"] == "failed"} == {"p004"}
        same = ("case", "status", "code", "message", "input", "input_hash", "key", "output_hash")
        outputs[workers] = tree(out), [[row[name] for name in same] for row in rows]
    assert outputs[1] == outputs[2]
    assert len(outputs[1][0]) == 11


@posix
def test_segment_with_killed_worker_fails_its_case(rule: Path, tmp_path: Path) -> None:
    """The first worker is held before it is ready, the second while it has a case, so that it is clear which dies."""
    photos, out = paint(tmp_path / "photos", 12), tmp_path / "out"
    command = [*SEGMENT, str(photos), str(out), "--model", str(rule), "--workers", "2", "-q"]
    process = subprocess.Popen(command, stderr=subprocess.PIPE, text=True)
    wait_for(lambda: len(workers_of(process)) == 2, process)
    first, second = workers_of(process)
    first.suspend()
    wait_for(lambda: len(read_log(out)) > 1, process)
    second.suspend()
    first.resume()
    wait_for(lambda: len(read_log(out)) == 11, process)
    second.kill()
    _, err = process.communicate(timeout=120)
    assert process.returncode == 3
    dead = [row for row in read_log(out) if row["status"] not in SUCCEEDED]
    assert [(row["status"], row["code"]) for row in dead] == [("failed", "worker-died")]
    assert Path(dead[0]["input"]).name in err
    assert "SIGKILL" in dead[0]["message"]
    assert [row["case"] for row in read_log(out)] == [f"p{number:03d}" for number in range(12)]
    assert not list(out.rglob(".writing-*"))
    assert subprocess.run([*command, "--json"], check=False, capture_output=True).returncode == 0
    assert len(tree(out)) == 12


@posix
@pytest.mark.parametrize(
    ("number", "workers", "when"),
    [
        (signal.SIGINT, 1, "loading"),
        (signal.SIGTERM, 1, "working"),
        (signal.SIGTERM, 2, "loading"),
        (signal.SIGINT, 2, "working"),
    ],
)
def test_segment_interrupted_ends_soon_with_complete_case_log(
    rule: Path,
    tmp_path: Path,
    number: signal.Signals,
    workers: int,
    when: str,
) -> None:
    """Ctrl-C goes to all processes of a terminal's group, SIGTERM to the one that was started."""
    photos, out = paint(tmp_path / "photos", 400), tmp_path / "out"
    process = subprocess.Popen(
        [*SEGMENT, str(photos), str(out), "--model", str(rule), "--workers", str(workers), "-q"],
        stderr=subprocess.PIPE, text=True, start_new_session=True,
    )  # fmt: skip
    if when == "working":
        wait_for(lambda: len(read_log(out)) > 3, process)
    elif workers > 1:
        wait_for(lambda: len(workers_of(process)) == workers, process)
    else:
        wait_for(lambda: "torch" in str([mapped.path for mapped in psutil.Process(process.pid).memory_maps()]), process)
    started = time.monotonic()
    os.killpg(process.pid, number) if number == signal.SIGINT else process.send_signal(number)
    _, err = process.communicate(timeout=60)
    assert time.monotonic() - started < 5
    assert process.returncode == 130
    assert "interrupted" in err
    assert "Traceback" not in err
    assert not family(process.pid)
    rows = read_log(out)
    assert (len(rows) > 3) == (when == "working")
    assert all(row["status"] in SUCCEEDED and row["output_hash"] == hash_content([Path(row["output"])]) for row in rows)


def family(session: int) -> list[psutil.Process]:
    """Who lives on of a session; one that is dead but not buried does not count."""
    processes = []
    for process in psutil.process_iter(["status"]):
        with contextlib.suppress(ProcessLookupError):
            if os.getsid(process.pid) == session and process.info["status"] != psutil.STATUS_ZOMBIE:
                processes.append(process)
    return psutil.wait_procs(processes, timeout=2)[1]  # multiprocessing's own helper ends by itself


NAMES = ["with blanks", "Läsion é ñ", "病变 🔬", "x" * 196, "-rf", "--model", "a,b;'c\"", "%s {0} [red]", "tab\there"]


@posix
def test_segment_reads_unusual_file_names(
    medseg: Command, rule: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    photos = paint(tmp_path / "photos", len(NAMES))
    for number, name in enumerate(NAMES):
        file = photos / (name[:40] if number % 2 else "") / f"{name}.png"
        file.parent.mkdir(exist_ok=True)
        (photos / f"p{number:03d}.png").rename(file)
    photos.rename(tmp_path / "-my photos é")
    monkeypatch.chdir(tmp_path)
    for _ in range(2):  # all is known again
        result = medseg("segment", "-q", "--json", "--model", rule, "--", "-my photos é", "-out 🔬")
        assert result.status == 0, result.err
        assert json.loads(result.out)["counts"] == {"review": len(NAMES)}  # discs, unlike what was learnt
    masks = {str(path.relative_to("-out 🔬")) for path in Path("-out 🔬").rglob("*.png")}
    assert masks == {str(path.relative_to("-my photos é")) for path in Path("-my photos é").rglob("*.png")}
    assert {row["output"] for row in read_log(Path("-out 🔬"))} == {f"-out 🔬/{name}" for name in masks}


@posix
def test_segment_on_full_disk_is_one_error_and_keeps_results(rule: Path, tmp_path: Path) -> None:
    """A limit on the size of files stands for a full disk: three masks fit, the others do not."""
    resource = pytest.importorskip("resource")
    photos, out = paint(tmp_path / "photos", 3), tmp_path / "out"
    for path in paint(tmp_path / "big", 3, 400).iterdir():
        path.rename(photos / f"q{path.name}")
    command = [*SEGMENT, str(photos), str(out), "--model", str(rule), "--output-format", ".nii", "-q"]

    def limit() -> None:
        resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, resource.RLIM_INFINITY))

    done = subprocess.run(command, preexec_fn=limit, capture_output=True, text=True, check=False)
    assert done.returncode == 2
    assert "Traceback" not in done.stderr
    assert "no more files can be written (File too large)" in " ".join(done.stderr.split())
    assert done.stderr.count("error:") == 1
    rows = read_log(out)
    assert (
        [row["case"] for row in rows if row["status"] in SUCCEEDED]
        == ["p000", "p001", "p002"]
        == [row["case"] for row in rows]
    )
    assert sorted(path.name for path in out.glob("*.nii")) == ["p000.nii", "p001.nii", "p002.nii"]
    before = {path.name: path.stat().st_mtime_ns for path in out.glob("*.nii")}
    assert subprocess.run(command, check=False).returncode == 0
    after = {path.name: path.stat().st_mtime_ns for path in out.glob("*.nii")}
    assert after.items() > before.items()
    assert len(after) == 6


def test_segment_into_a_file_is_one_error(medseg: Command, rule: Path, tmp_path: Path) -> None:
    photos = paint(tmp_path / "photos", 1)
    (tmp_path / "file").write_text("mine")
    result = medseg("segment", photos, tmp_path / "file", "--model", rule, "-q")
    assert result.status == 2
    assert "cannot be written" in result.err
    assert (tmp_path / "file").read_text() == "mine"
