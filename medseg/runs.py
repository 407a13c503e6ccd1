"""A run folder is the model: settings, weights, labels, split, numbers, card and hashes."""

from __future__ import annotations

import importlib.metadata
import json
import platform
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

import medseg
from medseg.errors import ConfigError, ModelError
from medseg.ledger import atomic_write_bytes, atomic_write_text, sha256, write_json

if TYPE_CHECKING:
    import torch

SCHEMA = 1
HASHED = (
    "config.yaml", "model.safetensors", "labels.json", "preprocess.json", "candidates.json", "fingerprint.json",
    "split.csv", "metrics.json", "card.md", "diagnoser.json", "classifier.json", "ensemble.skops",
)  # fmt: skip
PACKAGES = ("torch", "pytorch-lightning", "numpy", "SimpleITK", "albumentations", "hydra-core", "scikit-learn")


@dataclass(frozen=True)
class Run:
    """A run folder; every file of it by name."""

    path: Path

    def file(self, name: str) -> Path:
        """Path of one of the run's files."""
        return self.path / name

    def read_json(self, name: str) -> dict[str, Any]:
        """One of the run's JSON files; a missing or broken one is a `ModelError`."""
        try:
            content = json.loads(self.file(name).read_text())
        except (OSError, ValueError) as error:
            raise ModelError(
                f"{self.file(name)}: missing or not JSON; train again or copy the whole run folder"
            ) from error
        if not isinstance(content, dict):
            raise ModelError(f"{self.file(name)}: not an object")
        return content

    @property
    def checkpoint(self) -> Path:
        """Lightning's checkpoint for resuming; not needed to use the model."""
        return self.path / "checkpoints" / "last.ckpt"

    @property
    def synthetic(self) -> bool:
        """Whether the model was trained on phantoms."""
        return bool(self.read_json("fingerprint.json").get("synthetic"))

    def save_weights(self, state: dict[str, torch.Tensor]) -> None:
        """Write model.safetensors (tensors only: loading runs no code)."""
        from safetensors.torch import save

        plain = {name: value.detach().cpu().contiguous() for name, value in state.items()}
        atomic_write_bytes(self.file("model.safetensors"), save(plain, metadata={"medseg": medseg.__version__}))

    def load_weights(self) -> dict[str, torch.Tensor]:
        """The tensors of model.safetensors, on the processor."""
        from safetensors import SafetensorError
        from safetensors.torch import load_file

        try:
            return load_file(self.file("model.safetensors"))
        except (OSError, SafetensorError) as error:
            raise ModelError(f"{self.file('model.safetensors')}: cannot be read ({error})") from error

    def seal(self, started: datetime, machine: dict[str, str] | None = None) -> None:
        """Write manifest.json: versions, times, what it was computed on, and the hash of each file."""
        write_json(
            self.file("manifest.json"),
            {
                "schema": SCHEMA,
                "medseg": medseg.__version__,
                "started": started.isoformat(timespec="seconds"),
                "finished": datetime.now(UTC).isoformat(timespec="seconds"),
                "python": platform.python_version(),
                "platform": f"{platform.system()} {platform.machine()}",
                "machine": machine or {},
                "versions": {name: importlib.metadata.version(name) for name in PACKAGES},
                "sha256": {name: sha256(self.file(name)) for name in HASHED if self.file(name).is_file()},
            },
        )


def create(run_dir: str | None, organ: str) -> Run:
    """A new run folder: `run_dir`, or the next free number below runs/<organ>."""
    if run_dir is not None:
        path = Path(run_dir)
        if (path / "config.yaml").exists():
            raise ConfigError(
                f"run_dir={run_dir}: holds a run already; choose another, or continue it with resume={run_dir}"
            )
        path.mkdir(parents=True, exist_ok=True)
        return Run(path)
    parent = Path("runs") / organ
    parent.mkdir(parents=True, exist_ok=True)
    number = 1 + max((int(p.name) for p in parent.iterdir() if p.name.isdigit()), default=0)
    while True:
        try:
            (parent / str(number)).mkdir()
        except FileExistsError:  # another process took it
            number += 1
        else:
            return Run(parent / str(number))


def open_run(path: Path) -> Run:
    """An existing run folder, its files checked against their hashes."""
    if not path.is_dir():
        raise ModelError(f"{path}: no such run folder; name the folder that `medseg train` wrote")
    run = Run(path)
    if not run.file("manifest.json").is_file():
        raise ModelError(
            f"{path}: no finished run (manifest.json is missing); was it interrupted, finish it with resume={path}"
        )
    manifest = run.read_json("manifest.json")
    if manifest.get("schema") != SCHEMA:
        raise ModelError(f"{path}: written in schema {manifest.get('schema')}, this medseg reads schema {SCHEMA}")
    for name, digest in manifest.get("sha256", {}).items():
        if not run.file(name).is_file():
            raise ModelError(f"{run.file(name)}: missing; copy the whole run folder")
        if sha256(run.file(name)) != digest:
            raise ModelError(f"{run.file(name)}: was changed after training (its hash differs); copy the run again")
    return run


def write_card(run: Run, lines: list[str]) -> None:
    """card.md: what the model is, for a reader."""
    atomic_write_text(run.file("card.md"), "\n".join(lines) + "\n")
