"""What a setting may name as `_target_`: medseg's own classes, and measures to be called later; nothing else."""

from __future__ import annotations

import importlib
from collections.abc import Iterator
from typing import Any

from medseg.config.safe_yaml import require_resolved
from medseg.errors import ConfigError

FEATURES = "medseg.features."
OWN = (
    FEATURES,
    *(f"medseg.{part}." for part in ("preprocess", "quality", "segmentation", "diagnosis")),
    "medseg.data.cyst_augmentation.",
)
# only where they are asked for, never in a model's preprocessing, network or rules
PHANTOMS = ("medseg.datasets.phantoms.",)
LOGGERS = ("pytorch_lightning.loggers.",)


def require_allowed(plain: Any, allowed: tuple[str, ...]) -> None:
    """Raises `ConfigError` where plain settings name, at any depth, anything else than a class of what `allowed`
    begins with, or hold text that hydra would resolve once more."""
    for node in iter_mappings(plain):
        if "_target_" in node and not _is_own(node, allowed):
            raise ConfigError(
                f"_target_: {node['_target_']} is not allowed; settings may name only classes of "
                f"{' or '.join(allowed)}*, and measures of {FEATURES}* with _partial_: true"
            )
    for text in _texts(plain):
        try:
            require_resolved(text)
        except ValueError as error:
            raise ConfigError(f"a setting holds {error}") from error


def check_targets(settings: dict[str, Any]) -> None:
    """Every `_target_` of a model's settings, as if each part were built; `ConfigError` for one not allowed."""
    for group, part in settings.items():
        if group == "organ" and isinstance(part, dict):
            require_allowed(part.get("phantom"), PHANTOMS)
            part = {key: value for key, value in part.items() if key != "phantom"}
        if group != "logger" or part.get("_target_") is not None:
            require_allowed(part, LOGGERS if group == "logger" else OWN)


def iter_mappings(plain: Any) -> Iterator[dict[str, Any]]:
    """Every mapping of a tree of plain values, from the outermost."""
    if isinstance(plain, dict):
        yield plain
    for value in _children(plain):
        yield from iter_mappings(value)


def _texts(plain: Any) -> Iterator[str]:
    if isinstance(plain, str):
        yield plain
    for value in _children(plain):
        yield from _texts(value)


def _children(plain: Any) -> list[Any]:
    if isinstance(plain, dict):
        return list(plain.values())
    return plain if isinstance(plain, list) else []


def _is_own(node: dict[str, Any], allowed: tuple[str, ...]) -> bool:
    """Whether `_target_` is a public class that was made in the very module that it is named in: what a module
    imports, its methods and other functions are not. A logger's class may stand in a module below."""
    target = str(node["_target_"])
    module, _, name = target.rpartition(".")
    if not target.startswith(allowed) or not name.isidentifier() or name.startswith("_"):
        return False
    try:
        found = getattr(importlib.import_module(module), name, None)
    except ImportError:
        return False
    if target.startswith(LOGGERS):
        return isinstance(found, type) and found.__module__.startswith(LOGGERS)
    if (getattr(found, "__module__", None), getattr(found, "__qualname__", None)) != (module, name):
        return False
    measure = target.startswith(FEATURES) and name.endswith("_features") and node.get("_partial_") is True
    return isinstance(found, type) or measure or target.startswith(PHANTOMS)
