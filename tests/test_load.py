"""Two thousand images of every format, some broken, through one batch."""

import csv
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import psutil
import pytest
import SimpleITK as sitk

COUNT = 2000
SUFFIXES = (".png", ".jpg", ".tif", ".nii.gz", ".mha", ".bmp", ".nrrd", ".nii")
GROWTH = 48 << 20  # bytes that the processes together may have more after 2000 images than after 200
Harm = Callable[[bytes], bytes]
HARMS: list[Harm] = [lambda whole: whole[: len(whole) // 2], lambda _: b"", lambda whole: b"no image" + whole[8:]]


@pytest.fixture(scope="module")
def flood(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Small photographs in folders of a hundred; of ten the last is broken in one of three ways."""
    folder = tmp_path_factory.mktemp("flood")
    random = np.random.default_rng(0)
    for number in range(COUNT):
        height, width = random.integers(24, 64, 2)
        y, x = np.mgrid[:height, :width]
        disc = np.hypot(y - height / 2, x - width / 2) < random.uniform(5, 10)
        picture = np.where(disc[..., None], (120, 70, 50), (220, 180, 160)) + random.integers(-9, 9, (height, width, 3))
        place = folder / f"site {number // 100}" / f"i{number:04d}{SUFFIXES[number % len(SUFFIXES)]}"
        place.parent.mkdir(exist_ok=True)
        sitk.WriteImage(sitk.GetImageFromArray(picture.astype(np.uint8), isVector=True), str(place))
        if number % 10 == 9:
            place.write_bytes(HARMS[number // 10 % len(HARMS)](place.read_bytes()))
    return folder


def memory(process: psutil.Process) -> int:
    """Bytes of a process and those that it started."""
    total = 0
    for one in [process, *process.children()]:
        try:
            total += one.memory_info().rss
        except psutil.NoSuchProcess:
            continue
    return total


def watched(process: psutil.Popen, ledger: Path) -> Iterator[tuple[int, int]]:
    """Cases done, and bytes, while a batch runs."""
    while process.poll() is None:
        time.sleep(0.2)
        if ledger.is_file():
            with ledger.open("rb") as file:
                yield sum(1 for _ in file) - 1, memory(process)


@pytest.mark.torture
@pytest.mark.parametrize("workers", [1, 2])
def test_two_thousand_images(flood: Path, rule: Path, tmp_path: Path, workers: int) -> None:
    out = tmp_path / "out"
    command = [sys.executable, "-m", "medseg", "segment", str(flood), str(out), "--model", str(rule), "-q"]
    process = psutil.Popen([*command, "--workers", str(workers)], stderr=subprocess.DEVNULL)
    seen = list(watched(process, out / "cases.csv"))
    assert process.wait() == 3
    with (out / "cases.csv").open(newline="", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    assert [row["case"] for row in rows] == sorted(row["case"] for row in rows)
    assert len(rows) == COUNT
    broken = {row["case"] for row in rows if int(row["case"][-4:]) % 10 == 9}
    assert {row["case"] for row in rows if row["status"] == "failed"} == broken
    assert {row["code"] for row in rows if row["status"] == "failed"} == {
        "image-truncated",
        "image-empty",
        "image-unreadable",
    }
    assert sum(path.is_file() for path in out.rglob("i*")) == COUNT - len(broken)
    early = max(size for done, size in seen if 200 <= done < 400)
    late = max(size for done, size in seen if done >= COUNT - 200)
    assert late - early < GROWTH
