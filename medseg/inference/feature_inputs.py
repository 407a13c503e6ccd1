"""The input of a classifier from features tables: names, scales, missing values."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from typing import Any, Literal

import numpy as np

from medseg.config.components import build
from medseg.config.settings import Settings
from medseg.diagnosis.clinical_rules import RetinopathyGrade, ScoreThreshold, VolumeSlope
from medseg.diagnosis.lstm import Task
from medseg.diagnosis.respiratory_signal import normalise
from medseg.diagnosis.sequence_dataset import UNKNOWN, Item
from medseg.errors import ConfigError
from medseg.features.causal_prefixes import cut, iter_prefixes
from medseg.features.sequences import (
    FeatureSequence,
    Normalisation,
    add_slopes,
    normalise_case,
    normalise_cohort,
    select,
    sequences,
)
from medseg.features.tables import Tables
from medseg.runs.run import Run
from medseg.utils.console import say, warn
from medseg.utils.json import finite_or_none

UNDEFINED = "more than half of the features are undefined"

MIN_DEFINED = 0.5  # a case needs review if a smaller fraction of its features is defined


@dataclass(frozen=True)
class FeatureSchema:
    """The input features of a classifier, by name, as in training; stored as feature_schema.json in the run."""

    classes: tuple[str, ...]
    names: tuple[str, ...]
    step_names: tuple[str, ...]
    levels: int  # length of a profile
    slopes: Literal["", "central", "backward"]
    per: Literal["frame", "sequence"]
    signal: bool
    moments: Normalisation | None  # None: each case is its own reference
    resample: bool = True  # whether profiles are resampled to that length
    telling: tuple[
        str, ...
    ] = ()  # labels whose absence is informative: their undefined features are not missing at random
    retrospective: tuple[str, ...] = ()  # names of features that depend on later frames
    deep: tuple[str, ...] = ()  # deep features of frames that a model of their own reads; they are not in `names`

    def prepare(self, tables: Tables) -> list[FeatureSequence]:
        """Normalised sequences with these features; `DataError` names missing features."""
        return self.normalise(self.raw(tables))

    def raw(self, tables: Tables) -> list[FeatureSequence]:
        """Sequences with these features, not normalised; NaN if undefined."""
        steps = tables.steps if self.step_names else None
        all_features = sequences(tables.frames, steps, self.levels, self.resample, without=frozenset(self.deep))
        return [self._sloped(select(sequence, self.names, self.step_names)) for sequence in all_features]

    def normalise(self, raw: Sequence[FeatureSequence]) -> list[FeatureSequence]:
        """Normalise sequences of `raw`."""
        return [self._normalised(sequence) for sequence in raw]

    def until(self, tables: Tables, ends: Sequence[int], seconds: float) -> Iterator[FeatureSequence]:
        """One case as known at each of `ends` (increasing frame indices): filled, with slopes and normalised over the
        last `seconds` before it, without later frames.
        """
        steps = tables.steps if self.step_names else None
        for sequence in iter_prefixes(tables.frames, steps, (self.levels, self.resample), ends):
            start = int(np.argmax(sequence.times >= sequence.times[-1] - seconds))
            last = cut(sequence, start, len(sequence.frames))
            yield self._normalised(self._sloped(select(last, self.names, self.step_names)))

    def _sloped(self, sequence: FeatureSequence) -> FeatureSequence:
        return add_slopes(sequence, self.slopes) if self.slopes else sequence

    def _normalised(self, sequence: FeatureSequence) -> FeatureSequence:
        return normalise_cohort(sequence, self.moments) if self.moments else normalise_case(sequence)

    @property
    def sees_the_future(self) -> bool:
        """Whether features of a frame depend on later ones, so that its prediction is impossible in real time."""
        return bool(set(self.retrospective) & set(self.names))

    def task(self) -> Task:
        """Sizes of the network."""
        width = len(self.names) * (2 if self.slopes else 1)
        return Task(width, len(self.classes), len(self.step_names), self.per, self.signal)

    @classmethod
    def read(cls, content: dict[str, Any]) -> FeatureSchema:
        """Read the content of feature_schema.json."""
        moments = content["moments"] and Normalisation(**{k: tuple(v) for k, v in content["moments"].items()})
        tuples = {
            name: tuple(content.get(name, ()))
            for name in ("classes", "names", "step_names", "telling", "retrospective", "deep")
        }
        return cls(**(content | tuples | {"moments": moments}))


def build_rule(config: Settings, names: Sequence[str], kinds: tuple[type, ...]) -> Any:
    """The organ's clinical rule, if it has one of these kinds and the features that it reads exist."""
    if config.organ.clinical_rule is None:
        return None
    rule: ScoreThreshold | RetinopathyGrade | VolumeSlope = build(config.organ.clinical_rule)
    if not isinstance(rule, kinds):
        target = "sequences" if isinstance(rule, VolumeSlope) else "single cases"
        say(f"organ.clinical_rule is not used: it applies to {target}")
        return None
    missing = [name for name in rule.reads if name not in names]
    if missing:
        warn(f"organ.clinical_rule is not used: these features have no {', '.join(missing)}")
    return None if missing else rule


def training_moments(schema: FeatureSchema) -> dict[str, dict[str, float | None]]:
    """Mean and standard deviation of each feature over the training cases, by name; None if they are not stored."""
    if schema.moments is None:
        return {name: {"mean": None, "sd": None} for name in schema.names}
    moments = zip(schema.names, schema.moments.mean, schema.moments.sd, strict=False)
    return {name: {"mean": finite_or_none(mean), "sd": finite_or_none(sd)} for name, mean, sd in moments}


def require_diagnosis(run: Run, config: Settings) -> None:
    """`ConfigError` if the run's model is not a classifier."""
    if config.task != "diagnosis":
        raise ConfigError(f"{run.named}: a model for task={config.task}; a diagnosis needs one of task=diagnosis")


def to_json(schema: FeatureSchema) -> dict[str, Any]:
    """The content of feature_schema.json."""
    content: dict[str, Any] = json.loads(json.dumps(asdict(schema)))
    return content


def as_item(sequence: FeatureSequence, schema: FeatureSchema) -> Item:
    """A training item: states as class numbers, the signal with mean 0 and standard deviation 1 in each case."""
    known = {name: number for number, name in enumerate(schema.classes)}
    labels = sequence.labels if schema.per == "frame" else sequence.labels[:1]
    state = np.array([UNKNOWN if label is None else known[label] for label in labels], dtype=np.int64)
    has_signal = schema.signal and np.isfinite(sequence.signal).any()
    return Item(sequence.x, sequence.steps, state, normalise(sequence.signal) if has_signal else None)
