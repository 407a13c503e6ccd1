"""What both scripts of the accuracy page need: commands, notes, and what an earlier page says, so that what is not
measured again stays as it was.
"""

from __future__ import annotations

import json
import subprocess
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

PAGE = Path(__file__).resolve().parent.parent / "docs" / "ACCURACY.md"
DIAGNOSIS = "# Diagnosis"  # where the part of accuracy_diagnosis.py begins
NOTE = "Notes: "  # how the line begins that is written anew each time
EXPERIMENTS = PAGE.parent / "experiments"


def notes(name: str) -> list[str]:
    """A link to what was tried on a data set, where somebody wrote it down."""
    return [f"{NOTE}[what was tried](experiments/{name}.md)", ""] if (EXPERIMENTS / f"{name}.md").is_file() else []


def done(command: Sequence[str]) -> bool:
    """Run a command and tell whether it came to its end; single cases may have failed (status 3)."""
    print("$", " ".join(command), flush=True)
    status = subprocess.run(command, check=False).returncode
    if status not in (0, 3):
        print(f"ended with status {status}: {' '.join(command)}", flush=True)
    return status in (0, 3)


class Earlier(NamedTuple):
    """A section: the rows of its first table, and the lines below that table without its note."""

    rows: list[str]
    tail: list[str]

    def of(self, variant: str) -> list[str]:
        """The rows of one variant."""
        return [row for row in self.rows if row.startswith(f"| {variant} | ")]


def earlier(page: str, title: str) -> Earlier:
    """The section of that title; empty where there is none."""
    lines = section_of(page, title)
    first = next((n for n, line in enumerate(lines) if line.startswith("|")), len(lines))
    last = next((n for n in range(first, len(lines)) if not lines[n].startswith("|")), len(lines))
    tail = "\n".join(line for line in lines[last:] if not line.startswith(NOTE)).strip("\n")
    return Earlier(lines[first + 2 : last], [*tail.split("\n"), ""] if tail else [])


def section_of(page: str, title: str) -> list[str]:
    """The lines of the section of that title, with it; none where the page lacks it."""
    parts = [part for part in page.split("\n## ") if part.split("\n", 1)[0] == title]
    return [*f"## {parts[0]}".split("\n# ")[0].rstrip().split("\n"), ""] if parts else []


def labels_of(run: Path) -> list[str]:
    return list(json.loads((run / "metrics.json").read_text())["labels"])


def with_interval(score: dict[str, Any]) -> str:
    return f"{score['mean']:.3f} ({score['ci95'][0]:.3f}–{score['ci95'][1]:.3f})"
