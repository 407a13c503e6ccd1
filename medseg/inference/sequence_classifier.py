"""A diagnoser with everything around it: features by name, normalised as in training, to classes and signals."""

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
from medseg.inference.feature_inputs import MAX_UNDEFINED, UNDEFINED, FeatureSchema, build_rule, require_diagnosis
from medseg.inference.sequence_results import SequenceContext, sequence_records
from medseg.runs.run import Run
from medseg.typing import AnyArray, FloatArray

CALIBRATION = "calibration.json"
LSTM = "lstm"
N_TOP_FEATURES = 5  # said of each sequence, the weightiest
SINGLE_FRAME = "one frame alone: a state is told by comparison with the others"
FORECAST_WINDOW_S = (
    60.0  # s of a sequence that are read for a forecast: some fifteen breaths, and the cost is no square
)
MAX_BATCH = 32  # readings that go through the network at once


@dataclass(frozen=True)
class SequenceClassifier(CaseClassifier):
    """A trained LSTM, whose answer is the diagnosis, and the linear baseline beside it.

    rule: the clinic's, of sequences judged frame by frame; cohort: mean and standard deviation of each measure over the
    training cases, which a case's are shown beside; calibrations: of lstm, linear and rule.
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
        """The diagnoser that a finished run holds."""
        config = load(run.file("config.yaml"))
        require_diagnosis(run, config)
        schema = FeatureSchema.read(run.read_json("feature_schema.json"))
        network = SequenceLSTM(schema.task(), **config.classifier.network.model_dump())
        weights = run.load_weights()
        network.load_state_dict({k.removeprefix("lstm."): v for k, v in weights.items() if k.startswith("lstm.")})
        linear = {k.removeprefix("linear."): v.numpy() for k, v in weights.items() if k.startswith("linear.")}
        ahead = {k.removeprefix("forecast."): v for k, v in weights.items() if k.startswith("forecast.")}
        calibrated = run.file(CALIBRATION).is_file()  # models of before had none
        return cls(
            schema=schema,
            network=network,
            baseline=LinearBaseline.from_arrays(linear) if linear else None,
            forecast=Forecast.from_arrays(forecast_horizon(config), ahead) if ahead else None,
            rule=build_slope_rule(config, schema),
            cohort=run.read_json("fingerprint.json").get("measures") or {},
            calibrations=from_json(run.read_json(CALIBRATION)) if calibrated else {},
        )

    @property
    def models(self) -> tuple[str, ...]:
        """The LSTM, and the baseline and the rule where there are such."""
        others = {"linear": self.baseline, "rule": self.rule}
        return (LSTM, *(name for name, model in others.items() if model is not None))

    def predict(self, tables: Tables) -> Predictions:
        """Of each frame, or case: classes, sets, the signal and its forecast, and why a person should look at it."""
        raw = self.schema.raw(tables)
        sequences = self.schema.normalise(raw)
        answers = [self._predict_models(*both) for both in zip(raw, sequences, strict=True)]
        counts = [len(one.x) if self.schema.per == "frame" else 1 for one in sequences]
        review = np.repeat(np.array([self._doubt(one) for one in raw], dtype=object), counts)
        models = {name: self._join([answer[name] for answer in answers], name, counts, review) for name in self.models}
        forecasts: dict[str, FloatArray] = {}
        if self.forecast is not None and models[LSTM].signal is not None:
            ahead = [self._predict_ahead(self.forecast, tables, *both) for both in zip(sequences, counts, strict=True)]
            forecasts = {kind: np.concatenate([one[kind] for one in ahead]) for kind in KINDS}
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
        answers = [self._predict_models(*both) for both in zip(raw, self.schema.normalise(raw), strict=True)]
        each = {name: [answer[name].probabilities for answer in answers] for name in self.models}
        return {name: np.concatenate(parts).astype(np.float64) for name, parts in each.items()}

    def to_records(self, tables: Tables, predictions: Predictions) -> Json:
        """The content of OUT.json: a row of OUT.csv each, and a record of each sequence."""
        raw = self.schema.raw(tables)
        both = zip(self.schema.normalise(raw), predictions.by_case(), strict=True)
        explanations = [self.explain(one, part.final.uncalibrated) for one, (_, part) in both]
        horizon = None if self.forecast is None else self.forecast.horizon
        context = SequenceContext(self.cohort, horizon, self.schema.sees_the_future)
        shown = predictions.withheld()
        sequences = sequence_records(raw, shown, explanations, context)
        rows = json.loads(to_table(shown).to_json(orient="records", double_precision=15))
        units = shown_units(tables, [record["measures"] for record in sequences])
        return {"classes": list(self.classes), "use": LSTM, "units": units, "cases": rows, "sequences": sequences}

    def explain(self, sequence: FeatureSequence, probabilities: AnyArray | None = None) -> str:
        """What moved the answers of a normalised sequence most: mean log-odds of the predicted classes that are lost
        when a feature with its slope, a step of each frame, or a frame of a sequence with one answer is set to the mean
        it is compared with: ``left_lung.volume_ml +2.10, step 3 of 16 +0.40``.

        probabilities (R, K): what the network says of it, where that is known.
        """
        item = Item(sequence.x, sequence.steps)

        def without(refs: Sequence[FeatureRef]) -> FloatArray:
            return self.network.predict(occlude(item, refs)).probabilities.astype(np.float64)

        known = without([]) if probabilities is None else probabilities.astype(np.float64)
        effects = occlusion_effects(known, sequence_groups(sequence, self.schema.per == "sequence"), without)
        return describe_effects({name: float(rows.mean()) for name, rows in effects.items()}, N_TOP_FEATURES)

    def _predict_models(self, raw: FeatureSequence, sequence: FeatureSequence) -> dict[str, Prediction]:
        """What each model says of a sequence, before calibration; the rule reads it as it was measured."""
        item = Item(sequence.x, sequence.steps)
        answers = {LSTM: self.network.predict(item)}
        if self.baseline is not None:
            answers["linear"] = self.baseline.predict(item)
        if self.rule is not None:
            answers["rule"] = slope_prediction(self.rule, raw)
        return answers

    def _join(self, answers: list[Prediction], model: str, counts: list[int], review: AnyArray) -> ModelPredictions:
        """One model's answers of all sequences, calibrated; a doubt allows every class."""
        probabilities = np.concatenate([answer.probabilities for answer in answers])  # (R, K)
        signals = [one.signal[:count] for one, count in zip(answers, counts, strict=True) if one.signal is not None]
        return self.calibrate(model, probabilities, review != "", np.concatenate(signals) if signals else None)

    def _doubt(self, raw: FeatureSequence) -> str:
        """Why a sequence, as it was measured, cannot be judged; blank where it can."""
        if known_fraction(raw.measured, raw.measured, raw.names, self.schema.telling).mean() < MAX_UNDEFINED:
            return UNDEFINED
        return SINGLE_FRAME if self.schema.per == "frame" and self.schema.moments is None and len(raw.x) < 2 else ""

    def _predict_ahead(
        self, forecast: Forecast, tables: Tables, sequence: FeatureSequence, rows: int
    ) -> dict[str, FloatArray]:
        """What each forecaster says at the first `rows` frames of a case, of the signal as it could be read then."""
        ends = np.flatnonzero(forecast.horizon.reaches(sequence.times[:rows]))
        said = {kind: np.full(rows, np.nan) for kind in KINDS}
        if len(ends):
            own = _of_case(tables, sequence.case)
            read = self.schema.until(own, ends.tolist(), FORECAST_WINDOW_S + forecast.horizon.past)
            for kind, values in forecast(self._signals(read)).items():
                said[kind][ends] = values
        return said

    def _signals(self, sequences: Iterable[FeatureSequence]) -> Iterator[tuple[FloatArray, FloatArray]]:
        """The signal of each sequence and its times (T,)."""
        left = iter(sequences)
        while some := list(islice(left, MAX_BATCH)):
            said = self.network.predict_all([Item(one.x, one.steps) for one in some])
            for one, prediction in zip(some, said, strict=True):
                assert prediction.signal is not None
                yield prediction.signal.astype(np.float64), one.times


def _facts(sequences: list[FeatureSequence], counts: list[int]) -> pd.DataFrame:
    """What is known of the first `counts` frames of each sequence."""
    both = list(zip(sequences, counts, strict=True))
    facts: dict[str, Any] = {
        "case": np.repeat([one.case for one in sequences], counts),
        "patient": np.repeat([one.patient for one in sequences], counts),
        "frame": np.concatenate([one.frames[:count] for one, count in both]).astype(int),
        "time": np.concatenate([one.times[:count] for one, count in both]),
        "label": [label for one, count in both for label in one.labels[:count]],
        "signal": np.concatenate([one.signal[:count] for one, count in both]),
    }
    return pd.DataFrame(facts)


def slope_prediction(rule: VolumeSlope, raw: FeatureSequence) -> Prediction:
    """What the rule says of a sequence as it was measured."""
    times = raw.times if np.isfinite(raw.times).all() else raw.frames
    measures = pd.DataFrame(raw.x, columns=list(raw.names))
    chances = softmax(np.nan_to_num(rule.margins_over_time(measures, times)), axis=1)
    return Prediction(chances.astype(np.float32), None)


def build_slope_rule(config: Settings, schema: FeatureSchema) -> VolumeSlope | None:
    """The organ's rule, where it judges frames and reads what is measured."""
    rule: VolumeSlope | None = build_rule(config, schema.names, (VolumeSlope,))
    return rule if schema.per == "frame" else None


def _of_case(tables: Tables, case: str) -> Tables:
    frames = tables.frames[tables.frames["case"].astype(str) == case]
    return Tables(frames, None if tables.steps is None else tables.steps[tables.steps["case"].astype(str) == case])


def forecast_horizon(config: Settings) -> Horizon:
    """How far ahead a signal is foretold, and from what."""
    settings = config.classifier.forecast
    return Horizon(settings.horizon_s, settings.n_lags, settings.lag_step_s)
