"""Parts of the accuracy page; and what an earlier page says, so that what is not measured again stays as it was."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, NamedTuple


class Earlier(NamedTuple):
    """A section: the rows of its first table, and the lines below that table without the note."""

    rows: list[str]
    tail: list[str]

    def of(self, variant: str) -> list[str]:
        """The rows of one variant."""
        return [row for row in self.rows if row.startswith(f"| {variant} | ")]


def earlier(page: str, title: str, note: str = "") -> Earlier:
    """The section of that title; empty where there is none."""
    parts = [part for part in page.split("\n## ") if part.split("\n", 1)[0] == title]
    if not parts:
        return Earlier([], [])
    lines = parts[0].split("\n# ")[0].split("\n")
    first = next((n for n, line in enumerate(lines) if line.startswith("|")), len(lines))
    last = next((n for n in range(first, len(lines)) if not lines[n].startswith("|")), len(lines))
    tail = "\n".join(line for line in lines[last:] if not note or line != note).strip("\n")
    return Earlier(lines[first + 2 : last], ["", *tail.split("\n"), ""] if tail else [])


def labels_of(run: Path) -> list[str]:
    return list(json.loads((run / "metrics.json").read_text())["labels"])


def with_interval(score: dict[str, Any]) -> str:
    return f"{score['mean']:.3f} ({score['ci95'][0]:.3f}–{score['ci95'][1]:.3f})"
