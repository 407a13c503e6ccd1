"""Interrupts that take effect even while a library call is running."""

from __future__ import annotations

import os
import signal
import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import BinaryIO

from medseg.errors import EXIT_INTERRUPTED

GRACE_S = 3.0  # seconds for the main thread to end by itself


@contextmanager
def force_exit_after(grace: float = GRACE_S) -> Iterator[None]:
    """End the process `grace` seconds after SIGINT or SIGTERM if its own handler has not run.

    A handler runs between two Python instructions, and a filter of a large volume may take minutes. Use it only in the
    main thread and if every file is written atomically.
    """
    reader, writer = socket.socketpair()
    writer.setblocking(False)
    previous_fd = signal.set_wakeup_fd(writer.fileno(), warn_on_full_buffer=False)
    stderr = os.fdopen(os.dup(2), "wb", buffering=0)  # 2 itself may be redirected to a file then, see `itk.quiet`
    threading.Thread(target=_watch, args=(reader, stderr, grace), daemon=True).start()
    try:
        yield
    finally:
        signal.set_wakeup_fd(previous_fd)
        writer.close()


def _watch(signals: socket.socket, stderr: BinaryIO, grace: float) -> None:
    """Wait for signal numbers; end of file means that the work is done."""
    with signals, stderr:
        while number := signals.recv(1):
            if number[0] in (signal.SIGINT, signal.SIGTERM):
                signals.settimeout(grace)
                try:
                    while signals.recv(1):
                        pass
                except TimeoutError:
                    stderr.write(b"interrupted\n")
                    os._exit(EXIT_INTERRUPTED)
                return
