"""Sequences of features as rows of a table: a row a frame, or a row a case."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import pandas as pd

from medseg.diagnosis.sequence_dataset import Item
from medseg.features.missing_labels import known_fraction
from medseg.features.sequences import FeatureSequence
from medseg.inference.attribution import FeatureRef, table_columns
from medseg.inference.feature_inputs import FeatureSchema
from medseg.typing import FloatArray


@dataclass(frozen=True)
class Rows:
    """R cases or frames to be judged. x: (R, F) standardised measures, 0 where missing; known: (R,) share that is not
    missing; items: the sequences they belong to, for the LSTM, whose answers stand in the same order.
    """

    x: FloatArray
    columns: tuple[FeatureRef, ...]  # of x
    known: FloatArray
    items: list[Item]
    facts: pd.DataFrame  # case, patient, frame, time, label
    measures: pd.DataFrame  # as they were measured, NaN where one is undefined

    def part(self, rows: npt.NDArray[np.intp], sequences: Sequence[int]) -> Rows:
        """Some of the rows, and the sequences they make up."""
        kept = self.facts.iloc[rows].reset_index(drop=True)
        measured = self.measures.iloc[rows].reset_index(drop=True)
        return Rows(self.x[rows], self.columns, self.known[rows], [self.items[s] for s in sequences], kept, measured)


def rows_of(sequences: Sequence[FeatureSequence], raw: Sequence[FeatureSequence], inputs: FeatureSchema) -> Rows:
    """Rows from normalised sequences; `raw` are the same ones before, whose gaps are counted.

    A row holds the measures of its frame (per "frame"), or their mean over the sequence, and the mean and standard
    deviation of each measure over the steps.
    """
    parts, known, items, facts, measured = [], [], [], [], []
    per = inputs.per
    for item, before in zip(sequences, raw, strict=True):
        x = item.x if per == "frame" else item.x.mean(axis=0, keepdims=True)  # (R, F)
        # a slice without the label has no brightness, and is measured all the same
        filled = before.x if per == "frame" else before.measured
        gaps = known_fraction(before.measured, filled, before.names, inputs.telling)
        if item.steps is not None:
            steps = item.steps if per == "frame" else item.steps.mean(axis=0, keepdims=True)  # (R, S, G)
            x = np.concatenate([x, steps.mean(axis=1), steps.std(axis=1)], axis=1)
        parts.append(x)
        measured.append(before.measured if per == "frame" else _mean_known(before.measured))
        known.append(gaps if per == "frame" else gaps.mean(keepdims=True))
        items.append(Item(item.x, item.steps))
        count = len(x)
        frame = {"frame": item.frames[:count].astype(int), "time": item.times[:count]}
        facts.append(pd.DataFrame({"case": item.case, "patient": item.patient, **frame, "label": item.labels[:count]}))
    measures = pd.DataFrame(np.concatenate(measured), columns=list(raw[0].names))
    told = pd.concat(facts, ignore_index=True)
    return Rows(np.concatenate(parts), table_columns(sequences[0]), np.concatenate(known), items, told, measures)


def _mean_known(values: FloatArray) -> FloatArray:
    """Means (1, F) over the frames (T, F) in which each was measured, NaN where in none."""
    means = pd.DataFrame(np.where(np.isfinite(values), values, np.nan)).mean()  # np.nanmean warns where none is known
    return means.to_numpy(np.float64)[None]  # (1, F)
