"""Components: `_target_` mappings of the settings, checked against the classes they name and built."""

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

# what medseg itself hands over when it builds these: their sizes depend on the data, or they are called with a folder
GIVEN_LATER = {"segmenter.network": ("in_channels", "classes"), "organ.phantom": None, "logger": None}


def build(node: Any, allowed: tuple[str, ...] = OWN, **arguments: Any) -> Any:
    """The object a component describes; `_target_` may name only a class (or feature) of what `allowed` begins with."""
    require_allowed(node, allowed)
    try:
        return instantiate(node, **arguments, _convert_="all")
    except HydraException as error:
        cause = error.__cause__
        if isinstance(cause, TypeError | ValueError) or cause is None:
            raise ConfigError(f"{next(iter_mappings(node))['_target_']}: {first_line(cause or error)}") from error
        raise cause from error


def check_components(settings: Settings) -> None:
    """Every component against the signature of its class: unknown, missing and null arguments are a `ConfigError`.

    Nothing is built, but the modules are imported; call it before any work.
    """
    values = settings.to_dict()
    for path, node in _components(values, ""):
        later = next((given for prefix, given in GIVEN_LATER.items() if path.startswith(prefix)), ())
        if later is None:
            continue
        require_allowed({key: value for key, value in node.items() if not isinstance(value, dict)}, OWN)
        _check_arguments(path, node, later, settings._source)


def _components(tree: Any, path: str) -> Iterator[tuple[str, dict[str, Any]]]:
    if isinstance(tree, dict):
        if isinstance(tree.get("_target_"), str):
            yield path, tree
        for key, value in tree.items():
            yield from _components(value, f"{path}.{key}" if path else str(key))


def _check_arguments(path: str, node: dict[str, Any], later: tuple[str, ...], source: Any) -> None:
    module, _, name = node["_target_"].rpartition(".")
    parameters = inspect.signature(getattr(importlib.import_module(module), name)).parameters
    given = {key: value for key, value in node.items() if key not in ("_target_", "_partial_")}
    open_ended = any(parameter.kind is parameter.VAR_KEYWORD for parameter in parameters.values())
    for key, value in given.items():
        if key not in parameters and open_ended:
            continue
        if key not in parameters:
            raise ConfigError(f"{path}.{key}: {name} has no such argument{did_you_mean(key, list(parameters))}")
        annotation = str(parameters[key].annotation)
        if value is None and "None" not in annotation and "Any" not in annotation:
            fact = _fact(source, f"{path}.{key}")
            raise ConfigError(f"{fact or f'{path}.{key}'} is null, and {path} ({name}) needs it: set it in the recipe")
    if node.get("_partial_"):
        return
    missing = [
        key
        for key, parameter in parameters.items()
        if parameter.default is parameter.empty
        and parameter.kind not in (parameter.VAR_POSITIONAL, parameter.VAR_KEYWORD)
        and key not in given
        and key not in later
    ]
    if missing:
        raise ConfigError(f"{path}.{missing[0]} is missing: {name} needs it")


def _fact(source: Any, path: str) -> str | None:
    """The key that a reference at `path` leads to, such as organ.field_of_view."""
    if not isinstance(source, DictConfig):
        return None
    raw = OmegaConf.to_container(source, resolve=False)
    for key in path.split("."):
        raw = raw.get(key) if isinstance(raw, dict) else None
    return raw[2:-1] if isinstance(raw, str) and raw.startswith("${") else None
