"""What is read of a sequence that still goes on is what a table that stops there gives, gaps, slices and all."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from medseg.features import causal_prefixes as module
from medseg.features.causal_prefixes import cut, iter_prefixes
from medseg.features.sequences import FeatureSequence, sequences

COUNT = 14


def frames() -> pd.DataFrame:
    """Rows out of order; gaps inside, at both ends and throughout."""
    random = np.random.default_rng(0)
    table = pd.DataFrame(random.normal(size=(COUNT, 4)), columns=["whole", "holes", "late", "never"])
    table.loc[[4, 5, 9, COUNT - 1], "holes"] = np.nan
    table.loc[:3, "late"] = np.nan
    table["never"] = np.nan
    facts = {"case": "a", "patient": "p", "frame": 2 * np.arange(COUNT), "time": np.arange(COUNT) / 4}
    facts["label"] = ["in", "out"] * (COUNT // 2)
    return table.assign(**facts, signal=np.arange(COUNT)).sample(frac=1, random_state=0)


def slices() -> pd.DataFrame:
    """Slices of which more hold something as breathing goes on; of the first frame none."""
    random = np.random.default_rng(1)
    rows = []
    for frame in range(COUNT):
        held = min(frame // 4 + frame % 2, 5)
        for step in range(6):
            area = random.uniform(1, 2) if frame and step <= held else 0.0
            rows.append({"case": "a", "frame": 2 * frame, "step": step, "position_mm": 5.0 * step, "area": area})
    return pd.DataFrame(rows)


def assert_same(a: FeatureSequence, b: FeatureSequence) -> None:
    assert (a.case, a.patient, a.names, a.step_names, a.labels) == (b.case, b.patient, b.names, b.step_names, b.labels)
    for name in ("frames", "times", "x", "signal", "steps"):
        np.testing.assert_array_equal(getattr(a, name), getattr(b, name), err_msg=name)


@pytest.mark.parametrize("steps", [None, slices(), slices()[:0]])
def test_each_is_what_a_table_that_stops_there_gives(steps: pd.DataFrame | None) -> None:
    table = frames().sort_values("frame")
    prefixes = list(iter_prefixes(frames(), steps, (4, True), range(COUNT)))
    for last, sequence in enumerate(prefixes):
        until = None if steps is None else steps[steps["frame"] <= 2 * last]
        (expected,) = sequences(table[: last + 1], until, 4)
        assert_same(sequence, expected)


def test_the_table_is_read_again_only_where_it_changes_the_answer(monkeypatch: pytest.MonkeyPatch) -> None:
    read: list[int] = []

    def counted(table: pd.DataFrame, *rest: object) -> list[FeatureSequence]:
        read.append(len(table))
        return sequences(table, *rest)  # type: ignore[arg-type]

    monkeypatch.setattr(module, "sequences", counted)
    list(iter_prefixes(frames()[["case", "frame", "whole", "never"]], None, (4, True), range(COUNT)))
    assert read == [COUNT]
    read.clear()
    list(iter_prefixes(frames()[["case", "frame", "holes"]], None, (4, True), range(COUNT)))
    assert read == [COUNT, 10, 6, 5]  # the whole, and the frames without a value that others follow


def test_a_cut_keeps_every_part_in_step() -> None:
    (whole,) = sequences(frames(), slices(), 4)
    section = cut(whole, 3, 7)
    assert section.frames.tolist() == [6, 8, 10, 12]
    assert section.signal.tolist() == [3, 4, 5, 6]
    assert section.labels == whole.labels[3:7]
    assert section.steps is not None
    assert (section.x.shape, section.steps.shape) == ((4, 4), (4, 4, 1))
