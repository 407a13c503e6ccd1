"""Sequences of features as rows of a table: one row per frame, or one per case."""

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
    """R cases or frames to classify. x: (R, F) standardised features, 0 if missing; known: (R,) fraction of features
    that are not missing; items: the sequences of the rows, in the same order, for the LSTM.
    """

    x: FloatArray
    columns: tuple[FeatureRef, ...]  # of x
    known: FloatArray
    items: list[Item]
    facts: pd.DataFrame  # case, patient, frame, time, label
    features: pd.DataFrame  # not standardised, NaN if undefined

    def subset(self, rows: npt.NDArray[np.intp], sequences: Sequence[int]) -> Rows:
        """A subset of the rows, and the sequences that they belong to."""
        facts = self.facts.iloc[rows].reset_index(drop=True)
        features = self.features.iloc[rows].reset_index(drop=True)
        return Rows(self.x[rows], self.columns, self.known[rows], [self.items[s] for s in sequences], facts, features)


def rows_of(sequences: Sequence[FeatureSequence], raw: Sequence[FeatureSequence], schema: FeatureSchema) -> Rows:
    """Rows from normalised sequences; `raw`: the same sequences before normalisation, to count missing features.

    A row has the features of its frame (per "frame"), or their mean over the sequence, and the mean and standard
    deviation of each profile feature over the profile.
    """
    x_rows, known, items, facts, feature_rows = [], [], [], [], []
    per = schema.per
    for item, raw_item in zip(sequences, raw, strict=True):
        x = item.x if per == "frame" else item.x.mean(axis=0, keepdims=True)  # (R, F)
        # a slice without the label has no intensity features, but is not missing
        filled = raw_item.x if per == "frame" else raw_item.measured
        fractions = known_fraction(raw_item.measured, filled, raw_item.names, schema.telling)
        if item.steps is not None:
            steps = item.steps if per == "frame" else item.steps.mean(axis=0, keepdims=True)  # (R, S, G)
            x = np.concatenate([x, steps.mean(axis=1), steps.std(axis=1)], axis=1)
        x_rows.append(x)
        feature_rows.append(raw_item.measured if per == "frame" else _mean_known(raw_item.measured))
        known.append(fractions if per == "frame" else fractions.mean(keepdims=True))
        items.append(Item(item.x, item.steps))
        count = len(x)
        frame = {"frame": item.frames[:count].astype(int), "time": item.times[:count]}
        facts.append(pd.DataFrame({"case": item.case, "patient": item.patient, **frame, "label": item.labels[:count]}))
    features = pd.DataFrame(np.concatenate(feature_rows), columns=list(raw[0].names))
    fact_table = pd.concat(facts, ignore_index=True)
    return Rows(np.concatenate(x_rows), table_columns(sequences[0]), np.concatenate(known), items, fact_table, features)


def _mean_known(values: FloatArray) -> FloatArray:
    """Means (1, F) over the frames (T, F) in which each feature is defined, NaN if in none."""
    means = pd.DataFrame(np.where(np.isfinite(values), values, np.nan)).mean()  # np.nanmean warns if none is known
    return means.to_numpy(np.float64)[None]  # (1, F)
