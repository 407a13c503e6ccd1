"""Compose settings from configs/ and a command line's KEY=VALUE with Hydra.

Hydra's errors are recognised by their text, and its multirun reads `sys.argv`: both only in this module, tested with
the pinned version.
"""

from __future__ import annotations

import re
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

from hydra import compose as hydra_compose
from hydra import initialize_config_dir
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.errors import HydraException
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

import medseg
from medseg.config.checks import check_resume, check_types, did_you_mean, flatten
from medseg.config.load import first_line, load, plain, typed
from medseg.config.settings import OrganSettings, Settings
from medseg.errors import ConfigError, MedsegError

# facts of an organ that medseg's code reads; all others are read by other groups as ${organ.…}
READ_BY_CODE = (
    "name", "channels", "colour_channels", "labels", "exclusive_labels", "snomed_codes", "lateral_pairs", "classes",
    "positive_classes", "target_level", "clinical_rule", "slice_label_from", "phantom", "plausibility",
)  # fmt: skip


def config_dir() -> Path:
    """The folder of YAML files: inside the installed package, or next to it in a checkout."""
    package = Path(medseg.__file__).resolve().parent
    for folder in (package / "configs", package.parent / "configs"):
        if (folder / "config.yaml").is_file():
            return folder
    raise ConfigError(f"medseg's configs are missing in {package}: the installation is incomplete, install it again")


def group_choices(extra: Path | None = None) -> dict[str, list[str]]:
    """Each config group with its choices, e.g. ``{"organ": ["lung"], …}``."""
    choices: dict[str, set[str]] = {}
    for root in [config_dir(), *([extra] if extra is not None and extra.is_dir() else [])]:
        for folder in filter(Path.is_dir, root.iterdir()):
            choices.setdefault(folder.name, set()).update(file.stem for file in folder.glob("*.yaml"))
    return {group: sorted(names) for group, names in sorted(choices.items())}


def compose(overrides: list[str], extra: Path | None = None) -> Settings:
    """The checked settings for a command line's ``KEY=VALUE``; raises `ConfigError`."""
    groups = group_choices(extra)
    resumed_run = next((text.partition("=")[2] for text in overrides if _key(text) == "resume"), "null")
    if resumed_run != "null":
        return _resumed(overrides, Path(resumed_run), extra)
    group_overrides = [text for text in overrides if _key(text) in groups]
    base = _compose(group_overrides, extra, groups)
    composed = _compose(overrides, extra, groups, known=base) if len(group_overrides) < len(overrides) else base
    settings = from_composition(composed)
    check_types(settings.to_dict(), plain(base))
    _require_read([_key(text) for text in overrides], composed)
    return settings


def from_composition(composed: DictConfig) -> Settings:
    """Typed settings of Hydra's composition; a user's trainer or compute file may be incomplete."""
    for group, default in (("trainer", "default"), ("compute", "auto")):
        composed[group] = OmegaConf.merge(OmegaConf.load(config_dir() / group / f"{default}.yaml"), composed[group])
    return typed(composed)


def _require_read(keys: list[str], composed: DictConfig) -> None:
    """`ConfigError` for an override of an organ's fact that no chosen group reads."""
    rest = {key: value for key, value in OmegaConf.to_container(composed).items() if key != "organ"}  # type: ignore[union-attr]
    references = " ".join(value for value in _leaves(rest) if isinstance(value, str) and "${" in value)
    for key in keys:
        group, _, fact = key.partition(".")
        fact = fact.split(".")[0]
        if group != "organ" or fact in READ_BY_CODE or fact not in OrganSettings.model_fields:
            continue
        if not re.search(rf"\$\{{organ\.{fact}\b", references):
            advice = f"; set segmenter.{fact}" if f"segmenter.{fact}" in flatten(plain(composed)) else ""
            raise ConfigError(f"{key}: none of the chosen groups reads it, so it has no effect{advice}")


def _leaves(tree: Any) -> list[Any]:
    children = tree.values() if isinstance(tree, dict) else tree if isinstance(tree, list) else None
    return [tree] if children is None else [leaf for child in children for leaf in _leaves(child)]


def _resumed(overrides: list[str], run: Path, extra: Path | None) -> Settings:
    """The settings of a run to resume, with the command line's changes."""
    if not (run / "config.yaml").is_file():
        raise ConfigError(f"resume={run}: not a run folder (config.yaml is missing)")
    old = load(run / "config.yaml")
    rest = [text for text in overrides if _key(text) not in ("resume", "organ", "task")]
    facts = {"organ": old.organ.name, "task": old.task}
    for text in overrides:
        key, value = _key(text), text.partition("=")[2]
        if value != facts.get(key, value):
            raise ConfigError(f"{text}: the run {run} is {key}={facts[key]}; train another in a new run_dir")
        if key == "run_dir":
            raise ConfigError("resume continues in the run's own folder: do not set run_dir")
    new = compose([*(f"{key}={value}" for key, value in facts.items()), *rest], extra)
    check_resume(old, new, [_key(text) for text in rest], str(run))
    merged, changed = OmegaConf.create(old.to_dict()), OmegaConf.create(new.to_dict())
    for text in rest:
        OmegaConf.update(merged, _key(text), OmegaConf.select(changed, _key(text)), merge=False)
    merged.resume = str(run)
    return typed(merged)


def multirun(overrides: list[str], extra: Path | None, job: Callable[[Settings], Any]) -> None:
    """Run `job` once per combination with Hydra's multirun, its sweepers and launchers."""
    import hydra

    groups = group_choices(extra)
    for text in overrides:
        key, _, values = text.partition("=")
        if key in ("run_dir", "resume"):
            raise ConfigError(f"{text}: one folder cannot contain several runs; do not set it in a multirun")
        for value in values.split(",") if key in groups else []:
            if value not in groups[key]:
                raise ConfigError(_no_choice(key, value, groups))
    errors: list[MedsegError] = []

    def run(composed: DictConfig) -> Any:
        try:
            return job(from_composition(composed))
        except MedsegError as error:  # Hydra would print its traceback and end with status 1
            errors.append(error)
            raise SystemExit(error.exit_status) from error

    argv = sys.argv
    sys.argv = [argv[0], "-m", *_with_search_path(overrides, extra)]
    try:
        hydra.main(version_base="1.3", config_path=str(config_dir()), config_name="config")(run)()
    except SystemExit:
        if errors:
            raise errors[0] from None
        raise
    finally:
        sys.argv = argv


def parse_overrides(overrides: list[str]) -> dict[str, Any]:
    """``["data.root=scans", "compute.num_threads=1"]`` → ``{"data.root": "scans", "compute.num_threads": 1}``."""
    try:
        parsed = OverridesParser.create().parse_overrides(overrides)
    except HydraException as error:
        raise ConfigError(f"{' '.join(overrides)}: not KEY=VALUE ({first_line(error)})") from error
    return {override.key_or_group: override.value() for override in parsed}


def _with_search_path(overrides: list[str], extra: Path | None) -> list[str]:
    if extra is None:
        return overrides
    if not extra.is_dir():
        raise ConfigError(f"{extra}: no such folder of configs")
    return [f"hydra.searchpath=['file://{extra.resolve()}']", *overrides]


def _compose(
    overrides: list[str], extra: Path | None, groups: dict[str, list[str]], known: DictConfig | None = None
) -> DictConfig:
    arguments = _with_search_path(overrides, extra)
    try:
        with initialize_config_dir(str(config_dir()), version_base="1.3"):
            return hydra_compose("config", overrides=arguments)
    except (HydraException, OmegaConfBaseException) as error:
        raise ConfigError(_explain(error, overrides, groups, known)) from error


def _key(text: str) -> str:
    return re.split(r"[=@]", text.lstrip("+~"), maxsplit=1)[0].strip()


def _explain(error: Exception, overrides: list[str], groups: dict[str, list[str]], known: DictConfig | None) -> str:
    """Hydra's error as a message for users, with similar names."""
    if not any(_key(text) == "organ" for text in overrides) and "organ" in str(error):
        return f"no organ chosen: add organ=NAME, one of {', '.join(groups['organ'])}"
    for text in overrides:
        try:
            OverridesParser.create().parse_override(text)
        except HydraException:
            return f"{text!r} is not KEY=VALUE (quote values with commas, brackets, blanks or =: 'key=\"a, b\"')"
        key, _, value = text.partition("=")
        key = _key(key)
        if key in groups and not text.startswith("~") and value not in groups[key] and value not in ("null", ""):
            return _no_choice(key, value, groups)
    keys = [*flatten(plain(known)), *groups] if known is not None else []
    parents = {parent for name in keys for parent in _parents(name)}
    for text in overrides if keys else []:
        key = _key(text)
        if not text.startswith("+") and key not in keys and key not in parents:
            return f"{key}: no such setting{did_you_mean(key, [*keys, *parents])} (medseg config lists them all)"
    return first_line(error)


def _no_choice(key: str, value: str, groups: dict[str, list[str]]) -> str:
    listed = ", ".join(groups[key]) or "none yet"
    return f"{key}={value}: no such choice{did_you_mean(value, groups[key])} (choices: {listed})"


def _parents(name: str) -> list[str]:
    parts = name.split(".")
    return [".".join(parts[:count]) for count in range(1, len(parts))]
