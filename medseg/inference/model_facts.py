"""What models take and give, by their settings alone: before any of them is loaded."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

from medseg.config.load import get_labels, load
from medseg.config.settings import Settings
from medseg.errors import ConfigError
from medseg.io.labels import Labels
from medseg.runs.run import Run
from medseg.segmentation.label_fusion import merge_names


@dataclass(frozen=True)
class ModelFacts:
    """The name of each model, the channels that they read together, the labels of their masks, and where those go.

    folders: below the output folder, one for each of several models that are compared, else "" alone.
    """

    names: list[str]
    channels: list[str]
    labels: Labels
    folders: list[str]


def ensemble_facts(runs: Sequence[Run]) -> ModelFacts:
    """Of models side by side: those of the same labels are compared, those of others make up one label map."""
    each, names = [_channels_and_labels(run) for run in runs], _names(runs)
    channels = list(dict.fromkeys(channel for own, _ in each for channel in own))
    first = each[0][1]
    if all(labels == first for _, labels in each):
        return ModelFacts(names, channels, first, names if len(runs) > 1 else [""])
    codes = {name: code for _, labels in each for name, code in labels.codes.items()}
    return ModelFacts(names, channels, Labels(merge_names([labels.numbers for _, labels in each]), codes=codes), [""])


def fold_facts(runs: Sequence[Run]) -> ModelFacts:
    """Of models of folds, of which each case goes to one; `ConfigError` where they are not of one recipe."""
    names, first = [str(run.named) for run in runs], _channels_and_labels(runs[0])
    for name, run in zip(names, runs, strict=True):
        if _channels_and_labels(run) != first:
            raise ConfigError(f"{name}: other labels or channels than {runs[0].named}; give folds of one recipe")
    channels, labels = first
    return ModelFacts(names, channels, labels, [""])


def segmentation_settings(run: Run) -> Settings:
    """The settings of a run; `ConfigError` where its model is for something else."""
    config = load(run.file("config.yaml"))
    if config.task != "segmentation":
        raise ConfigError(
            f"{run.named}: is a model for task={config.task}; segmenting needs one trained with task=segmentation"
        )
    return config


def _channels_and_labels(run: Run) -> tuple[list[str], Labels]:
    with run.reading():
        config = segmentation_settings(run)
        return list(config.organ.channels), get_labels(config)


def _names(runs: Sequence[Run]) -> list[str]:
    """A name for each run: its folder's, with those above where two share one."""
    paths = [run.named.resolve().with_suffix("") if run.package else run.path.resolve() for run in runs]
    for depth in range(1, 20):
        names = ["_".join(path.parts[-depth:]) for path in paths]
        if max(Counter(names).values()) == 1:
            return names
    return [f"{path.name}_{number}" for number, path in enumerate(paths, start=1)]  # one run named twice
