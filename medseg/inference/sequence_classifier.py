"""Sequence classifier: from features tables, normalised as in training, to classes, signals and forecasts."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import islice
from typing import Any

import numpy as np
import pandas as pd
from scipy.special import softmax

from medseg.config.load import load
from medseg.config.settings import Settings
from medseg.diagnosis.calibration import Calibration, from_json
from medseg.diagnosis.clinical_rules import VolumeSlope
from medseg.diagnosis.forecasting import KINDS, Forecast, Horizon
from medseg.diagnosis.linear_baseline import LinearBaseline
from medseg.diagnosis.lstm import Prediction, SequenceLSTM
from medseg.diagnosis.sequence_dataset import Item
from medseg.evaluation.predictions import ModelPredictions, Predictions, to_table
from medseg.features.missing_labels import known_fraction
from medseg.features.sequences import FeatureSequence
from medseg.features.tables import Tables
from medseg.inference.attribution import FeatureRef, describe_effects, occlude, occlusion_effects, sequence_groups
from medseg.inference.case_classifier import CaseClassifier, Json
from medseg.inference.case_results import shown_units
from medseg.inference.feature_inputs import MIN_DEFINED, UNDEFINED, FeatureSchema, build_rule, require_diagnosis
from medseg.inference.sequence_results import SequenceContext, sequence_records
from medseg.runs.run import Run
from medseg.typing import AnyArray, FloatArray

CALIBRATION = "calibration.json"
LSTM = "lstm"
N_TOP_FEATURES = 5  # with the largest effects, listed for each sequence
SINGLE_FRAME = "single frame: breathing states are relative to the other frames of a sequence"
FORECAST_WINDOW_S = 60.0  # s of the past read for a forecast: some fifteen breaths; bounds the cost of long sequences
MAX_BATCH = 32  # sequences in one pass of the network


@dataclass(frozen=True)
class SequenceClassifier(CaseClassifier):
    """A trained LSTM, whose prediction is the diagnosis, and a linear baseline.

    rule: the clinical rule, for frames; cohort: mean and standard deviation of each feature over the training cases,
    listed with a case's features; calibrations: of lstm, linear and rule.
    """

    schema: FeatureSchema
    network: SequenceLSTM
    baseline: LinearBaseline | None = None
    forecast: Forecast | None = None
    rule: VolumeSlope | None = None
    cohort: Mapping[str, dict[str, float | None]] = field(default_factory=dict)
    calibrations: Mapping[str, Calibration] = field(default_factory=dict)
    final_model: str = field(default=LSTM, init=False)

    @classmethod
    def from_run(cls, run: Run) -> SequenceClassifier:
        """The classifier of a finished run."""
        config = load(run.file("config.yaml"))
        require_diagnosis(run, config)
        schema = FeatureSchema.read(run.read_json("feature_schema.json"))
        network = SequenceLSTM(schema.task(), **config.classifier.network.model_dump())
        weights = run.load_weights()
        network.load_state_dict({k.removeprefix("lstm."): v for k, v in weights.items() if k.startswith("lstm.")})
        linear = {k.removeprefix("linear."): v.numpy() for k, v in weights.items() if k.startswith("linear.")}
        forecast = {k.removeprefix("forecast."): v for k, v in weights.items() if k.startswith("forecast.")}
        calibrated = run.file(CALIBRATION).is_file()  # older models have none
        return cls(
            schema=schema,
            network=network,
            baseline=LinearBaseline.from_arrays(linear) if linear else None,
            forecast=Forecast.from_arrays(forecast_horizon(config), forecast) if forecast else None,
            rule=build_slope_rule(config, schema),
            cohort=run.read_json("fingerprint.json").get("features") or {},
            calibrations=from_json(run.read_json(CALIBRATION)) if calibrated else {},
        )

    @property
    def models(self) -> tuple[str, ...]:
        """The LSTM, and the baseline and the rule if they exist."""
        others = {"linear": self.baseline, "rule": self.rule}
        return (LSTM, *(name for name, model in others.items() if model is not None))

    def predict(self, tables: Tables) -> Predictions:
        """Classes, prediction sets, signal, its forecast and reasons for a review, of each frame or case."""
        raw = self.schema.raw(tables)
        sequences = self.schema.normalise(raw)
        predictions = [self._predict_models(*pair) for pair in zip(raw, sequences, strict=True)]
        counts = [len(sequence.x) if self.schema.per == "frame" else 1 for sequence in sequences]
        review = np.repeat(np.array([self._review_reason(sequence) for sequence in raw], dtype=object), counts)
        models = {
            name: self._join([prediction[name] for prediction in predictions], name, counts, review)
            for name in self.models
        }
        forecasts: dict[str, FloatArray] = {}
        if self.forecast is not None and models[LSTM].signal is not None:
            by_case = [self._forecast(self.forecast, tables, *pair) for pair in zip(sequences, counts, strict=True)]
            forecasts = {kind: np.concatenate([case[kind] for case in by_case]) for kind in KINDS}
        return Predictions(
            classes=self.classes,
            final_model=LSTM,
            facts=_facts(sequences, counts),
            models=models,
            review=tuple(review),
            undefined=np.asarray(review == UNDEFINED),
            forecasts=forecasts,
        )

    def predict_proba(self, tables: Tables) -> dict[str, FloatArray]:
        """Probabilities (R, K) of each model before calibration, in the order of the rows of `predict`."""
        raw = self.schema.raw(tables)
        predictions = [self._predict_models(*pair) for pair in zip(raw, self.schema.normalise(raw), strict=True)]
        by_model = {name: [prediction[name].probabilities for prediction in predictions] for name in self.models}
        return {name: np.concatenate(probabilities).astype(np.float64) for name, probabilities in by_model.items()}

    def to_records(self, tables: Tables, predictions: Predictions) -> Json:
        """The content of OUT.json: the rows of OUT.csv, and a record of each sequence."""
        raw = self.schema.raw(tables)
        pairs = zip(self.schema.normalise(raw), predictions.by_case(), strict=True)
        explanations = [self.explain(sequence, case.final.uncalibrated) for sequence, (_, case) in pairs]
        horizon = None if self.forecast is None else self.forecast.horizon
        context = SequenceContext(self.cohort, horizon, self.schema.sees_the_future)
        withheld = predictions.withheld()
        sequences = sequence_records(raw, withheld, explanations, context)
        rows = json.loads(to_table(withheld).to_json(orient="records", double_precision=15))
        units = shown_units(tables, [record["features"] for record in sequences])
        return {
            "classes": list(self.classes),
            "final_model": LSTM,
            "units": units,
            "cases": rows,
            "sequences": sequences,
        }

    def explain(self, sequence: FeatureSequence, probabilities: AnyArray | None = None) -> str:
        """Largest occlusion effects of a normalised sequence: mean change in log-odds of the predicted classes when a
        feature with its slope, a profile position, or a frame of a sequence with a single prediction is set to its
        reference mean: ``left_lung.volume_ml +2.10, step 3 of 16 +0.40``.

        probabilities (R, K): the network's for this sequence; computed if None.
        """
        item = Item(sequence.x, sequence.steps)

        def without(refs: Sequence[FeatureRef]) -> FloatArray:
            return self.network.predict(occlude(item, refs)).probabilities.astype(np.float64)

        reference = without([]) if probabilities is None else probabilities.astype(np.float64)
        effects = occlusion_effects(reference, sequence_groups(sequence, self.schema.per == "sequence"), without)
        return describe_effects({name: float(rows.mean()) for name, rows in effects.items()}, N_TOP_FEATURES)

    def _predict_models(self, raw: FeatureSequence, sequence: FeatureSequence) -> dict[str, Prediction]:
        """Each model's prediction of a sequence before calibration; the rule reads the raw features."""
        item = Item(sequence.x, sequence.steps)
        predictions = {LSTM: self.network.predict(item)}
        if self.baseline is not None:
            predictions["linear"] = self.baseline.predict(item)
        if self.rule is not None:
            predictions["rule"] = slope_prediction(self.rule, raw)
        return predictions

    def _join(self, predictions: list[Prediction], model: str, counts: list[int], review: AnyArray) -> ModelPredictions:
        """One model's calibrated predictions of all sequences; rows with a review reason get all classes as set."""
        probabilities = np.concatenate([prediction.probabilities for prediction in predictions])  # (R, K)
        signals = [
            item.signal[:count] for item, count in zip(predictions, counts, strict=True) if item.signal is not None
        ]
        return self.calibrate(model, probabilities, review != "", np.concatenate(signals) if signals else None)

    def _review_reason(self, raw: FeatureSequence) -> str:
        """Why a raw sequence cannot be classified; "" if it can."""
        if known_fraction(raw.measured, raw.measured, raw.names, self.schema.telling).mean() < MIN_DEFINED:
            return UNDEFINED
        return SINGLE_FRAME if self.schema.per == "frame" and self.schema.moments is None and len(raw.x) < 2 else ""

    def _forecast(
        self, forecast: Forecast, tables: Tables, sequence: FeatureSequence, rows: int
    ) -> dict[str, FloatArray]:
        """Forecasts at the first `rows` frames of a case, each from the signal predicted from frames until then."""
        ends = np.flatnonzero(forecast.horizon.reaches(sequence.times[:rows]))
        forecasts = {kind: np.full(rows, np.nan) for kind in KINDS}
        if len(ends):
            case_tables = _of_case(tables, sequence.case)
            prefixes = self.schema.until(case_tables, ends.tolist(), FORECAST_WINDOW_S + forecast.horizon.past)
            for kind, values in forecast(self._signals(prefixes)).items():
                forecasts[kind][ends] = values
        return forecasts

    def _signals(self, sequences: Iterable[FeatureSequence]) -> Iterator[tuple[FloatArray, FloatArray]]:
        """Yield the predicted signal of each sequence and its times (T,)."""
        remaining = iter(sequences)
        while batch := list(islice(remaining, MAX_BATCH)):
            predictions = self.network.predict_all([Item(sequence.x, sequence.steps) for sequence in batch])
            for sequence, prediction in zip(batch, predictions, strict=True):
                assert prediction.signal is not None
                yield prediction.signal.astype(np.float64), sequence.times


def _facts(sequences: list[FeatureSequence], counts: list[int]) -> pd.DataFrame:
    """Facts of the first `counts` frames of each sequence, one row per frame."""
    pairs = list(zip(sequences, counts, strict=True))
    facts: dict[str, Any] = {
        "case": np.repeat([sequence.case for sequence in sequences], counts),
        "patient": np.repeat([sequence.patient for sequence in sequences], counts),
        "frame": np.concatenate([sequence.frames[:count] for sequence, count in pairs]).astype(int),
        "time": np.concatenate([sequence.times[:count] for sequence, count in pairs]),
        "label": [label for sequence, count in pairs for label in sequence.labels[:count]],
        "signal": np.concatenate([sequence.signal[:count] for sequence, count in pairs]),
    }
    return pd.DataFrame(facts)


def slope_prediction(rule: VolumeSlope, raw: FeatureSequence) -> Prediction:
    """The rule's prediction of a raw sequence."""
    times = raw.times if np.isfinite(raw.times).all() else raw.frames
    features = pd.DataFrame(raw.x, columns=list(raw.names))
    probabilities = softmax(np.nan_to_num(rule.margins_over_time(features, times)), axis=1)
    return Prediction(probabilities.astype(np.float32), None)


def build_slope_rule(config: Settings, schema: FeatureSchema) -> VolumeSlope | None:
    """The organ's clinical rule, if it applies to frames and its features exist."""
    rule: VolumeSlope | None = build_rule(config, schema.names, (VolumeSlope,))
    return rule if schema.per == "frame" else None


def _of_case(tables: Tables, case: str) -> Tables:
    frames = tables.frames[tables.frames["case"].astype(str) == case]
    return Tables(frames, None if tables.steps is None else tables.steps[tables.steps["case"].astype(str) == case])


def forecast_horizon(config: Settings) -> Horizon:
    """The forecast horizon of the settings."""
    settings = config.classifier.forecast
    return Horizon(settings.horizon_s, settings.n_lags, settings.lag_step_s)
