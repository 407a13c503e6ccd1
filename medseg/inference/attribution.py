"""Feature attribution by occlusion: the change in log-odds when a feature is set to its training mean."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np

from medseg.diagnosis.calibration import log_odds
from medseg.diagnosis.sequence_dataset import Item
from medseg.features.sequences import FeatureSequence
from medseg.features.tables import DEEP, is_deep
from medseg.typing import FloatArray

MIN_EFFECT = 0.01  # log-odds: smaller effects are not listed


@dataclass(frozen=True)
class FeatureRef:
    """An element of a standardised sequence that can be set to the mean of the training cases, which is 0.

    kind and index: a column of the frames' features; the mean or the standard deviation over the profile of a column of
    the profile's features; a profile position in each frame; a frame of the sequence; a deep feature that has a model
    of its own. name: for display.
    """

    kind: Literal["feature", "step_mean", "step_sd", "step", "frame", "deep"]
    name: str
    index: int


def table_columns(sequence: FeatureSequence) -> tuple[FeatureRef, ...]:
    """Columns of a table row of such a sequence: features, then means and standard deviations over the profile.

    Deep features of the profile are left out: they are for the network that reads the steps.
    """
    features = [FeatureRef("feature", name, k) for k, name in enumerate(sequence.names)]
    if sequence.steps is None:
        return tuple(features)
    measured = [(k, name) for k, name in enumerate(sequence.step_names) if not is_deep(name)]
    means = [FeatureRef("step_mean", f"mean of {name}", k) for k, name in measured]
    spreads = [FeatureRef("step_sd", f"sd of {name}", k) for k, name in measured]
    return (*features, *means, *spreads)


def deep_groups(names: Sequence[str]) -> dict[str, list[FeatureRef]]:
    """Deep features to occlude together: all of a region."""
    groups: dict[str, list[FeatureRef]] = {}
    for index, name in enumerate(names):
        groups.setdefault(_group(name), []).append(FeatureRef("deep", name, index))
    return groups


def _group(name: str) -> str:
    """What a feature is occluded with: its slope, and of a deep one the others of its region."""
    name = name.removesuffix(".slope")
    return f"deep features of the {name.removeprefix(DEEP).rpartition('_')[0]}" if is_deep(name) else name


def step_refs(item: Item) -> list[FeatureRef]:
    """Each profile position (slice or sector) of a sequence; empty without a profile."""
    count = 0 if item.steps is None else item.steps.shape[1]
    return [FeatureRef("step", f"step {k + 1} of {count}", k) for k in range(count)]


def sequence_groups(sequence: FeatureSequence, single_prediction: bool) -> dict[str, list[FeatureRef]]:
    """Elements to occlude together: a feature with its slope, deep features of a region, a step; with
    `single_prediction` also a frame.
    """
    features = [ref for ref in table_columns(sequence) if ref.kind == "feature"]
    groups: dict[str, list[FeatureRef]] = {}
    for ref in features:
        groups.setdefault(_group(ref.name), []).append(ref)
    groups |= {ref.name: [ref] for ref in step_refs(Item(sequence.x, sequence.steps))}
    if single_prediction and len(sequence.x) > 1:
        frames = [FeatureRef("frame", f"frame {int(number)}", k) for k, number in enumerate(sequence.frames)]
        groups |= {ref.name: [ref] for ref in frames}
    return groups


def occlude(item: Item, refs: Sequence[FeatureRef]) -> Item:
    """Set elements of a sequence to the mean of the training cases; step_sd cannot be occluded."""
    x, steps = item.x.copy(), None if item.steps is None else item.steps.copy()
    for ref in refs:
        if ref.kind == "feature":
            x[:, ref.index] = 0
        elif ref.kind == "frame":
            x[ref.index] = 0
        elif steps is not None and ref.kind == "step_mean":
            steps[:, :, ref.index] -= steps[:, :, ref.index].mean()
        elif steps is not None and ref.kind == "step":
            steps[:, ref.index] = 0
    return item._replace(x=x, steps=steps)


def occlusion_effects(
    probabilities: FloatArray,
    groups: Mapping[str, Sequence[FeatureRef]],
    predict: Callable[[Sequence[FeatureRef]], FloatArray],
) -> dict[str, FloatArray]:
    """Log-odds (R,) of each row's predicted class that are lost when a group is set to its mean.

    probabilities (R, K): without occlusion; predict: occluded elements → probabilities (R, K).
    """
    index = np.arange(len(probabilities)), probabilities.argmax(axis=1)
    before = log_odds(probabilities)[index]
    return {name: before - log_odds(predict(refs))[index] for name, refs in groups.items()}


def describe_effects(
    effects: Mapping[str, float], count: int, decimals: int = 2, min_effect: float = MIN_EFFECT
) -> str:
    """The `count` largest effects of at least `min_effect`: ``lesion.area_px +0.80, step 3 of 8 −0.40``."""
    largest = sorted(effects, key=lambda name: -abs(effects[name]))[:count]
    texts = [f"{name} {format_signed(effects[name], decimals)}" for name in largest if abs(effects[name]) >= min_effect]
    return ", ".join(texts)


def format_signed(value: float, decimals: int = 2) -> str:
    """Format with a sign; negative values get a typographic minus."""
    return f"{value:+.{decimals}f}".replace("-", "−")
