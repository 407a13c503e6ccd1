"""Warn when a model trained on phantoms is applied to real images."""

from __future__ import annotations

from pathlib import Path

from medseg.runs.run import Run
from medseg.utils.console import banner


def warn_synthetic(run: Run, source: Path) -> None:
    """Show a banner if the model was trained on phantoms and `source` is not a phantom dataset."""
    marked = any((folder / "phantom.json").is_file() for folder in [source, *source.resolve().parents][:4])
    if run.synthetic and not marked:
        banner(f"{run.named} was trained on SYNTHETIC PHANTOMS only. Its results on real images are meaningless.")
