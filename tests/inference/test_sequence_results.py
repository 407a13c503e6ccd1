"""Results of sequences with known signal, states and explanations."""

import json
from types import SimpleNamespace
from typing import Any

import numpy as np
import pandas as pd
import pytest

from medseg.diagnosis.forecasting import Horizon
from medseg.diagnosis.lstm import Prediction
from medseg.diagnosis.sequence_dataset import Item
from medseg.evaluation.predictions import from_table
from medseg.features.sequences import FeatureSequence
from medseg.features.tables import Tables
from medseg.inference.feature_inputs import FeatureSchema
from medseg.inference.sequence_classifier import SequenceClassifier
from medseg.inference.sequence_results import (
    CAUSAL_NOTE,
    RETROSPECTIVE_NOTE,
    SequenceContext,
    cohort_statistics,
    forecast_errors,
    forecast_facts,
    sequence_records,
)

TIMES = np.arange(0, 40, 0.25)
NAMES = ("lung.volume_ml", "lung.mean_hu")


class Seen:
    """A network that reads only the first feature, and of the slices only the third."""

    def __init__(self, per: str = "frame") -> None:
        self.per = per

    def predict(self, item: Item) -> Prediction:
        x = item.x if self.per == "frame" else item.x[-1:]  # the last frame decides for the whole
        odds = 3 * x[:, 0] + (0 if item.steps is None else item.steps[:, 2, 0])
        p = 1 / (1 + np.exp(-odds))
        return Prediction(np.stack([1 - p, p], axis=1).astype(np.float32), x[:, 0].astype(np.float32))


def make_classifier(
    per: str = "frame", steps: tuple[str, ...] = (), names: tuple[str, ...] = NAMES
) -> SequenceClassifier:
    schema = FeatureSchema(("exhale", "inhale"), names, steps, 4, "", per, True, None)  # type: ignore[arg-type]
    forecast = SimpleNamespace(horizon=Horizon(0.5, 4, 0.25))
    cohort = {"lung.volume_ml": {"mean": 2900.0, "sd": 120.0}}
    return SequenceClassifier(schema, Seen(per), None, forecast, None, cohort)  # type: ignore[arg-type]


def records(table: Tables, found: pd.DataFrame) -> list[dict[str, Any]]:
    model = make_classifier()
    context = SequenceContext(model.cohort, model.forecast.horizon, model.schema.sees_the_future)
    predictions = from_table(found, model.classes, [model.final_model])
    return sequence_records(model.schema.raw(table), predictions, [""], context)


def attribution(model: SequenceClassifier, of: FeatureSequence) -> str:
    return model.explain(of)


def tables(case: str = "a") -> Tables:
    wave = np.sin(2 * np.pi * TIMES / 4)
    facts = {"case": case, "patient": case, "frame": np.arange(len(TIMES)), "time": TIMES, "signal": 7 + 3 * wave}
    label = np.where(np.cos(2 * np.pi * TIMES / 4) > 0, "inhale", "exhale")
    return Tables(
        pd.DataFrame({**facts, "label": label, NAMES[0]: 3000 + 250 * wave, NAMES[1]: -750.0 + 0 * wave}), None
    )


def predictions_of(frames: pd.DataFrame) -> pd.DataFrame:
    """A signal as it is in truth, forecasts: one perfect, one always the mean, and one that holds."""
    scaled = (frames["signal"] - frames["signal"].mean()) / frames["signal"].std(ddof=0)
    later = np.interp(TIMES + 0.5, TIMES, scaled)
    predictions = frames[["case", "patient", "frame", "time", "label", "signal"]].assign(
        predicted=frames["label"], probability=0.9, signal_predicted=scaled
    )
    return predictions.assign(signal_forecast=later, signal_forecast_linear=0.0, signal_forecast_hold=scaled)


def test_sequence_records_of_known_sequence_have_its_values() -> None:
    table = tables()
    predictions = predictions_of(table.frames)
    predictions.loc[predictions.index[:16], "predicted"] = "exhale"
    (sheet,) = records(table, predictions)
    assert json.loads(json.dumps(sheet, allow_nan=False)) == sheet
    assert (sheet["case"], sheet["frames"]) == ("a", 160)
    assert sum(sheet["states"].values()) == 160
    wrong = (predictions["label"] != predictions["predicted"]).mean()
    assert sheet["accuracy"] == {"lstm": pytest.approx(1 - wrong)}
    for name in ("truth", "lstm"):
        assert sheet["signal"][name]["period_s"] == pytest.approx(4, rel=0.01)
        assert sheet["signal"][name]["breaths"] == 9
        assert sheet["signal"][name]["amplitude"] == pytest.approx(2 * np.sqrt(2), rel=0.02)  # of a sine with SD 1
    assert (sheet["forecast"]["ahead_s"], sheet["forecast"]["sees_the_future"]) == (0.5, False)
    assert sheet["forecast"]["read"] == CAUSAL_NOTE
    errors = sheet["forecast"]["nrmse"]
    assert errors["lstm"] == pytest.approx(0, abs=1e-9)
    assert errors["linear"] == pytest.approx(1, abs=0.02)
    assert errors["hold"] == pytest.approx(2 * np.sin(np.pi / 8), rel=0.03)  # √2·√(1 − cos of an eighth of a period)
    volume, density = sheet["features"]
    assert volume["low"] == pytest.approx(2750)
    assert volume["high"] == pytest.approx(3250)
    assert (volume["mean"], volume["sd"]) == (2900, 120)
    assert (density["value"], density["mean"]) == (pytest.approx(-750), None)


def test_sequence_records_without_truth_have_null() -> None:
    frames = tables().frames.assign(label=None, signal=np.nan)
    predictions = (
        predictions_of(tables().frames).assign(label=None, signal=np.nan).drop(columns=["signal_forecast_hold"])
    )
    (sheet,) = records(Tables(frames, None), predictions)
    assert sheet["accuracy"] == {}
    assert set(sheet["signal"]) == {"lstm"}
    assert sheet["forecast"]["nrmse"] == {"lstm": None, "linear": None}


def sequence(steps: int = 0) -> FeatureSequence:
    x = np.random.default_rng(0).normal(size=(12, 2))
    inner = np.random.default_rng(1).normal(size=(12, steps, 1)) if steps else None
    unknown, names = np.full(12, np.nan), ("area",) if steps else ()
    known = np.isfinite(x)
    return FeatureSequence("a", "a", np.arange(12.0), unknown, x, known, NAMES, (None,) * 12, unknown, inner, names)


def test_explain_lists_only_features_that_the_network_reads() -> None:
    assert attribution(make_classifier(), sequence()).startswith("lung.volume_ml +")
    assert "mean_hu" not in attribution(make_classifier(), sequence())
    explanation = attribution(make_classifier(steps=("area",)), sequence(4))
    assert "step 3 of 4" in explanation
    assert "step 1" not in explanation


def test_explain_with_probabilities_predicts_only_occluded_sequences(monkeypatch: pytest.MonkeyPatch) -> None:
    model, one = make_classifier(), sequence()
    known = model.network.predict(Item(one.x)).probabilities
    asked: list[np.ndarray] = []
    predict = Seen.predict
    monkeypatch.setattr(Seen, "predict", lambda self, item: asked.append(item.x) or predict(self, item))
    assert model.explain(one, known) == attribution(make_classifier(), one)
    assert len(asked) == len(NAMES) + len(NAMES) + 1  # the second time the answers themselves were asked for, too


def test_explain_of_single_prediction_lists_frames() -> None:
    predictions = attribution(make_classifier("sequence"), sequence())
    assert "frame 11" in predictions
    assert "frame 10" not in predictions


def test_cohort_statistics_average_cases_not_frames() -> None:
    frames = pd.DataFrame({"case": ["a"] * 3 + ["b"], "m": [1.0, 2.0, 3.0, 6.0], "gone": [np.nan] * 4})
    assert cohort_statistics(frames, ["m", "gone"]) == {
        "m": {"mean": 4.0, "sd": 2.0},
        "gone": {"mean": None, "sd": None},
    }


def test_forecast_errors_use_frames_with_later_truth() -> None:
    part = predictions_of(tables().frames)
    part.loc[part.index[-40:], "signal_forecast"] = np.nan
    predictions = from_table(part, ["exhale", "inhale"], ["lstm"])
    assert forecast_errors(predictions, Horizon(0.5, 4, 0.25))["lstm"] == pytest.approx(0, abs=1e-9)


def test_forecast_facts_of_retrospective_features_say_so() -> None:
    facts = forecast_facts(Horizon(0.5, 4, 0.25), sees_the_future=True)
    assert facts == {"ahead_s": 0.5, "sees_the_future": True, "read": RETROSPECTIVE_NOTE}
