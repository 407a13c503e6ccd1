"""What tests share: a way to run the command line in this process, and where real data lie."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import pytest

os.environ["NO_ALBUMENTATIONS_UPDATE"] = "1"
ROOT = Path(__file__).resolve().parent.parent
REAL = ROOT.parent / "shared" / "data"


class Result(NamedTuple):
    status: int
    out: str
    err: str


@pytest.fixture
def medseg(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Callable[..., Result]:
    """`medseg("train", "organ=lung")` → exit status and what was printed, with every blank run made one space."""
    from medseg.cli import main
    from medseg.console import be_quiet

    def run(*arguments: object) -> Result:
        monkeypatch.setattr(sys, "argv", ["medseg", *map(str, arguments)])
        be_quiet(False)
        capsys.readouterr()
        try:
            main()
            status = 0
        except SystemExit as end:
            status = int(end.code or 0)
        captured = capsys.readouterr()
        return Result(status, captured.out, " ".join(captured.err.split()))

    return run


@pytest.fixture(scope="session")
def real() -> Path:
    """The folder of real data; a test that asks for it is skipped where it is not there."""
    if not REAL.is_dir():
        pytest.skip(f"no real data in {REAL}")
    return REAL
