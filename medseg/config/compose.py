"""Find, compose, check and build settings. The only user of hydra and omegaconf."""

from __future__ import annotations

import difflib
import re
import sys
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import yaml
from hydra import compose as hydra_compose
from hydra import initialize_config_dir
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.errors import HydraException
from hydra.utils import instantiate
from omegaconf import DictConfig, ListConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

import medseg
from medseg.config.safe_yaml import require_plain_yaml
from medseg.config.schema import AUTO, check_combinations, check_resume, check_values, flatten
from medseg.config.targets import OWN, iter_mappings, require_allowed
from medseg.errors import ConfigError, ModelError
from medseg.io.labels import Labels
from medseg.runs.run import ENCODER

Config = DictConfig
# of a run's settings: where things lay on the machine that trained
LOCAL = {"run_dir": None, "resume": None, "plan": None, "logger": {"_target_": None}}
LOCAL_DATA = {"root": None, "masks": None, "cache": "runs/.cache"}


def config_dir() -> Path:
    """The folder of YAML files: inside the installed package, or beside it in a checkout."""
    package = Path(medseg.__file__).resolve().parent
    for folder in (package / "configs", package.parent / "configs"):
        if (folder / "config.yaml").is_file():
            return folder
    raise ConfigError(
        f"medseg's configs are missing beside {package}: the installation is incomplete, install it again"
    )


def group_choices(extra: Path | None = None) -> dict[str, list[str]]:
    """Each config group with its choices, e.g. ``{"organ": ["lung"], …}``."""
    found: dict[str, set[str]] = {}
    for root in [config_dir(), *([extra] if extra is not None and extra.is_dir() else [])]:
        for folder in filter(Path.is_dir, root.iterdir()):
            found.setdefault(folder.name, set()).update(file.stem for file in folder.glob("*.yaml"))
    return {group: sorted(names) for group, names in sorted(found.items())}


def compose(overrides: list[str], extra: Path | None = None) -> Config:
    """The checked settings for a command line's ``KEY=VALUE``; raises `ConfigError` with the way out."""
    groups = group_choices(extra)
    resumed = next((text.partition("=")[2] for text in overrides if _key(text) == "resume"), "null")
    if resumed != "null":
        return _resumed(overrides, Path(resumed), extra)
    chosen = [text for text in overrides if _key(text) in groups]
    base = _compose(chosen, extra, groups)
    config = _compose(overrides, extra, groups, known=base) if len(chosen) < len(overrides) else base
    for group, default in (("trainer", "default"), ("executor", "auto")):  # a user's own file may say a part of it
        config[group] = OmegaConf.merge(OmegaConf.load(config_dir() / group / f"{default}.yaml"), config[group])
    check(config, base)
    return config


def _resumed(overrides: list[str], run: Path, extra: Path | None) -> Config:
    """The settings of a run to be continued, changed only where the command line says so."""
    if not (run / "config.yaml").is_file():
        raise ConfigError(f"resume={run}: no run there (config.yaml is missing)")
    old = load(run / "config.yaml")
    rest = [text for text in overrides if _key(text) not in ("resume", "organ", "task")]
    facts = {"organ": old.organ.name, "task": old.task}
    for text in overrides:
        key, value = _key(text), text.partition("=")[2]
        if value != facts.get(key, value):
            raise ConfigError(f"{text}: the run {run} is {key}={facts[key]}; train another in a new run_dir")
        if key == "run_dir":
            raise ConfigError("resume continues in its own folder: leave run_dir out")
    new = compose([*(f"{key}={value}" for key, value in facts.items()), *rest], extra)
    check_resume(to_dict(old), to_dict(new), [_key(text) for text in rest], str(run))
    for text in rest:
        OmegaConf.update(old, _key(text), OmegaConf.select(new, _key(text)), merge=False)
    old.resume = str(run)
    check(old)
    return old


def check(config: Config, base: Config | None = None) -> None:
    """Types (of `base`, the settings before they were overridden), ranges and combinations of settings."""
    values = to_dict(config)
    check_values(values, to_dict(base) if base is not None else {})
    check_combinations(values)


def multirun(overrides: list[str], extra: Path | None, job: Callable[[Config], Any]) -> None:
    """Run `job` once per combination through Hydra's own multirun, its sweepers and launchers."""
    import hydra

    groups = group_choices(extra)
    for text in overrides:
        key, _, values = text.partition("=")
        if key in ("run_dir", "resume"):
            raise ConfigError(f"{text}: one folder cannot hold several runs; leave it out with -m")
        for value in values.split(",") if key in groups else []:
            if value not in groups[key]:
                raise ConfigError(_no_choice(key, value, groups))
    argv = sys.argv
    sys.argv = [argv[0], "--multirun", *_with_search_path(overrides, extra)]
    try:
        hydra.main(version_base="1.3", config_path=str(config_dir()), config_name="config")(job)()
    finally:
        sys.argv = argv


def auto_keys(config: Config) -> list[str]:
    """The settings that are left to a plan."""
    values = flatten(to_dict(config))
    return [key for key in AUTO if isinstance(values.get(key), str) and values[key] == "auto"]


def with_values(config: Config, values: dict[str, Any]) -> Config:
    """A copy of the settings with some of them, by their dotted names, set; checked again."""
    copy: Config = OmegaConf.create(dict(OmegaConf.to_container(config, resolve=False)))  # type: ignore[arg-type]
    for key, value in values.items():
        OmegaConf.update(copy, key, value, merge=False, force_add=True)
    check(copy)
    return copy


def parse_overrides(overrides: list[str]) -> dict[str, Any]:
    """``["data.root=scans", "executor.threads=1"]`` → ``{"data.root": "scans", "executor.threads": 1}``."""
    try:
        parsed = OverridesParser.create().parse_overrides(overrides)
    except HydraException as error:
        raise ConfigError(f"{' '.join(overrides)}: not KEY=VALUE ({_first_line(error)})") from error
    return {override.key_or_group: override.value() for override in parsed}


def get_labels(config: Config) -> Labels:
    """The organ's labels."""
    organ = config.organ
    numbers = {str(name): int(number) for name, number in organ.labels.items()}
    codes = {str(name): (str(pair[0]), str(pair[1])) for name, pair in (organ.get("codes") or {}).items()}
    return Labels(numbers, organ.exclusive, codes)


def to_dict(config: Config) -> dict[str, Any]:
    """The resolved settings as plain values; a reference that leads nowhere is a `ConfigError`."""
    try:
        return OmegaConf.to_container(config, resolve=True)  # type: ignore[return-value]
    except OmegaConfBaseException as error:
        raise ConfigError(_first_line(error)) from error


def to_yaml(config: Config) -> str:
    """The resolved settings as YAML."""
    return OmegaConf.to_yaml(OmegaConf.create(to_dict(config)))


def load(file: Path) -> Config:
    """The settings a run was made with. They may be a stranger's: only plain values are taken, see `plain`."""
    try:
        text = file.read_text(encoding="utf-8")
        require_plain_yaml(text)
        config = OmegaConf.create(text)
    except (OSError, OmegaConfBaseException, ValueError, yaml.YAMLError) as error:
        raise ModelError(f"{file}: the run's settings cannot be read ({_first_line(error)})") from error
    if not isinstance(config, DictConfig):
        raise ModelError(f"{file}: not a run's settings")
    return config


def without_paths(config: Config) -> Config:
    """The settings without the paths of the machine that trained."""
    found = config.copy()
    for part, values in ((found, LOCAL), (found.data, LOCAL_DATA)):
        for key in set(part) & set(values):
            part[key] = values[key]
    if found.data.get("encoder") is not None:
        found.data.encoder = ENCODER
    return found


def feature_settings(choice: str) -> Config:
    """A choice of the group `features`, which needs no organ."""
    names = group_choices()["features"]
    if choice not in names:
        raise ConfigError(
            f"--features {choice}: no such choice{did_you_mean(choice, names)} (choices: {', '.join(names)})"
        )
    return load(config_dir() / "features" / f"{choice}.yaml")


def features_for_labels(labels: Iterable[str]) -> str:
    """The choice of the group `features` that the organ with just these labels makes; ConfigError where none has."""
    wanted, made = set(map(str, labels)), {}
    for organ in group_choices()["organ"]:
        recipe = load(config_dir() / "organ" / f"{organ}.yaml")
        made[organ] = next(str(part["override /features"]) for part in recipe.defaults if "override /features" in part)
        if set(map(str, recipe.organ.labels)) == wanted:
            return made[organ]
    choices = ", ".join(name for name in group_choices()["features"] if name != "none")
    organs = "; ".join(f"{organ}: {choice}" for organ, choice in made.items())
    raise ConfigError(
        f"say what to measure with --features: no organ has the labels {', '.join(sorted(wanted))}. "
        f"Choices: {choices}. What each organ uses: {organs}. radiomics fits any label"
    )


def build(node: Any, allowed: tuple[str, ...] = OWN, **arguments: Any) -> Any:
    """The object a setting describes; `_target_` may name only a class (or measure) of what `allowed` begins with."""
    plain = OmegaConf.to_container(node, resolve=True) if isinstance(node, DictConfig | ListConfig) else node
    require_allowed(plain, allowed)
    try:
        return instantiate(plain, **arguments, _convert_="all")
    except HydraException as error:
        cause = error.__cause__
        if isinstance(cause, TypeError | ValueError) or cause is None:
            raise ConfigError(f"{next(iter_mappings(plain))['_target_']}: {_first_line(cause or error)}") from error
        raise cause from error


def _with_search_path(overrides: list[str], extra: Path | None) -> list[str]:
    if extra is None:
        return overrides
    if not extra.is_dir():
        raise ConfigError(f"--config-dir {extra}: no such folder")
    return [f"hydra.searchpath=['file://{extra.resolve()}']", *overrides]


def _compose(
    overrides: list[str], extra: Path | None, groups: dict[str, list[str]], known: Config | None = None
) -> Config:
    arguments = _with_search_path(overrides, extra)
    try:
        with initialize_config_dir(str(config_dir()), version_base="1.3"):
            return hydra_compose("config", overrides=arguments)
    except (HydraException, OmegaConfBaseException) as error:
        raise ConfigError(_explain(error, overrides, groups, known)) from error


def _key(text: str) -> str:
    return re.split(r"[=@]", text.lstrip("+~"), maxsplit=1)[0].strip()


def _explain(error: Exception, overrides: list[str], groups: dict[str, list[str]], known: Config | None) -> str:
    """Hydra's message in a user's words, with the nearest right spelling."""
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
    keys = [*flatten(to_dict(known)), *groups] if known is not None else []
    parents = {part for name in keys for part in _parents(name)}
    for text in overrides if keys else []:
        key = _key(text)
        if not text.startswith("+") and key not in keys and key not in parents:
            return f"{key}: no such setting{did_you_mean(key, [*keys, *parents])} (medseg show lists them all)"
    return _first_line(error)


def _no_choice(key: str, value: str, groups: dict[str, list[str]]) -> str:
    listed = ", ".join(groups[key]) or "none yet"
    return f"{key}={value}: no such choice{did_you_mean(value, groups[key])} (choices: {listed})"


def _parents(name: str) -> list[str]:
    parts = name.split(".")
    return [".".join(parts[:count]) for count in range(1, len(parts))]


def did_you_mean(word: str, known: list[str]) -> str:
    """``, did you mean X?`` for the nearest known words, or nothing."""
    known = list(dict.fromkeys(known))
    near = difflib.get_close_matches(word, known, n=2, cutoff=0.6)
    if not near:  # right last part, wrong place
        last = word.rsplit(".", 1)[-1]
        near = [name for name in known if difflib.SequenceMatcher(None, name.rsplit(".", 1)[-1], last).ratio() > 0.8][
            :2
        ]
    return f", did you mean {' or '.join(near)}?" if near else ""


def _first_line(error: Exception) -> str:
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return lines[0] if lines else type(error).__name__
