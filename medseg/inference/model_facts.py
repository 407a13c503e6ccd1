"""Channels and labels of models from their settings, before any is loaded."""

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
    """Names of the models, all channels that they read, labels of their masks, and output folders of the masks.

    folders: below the output folder, one for each model if several are compared, else only "".
    """

    names: list[str]
    channels: list[str]
    labels: Labels
    folders: list[str]


def ensemble_facts(runs: Sequence[Run]) -> ModelFacts:
    """Facts of several models: models with the same labels are compared, different labels are merged into one mask."""
    facts, names = [_channels_and_labels(run) for run in runs], _names(runs)
    channels = list(dict.fromkeys(channel for channels, _ in facts for channel in channels))
    first = facts[0][1]
    if all(labels == first for _, labels in facts):
        return ModelFacts(names, channels, first, names if len(runs) > 1 else [""])
    codes = {name: code for _, labels in facts for name, code in labels.codes.items()}
    return ModelFacts(names, channels, Labels(merge_names([labels.numbers for _, labels in facts]), codes=codes), [""])


def fold_facts(runs: Sequence[Run]) -> ModelFacts:
    """Facts of cross-validation models; `ConfigError` if their channels or labels differ."""
    names, first = [str(run.named) for run in runs], _channels_and_labels(runs[0])
    for name, run in zip(names, runs, strict=True):
        if _channels_and_labels(run) != first:
            raise ConfigError(
                f"{name}: other labels or channels than {runs[0].named}; give the folds of one cross-validation"
            )
    channels, labels = first
    return ModelFacts(names, channels, labels, [""])


def average_facts(runs: Sequence[Run]) -> ModelFacts:
    """Facts of models whose probabilities are averaged; `ConfigError` if their channels or labels differ."""
    first_channels, first_labels = _channels_and_labels(runs[0])
    for run in runs[1:]:
        channels, labels = _channels_and_labels(run)
        for what, own, first in (
            ("labels", _described(labels), _described(first_labels)),
            ("channels", ", ".join(channels), ", ".join(first_channels)),
        ):
            if own != first:
                raise ConfigError(
                    f"{run.named}: probabilities can be averaged over models of the same {what} only; it has {own}, "
                    f"{runs[0].named} has {first}; leave one out, or do not average",
                    hint="average=False",
                )
    return ModelFacts(_names(runs), first_channels, first_labels, [""])


def _described(labels: Labels) -> str:
    names = ", ".join(f"{name} {number}" for name, number in labels.numbers.items())
    return names if labels.exclusive else f"{names} (may overlap)"


def segmentation_settings(run: Run) -> Settings:
    """The settings of a run; `ConfigError` if its model is not a segmenter."""
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
    """A name for each run: its folder's, with parent folders if two are equal."""
    paths = [run.named.resolve().with_suffix("") if run.package else run.path.resolve() for run in runs]
    for depth in range(1, 20):
        names = ["_".join(path.parts[-depth:]) for path in paths]
        if max(Counter(names).values()) == 1:
            return names
    return [f"{path.name}_{number}" for number, path in enumerate(paths, start=1)]  # one run given twice
