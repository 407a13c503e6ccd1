import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import medseg
from medseg.commands.explain import CODES, explain_code
from medseg.errors import ConfigError

SOURCES = list(Path(medseg.__file__).parent.rglob("*.py"))


def used() -> set[str]:
    """Every code that an error or an entry of a case log can have."""
    text = "\n".join(file.read_text(encoding="utf-8") for file in SOURCES if file.name != "explain.py")
    codes = set(re.findall(r'code(?:: str)?\s*[:=]\s*f?"([a-z0-9-]+)"', text))
    return (
        codes
        | set(re.findall(r'(?:Entry\([^"]*"\w+", |status, code = \("review", )"([a-z-]+)"', text))
        | {"case-error"}
    )


def test_codes_are_those_used_in_the_source() -> None:
    assert used() - set(CODES) == set()
    assert set(CODES) - used() <= {"quality", "fail-fast", "review"}


@pytest.mark.parametrize("code", sorted(CODES))
def test_explain_code_gives_meaning_and_solution(code: str) -> None:
    first, second = explain_code(code).split("\n")
    assert first.startswith(f"{code}: ")
    assert len(second) > len("What to do: .") + 5


def test_explain_without_code_lists_all(medseg: Callable[..., Any]) -> None:
    lines = medseg("explain").out.splitlines()
    assert len(lines) == len(CODES)
    assert any(line.startswith("image-blank: a sequence is blank") for line in lines)


def test_explain_misspelt_code_suggests_the_nearest(medseg: Callable[..., Any]) -> None:
    assert medseg("explain", "image-truncated").out.startswith("image-truncated: the file ends too early")
    result = medseg("explain", "image-truncted")
    assert result.status == 2
    assert "image-truncated" in result.err
    with pytest.raises(ConfigError):
        explain_code("")
