"""Messages, tables and progress; the only user of rich.

Messages go to `logging.getLogger("medseg")`, where Python users silence or redirect them. The command line calls
`be_quiet`, which shows them on standard error.
"""

from __future__ import annotations

import logging
import sys
import time
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager

from rich.console import Console
from rich.markup import escape
from rich.panel import Panel
from rich.progress import BarColumn, MofNCompleteColumn, TextColumn, TimeRemainingColumn
from rich.progress import Progress as Bars
from rich.table import Table

from medseg.utils.hints import with_hint

_screen = Console(stderr=True, highlight=False)
_logger = logging.getLogger("medseg")
_logger.addHandler(logging.NullHandler())
PLAIN_LINE_INTERVAL_S = 10.0  # between lines where the output is no terminal


class ScreenHandler(logging.Handler):
    """Shows records on standard error: news plain, warnings and errors with their level in colour."""

    def emit(self, record: logging.LogRecord) -> None:
        """Print one record; a `table` or `panel` among its attributes is shown in place of its text."""
        text = escape(record.getMessage())
        if hasattr(record, "shown"):
            _screen.print(record.shown)
        elif record.levelno >= logging.ERROR:
            _screen.print(f"[red]error:[/] {text}", soft_wrap=True)
        elif record.levelno >= logging.WARNING:
            _screen.print(f"[yellow]warning:[/] {text}", soft_wrap=True)
        else:
            _screen.print(text, soft_wrap=True)


_handler = ScreenHandler()


def be_quiet(quiet: bool) -> None:
    """Show messages on standard error; with True only warnings and errors."""
    _logger.setLevel(logging.WARNING if quiet else logging.INFO)
    if _handler not in _logger.handlers:
        _logger.addHandler(_handler)
    _logger.propagate = False  # once is enough, whatever handlers a library gives the root


def quiet_level() -> bool | None:
    """The argument of the last `be_quiet`, for another process; None where messages are not shown."""
    return _logger.level >= logging.WARNING if _handler in _logger.handlers else None


def _on_screen() -> bool:
    return _handler in _logger.handlers and _logger.isEnabledFor(logging.INFO)


def say(text: str, hint: str = "") -> None:
    """A line of news; `hint` as in `MedsegError`."""
    _logger.info("%s", with_hint(text, hint))


def warn(text: str, hint: str = "") -> None:
    """A line that must not be missed."""
    _logger.warning("%s", with_hint(text, hint))


def error(text: str, hint: str = "") -> None:
    """Why a command or a case failed."""
    _logger.error("%s", with_hint(text, hint))


def banner(text: str) -> None:
    """A warning in a box."""
    _logger.warning("%s", text, extra={"shown": Panel(escape(text), border_style="yellow", expand=False)})


def table(title: str, columns: Sequence[str], rows: Iterable[Sequence[object]]) -> None:
    """A table with right-aligned numbers."""
    if not _logger.isEnabledFor(logging.INFO):
        return
    cells = [[_cell(value) for value in row] for row in rows]
    shown = Table(title=title, title_justify="left")
    for number, column in enumerate(columns):
        shown.add_column(column, justify="left" if number == 0 else "right")
    for row in cells:
        shown.add_row(*map(escape, row))
    lines = [title, *("\t".join(row) for row in ([*columns], *cells))]
    _logger.info("%s", "\n".join(lines), extra={"shown": shown})


def _cell(value: object) -> str:
    if value is None or value != value:  # NaN
        return "–"
    return f"{value:.3f}" if isinstance(value, float) else str(value)


class Progress:
    """A bar with the remaining time on a terminal; elsewhere a plain line every 10 s."""

    def __init__(self, label: str, total: int, bars: Bars | None) -> None:
        self.label, self.total, self.bars = label, total, bars
        self.done, self._started, self._last_line = 0, time.monotonic(), time.monotonic()
        self._task = bars.add_task(label, total=total, note="") if bars else None

    def advance(self, count: int = 1, note: str = "") -> None:
        """Count `count` more items as done."""
        self.done += count
        if self.bars is not None and self._task is not None:
            self.bars.update(self._task, advance=count, note=escape(note))
        elif time.monotonic() - self._last_line > PLAIN_LINE_INTERVAL_S:
            self._last_line = time.monotonic()
            seconds_left = (self._last_line - self._started) / max(self.done, 1) * (self.total - self.done)
            say(f"{self.label}: {self.done}/{self.total} {note}, about {_clock(seconds_left)} left")


@contextmanager
def progress(label: str, total: int) -> Iterator[Progress]:
    """`with progress("segment", 5) as bar: bar.advance()`."""
    if not _on_screen() or not sys.stderr.isatty():
        yield Progress(label, total, None)
        return
    name, note = TextColumn("{task.description}"), TextColumn("{task.fields[note]}")
    columns = (name, BarColumn(), MofNCompleteColumn(), TimeRemainingColumn(), note)
    with Bars(*columns, console=_screen, transient=True) as bars:
        yield Progress(label, total, bars)


def _clock(seconds: float) -> str:
    minutes, remainder = divmod(int(seconds), 60)
    return f"{minutes} min {remainder:02d} s" if minutes else f"{remainder} s"
