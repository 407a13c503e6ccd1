"""Speed and memory on this machine: python scripts/bench.py.

Whole processes on synthetic data, three runs each after a warm-up; the median is shown, with the peak memory of the
process. Times on a shared machine are noisy: compare ratios taken in one run, not single seconds.
"""

from __future__ import annotations

import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

MEDSEG = str(Path(sys.executable).with_name("medseg"))
RUNS = 3


def timed(*words: str) -> tuple[float, float]:
    """Seconds and peak memory (MB) of one whole process."""
    started = time.monotonic()
    process = subprocess.Popen(words, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    _, status, usage = os.wait4(process.pid, 0)
    if status:
        raise SystemExit(f"{' '.join(words)} ended with status {os.waitstatus_to_exitcode(status)}")
    return time.monotonic() - started, usage.ru_maxrss / 1024


def show(name: str, *words: str, runs: int = RUNS) -> None:
    found = [timed(*words) for _ in range(runs + 1)][1:]
    seconds, memory = statistics.median(f[0] for f in found), max(f[1] for f in found)
    print(f"{name:<44} {seconds:8.2f} s {memory:8.0f} MB", flush=True)


def main() -> None:
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        data, run = str(folder / "data"), str(folder / "run")
        timed(MEDSEG, "data", "phantom", "lung", data, "--patients", "6")
        train = [
            MEDSEG,
            "train",
            "organ=lung",
            f"data.root={data}",
            f"data.cache={folder / 'cache'}",
            "segmenter.passes=400",
        ]
        timed(*train, f"run_dir={run}")
        show("medseg --help", MEDSEG, "--help")
        show("medseg train, a misspelt key", "sh", "-c", f"! {MEDSEG} train organ=lung trainer.max_tim=1")
        for precision in ("32", "auto"):
            words = [*train, f"executor.precision={precision}"]
            shell = f"rm -rf {folder}/again && exec {' '.join(words)} run_dir={folder}/again"
            show(f"medseg train, 400 passes, precision {precision}", "sh", "-c", shell, runs=1)
        images, out = f"{data}/images", str(folder / "out")
        show("medseg segment, 1 CT", MEDSEG, "segment", images, out, "--model", run, "--glob", "lung000*")
        show("medseg segment, 6 CT", MEDSEG, "segment", images, out, "--model", run)


if __name__ == "__main__":
    main()
