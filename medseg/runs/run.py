"""Run folders: a model with its settings, weights, labels, split, metrics, card and hashes."""

from __future__ import annotations

import importlib.metadata
import json
import platform
import weakref
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

import medseg
from medseg.errors import ConfigError, ModelError
from medseg.runs import archive
from medseg.utils.files import atomic_write_bytes, atomic_write_text, hash_path, write_json
from medseg.utils.locks import sweep_temporary, temporary_folder

if TYPE_CHECKING:
    import torch

SCHEMA = 1
HASHED = (
    "config.yaml", "model.safetensors", "labels.json", "preprocess.json", "candidates.json", "expected_dice.json",
    "fingerprint.json", "split.csv", "metrics.json", "card.md", "feature_schema.json", "calibration.json",
    "stacking.json", "ensemble.skops",
)  # fmt: skip
# files that determine a run's predictions, besides its settings
MODEL_FILES = tuple(name for name in HASHED if name not in ("config.yaml", "split.csv", "metrics.json", "card.md"))
ENCODER = "encoder"  # in a classifier's run: the model whose encoder it uses
PACKAGE_FILES = frozenset(  # allowed in a package
    {"LICENCE.txt", *(f"{place}{name}" for place in ("", f"{ENCODER}/") for name in (archive.MANIFEST, *HASHED))}
)
UNPACKED = "medseg-"  # prefix of an unpacked package's folder
PACKAGES = ("torch", "pytorch-lightning", "numpy", "SimpleITK", "albumentations", "hydra-core", "scikit-learn")


@dataclass(frozen=True)
class Run:
    """A run folder and its files. `package` is the zip that it was unpacked from."""

    path: Path
    package: Path | None = None

    @property
    def named(self) -> Path:
        """The path that the user gave: the folder or the zip."""
        return self.package or self.path

    def file(self, name: str) -> Path:
        """Path of one of the run's files."""
        return self.path / name

    def read_json(self, name: str) -> dict[str, Any]:
        """One of the run's JSON files; a missing or broken one is a `ModelError`."""
        try:
            content = json.loads(self.file(name).read_text(encoding="utf-8"))
        except (OSError, ValueError, RecursionError) as error:
            raise ModelError(
                f"{self.named / name}: missing or not JSON; train again or copy the whole run folder"
            ) from error
        if not isinstance(content, dict):
            raise ModelError(f"{self.named / name}: not a JSON object; copy the whole run folder again")
        return content

    @contextmanager
    def reading(self) -> Iterator[None]:
        """Raise `ModelError` for files that do not fit together while a model is built from them."""
        try:
            yield
        except (AttributeError, KeyError, TypeError, ValueError, RuntimeError) as error:
            lines = str(error).strip().splitlines() or [""]
            raise ModelError(
                f"{self.named}: its settings, weights and tables do not fit together ({type(error).__name__}: "
                f"{lines[0][:200]}); copy it again, or train with this version of medseg"
            ) from error

    @property
    def checkpoint(self) -> Path:
        """Lightning's checkpoint for resuming; not needed to use the model."""
        return self.path / "checkpoints" / "last.ckpt"

    @property
    def synthetic(self) -> bool:
        """Whether the model was trained on phantoms."""
        return bool(self.read_json("fingerprint.json").get("synthetic"))

    def sides(self) -> dict[str, str]:
        """Split of each image of the run's dataset (train, valid, test), by the digest of its content.

        Missing images are left out; an image that is listed twice is test only if it is test both times. Raises
        `ModelError` where all are missing.
        """
        from medseg.data.tables import read_table

        table = read_table(self.file("split.csv"))
        digests = table["sha256"] if "sha256" in table else table["image"].map(lambda path: hash_run_input(Path(path)))
        by_digest = split_by_hash(digests, table["split"])
        if not by_digest:
            raise ModelError(
                f"{self.named}: its training images are missing, so training cases cannot be recognised; restore them"
            )
        return by_digest

    def save_weights(self, state: dict[str, torch.Tensor]) -> None:
        """Write model.safetensors (tensors only: loading runs no code)."""
        from safetensors.torch import save

        tensors = {name: value.detach().cpu().contiguous() for name, value in state.items()}
        atomic_write_bytes(self.file("model.safetensors"), save(tensors, metadata={"medseg": medseg.__version__}))

    def load_weights(self) -> dict[str, torch.Tensor]:
        """The tensors of model.safetensors, on the CPU."""
        from safetensors import SafetensorError
        from safetensors.torch import load_file

        try:
            return load_file(self.file("model.safetensors"))
        except (OSError, SafetensorError) as error:
            raise ModelError(f"{self.named / 'model.safetensors'}: cannot be read ({error})") from error

    def seal(self, started: datetime, machine: dict[str, str] | None = None) -> None:
        """Write manifest.json: versions, times, the machine, and the hash of each file."""
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
                "sha256": {name: hash_path(self.file(name)) for name in HASHED if self.file(name).is_file()},
            },
        )


def create(run_dir: str | None, organ: str) -> Run:
    """A new run folder: `run_dir`, or the next free number below runs/<organ>."""
    if run_dir is not None:
        path = Path(run_dir)
        if (path / "config.yaml").exists():
            raise ConfigError(
                f"run_dir={run_dir}: contains a run already; choose another, or continue it with resume={run_dir}"
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


def hash_run_input(path: Path) -> str:
    """`hash_path` of an image; blank where it cannot be read."""
    try:
        return hash_path(path)
    except OSError:
        return ""


def split_by_hash(keys: Iterable[object], sides: Iterable[object]) -> dict[str, str]:
    """Split of each key that is not blank; test only if the key is in no other split."""
    by_key: dict[str, str] = {}
    for key, side in zip(keys, sides, strict=True):
        if key and by_key.get(str(key), "test") == "test":
            by_key[str(key)] = str(side)
    return by_key


def open_run(path: Path) -> Run:
    """Open a run folder or a package; its files are checked against their hashes.

    A package is unpacked into a folder that is removed with the `Run`, at the latest when the process ends; after a
    killed process, the next one that opens a package removes it.
    """
    if path.is_file():
        return _unpacked(path)
    if not path.is_dir():
        raise ModelError(f"{path}: no such run folder or package; give the folder that `medseg train` wrote")
    return _checked(Run(path))


def _unpacked(file: Path) -> Run:
    members = archive.unpack(file, PACKAGE_FILES)
    sweep_temporary(UNPACKED)
    parent, remove = temporary_folder(UNPACKED)
    run = Run(parent / (file.stem.strip(".") or "model"), file)
    weakref.finalize(run, remove)
    write_members(members, run.path)
    return _checked(run)


def write_members(members: dict[str, bytes], folder: Path) -> None:
    """Write the files of a package into a folder."""
    try:
        for name, content in members.items():
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            (folder / name).write_bytes(content)
    except OSError as error:
        raise ModelError(f"{folder}: a package cannot be unpacked there ({error.strerror})") from error


def _checked(run: Run) -> Run:
    path = run.path
    if not run.file("manifest.json").is_file():
        raise ModelError(
            f"{path}: not a finished run (manifest.json is missing); if interrupted, finish it with resume={path}"
        )
    manifest = run.read_json("manifest.json")
    if manifest.get("schema") != SCHEMA:
        raise ModelError(f"{path}: written in schema {manifest.get('schema')}, this medseg reads schema {SCHEMA}")
    hashes = manifest.get("sha256")
    if not isinstance(hashes, dict) or not PACKAGE_FILES.issuperset(hashes):
        raise ModelError(f"{run.file('manifest.json')}: lists files that no run has; copy the run again")
    present = [name for name in sorted(PACKAGE_FILES - {archive.MANIFEST}) if run.file(name).exists()]
    if "package" in manifest and (unlisted := [name for name in present if name not in hashes]):
        raise ModelError(f"{run.file(unlisted[0])}: was added to the package; import the package again")
    for name, digest in hashes.items():
        if not run.file(name).is_file():
            raise ModelError(f"{run.file(name)}: missing; copy the whole run folder")
        if hash_path(run.file(name)) != digest:
            raise ModelError(f"{run.file(name)}: was changed after training (its hash differs); copy the run again")
    return run


def write_card(run: Run, lines: list[str]) -> None:
    """Write card.md, the model card."""
    atomic_write_text(run.file("card.md"), "\n".join(lines) + "\n")
