"""The library knows arguments, the command line options."""

import ast
import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import typer

import medseg
from medseg.cli.app import app
from medseg.cli.options import option_text
from medseg.commands.explain import CODES
from medseg.errors import MedsegError
from medseg.utils import hints
from medseg.utils.console import be_quiet, warn

FILES = sorted(Path(medseg.__file__).parent.rglob("*.py"))
OTHERS = ("gdcmconv --raw",)  # options of other programs


def constants(file: Path) -> list[str]:
    """Every string of a file, f-strings and docstrings too."""
    nodes = ast.walk(ast.parse(file.read_text()))
    return [node.value for node in nodes if isinstance(node, ast.Constant) and isinstance(node.value, str)]


def hints_of(file: Path) -> Iterator[str]:
    """Names of the arguments in each `hint`, given by name or after the text of a message."""
    for node in ast.walk(ast.parse(file.read_text())):
        if not isinstance(node, ast.Call):
            continue
        hints = [word.value for word in node.keywords if word.arg == "hint"]
        if isinstance(node.func, ast.Name) and node.func.id in ("say", "warn", "error"):
            hints += node.args[1:]
        for value in hints:
            if isinstance(value, ast.JoinedStr):  # f"output_format={shape}"
                value = value.values[0]
            if isinstance(value, ast.Constant):
                yield from (word.partition("=")[0] for word in value.value.split())


def option_names() -> set[str]:
    """Every long option of every command."""
    waiting: list[Any] = [typer.main.get_command(app)]
    names = set()
    while waiting:
        command = waiting.pop()
        waiting += getattr(command, "commands", {}).values()
        names |= {option for parameter in command.params for option in parameter.opts}
    return names


@pytest.mark.parametrize("file", [file for file in FILES if "cli" not in file.parts], ids=lambda file: file.stem)
def test_strings_outside_the_cli_name_no_option(file: Path) -> None:
    for text in constants(file):
        ours = re.sub("|".join(OTHERS), "", text)
        assert not re.search(r"(?<![\w-])--[a-z]", ours), text


def test_every_hint_is_an_option_of_a_command() -> None:
    hints = {name for file in FILES if "cli" not in file.parts for name in hints_of(file)}
    hints |= {text.split("|")[2].partition("=")[0] for text in CODES.values() if text.count("|") > 1}
    assert {"overwrite", "output_format", "max_ram", "workers", "out_of_fold"} <= hints
    assert {option_text(name) for name in hints} <= option_names()


@pytest.mark.parametrize(
    ("hint", "text"),
    [
        ("overwrite", "--overwrite"),
        ("output_format=nifti", "--output-format nifti"),
        ("masks=FOLDER segmenter=RUN", "--masks FOLDER, --segmenter RUN"),
        ("fail_on_quality=False", "without --fail-on-quality"),
    ],
)
def test_option_text_gives_the_option(hint: str, text: str) -> None:
    assert option_text(hint) == text


def test_with_hint_shows_options_only_on_the_command_line(
    medseg: Callable[..., Any], tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(hints, "_shown", None)
    be_quiet(False)
    warn("drop them", "overwrite")
    assert capsys.readouterr().err.strip() == "warning: drop them"
    result = medseg("model", "export", tmp_path, tmp_path / "x.zip")  # whatever it says: the command line was asked
    assert result.status == 2
    warn("drop them", "overwrite")
    assert capsys.readouterr().err.strip() == "warning: drop them (--overwrite)"


def test_hint_of_an_error_comes_through_a_process(tmp_path: Path) -> None:
    import pickle

    error = pickle.loads(pickle.dumps(MedsegError("text", code="output-mixed", hint="overwrite")))
    assert (str(error), error.code, error.hint) == ("text", "output-mixed", "overwrite")
