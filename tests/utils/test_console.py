import logging
import subprocess
import sys

import pytest

from medseg.utils import console


@pytest.fixture(autouse=True)
def library() -> object:
    """The logger as a Python user finds it, and afterwards as the command line leaves it."""
    logger = logging.getLogger("medseg")
    state = logger.level, list(logger.handlers), logger.propagate
    logger.setLevel(logging.NOTSET)
    logger.handlers = [logging.NullHandler()]
    logger.propagate = True
    yield
    logger.level, logger.handlers, logger.propagate = state
    logger.setLevel(state[0])


def speak() -> None:
    console.say("some [news]")
    console.warn("careful")
    console.banner("loud")
    console.table("scores", ["label", "dice"], [["lung", 0.5]])


def test_console_without_be_quiet_shows_nothing(capsys: pytest.CaptureFixture[str]) -> None:
    code = "from medseg.utils import console; console.say('news'); console.warn('careful')"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == done.stderr == ""


def test_console_library_user_redirects(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.INFO, logger="medseg"):
        speak()
    levels = [(record.levelname, record.getMessage()) for record in caplog.records]
    assert levels == [
        ("INFO", "some [news]"), ("WARNING", "careful"), ("WARNING", "loud"),
        ("INFO", "scores\nlabel\tdice\nlung\t0.500"),
    ]  # fmt: skip


@pytest.mark.parametrize("quiet", [False, True])
def test_console_command_line_shows_messages(quiet: bool, capsys: pytest.CaptureFixture[str]) -> None:
    console.be_quiet(quiet)
    speak()
    shown = capsys.readouterr().err
    assert "warning: careful" in shown
    assert "loud" in shown
    assert ("some [news]" in shown) is not quiet
    assert ("0.500" in shown) is not quiet
