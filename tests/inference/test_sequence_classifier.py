"""Sequences that cannot be judged are for a person; the rest are not. A forecast knows nothing of what comes."""

from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
import torch

from medseg.diagnosis.calibration import Calibration
from medseg.diagnosis.forecasting import KINDS, Forecast, Horizon, Recurrent
from medseg.diagnosis.lstm import SequenceLSTM
from medseg.evaluation.predictions import Predictions, to_table
from medseg.features.tables import Tables
from medseg.inference.feature_inputs import UNDEFINED, FeatureSchema
from medseg.inference.sequence_classifier import SINGLE_FRAME, SequenceClassifier


def predicted(frames: int, defined: int, calibration: Calibration | None = None) -> Predictions:
    schema = FeatureSchema(("exhale", "inhale"), ("a", "b", "c", "d"), (), 4, "", "frame", True, None)
    torch.manual_seed(0)
    values = np.random.default_rng(0).normal(size=(frames, 4))
    values[:, defined:] = np.nan
    table = pd.DataFrame(values, columns=["a", "b", "c", "d"])
    facts = {"case": "x", "patient": "x", "frame": np.arange(frames), "time": np.arange(frames) / 4}
    calibrations = {} if calibration is None else {"lstm": calibration}
    model = SequenceClassifier(schema, SequenceLSTM(schema.task(), hidden=4), calibrations=calibrations)
    return model.predict(Tables(table.assign(**facts), None))


def predict_table(frames: int, defined: int, calibration: Calibration | None = None) -> pd.DataFrame:
    """Predictions of one sequence with `defined` of four features."""
    return to_table(predicted(frames, defined, calibration))


def test_predict_with_undefined_features_is_withheld() -> None:
    table = to_table(predicted(6, 1).withheld())
    assert table[["predicted", "probability", "p_exhale", "p_inhale", "signal_predicted"]].isna().all(axis=None)
    assert to_table(predicted(6, 4).withheld()).equals(predict_table(6, 4))


def test_predict_with_undefined_features_sets_contain_all_classes() -> None:
    strict = Calibration(2.0, (0.5, 0.5))
    alone, silent = predict_table(6, 4, strict), predict_table(6, 1, strict)
    assert alone["prediction_set"].tolist() == alone["predicted"].tolist()
    assert not alone["abstain"].any()
    assert set(silent["prediction_set"]) == {"exhale | inhale"}
    assert silent["abstain"].all()
    assert "prediction_set" not in predict_table(6, 4)
    before, after = predict_table(6, 4)["p_inhale"].to_numpy(np.float64), alone["p_inhale"].to_numpy()
    assert np.log(after / (1 - after)) == pytest.approx(np.log(before / (1 - before)) / 2, abs=1e-5)


def test_predict_ignores_filled_frames_as_known() -> None:
    schema = FeatureSchema(("exhale", "inhale"), ("a",), (), 4, "", "frame", True, None)
    torch.manual_seed(0)
    model = SequenceClassifier(schema, SequenceLSTM(schema.task(), hidden=4))
    table = pd.DataFrame({"case": "x", "patient": "x", "frame": range(8), "time": range(8), "a": [1.0] + [np.nan] * 7})
    assert set(model.predict(Tables(table, None)).review) == {UNDEFINED}


@pytest.mark.parametrize(
    ("frames", "defined", "reason"),
    [(6, 4, ""), (6, 2, ""), (6, 1, UNDEFINED), (1, 4, SINGLE_FRAME), (1, 1, UNDEFINED)],
)
def test_predict_with_review_reason_repeats_it_in_every_row(frames: int, defined: int, reason: str) -> None:
    table = predict_table(frames, defined)
    assert table["review"].tolist() == [reason] * frames
    assert table[["p_exhale", "p_inhale"]].sum(axis=1).to_numpy() == pytest.approx(np.ones(frames))


def foreteller(*names: str) -> SequenceClassifier:
    """A bidirectional network over normalised features, slices and central slopes, with a forecast of its signal."""
    schema = FeatureSchema(("exhale", "inhale"), names, ("lung.area",), 4, "central", "frame", True, None)
    schema = replace(schema, retrospective=("motion.pc1",))
    torch.manual_seed(0)
    horizon = Horizon(0.5, 5, 0.25)
    forecast = Forecast(horizon, np.array([0.1, -0.2, 0.3, -0.4, 1.2, 0.05]), Recurrent(4).eval())
    return SequenceClassifier(schema, SequenceLSTM(schema.task(), hidden=4), None, forecast)


def recording(frames: int = 60) -> Tables:
    """A periodic feature, one with gaps, and three slices per frame."""
    random, at = np.random.default_rng(0), np.arange(frames)
    table = pd.DataFrame({"case": "x", "patient": "x", "frame": at, "time": at / 4})
    table["lung.volume"] = np.sin(at / 3) + 0.1 * random.normal(size=frames)
    table["lung.density"] = np.where(at % 5 == 0, np.nan, np.cos(at / 3))
    steps = pd.DataFrame({"case": "x", "frame": np.repeat(at, 3), "step": np.tile(np.arange(3), frames)})
    steps = steps.assign(position_mm=5.0 * steps["step"])
    return Tables(table, steps.assign(**{"lung.area": random.uniform(1, 2, 3 * frames)}))


@pytest.mark.parametrize("last", [20, 40])
def test_forecast_does_not_depend_on_later_frames(last: int) -> None:
    model, whole = foreteller("lung.volume", "lung.density"), recording()
    assert whole.steps is not None
    changed, steps = whole.frames.copy(), whole.steps.copy()
    later = changed["frame"] > last
    changed.loc[later, ["lung.volume", "lung.density"]] = changed.loc[later, ["lung.volume", "lung.density"]] * 9 + 70
    steps.loc[steps["frame"] > last, ["position_mm", "lung.area"]] *= 3
    cut = Tables(whole.frames[~later], whole.steps[whole.steps["frame"] <= last])
    each = [model.predict(tables) for tables in (whole, Tables(changed, steps), cut)]
    now, other, alone = (to_table(predictions, others=True)[: last + 1] for predictions in each)
    assert not np.allclose(now["signal_predicted"], other["signal_predicted"])  # which has seen them
    for kind in KINDS:
        column = "signal_forecast" if kind == "lstm" else f"signal_forecast_{kind}"
        assert np.isfinite(now[column]).sum() == last + 1 - 4  # a past of four steps of a frame each
        for table in (other, alone):
            assert table[column].to_numpy() == pytest.approx(now[column].to_numpy(), abs=1e-5, nan_ok=True)


def test_forecast_reads_the_last_minute(monkeypatch: pytest.MonkeyPatch) -> None:
    model, whole = foreteller("lung.volume", "lung.density"), recording()
    monkeypatch.setattr(
        "medseg.inference.sequence_classifier.FORECAST_WINDOW_S", 4.75
    )  # and the second before that the forecast reads
    assert whole.steps is not None
    rest = Tables(whole.frames[36:], whole.steps[whole.steps["frame"] >= 36])
    last, alone = (model.predict(tables).forecasts["lstm"][-1] for tables in (whole, rest))
    assert last == pytest.approx(alone, abs=1e-5)


def test_sees_the_future_with_retrospective_features_is_true() -> None:
    assert not foreteller("lung.volume").schema.sees_the_future
    assert foreteller("lung.volume", "motion.pc1").schema.sees_the_future
