"""Ctrl-C that is not kept waiting by a library at work."""

from __future__ import annotations

import os
import signal
import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import BinaryIO

from medseg.errors import EXIT_INTERRUPTED

GRACE_S = 3.0  # seconds in which the main thread may end by itself


@contextmanager
def force_exit_after(grace: float = GRACE_S) -> Iterator[None]:
    """End the process `grace` seconds after SIGINT or SIGTERM where its own handler did not come to it.

    A handler runs between two instructions of Python, and one filter of a large volume may take minutes. Only for work
    whose every file is written atomically. For the main thread.
    """
    inner, outer = socket.socketpair()
    outer.setblocking(False)
    before = signal.set_wakeup_fd(outer.fileno(), warn_on_full_buffer=False)
    screen = os.fdopen(os.dup(2), "wb", buffering=0)  # 2 itself may be a file just then, see `itk.quiet`
    threading.Thread(target=_watch, args=(inner, screen, grace), daemon=True).start()
    try:
        yield
    finally:
        signal.set_wakeup_fd(before)
        outer.close()


def _watch(signals: socket.socket, screen: BinaryIO, grace: float) -> None:
    """Read the numbers of signals as they come, none when the work is over."""
    with signals, screen:
        while number := signals.recv(1):
            if number[0] in (signal.SIGINT, signal.SIGTERM):
                signals.settimeout(grace)
                try:
                    while signals.recv(1):
                        pass
                except TimeoutError:
                    screen.write(b"interrupted\n")
                    os._exit(EXIT_INTERRUPTED)
                return
