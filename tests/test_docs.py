"""What README says exists: every command and setting in it, and every command is in it."""

import re
import shlex
from pathlib import Path

import pytest
import typer

from medseg.cli.app import app
from medseg.config.compose import compose
from scripts import make_reference
from tests.conftest import ROOT

README = (ROOT / "README.md").read_text()
COMMANDS = typer.main.get_command(app)
LINES = [
    line.split("  #")[0].strip()
    for block in re.findall(r"```bash\n(.*?)```", README, re.DOTALL)
    for line in block.splitlines()
    if line.startswith("medseg ")
]


def known(command: object = COMMANDS, prefix: str = "") -> list[str]:
    """Every visible command, e.g. "train", "data phantom"."""
    names: list[str] = []
    for name, sub in command.commands.items():  # type: ignore[attr-defined]
        if hasattr(sub, "commands"):
            names += known(sub, f"{prefix}{name} ")
        elif not sub.hidden:
            names.append(prefix + name)
    return names


@pytest.mark.parametrize("name", known())
def test_reference_every_command_has_help_and_an_example(name: str) -> None:
    assert f"## `medseg {name}`" in (ROOT / "docs" / "reference" / "cli.md").read_text(encoding="utf-8")
    command = COMMANDS
    for word in name.split():
        command = command.commands[word]  # type: ignore[attr-defined]
    assert command.help
    assert command.epilog
    assert f"medseg {name}" in command.epilog
    for parameter in command.params:
        assert getattr(parameter, "help", None) or parameter.name == "help", f"{name}: {parameter.name} has no help"


@pytest.mark.parametrize("page", make_reference.PAGES)
def test_reference_page_is_fresh(page: str) -> None:
    written = (ROOT / "docs" / "reference" / page).read_text(encoding="utf-8")
    assert written == make_reference.PAGES[page](), "run `make reference`"


def test_readme_is_one_page() -> None:
    assert len(README.splitlines()) <= 120
    assert len(re.sub(r"```.*?```", "", README, flags=re.DOTALL).split()) <= 700
    for name in ("train", "segment", "evaluate", "extract-features", "diagnose", "report"):
        assert f"medseg {name}" in README


@pytest.mark.parametrize("line", LINES)
def test_every_line_of_the_readme_is_a_command_that_exists(line: str) -> None:
    words = shlex.split(line)[1:]
    if words[0].startswith("--"):
        return
    assert any(line.startswith(f"medseg {name}") for name in known())
    settings = [word for word in words if "=" in word and not word.startswith("--")]
    if "--config-dir" in words or "-m" in words or any(word.startswith("resume=") for word in settings):
        return
    if words[0] in ("train", "config"):
        compose(settings)


def test_make_targets_of_the_readme_exist() -> None:
    makefile = (ROOT / "Makefile").read_text()
    for target in re.findall(r"(?m)(?:^|`)make (\w+)", README):
        assert re.search(rf"^{target}:", makefile, re.MULTILINE)


def test_named_files_exist() -> None:
    for name in re.findall(r"`((?:scripts|configs|data|medseg)/[\w./]+|[A-Z]+\.md)`", README):
        assert (ROOT / name).exists(), name


def test_no_file_names_this_machine() -> None:
    for path in [
        *ROOT.glob("*.md"),
        *ROOT.glob("medseg/**/*.py"),
        *ROOT.glob("configs/**/*.yaml"),
        *ROOT.glob("scripts/*"),
    ]:
        if path.is_file():
            assert "/root/" not in Path(path).read_text()
