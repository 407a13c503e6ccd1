"""Real processes of the command line that can be killed at any moment, and start at once: a parent forks them.

The parent has all libraries loaded and does nothing with them, so that a kill costs no seconds of importing.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from types import TracebackType

PARENT = """
import json, os, sys, traceback
import medseg.training.train, medseg.training.segmenter, medseg.training.stacked_classifier
import matplotlib.pyplot, skops.io, sklearn.ensemble, sklearn.feature_selection, sklearn.model_selection
from medseg.cli.app import main
print("ready", flush=True)
for line in sys.stdin:
    words, log = json.loads(line)
    pid = os.fork()
    if pid == 0:
        out = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
        os.dup2(out, 1), os.dup2(out, 2)
        sys.argv = ["medseg", *words]
        status = 0
        try:
            main()
        except SystemExit as end:
            status = end.code or 0
        except BaseException:
            traceback.print_exc()
            status = 99
        sys.stdout.flush(), sys.stderr.flush()
        os._exit(status)
    print(pid, flush=True)
    print(os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]), flush=True)
"""


class Killing:
    """`with Killing(log) as killing: killing.run(words, number, when)`."""

    def __init__(self, log: Path) -> None:
        self.log = log
        self.parent = subprocess.Popen([sys.executable, "-c", PARENT], stdin=subprocess.PIPE, stdout=subprocess.PIPE)
        self._read()

    def __enter__(self) -> Killing:
        return self

    def __exit__(self, *_error: type[BaseException] | BaseException | TracebackType | None) -> None:
        assert self.parent.stdin is not None
        assert self.parent.stdout is not None
        self.parent.stdin.close()
        self.parent.wait()
        self.parent.stdout.close()

    def run(
        self, words: list[str], number: signal.Signals | None = None, when: Callable[[], bool] | float = 0.0
    ) -> int:
        """Run `medseg WORDS`; send it the signal after so many seconds, or when it is time. Returns its exit status,
        −n where signal n killed it."""
        assert self.parent.stdin is not None
        self.parent.stdin.write(json.dumps([list(map(str, words)), str(self.log)]).encode() + b"\n")
        self.parent.stdin.flush()
        pid, started = int(self._read()), time.monotonic()
        while number is not None and _is_running(pid):
            now = when() if callable(when) else time.monotonic() - started >= when
            if now:
                os.kill(pid, number)
                break
            time.sleep(0.002)
        return int(self._read())

    def said(self) -> str:
        """What the last one wrote, on one line."""
        return " ".join(self.log.read_text().split())

    def _read(self) -> str:
        assert self.parent.stdout is not None
        return self.parent.stdout.readline().decode().strip()


def _is_running(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return True
