"""Components: check `_target_` mappings of the settings against their classes, and build them."""

from __future__ import annotations

import importlib
import inspect
from collections.abc import Iterator
from typing import Any

from hydra.errors import HydraException
from hydra.utils import instantiate
from omegaconf import DictConfig, OmegaConf

from medseg.config.checks import did_you_mean
from medseg.config.load import first_line
from medseg.config.settings import Settings
from medseg.config.targets import OWN, iter_mappings, require_allowed
from medseg.errors import ConfigError

# arguments that medseg adds when it builds these components; None: the component is not checked
ADDED_ARGUMENTS = {"segmenter.network": ("in_channels", "classes"), "organ.phantom": None, "logger": None}


def build(node: Any, allowed: tuple[str, ...] = OWN, **arguments: Any) -> Any:
    """Build a component; its `_target_` must start with a prefix in `allowed`."""
    require_allowed(node, allowed)
    try:
        return instantiate(node, **arguments, _convert_="all")
    except HydraException as error:
        cause = error.__cause__
        if isinstance(cause, TypeError | ValueError) or cause is None:
            raise ConfigError(f"{next(iter_mappings(node))['_target_']}: {first_line(cause or error)}") from error
        raise cause from error


def check_components(settings: Settings) -> None:
    """Check every component against its class's signature; `ConfigError` for unknown, missing and null arguments.

    Imports the modules but builds nothing.
    """
    values = settings.to_dict()
    for path, node in _components(values, ""):
        added = next((names for prefix, names in ADDED_ARGUMENTS.items() if path.startswith(prefix)), ())
        if added is None:
            continue
        require_allowed({key: value for key, value in node.items() if not isinstance(value, dict)}, OWN)
        _check_arguments(path, node, added, settings._source)


def _components(tree: Any, path: str) -> Iterator[tuple[str, dict[str, Any]]]:
    if isinstance(tree, dict):
        if isinstance(tree.get("_target_"), str):
            yield path, tree
        for key, value in tree.items():
            yield from _components(value, f"{path}.{key}" if path else str(key))


def _check_arguments(path: str, node: dict[str, Any], added: tuple[str, ...], source: Any) -> None:
    module, _, name = node["_target_"].rpartition(".")
    parameters = inspect.signature(getattr(importlib.import_module(module), name)).parameters
    arguments = {key: value for key, value in node.items() if key not in ("_target_", "_partial_")}
    open_ended = any(parameter.kind is parameter.VAR_KEYWORD for parameter in parameters.values())
    for key, value in arguments.items():
        if key not in parameters and open_ended:
            continue
        if key not in parameters:
            raise ConfigError(f"{path}.{key}: {name} has no such argument{did_you_mean(key, list(parameters))}")
        annotation = str(parameters[key].annotation)
        if value is None and "None" not in annotation and "Any" not in annotation:
            reference = _reference(source, f"{path}.{key}")
            raise ConfigError(
                f"{reference or f'{path}.{key}'} is null, and {path} ({name}) needs it: set it in the recipe"
            )
    if node.get("_partial_"):
        return
    missing = [
        key
        for key, parameter in parameters.items()
        if parameter.default is parameter.empty
        and parameter.kind not in (parameter.VAR_POSITIONAL, parameter.VAR_KEYWORD)
        and key not in arguments
        and key not in added
    ]
    if missing:
        raise ConfigError(f"{path}.{missing[0]} is missing: {name} needs it")


def _reference(source: Any, path: str) -> str | None:
    """The key that the reference at `path` points to, such as organ.field_of_view."""
    if not isinstance(source, DictConfig):
        return None
    raw = OmegaConf.to_container(source, resolve=False)
    for key in path.split("."):
        raw = raw.get(key) if isinstance(raw, dict) else None
    return raw[2:-1] if isinstance(raw, str) and raw.startswith("${") else None
