"""Choices of the group `features`, without composing an organ."""

from __future__ import annotations

from collections.abc import Iterable

from omegaconf import OmegaConf
from pydantic import ValidationError

from medseg.config.checks import did_you_mean
from medseg.config.compose import config_dir, group_choices
from medseg.config.load import first_line, read_plain
from medseg.config.settings import FeatureSettings
from medseg.errors import ConfigError


def feature_settings(choice: str) -> FeatureSettings:
    """Settings of a choice of the group `features`; ConfigError for an unknown one."""
    names = group_choices()["features"]
    if choice not in names:
        raise ConfigError(
            f"features={choice}: no such choice{did_you_mean(choice, names)} (choices: {', '.join(names)})"
        )
    content = OmegaConf.to_container(read_plain(config_dir() / "features" / f"{choice}.yaml"))
    try:
        return FeatureSettings.model_validate(content)
    except ValidationError as error:
        raise ConfigError(f"features={choice}: {first_line(error)}") from error


def features_for_labels(labels: Iterable[str]) -> str:
    """The choice of the group `features` of the organ with exactly these labels; ConfigError if there is none."""
    names, choices = set(map(str, labels)), {}
    for organ in group_choices()["organ"]:
        recipe = read_plain(config_dir() / "organ" / f"{organ}.yaml")
        choices[organ] = next(
            str(entry["override /features"]) for entry in recipe.defaults if "override /features" in entry
        )
        if set(map(str, recipe.organ.labels)) == names:
            return choices[organ]
    all_choices = ", ".join(name for name in group_choices()["features"] if name != "none")
    organs = "; ".join(f"{organ}: {choice}" for organ, choice in choices.items())
    raise ConfigError(
        f"choose which features to extract: no organ has the labels {', '.join(sorted(names))}. "
        f"Choices: {all_choices}. Used by the organs: {organs}. radiomics fits any label",
        hint="features",
    )
