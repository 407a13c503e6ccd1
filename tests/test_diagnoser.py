"""Sequences that cannot be judged are for a person; the rest are not."""

import numpy as np
import pandas as pd
import pytest
import torch

from medseg.diagnoser import ALONE, UNDEFINED, Diagnoser, Inputs
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


@pytest.mark.parametrize(
    ("frames", "defined", "reason"), [(6, 4, ""), (6, 2, ""), (6, 1, UNDEFINED), (1, 4, ALONE), (1, 1, UNDEFINED)]
)
def test_what_cannot_be_judged_says_so_in_every_row(frames: int, defined: int, reason: str) -> None:
    found = said(frames, defined)
    assert found["review"].tolist() == [reason] * frames
    assert found[["p_exhale", "p_inhale"]].sum(axis=1).to_numpy() == pytest.approx(np.ones(frames))
