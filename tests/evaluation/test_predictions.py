"""Predictions as arrays and as a table: what is written is what is read, and nothing is told where nothing is known."""

from dataclasses import replace

import numpy as np
import pandas as pd
import pytest

from medseg.evaluation.predictions import ModelPredictions, Predictions, from_table, to_table

CLASSES = ("exhale", "inhale")


def model(seed: int, signal: bool = True, sets: bool = False) -> ModelPredictions:
    random = np.random.default_rng(seed)
    chances = random.dirichlet(np.ones(2), 5)  # (5, 2)
    predicted = np.array(CLASSES, dtype=object)[chances.argmax(axis=1)]
    inside = np.array([[1, 0], [0, 1], [1, 1], [1, 0], [1, 1]], bool) if sets else None
    return ModelPredictions(predicted, chances, chances**2, inside, random.normal(size=5) if signal else None)


def predictions() -> Predictions:
    facts = pd.DataFrame({"case": ["b", "b", "b", "a", "a"], "patient": ["q", "q", "q", "p", "p"]})
    facts = facts.assign(frame=[0, 1, 2, 0, 1], time=np.arange(5) / 4, label=["inhale", None, "exhale"] + [None] * 2)
    return Predictions(
        classes=CLASSES,
        final_model="lstm",
        facts=facts.assign(signal=np.arange(5.0)),
        models={"linear": model(1), "lstm": model(0, sets=True), "rule": model(2, signal=False)},
        review=("", "", "blurred", "", ""),
        undefined=np.array([False, True, False, False, False]),
        explanations=("volume +1.00", "", "", "volume −0.20", ""),
        forecasts={kind: np.arange(5.0) + k for k, kind in enumerate(("lstm", "linear", "hold"))},
    )


def test_to_table_of_the_final_model_has_the_columns_a_user_reads() -> None:
    names = ["case", "patient", "frame", "time", "label", "signal", "predicted", "probability", "p_exhale", "p_inhale"]
    names += ["signal_predicted", "signal_forecast", "signal_forecast_linear", "prediction_set", "abstain"]
    table = to_table(predictions())
    assert list(table) == [*names, "explanation", "review"]
    assert table["prediction_set"].tolist() == ["exhale", "inhale", "exhale | inhale", "exhale", "exhale | inhale"]
    assert table["abstain"].tolist() == [False, False, True, False, True]


@pytest.mark.parametrize("text", [False, True])
def test_from_table_of_what_was_written_gives_the_same(text: bool) -> None:
    made = predictions()
    table = to_table(made, others=True)
    read = from_table(table.astype(str).replace("None", np.nan) if text else table, CLASSES, ["lstm", "linear", "rule"])
    assert read.model_order == made.model_order
    for name, own in made.models.items():
        other = read.models[name]
        assert other.predicted.tolist() == own.predicted.tolist()
        assert other.probabilities == pytest.approx(own.probabilities)
        assert (other.signal is None) == (own.signal is None)
        if own.signal is not None:
            assert other.signal == pytest.approx(own.signal)
    assert (read.final.sets == made.final.sets).all()
    assert {kind: values.tolist() for kind, values in read.forecasts.items()} == {
        kind: values.tolist() for kind, values in made.forecasts.items()
    }
    for name in ("case", "frame", "time", "signal"):
        assert read.facts[name].tolist() == made.facts[name].tolist()
    assert read.facts["label"].fillna("").tolist() == made.facts["label"].fillna("").tolist()
    assert (read.review, read.explanations) == (made.review, made.explanations)


def test_from_table_without_a_models_columns_leaves_it_out() -> None:
    table = to_table(predictions())
    assert list(from_table(table, CLASSES, ["lstm", "linear"]).models) == ["lstm"]


def test_predictions_withheld_tell_nothing_of_undefined_rows() -> None:
    made = predictions()
    table = to_table(made.withheld(), others=True)
    told = [name for name in table if name.startswith(("predicted", "probability", "p_", "signal_"))]
    assert table.loc[1, told].isna().all()
    assert table.loc[[0, 2, 3, 4], told].notna().all(axis=None)
    assert table.loc[1, "prediction_set"] == "inhale"
    assert made.final.predicted[1] is not None  # the object itself is as it was
    everything = replace(made, undefined=np.zeros(5, bool))
    assert everything.withheld() is everything


def test_predictions_by_case_keep_the_order_and_all_that_belongs_to_a_row() -> None:
    made = predictions()
    parts = dict(made.by_case())
    assert list(parts) == ["b", "a"]
    last = parts["a"]
    assert last.facts["signal"].tolist() == [3.0, 4.0]
    assert last.models["rule"].probabilities.tolist() == made.models["rule"].probabilities[3:].tolist()
    assert last.forecasts["hold"].tolist() == [5.0, 6.0]
    assert (last.explanations, last.review) == (("volume −0.20", ""), ("", ""))
    assert last.final.sets is not None
    assert last.final.sets.tolist() == [[True, False], [True, True]]


def test_predictions_with_review_name_the_images_reasons_first() -> None:
    review = predictions().with_review({"b": "HU + 1000"}).review
    assert review == ("HU + 1000", "HU + 1000", "HU + 1000; blurred", "", "")


def test_predictions_with_known_labels_forget_the_others() -> None:
    made = predictions()
    strange = replace(made, facts=made.facts.assign(label=["inhale", "cough", None, "exhale", None]))
    labels = strange.with_known_labels().facts["label"]
    assert [None if pd.isna(label) else label for label in labels] == ["inhale", None, None, "exhale", None]
