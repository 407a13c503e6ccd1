"""How good diagnoses are whose labels are known: the same scores for a run's held-out cases and for a user's folder."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd

from medseg.classification import judge_probabilities, judge_sets, reliability
from medseg.classifier import MEMBERS, RULE, STACK, Classifier
from medseg.diagnosis.batch import UNKNOWN
from medseg.diagnosis.signal import normalise, period
from medseg.metrics import summarise_states
from medseg.tables import Tables


def score(found: pd.DataFrame, classes: Sequence[str], models: Sequence[str]) -> dict[str, Any]:
    """Scores of diagnoses whose labels are known; signals are compared with mean 0 and SD 1 in each case.

    The first of `models` has the columns without a name behind them.
    """
    truth = found["signal"].astype(float)
    if truth.notna().any():
        truth = truth.groupby(found["case"], sort=False).transform(lambda s: normalise(s.to_numpy(dtype=np.float64)))
    return summarise_states(found.assign(signal=truth), classes, models, period)


def judge(classifier: Classifier, tables: Tables, found: pd.DataFrame, positive: Sequence[str]) -> dict[str, Any]:
    """Scores of every model of a classifier on tables with labels: those of `score`, of its probabilities before and
    after calibration, and of its sets; a case that could not be measured counts with what was said of it all the same.

    found: what it said of them, with the baseline; positive: the classes that call for action.
    """
    rows, classes = classifier.rows(tables), classifier.inputs.classes
    others = [name for name in (*MEMBERS, STACK, *([RULE] if classifier.rule else [])) if name != classifier.use]
    summary = score(found, classes, [classifier.use, *others])
    truth = np.array([classes.index(label) if label is not None else UNKNOWN for label in rows.facts["label"]])
    known = truth != UNKNOWN
    patients = rows.facts["patient"][known].astype(str).tolist()
    ill = [classes.index(str(name)) for name in positive if str(name) in classes]
    summary["reliability"] = {}
    for name, raw in classifier.said(rows).items():
        calibrated = classifier.calibrations[name].probabilities(raw)
        scores = judge_probabilities(calibrated[known], truth[known], patients, ill)
        before = judge_probabilities(raw[known], truth[known], patients)
        scores |= {f"{key}_before": before[key] for key in ("nll", "brier", "ece")}
        sets = judge_sets(classifier.sets(name, calibrated, rows)[known], truth[known], patients)
        summary["models"][name] |= scores | {f"set_{key}": value for key, value in sets.items()}
        summary["reliability"][name] = reliability(calibrated[known], truth[known])
    return summary | {"use": classifier.use}
