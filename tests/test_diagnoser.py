"""Sequences that cannot be judged are for a person; the rest are not."""

import numpy as np
import pandas as pd
import pytest
import torch

from medseg.diagnoser import ALONE, UNDEFINED, Diagnoser, Inputs, withheld
from medseg.diagnosis.lstm import SequenceLSTM
from medseg.tables import Tables


def said(frames: int, defined: int) -> pd.DataFrame:
    """Of one sequence with `defined` of four measures."""
    inputs = Inputs(("exhale", "inhale"), ("a", "b", "c", "d"), (), 4, "", "frame", True, None)
    torch.manual_seed(0)
    values = np.random.default_rng(0).normal(size=(frames, 4))
    values[:, defined:] = np.nan
    table = pd.DataFrame(values, columns=["a", "b", "c", "d"])
    facts = {"case": "x", "patient": "x", "frame": np.arange(frames), "time": np.arange(frames) / 4}
    return Diagnoser(inputs, SequenceLSTM(inputs.task(), hidden=4), None)(Tables(table.assign(**facts), None))


def test_nothing_is_told_of_what_could_not_be_measured() -> None:
    found = withheld(said(6, 1))
    assert found[["predicted", "probability", "p_exhale", "p_inhale", "signal_predicted"]].isna().all(axis=None)
    assert withheld(said(6, 4)).equals(said(6, 4))


def test_frames_that_were_filled_in_do_not_count_as_measured() -> None:
    inputs = Inputs(("exhale", "inhale"), ("a",), (), 4, "", "frame", True, None)
    torch.manual_seed(0)
    diagnoser = Diagnoser(inputs, SequenceLSTM(inputs.task(), hidden=4), None)
    table = pd.DataFrame({"case": "x", "patient": "x", "frame": range(8), "time": range(8), "a": [1.0] + [np.nan] * 7})
    assert set(diagnoser(Tables(table, None))["review"]) == {UNDEFINED}


@pytest.mark.parametrize(
    ("frames", "defined", "reason"), [(6, 4, ""), (6, 2, ""), (6, 1, UNDEFINED), (1, 4, ALONE), (1, 1, UNDEFINED)]
)
def test_what_cannot_be_judged_says_so_in_every_row(frames: int, defined: int, reason: str) -> None:
    found = said(frames, defined)
    assert found["review"].tolist() == [reason] * frames
    assert found[["p_exhale", "p_inhale"]].sum(axis=1).to_numpy() == pytest.approx(np.ones(frames))
