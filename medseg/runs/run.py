"""A run folder is the model: settings, weights, labels, split, numbers, card and hashes."""

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
    "config.yaml", "model.safetensors", "labels.json", "preprocess.json", "candidates.json", "fingerprint.json",
    "split.csv", "metrics.json", "card.md", "feature_schema.json", "calibration.json", "stacking.json",
    "ensemble.skops",
)  # fmt: skip
# what a run answers with, beside its settings
MODEL_FILES = tuple(name for name in HASHED if name not in ("config.yaml", "split.csv", "metrics.json", "card.md"))
ENCODER = "encoder"  # of a diagnoser's run: the model whose encoder it reads, whole
PACKAGE_FILES = frozenset(  # what a package may hold
    {"LICENCE.txt", *(f"{place}{name}" for place in ("", f"{ENCODER}/") for name in (archive.MANIFEST, *HASHED))}
)
UNPACKED = "medseg-"  # how the name of an unpacked package's folder begins
PACKAGES = ("torch", "pytorch-lightning", "numpy", "SimpleITK", "albumentations", "hydra-core", "scikit-learn")


@dataclass(frozen=True)
class Run:
    """A run folder; every file of it by name. `package` is the zip that it was unpacked from."""

    path: Path
    package: Path | None = None

    @property
    def named(self) -> Path:
        """What the user calls it: the folder or the zip."""
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
            raise ModelError(f"{self.named / name}: not an object")
        return content

    @contextmanager
    def reading(self) -> Iterator[None]:
        """While a model is built from the run's files: what does not fit together is a `ModelError`."""
        try:
            yield
        except (AttributeError, KeyError, TypeError, ValueError, RuntimeError) as error:
            why = str(error).strip().splitlines() or [""]
            raise ModelError(
                f"{self.named}: its settings, weights and tables do not fit together ({type(error).__name__}: "
                f"{why[0][:200]}); copy it again, or train with this version of medseg"
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
        """Side of each image of the run's dataset (train, valid, test), by the digest of its content.

        Images that are gone are left out, and one that stands there twice is held out only if it is both times. Raises
        `ModelError` where all are gone, since nothing is known then.
        """
        from medseg.data.tables import read_table

        table = read_table(self.file("split.csv"))
        known = table["sha256"] if "sha256" in table else table["image"].map(lambda path: hash_run_input(Path(path)))
        found = split_by_hash(known, table["split"])
        if not found:
            raise ModelError(f"{self.named}: the images that it learnt from are gone: nobody can tell what it saw")
        return found

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
            raise ModelError(f"{self.named / 'model.safetensors'}: cannot be read ({error})") from error

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
                "sha256": {name: hash_path(self.file(name)) for name in HASHED if self.file(name).is_file()},
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


def hash_run_input(path: Path) -> str:
    """`hash_path` of an image; blank where it cannot be read."""
    try:
        return hash_path(path)
    except OSError:
        return ""


def split_by_hash(keys: Iterable[object], sides: Iterable[object]) -> dict[str, str]:
    """Side of each key that is not blank; test only where it stands on no other side."""
    found: dict[str, str] = {}
    for key, side in zip(keys, sides, strict=True):
        if key and found.get(str(key), "test") == "test":
            found[str(key)] = str(side)
    return found


def open_run(path: Path) -> Run:
    """An existing run folder, or the package of one, its files checked against their hashes.

    A package is unpacked into a folder that is removed with the `Run`, at the latest when the process ends; that of a
    process that was killed, by the next one that opens a package.
    """
    if path.is_file():
        return _unpacked(path)
    if not path.is_dir():
        raise ModelError(f"{path}: no such run folder or package; name the folder that `medseg train` wrote")
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
    """The files of a package below a folder."""
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
            f"{path}: no finished run (manifest.json is missing); was it interrupted, finish it with resume={path}"
        )
    manifest = run.read_json("manifest.json")
    if manifest.get("schema") != SCHEMA:
        raise ModelError(f"{path}: written in schema {manifest.get('schema')}, this medseg reads schema {SCHEMA}")
    hashes = manifest.get("sha256")
    if not isinstance(hashes, dict) or not PACKAGE_FILES.issuperset(hashes):
        raise ModelError(f"{run.file('manifest.json')}: names files that no run has; copy the run again")
    there = [name for name in sorted(PACKAGE_FILES - {archive.MANIFEST}) if run.file(name).exists()]
    if "package" in manifest and (strange := [name for name in there if name not in hashes]):
        raise ModelError(f"{run.file(strange[0])}: was added to the package; import it again")
    for name, digest in hashes.items():
        if not run.file(name).is_file():
            raise ModelError(f"{run.file(name)}: missing; copy the whole run folder")
        if hash_path(run.file(name)) != digest:
            raise ModelError(f"{run.file(name)}: was changed after training (its hash differs); copy the run again")
    return run


def write_card(run: Run, lines: list[str]) -> None:
    """card.md: what the model is, for a reader."""
    atomic_write_text(run.file("card.md"), "\n".join(lines) + "\n")
