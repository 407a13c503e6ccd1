"""Sequences of features as rows of a table: one row per frame, or one per case."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import pandas as pd

from medseg.diagnosis.sequence_dataset import Item
from medseg.features.missing_labels import known_fraction
from medseg.features.sequences import FeatureSequence, frame_values
from medseg.features.tables import Tables
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
    deep: FloatArray  # (R, D) deep features as the encoder gives them, NaN if undefined
    deep_names: tuple[str, ...]
    facts: pd.DataFrame  # case, patient, frame, time, label
    features: pd.DataFrame  # not standardised, NaN if undefined

    def subset(self, rows: npt.NDArray[np.intp], sequences: Sequence[int]) -> Rows:
        """A subset of the rows, and the sequences that they belong to."""
        facts = self.facts.iloc[rows].reset_index(drop=True)
        features = self.features.iloc[rows].reset_index(drop=True)
        items, deep = [self.items[s] for s in sequences], self.deep[rows]
        return Rows(self.x[rows], self.columns, self.known[rows], items, deep, self.deep_names, facts, features)


def rows_of(tables: Tables, schema: FeatureSchema) -> Rows:
    """The rows of a table for a model; `DataError` names missing features.

    A row has the features of its frame (per "frame"), or their mean over the sequence, and the mean and standard
    deviation of each measured profile feature over the profile. Its deep features are apart: absent regions are not
    filled from other frames, and do not count as undefined features where anything is measured.
    """
    raw = schema.raw(tables)
    sequences = schema.normalise(raw)
    per_frame = schema.per == "frame"
    deep = [v if per_frame else _mean_known(v) for v in frame_values(tables.frames, schema.deep)]
    columns = table_columns(sequences[0])
    profile = [ref.index for ref in columns if ref.kind == "step_mean"]
    x_rows, known, items, facts, feature_rows = [], [], [], [], []
    for item, raw_item, deep_item in zip(sequences, raw, deep, strict=True):
        x_rows.append(_table_rows(item, profile, per_frame))
        feature_rows.append(raw_item.measured if per_frame else _mean_known(raw_item.measured))
        known.append(_known(raw_item, deep_item, schema))
        items.append(Item(item.x, item.steps))
        count = len(x_rows[-1])
        frame = {"frame": item.frames[:count].astype(int), "time": item.times[:count]}
        facts.append(pd.DataFrame({"case": item.case, "patient": item.patient, **frame, "label": item.labels[:count]}))
    features = pd.DataFrame(np.concatenate(feature_rows), columns=list(raw[0].names))
    fact_table = pd.concat(facts, ignore_index=True)
    x, fractions = np.concatenate(x_rows), np.concatenate(known)
    return Rows(x, columns, fractions, items, np.concatenate(deep), schema.deep, fact_table, features)


def _table_rows(item: FeatureSequence, profile: list[int], per_frame: bool) -> FloatArray:
    """Rows (R, F) of a normalised sequence; profile: the columns of its steps that are read."""
    x = item.x if per_frame else item.x.mean(axis=0, keepdims=True)  # (R, F)
    if item.steps is None:
        return x
    steps = item.steps[:, :, profile]
    steps = steps if per_frame else steps.mean(axis=0, keepdims=True)  # (R, S, G)
    return np.concatenate([x, steps.mean(axis=1), steps.std(axis=1)], axis=1)


def _known(raw: FeatureSequence, deep: FloatArray, schema: FeatureSchema) -> FloatArray:
    """Fraction (R,) of features that are not missing; with deep features (R, D) alone 1 if there is any."""
    if not raw.names:
        return np.asarray(np.isfinite(deep).any(axis=1), np.float64)
    # a slice without the label has no intensity features, but is not missing
    filled = raw.x if schema.per == "frame" else raw.measured
    fractions = known_fraction(raw.measured, filled, raw.names, schema.telling)
    return fractions if schema.per == "frame" else np.array([fractions.mean()])


def _mean_known(values: FloatArray) -> FloatArray:
    """Means (1, F) over the frames (T, F) in which each feature is defined, NaN if in none."""
    means = pd.DataFrame(np.where(np.isfinite(values), values, np.nan)).mean()  # np.nanmean warns if none is known
    return means.to_numpy(np.float64)[None]  # (1, F)
