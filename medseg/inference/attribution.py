"""What moved a prediction: occlusion, that is what is lost when a feature is set to its mean in training."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np

from medseg.diagnosis.calibration import log_odds
from medseg.diagnosis.sequence_dataset import Item
from medseg.features.sequences import FeatureSequence
from medseg.typing import FloatArray

MIN_EFFECT = 0.01  # log-odds: less is not named


@dataclass(frozen=True)
class FeatureRef:
    """Something of a standardised sequence that can be set to the mean of the training cases, which is 0.

    kind and index: a column of the frames' features; the mean or the standard deviation over the steps of a column of
    the steps' features; a step of each frame; a frame of the sequence. name: as people read it.
    """

    kind: Literal["feature", "step_mean", "step_sd", "step", "frame"]
    name: str
    index: int


def table_columns(sequence: FeatureSequence) -> tuple[FeatureRef, ...]:
    """What a row of a table holds of such a sequence, column by column: features, then means and standard deviations
    over its steps.
    """
    features = [FeatureRef("feature", name, k) for k, name in enumerate(sequence.names)]
    if sequence.steps is None:
        return tuple(features)
    means = [FeatureRef("step_mean", f"mean of {name}", k) for k, name in enumerate(sequence.step_names)]
    spreads = [FeatureRef("step_sd", f"sd of {name}", k) for k, name in enumerate(sequence.step_names)]
    return (*features, *means, *spreads)


def step_refs(item: Item) -> list[FeatureRef]:
    """Each step of a sequence, that is slice or sector; nothing where it has none."""
    count = 0 if item.steps is None else item.steps.shape[1]
    return [FeatureRef("step", f"step {k + 1} of {count}", k) for k in range(count)]


def sequence_groups(sequence: FeatureSequence, one_answer: bool) -> dict[str, list[FeatureRef]]:
    """What is set to its mean at once, by name: a feature with its slope, a step; with `one_answer` also a frame."""
    features = [ref for ref in table_columns(sequence) if ref.kind == "feature"]
    groups: dict[str, list[FeatureRef]] = {}
    for ref in features:
        groups.setdefault(ref.name.removesuffix(".slope"), []).append(ref)
    groups |= {ref.name: [ref] for ref in step_refs(Item(sequence.x, sequence.steps))}
    if one_answer and len(sequence.x) > 1:
        frames = [FeatureRef("frame", f"frame {int(number)}", k) for k, number in enumerate(sequence.frames)]
        groups |= {ref.name: [ref] for ref in frames}
    return groups


def occlude(item: Item, refs: Sequence[FeatureRef]) -> Item:
    """The sequence with some of it set to the mean of the training cases; what the steps vary by cannot be."""
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
    """Log-odds (R,) of each row's predicted class that a group adds: what is lost when it is set to its mean.

    probabilities (R, K): with nothing changed; predict: what is set to its mean → probabilities (R, K).
    """
    at = np.arange(len(probabilities)), probabilities.argmax(axis=1)
    before = log_odds(probabilities)[at]
    return {name: before - log_odds(predict(refs))[at] for name, refs in groups.items()}


def describe_effects(effects: Mapping[str, float], count: int, decimals: int = 2, least: float = MIN_EFFECT) -> str:
    """The `count` largest effects of at least `least`: ``lesion.area_px +0.80, step 3 of 8 −0.40``."""
    heaviest = sorted(effects, key=lambda name: -abs(effects[name]))[:count]
    texts = [f"{name} {format_signed(effects[name], decimals)}" for name in heaviest if abs(effects[name]) >= least]
    return ", ".join(texts)


def format_signed(value: float, decimals: int = 2) -> str:
    """With a sign, a true minus for what is below 0."""
    return f"{value:+.{decimals}f}".replace("-", "−")
