"""Read, change and write composed settings: a run's config.yaml, a choice of the group `features`."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import yaml
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from medseg.config.checks import AUTO, flatten, validate
from medseg.config.safe_yaml import require_plain_yaml
from medseg.config.settings import Settings
from medseg.errors import ConfigError, ModelError
from medseg.io.labels import Labels
from medseg.runs.run import ENCODER


def load(file: Path) -> Settings:
    """The settings of a run. The file is untrusted: only plain values are accepted, see `safe_yaml`."""
    return typed_run(read_plain(file), file)


def read_plain(file: Path) -> DictConfig:
    """Read a YAML file of plain values; `ModelError` if it has anything else or cannot be read."""
    try:
        text = file.read_text(encoding="utf-8")
        require_plain_yaml(text)
        content = OmegaConf.create(text)
    except (OSError, OmegaConfBaseException, ValueError, yaml.YAMLError) as error:
        raise ModelError(f"{file}: the run's settings cannot be read ({first_line(error)})") from error
    if not isinstance(content, DictConfig):
        raise ModelError(f"{file}: not a run's settings")
    return content


def typed_run(content: DictConfig, file: Path) -> Settings:
    """`typed` of a run's file; its errors are a `ModelError`."""
    try:
        return typed(content)
    except ConfigError as error:
        raise ModelError(f"{file}: {error}") from error


def typed(composed: DictConfig) -> Settings:
    """Checked settings of a composition, which is stored for `with_values`."""
    settings = validate(plain(composed))
    settings._source = composed
    return settings


def plain(composed: DictConfig) -> dict[str, Any]:
    """The resolved composition as plain values; an invalid reference is a `ConfigError`."""
    try:
        return OmegaConf.to_container(composed, resolve=True)  # type: ignore[return-value]
    except OmegaConfBaseException as error:
        raise ConfigError(first_line(error)) from error


def with_values(settings: Settings, values: dict[str, Any]) -> Settings:
    """A checked copy with some settings, given by dotted names, changed; references to them follow."""
    source = settings._source if settings._source is not None else settings.to_dict()
    copy: DictConfig = OmegaConf.create(
        dict(OmegaConf.to_container(source, resolve=False)) if isinstance(source, DictConfig) else source  # type: ignore[arg-type]
    )
    for key, value in values.items():
        OmegaConf.update(copy, key, value, merge=False, force_add=True)
    return typed(copy)


def auto_keys(settings: Settings) -> list[str]:
    """Settings with the value auto, which a plan decides."""
    values = flatten(settings.to_dict())
    return [key for key in AUTO if isinstance(values.get(key), str) and values[key] == "auto"]


def to_yaml(settings: Settings) -> str:
    """The resolved settings as YAML."""
    return OmegaConf.to_yaml(OmegaConf.create(settings.to_dict()))


def without_paths(settings: Settings) -> Settings:
    """The settings without the paths of the machine that trained."""
    content = settings.to_dict()
    content |= {"run_dir": None, "resume": None, "plan": None, "init_from": None, "logger": {"_target_": None}}
    content["data"] |= {"root": None, "masks": None, "cache": "runs/.cache"}
    if settings.data.encoder is not None and not settings.data.imagenet_encoder:
        content["data"]["encoder"] = ENCODER
    return validate(content)


def get_labels(settings: Settings) -> Labels:
    """The organ's labels."""
    organ = settings.organ
    codes = {name: (category, kind) for name, (category, kind) in organ.snomed_codes.items()}
    return Labels(organ.labels, organ.exclusive_labels, codes)


def first_line(error: Exception) -> str:
    """An error's first line with text, else its class."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return lines[0] if lines else type(error).__name__
