"""Causal prefixes: a sequence as it was available at each moment, from past frames only."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace

import numpy as np
import pandas as pd

from medseg.features.sequences import FeatureSequence, feature_columns, sequences
from medseg.typing import FloatArray


def iter_prefixes(
    frames: pd.DataFrame, steps: pd.DataFrame | None, heights: tuple[int, bool], ends: Sequence[int]
) -> Iterator[FeatureSequence]:
    """Yield what `sequences` returns for one case's tables, cut off after each frame of `ends`.

    heights: `levels` and `resample` of `sequences`. ends: rising indices of frames in temporal order, from 0. A prefix
    is recomputed only if it differs from the same frames of a longer one: if a frame has missing values, which later
    frames would fill, or if later slices lie higher or lower than all before, which changes the levels.
    """
    frames = frames.sort_values("frame", kind="stable")
    numbers = frames["frame"].to_numpy(float)
    unknown = frames[list(feature_columns(frames))].isna().to_numpy()  # (T, F)
    gaps = np.asarray((unknown & ~unknown.all(axis=0)).any(axis=1))  # (T,)
    reach = None if steps is None else _reach(steps, numbers)
    prefix: FeatureSequence | None = None
    prefixes: list[FeatureSequence] = []
    for last in reversed(list(ends)):  # from the longest, which contains the shorter ones
        if prefix is None or gaps[last] or not _same(reach, last, len(prefix.frames) - 1):
            until = None if steps is None else steps[steps["frame"] <= numbers[last]]
            (prefix,) = sequences(frames.iloc[: last + 1], until, *heights)
        prefixes.append(cut(prefix, 0, last + 1))
    yield from reversed(prefixes)


def cut(sequence: FeatureSequence, start: int, stop: int) -> FeatureSequence:
    """Return frames `start` to `stop` of a sequence, counted from 0, `stop` excluded."""
    frames = slice(start, stop)
    return replace(
        sequence,
        frames=sequence.frames[frames],
        times=sequence.times[frames],
        x=sequence.x[frames],
        known=sequence.known[frames],
        labels=sequence.labels[frames],
        signal=sequence.signal[frames],
        steps=None if sequence.steps is None else sequence.steps[frames],
    )


def _same(reach: FloatArray | None, last: int, later: int) -> bool:
    return reach is None or np.array_equal(reach[last], reach[later], equal_nan=True)


def _reach(steps: pd.DataFrame, numbers: FloatArray) -> FloatArray:
    """Lowest and highest nonzero slice up to each frame (T, 2), in mm; NaN before the first."""
    holds = (steps[list(feature_columns(steps))].fillna(0) != 0).any(axis=1)
    extremes = steps[holds].groupby("frame")["position_mm"].agg(["min", "max"]).reindex(numbers)
    running = {"min": extremes["min"].cummin().ffill(), "max": extremes["max"].cummax().ffill()}
    return pd.DataFrame(running).to_numpy(float)
