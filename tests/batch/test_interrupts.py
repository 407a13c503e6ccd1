import signal
import subprocess
import sys
import time

import pytest

from medseg.batch.interrupts import force_exit_after
from tests.conftest import posix

LONG = """
import sys, time
import numpy as np, SimpleITK as sitk
from medseg.cli.app import main
from medseg.batch.interrupts import force_exit_after
volume = sitk.GetImageFromArray(np.random.default_rng(0).random((200, 200, 200), np.float32))
def work():
    with force_exit_after(1.0):
        print("ready", flush=True)
        sitk.Median(volume, [4, 4, 4])  # half a minute at least in one call of the library
        print("done", flush=True)
main(work)
"""


@posix
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_force_exit_after_ends_a_busy_library_call(number: signal.Signals) -> None:
    process = subprocess.Popen([sys.executable, "-c", LONG], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    assert process.stdout
    assert process.stdout.readline() == "ready\n"
    time.sleep(0.3)
    process.send_signal(number)
    started = time.monotonic()
    out, err = process.communicate(timeout=60)
    assert time.monotonic() - started < 5
    assert (process.returncode, out) == (130, "")
    assert err == "interrupted\n"


READING = """
import sys, time
import numpy as np, SimpleITK as sitk
from medseg.cli.app import main
from medseg.io.itk import quiet
from medseg.batch.interrupts import force_exit_after
volume = sitk.GetImageFromArray(np.random.default_rng(0).random((200, 200, 200), np.float32))
def work():
    with force_exit_after(1.0):
        print("ready", flush=True)
        with quiet():
            WORK
main(work)
"""


@posix
@pytest.mark.parametrize("work", ["time.sleep(60)", "sitk.Median(volume, [4, 4, 4])"])
def test_force_exit_after_writes_to_redirected_stderr(work: str) -> None:
    process = subprocess.Popen(
        [sys.executable, "-c", READING.replace("WORK", work)],
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
    )  # fmt: skip
    assert process.stdout
    assert process.stdout.readline() == "ready\n"
    time.sleep(0.3)
    process.send_signal(signal.SIGTERM)
    _, err = process.communicate(timeout=60)
    assert process.returncode == 130
    assert err == "interrupted\n"


def test_force_exit_after_finished_work_does_nothing() -> None:
    """A handler of one's own comes to its turn, and the process lives on."""
    came = []
    before = signal.signal(signal.SIGTERM, lambda *_: came.append(time.monotonic()))
    try:
        with force_exit_after(0.2):
            signal.raise_signal(signal.SIGTERM)
        time.sleep(0.4)
        with force_exit_after(0.2):
            pass
    finally:
        signal.signal(signal.SIGTERM, before)
    assert len(came) == 1
    assert signal.set_wakeup_fd(-1) == -1  # as it was before
