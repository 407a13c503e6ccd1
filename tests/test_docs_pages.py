"""Every command on a page of docs/ exists, and its settings compose."""

import re
import shlex
from pathlib import Path

import pytest

from medseg.config.compose import compose
from tests.conftest import ROOT
from tests.test_docs import COMMANDS, known

PAGES = sorted((ROOT / "docs").rglob("*.md"))
LINES = sorted(
    {
        (str(page.relative_to(ROOT)), line.split("  #")[0].strip())
        for page in PAGES
        for block in re.findall(r"```bash\n(.*?)```", page.read_text(encoding="utf-8"), re.DOTALL)
        for line in block.replace("\\\n", " ").splitlines()
        if line.strip().startswith("medseg ")
    }
)


@pytest.mark.parametrize(("page", "line"), LINES)
def test_docs_page_command_exists_and_composes(page: str, line: str) -> None:
    assert any(line == f"medseg {name}" or line.startswith(f"medseg {name} ") for name in [*known(), "--"]), page
    words = shlex.split(line)[1:]
    settings = [word for word in words if re.match(r"^[+~]?[a-z_.]+=", word) and not word.startswith("--")]
    fixed = not any("…" in word or "$" in word for word in words)
    resumed = any(word.startswith("resume=") for word in settings)
    several = {"--config-dir", "-m", "--multirun"} & set(words)
    if words[0] in ("train", "config") and fixed and not several and not resumed:
        assert compose(settings)


@pytest.mark.parametrize(("page", "line"), LINES)
def test_docs_page_command_has_its_options(page: str, line: str) -> None:
    command = COMMANDS
    words = shlex.split(line)[1:]
    while hasattr(command, "commands") and words and words[0] in command.commands:
        command = command.commands[words.pop(0)]
    options = {name for parameter in command.params for name in [*parameter.opts, *parameter.secondary_opts]}
    given = {word.split("=")[0] for word in words if re.match(r"--?[a-z]", word)}
    assert given <= options | {"--help"}, f"{page}: {given - options}"


@pytest.mark.parametrize("page", [ROOT / "README.md", *PAGES], ids=lambda page: str(page.relative_to(ROOT)))
def test_docs_page_links_lead_somewhere(page: Path) -> None:
    for target in re.findall(r"\]\((?!https?:|#|mailto:)([^)#]+)", page.read_text(encoding="utf-8")):
        assert (page.parent / target).exists(), f"{page.name}: {target}"
