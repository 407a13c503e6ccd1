"""The unattended run's exit status, with a `medseg` that ends as it is told."""

import os
import subprocess
from pathlib import Path

import pytest

from tests.conftest import ROOT, posix

pytestmark = posix  # a script of bash
SCRIPT = ROOT / "scripts" / "diagnose_folder.sh"


def run(tmp_path: Path, statuses: dict[str, int], count: int = 4) -> tuple[int, list[str], str]:
    """The script's exit status, its commands and what it said, where `medseg NAME` ends with statuses[NAME]."""
    stub = tmp_path / "bin" / "medseg"
    stub.parent.mkdir()
    cases = "".join(f"  {name}) exit {status} ;;\n" for name, status in statuses.items())
    stub.write_text(f'#!/bin/sh\necho "$@" >> "{tmp_path}/log"\ncase $1 in\n{cases}esac\nexit 0\n')
    stub.chmod(0o755)
    given = ["images", str(tmp_path / "out"), "segmenter", "diagnoser"][:count]
    path = f"{stub.parent}{os.pathsep}{os.environ['PATH']}"
    done = subprocess.run(["bash", str(SCRIPT), *given], env={"PATH": path}, capture_output=True, check=False)
    log = tmp_path / "log"
    return done.returncode, log.read_text().splitlines() if log.exists() else [], done.stdout.decode()


def test_all_well_goes_through_every_step(tmp_path: Path) -> None:
    status, log, said = run(tmp_path, {})
    assert status == 0
    assert [line.split()[0] for line in log] == ["segment", "diagnose", "report"]
    assert f"--masks {tmp_path}/out/masks" in log[1]
    assert log[2].split()[1] == f"{tmp_path}/out/diagnosis.json"
    assert f"{tmp_path}/out/diagnosis.html" in said


@pytest.mark.parametrize("step", ["segment", "diagnose"])
def test_some_that_failed_leave_the_rest_and_are_told(tmp_path: Path, step: str) -> None:
    status, log, _ = run(tmp_path, {step: 3})
    assert status == 3
    assert len(log) == 3


@pytest.mark.parametrize(("step", "status", "steps"), [("segment", 1, 1), ("diagnose", 2, 2), ("segment", 130, 1)])
def test_what_cannot_go_on_ends_with_its_own_status(tmp_path: Path, step: str, status: int, steps: int) -> None:
    found, log, _ = run(tmp_path, {step: status})
    assert (found, len(log)) == (status, steps)


def test_wrong_use_is_2_and_does_nothing(tmp_path: Path) -> None:
    assert run(tmp_path, {}, count=3)[:2] == (2, [])
