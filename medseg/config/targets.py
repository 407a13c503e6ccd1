"""Allowed values of `_target_`: only medseg's own classes, and feature functions to call later."""

from __future__ import annotations

import importlib
from collections.abc import Iterator
from typing import Any

from medseg.config.safe_yaml import require_resolved
from medseg.errors import ConfigError

FEATURES = "medseg.features."
OWN = (
    FEATURES,
    *(f"medseg.{package}." for package in ("preprocess", "quality", "segmentation", "diagnosis")),
    "medseg.data.cyst_augmentation.",
    "medseg.data.artefacts.",
)
# allowed only in organ.phantom and logger, never in a model's preprocessing, network or rules
PHANTOMS = ("medseg.datasets.phantoms.",)
LOGGERS = ("pytorch_lightning.loggers.",)


def require_allowed(plain: Any, allowed: tuple[str, ...]) -> None:
    """Raises `ConfigError` if plain settings name, at any depth, anything but a class with a prefix in `allowed`, or
    have text that hydra would resolve again.
    """
    for node in iter_mappings(plain):
        if "_target_" in node and not _is_own(node, allowed):
            raise ConfigError(
                f"_target_: {node['_target_']} is not allowed; settings may name only classes of "
                f"{' or '.join(allowed)}*, and feature functions of {FEATURES}* with _partial_: true"
            )
    for text in _texts(plain):
        try:
            require_resolved(text)
        except ValueError as error:
            raise ConfigError(f"a setting has an invalid value: {error}") from error


def check_targets(settings: dict[str, Any]) -> None:
    """Check every `_target_` of a model's settings; `ConfigError` for one that is not allowed."""
    for group, values in settings.items():
        if group == "organ" and isinstance(values, dict):
            require_allowed(values.get("phantom"), PHANTOMS)
            values = {key: value for key, value in values.items() if key != "phantom"}
        if group != "logger" or values.get("_target_") is not None:
            require_allowed(values, LOGGERS if group == "logger" else OWN)


def iter_mappings(plain: Any) -> Iterator[dict[str, Any]]:
    """Yield every mapping of a tree of plain values, the outermost first."""
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
    """Whether `_target_` is a public class defined in the module in its name; imported names, methods and other
    functions are not. A logger's class may be defined in a submodule.
    """
    target = str(node["_target_"])
    module, _, name = target.rpartition(".")
    if not target.startswith(allowed) or not name.isidentifier() or name.startswith("_"):
        return False
    try:
        target_object = getattr(importlib.import_module(module), name, None)
    except ImportError:
        return False
    if target.startswith(LOGGERS):
        return isinstance(target_object, type) and target_object.__module__.startswith(LOGGERS)
    if (getattr(target_object, "__module__", None), getattr(target_object, "__qualname__", None)) != (module, name):
        return False
    is_feature = target.startswith(FEATURES) and name.endswith("_features") and node.get("_partial_") is True
    return isinstance(target_object, type) or is_feature or target.startswith(PHANTOMS)
