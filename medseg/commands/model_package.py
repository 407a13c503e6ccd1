"""Model packages: one zip with everything needed to use a model, and no data of its training patients."""

from __future__ import annotations

import hashlib
import json
import tempfile
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pandas as pd

from medseg.config.load import get_labels, load, to_yaml, without_paths
from medseg.config.targets import check_targets
from medseg.data.tables import read_table
from medseg.errors import ConfigError, DataError, ModelError
from medseg.runs import archive
from medseg.runs.archive import MANIFEST
from medseg.runs.run import ENCODER, HASHED, PACKAGE_FILES, Run, hash_run_input, open_run, write_members
from medseg.utils.console import warn
from medseg.utils.files import atomic_write_bytes

UNSPECIFIED = "unspecified"
LICENCE = "LICENCE.txt"


def export_model(run: Run, out: Path, licence: str | None = None) -> Path:
    """Write a finished run as a package. The same run gives the same bytes.

    `licence` is an identifier such as CC-BY-4.0, or a text file that is included. split.csv is anonymised: numbers
    instead of names, splits, and digests of the images; checkpoints, predictions, figures and tables are left out.
    """
    if out.suffix.lower() != ".zip":
        raise ConfigError(f"{out}: a package is a .zip; name it {out.with_suffix('.zip').name}")
    verify_model(run)
    name, text = _licence(licence, run)
    members = {} if text is None else {LICENCE: text}
    if run.file(ENCODER).is_dir():
        members |= {
            f"{ENCODER}/{member}": content
            for member, content in _package_members(open_run(run.file(ENCODER)), name, {})
        }
    atomic_write_bytes(out, archive.pack(dict(_package_members(run, name, members))))
    return out


def import_model(file: Path, folder: Path) -> Run:
    """Unpack a package into a new folder, atomically."""
    if not file.is_file():
        raise ModelError(f"{file}: no such package")
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise ConfigError(f"{folder}: is not empty; choose a new folder")
    run = open_run(file)
    verify_model(run)
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=folder.parent, prefix=".writing-") as draft:
            model_folder = Path(draft) / "model"
            write_members(archive.unpack(file, PACKAGE_FILES), model_folder)
            model_folder.replace(folder)
    except OSError as error:
        raise DataError(f"{folder}: cannot be written ({error.strerror}); choose another folder") from error
    return open_run(folder)


def verify_model(run: Run) -> list[str]:
    """Check the content of a run's files and return their names. Raises `ModelError`.

    Settings may name only medseg's own classes, weights must be tensors, an ensemble must have known types, JSON must
    be valid.
    """
    names = [name for name in HASHED if run.file(name).is_file()]
    for name in names:
        with run.file(name).open("rb") as file:
            if archive.is_pickle(name, file.read(2)):
                raise ModelError(
                    f"{run.file(name)}: is a pickle, which runs code when it is loaded", code="package-unsafe"
                )
        if name.endswith(".json"):
            run.read_json(name)
    config = load(run.file("config.yaml"))
    try:
        check_targets(config.to_dict())
    except ConfigError as error:
        raise ModelError(f"{run.named}: config.yaml: {error}", code="package-unsafe") from error
    if "model.safetensors" in names:
        run.load_weights()
    if "ensemble.skops" in names:
        from medseg.diagnosis.voting_ensemble import VotingEnsemble

        VotingEnsemble.load(run.file("ensemble.skops").read_bytes(), str(run.file("ensemble.skops")))
    if run.file(ENCODER).is_dir():
        names += [f"{ENCODER}/{name}" for name in verify_model(open_run(run.file(ENCODER)))]
    return names


def describe_model(run: Run) -> dict[str, Any]:
    """Facts about a model for its users."""
    with run.reading():
        manifest, config = run.read_json(MANIFEST), load(run.file("config.yaml"))
        metrics = run.read_json("metrics.json") if run.file("metrics.json").is_file() else {}
        return {
            "model": str(run.named),
            "organ": config.organ.name,
            "task": config.task,
            "channels": list(config.organ.channels),
            "labels": dict(get_labels(config).numbers),
            "classes": [str(name) for name in config.organ.classes] if config.task == "diagnosis" else [],
            "licence": manifest.get("package", {}).get("licence", UNSPECIFIED),
            "synthetic": run.synthetic,
            "medseg": manifest.get("medseg"),
            "trained": manifest.get("finished"),
            "measured": {key: metrics.get(key) for key in ("report_split", "n_cases", "n_patients")},
            "scores": _scores(metrics),
            "files": {name: run.file(name).stat().st_size for name in sorted(manifest["sha256"])},
            "sha256": hashlib.sha256(json.dumps(manifest["sha256"], sort_keys=True).encode()).hexdigest(),
        }


def _scores(metrics: Mapping[str, Any]) -> dict[str, Any]:
    """Mean Dice of each label, or the first model's scores."""
    if "labels" in metrics and isinstance(metrics["labels"], dict) and metrics.get("task") == "segmentation":
        return {name: scores.get("dice", {}).get("mean") for name, scores in metrics["labels"].items()}
    models = metrics.get("models") or {}
    first: dict[str, Any] = next(iter(models.values()), {})
    return {name: score["mean"] for name, score in first.items() if isinstance(score, dict) and "mean" in score}


def _licence(licence: str | None, run: Run) -> tuple[str, bytes | None]:
    """Identifier, and the text if a file was given; None keeps the licence of an imported package."""
    if licence is None:
        current = run.read_json(MANIFEST).get("package", {}).get("licence", UNSPECIFIED)
        return str(current), run.file(LICENCE).read_bytes() if run.file(LICENCE).is_file() else None
    if Path(licence).is_file():
        return f"see {LICENCE}", Path(licence).read_bytes()
    if not licence.strip() or len(licence) > 100 or "\n" in licence:
        raise ConfigError(
            f"licence {licence[:40]!r}: must be an identifier such as CC-BY-4.0, or an existing text file",
            hint="licence",
        )
    return licence.strip(), None


def _package_members(run: Run, licence: str, extra: dict[str, bytes]) -> Iterator[tuple[str, bytes]]:
    """Members of a package: the run's files, `extra` ones, and the manifest of all of them."""
    members = {name: run.file(name).read_bytes() for name in HASHED if run.file(name).is_file()} | extra
    if "split.csv" in members:
        members["split.csv"] = anonymised_split(run).to_csv(index=False, lineterminator="\n").encode()
    members["config.yaml"] = to_yaml(without_paths(load(run.file("config.yaml")))).encode()
    manifest = run.read_json(MANIFEST) | {
        "package": {"schema": archive.SCHEMA, "licence": licence},
        "sha256": {name: hashlib.sha256(content).hexdigest() for name, content in sorted(members.items())},
        "bytes": {name: len(content) for name, content in sorted(members.items())},
    }
    members[MANIFEST] = (json.dumps(manifest, indent=2, allow_nan=False, ensure_ascii=False) + "\n").encode()
    yield from members.items()


def anonymised_split(run: Run) -> pd.DataFrame:
    """split.csv without names and paths: case, patient (numbers), split, and the digest of the image's content.

    The digest identifies a training image when it is segmented out of fold, but not another image of its patient, and
    tells nothing to those who lack the image. Numbers follow the order of the digests, not of the names. Missing images
    have no digest, with a warning.
    """
    table = read_table(run.file("split.csv"))
    if "sha256" in table:
        return table
    table["sha256"] = [hash_run_input(Path(path)) if path else "" for path in table["image"]]
    if missing := int((table["sha256"] == "").sum()):
        warn(f"{run.named}: {missing} of {len(table)} images of split.csv are missing; out of fold they are unknown")
    hidden = table[["case", "patient", "split"]].astype(str).agg("\n".join, axis=1).map(_hash)
    table = table.assign(order=table["sha256"].where(table["sha256"] != "", hidden)).sort_values("order", kind="stable")
    for column in ("patient", "case"):
        numbers = {name: number for number, name in enumerate(dict.fromkeys(table[column]), start=1)}
        table[column] = [f"{column}_{numbers[name]:04d}" for name in table[column]]
    return table[["case", "patient", "split", "sha256"]].reset_index(drop=True)


def _hash(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()
