"""Warn where a model of phantoms meets real images."""

from __future__ import annotations

from pathlib import Path

from medseg.runs.run import Run
from medseg.utils.console import banner


def warn_synthetic(run: Run, source: Path) -> None:
    """Say it loudly where a model of phantoms meets images that are none."""
    marked = any((folder / "phantom.json").is_file() for folder in [source, *source.resolve().parents][:4])
    if run.synthetic and not marked:
        banner(f"{run.named} was trained on SYNTHETIC PHANTOMS only. What it says of real images means nothing.")
