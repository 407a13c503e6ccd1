"""A diagnoser with everything around it: features by name, normalised as in training, to classes and signals."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from itertools import islice
from typing import Any

import numpy as np
import pandas as pd
from scipy.special import softmax

from medseg.config.load import load
from medseg.config.settings import Settings
from medseg.diagnosis.calibration import Calibration, from_json, prediction_set_columns
from medseg.diagnosis.clinical_rules import VolumeSlope
from medseg.diagnosis.forecasting import KINDS, Forecast, Horizon
from medseg.diagnosis.forecasting import from_arrays as forecast_from
from medseg.diagnosis.linear_baseline import LinearBaseline, from_arrays
from medseg.diagnosis.lstm import Prediction, SequenceLSTM
from medseg.diagnosis.sequence_dataset import Item
from medseg.features.missing_labels import known_fraction
from medseg.features.respiration import motion
from medseg.features.sequences import FeatureSequence
from medseg.features.tables import Tables
from medseg.inference.feature_inputs import MAX_UNDEFINED, UNDEFINED, FeatureSchema, build_rule, require_diagnosis
from medseg.runs.run import Run
from medseg.typing import FloatArray

CALIBRATION = "calibration.json"
SINGLE_FRAME = "one frame alone: a state is told by comparison with the others"
FORECAST_WINDOW_S = (
    60.0  # s of a sequence that are read for a forecast: some fifteen breaths, and the cost is no square
)
MAX_BATCH = 32  # readings that go through the network at once


class SequenceClassifier:
    """A trained LSTM and the linear baseline beside it, with how their inputs are made.

    cohort: mean and standard deviation of each measure over the training cases, which a case's are shown beside.
    calibrations: by model, of lstm, linear and rule; of none where its probabilities stay as they are, without sets.
    """

    def __init__(
        self,
        inputs: FeatureSchema,
        network: SequenceLSTM,
        baseline: LinearBaseline | None,
        forecast: Forecast | None = None,
        rule: VolumeSlope | None = None,
        cohort: Mapping[str, dict[str, float | None]] | None = None,
    ) -> None:
        self.inputs, self.network, self.baseline, self.forecast = inputs, network, baseline, forecast
        self.rule, self.cohort = rule if inputs.per == "frame" else None, cohort or {}
        self.calibrations: dict[str, Calibration] = {}

    @classmethod
    def from_run(cls, run: Run) -> SequenceClassifier:
        """The diagnoser that a finished run holds."""
        config = load(run.file("config.yaml"))
        require_diagnosis(run, config)
        inputs = FeatureSchema.read(run.read_json("feature_schema.json"))
        network = SequenceLSTM(inputs.task(), **config.classifier.network.model_dump())
        weights = run.load_weights()
        network.load_state_dict({k.removeprefix("lstm."): v for k, v in weights.items() if k.startswith("lstm.")})
        linear = {k.removeprefix("linear."): v.numpy() for k, v in weights.items() if k.startswith("linear.")}
        ahead = {k.removeprefix("forecast."): v for k, v in weights.items() if k.startswith("forecast.")}
        foretold = forecast_from(forecast_horizon(config), ahead) if ahead else None
        baseline = from_arrays(linear) if linear else None
        cohort = run.read_json("fingerprint.json").get("measures")
        made = cls(inputs, network, baseline, foretold, build_rule(config, inputs.names, (VolumeSlope,)), cohort)
        if run.file(CALIBRATION).is_file():  # models of before had none
            made.calibrations = from_json(run.read_json(CALIBRATION))
        return made

    def __call__(self, tables: Tables, baseline: bool = False) -> pd.DataFrame:
        """A row a frame, or a case: predicted class, probabilities, signal, the set of classes that they allow, and
        review: why a person should look at it; `baseline` adds the linear model's, and the rule's where there is one.
        """
        parts = []
        for before, sequence in zip(self.inputs.raw(tables), self.inputs.prepare(tables), strict=True):
            facts = self._facts(sequence, tables, self._predictions(before, sequence, baseline), baseline)
            parts.append(pd.DataFrame(facts | self._doubts(facts, self._doubt(before))))
        return pd.concat(parts, ignore_index=True)

    def said(self, tables: Tables) -> dict[str, FloatArray]:
        """Probabilities (R, K) of each model before calibration, in the order of rows of a call."""
        both = zip(self.inputs.raw(tables), self.inputs.prepare(tables), strict=True)
        each = [self._predictions(before, sequence, baseline=True) for before, sequence in both]
        return {name: np.concatenate([one[name].probabilities for one in each]).astype(np.float64) for name in each[0]}

    def _predictions(self, before: FeatureSequence, sequence: FeatureSequence, baseline: bool) -> dict[str, Prediction]:
        """What each model says of a sequence, before calibration; the rule reads it as it was measured."""
        item = Item(sequence.x, sequence.steps)
        found = {"lstm": self.network.predict(item)}
        if baseline and self.baseline is not None:
            found["linear"] = self.baseline.predict(item)
        if baseline and self.rule is not None:
            found["rule"] = _ruled(self.rule, before)
        return found

    def _doubts(self, facts: dict[str, Any], doubt: str) -> dict[str, Any]:
        """Columns set and abstain, where there is a calibration, and review; a doubt allows every class."""
        if "lstm" not in self.calibrations:
            return {"review": doubt}
        chances = np.stack([facts[f"p_{name}"] for name in self.inputs.classes], axis=1)
        sets = self.calibrations["lstm"].sets(chances, np.full(len(chances), bool(doubt)))
        return {**prediction_set_columns(sets, self.inputs.classes), "review": doubt}

    def _doubt(self, raw: FeatureSequence) -> str:
        """Why a sequence, as it was measured, cannot be judged; blank where it can."""
        if known_fraction(raw.measured, raw.measured, raw.names, self.inputs.telling).mean() < MAX_UNDEFINED:
            return UNDEFINED
        return SINGLE_FRAME if self.inputs.per == "frame" and self.inputs.moments is None and len(raw.x) < 2 else ""

    @property
    def sees_the_future(self) -> bool:
        """Whether measures of a frame hang on later ones, so that nothing said of it could have been said then."""
        return any(name.startswith(motion.PREFIX) for name in self.inputs.names)

    def _foretold(
        self, forecast: Forecast, tables: Tables, sequence: FeatureSequence, rows: int
    ) -> dict[str, FloatArray]:
        """What each forecaster says at the first `rows` frames of a case, of the signal as it could be read then."""
        ends = np.flatnonzero(forecast.horizon.reaches(sequence.times[:rows]))
        said = {kind: np.full(rows, np.nan) for kind in KINDS}
        if len(ends):
            own = _of_case(tables, sequence.case)
            read = self.inputs.until(own, ends.tolist(), FORECAST_WINDOW_S + forecast.horizon.past)
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

    def _facts(
        self, sequence: FeatureSequence, tables: Tables, predictions: dict[str, Prediction], baseline: bool
    ) -> dict[str, Any]:
        rows = len(sequence.x) if self.inputs.per == "frame" else 1
        facts: dict[str, Any] = {"case": sequence.case, "patient": sequence.patient}
        facts |= {"frame": sequence.frames[:rows].astype(int), "time": sequence.times[:rows]}
        facts |= {"label": list(sequence.labels[:rows]), "signal": sequence.signal[:rows]}
        for model, prediction in predictions.items():
            facts |= self._columns(prediction, model, rows)
        if self.forecast is not None and "signal_predicted" in facts:
            said = self._foretold(self.forecast, tables, sequence, rows)
            kinds = ("lstm", "linear", *(["hold"] if baseline else []))
            facts |= {f"signal_ahead_{kind}" if kind != "lstm" else "signal_ahead": said[kind] for kind in kinds}
        return facts

    def _columns(self, prediction: Prediction, model: str, rows: int) -> dict[str, Any]:
        own, end = prediction.probabilities, "" if model == "lstm" else f"_{model}"
        known = self.calibrations.get(model)
        chances = own if known is None else known.probabilities(own.astype(np.float64))
        best = chances.argmax(axis=1)
        columns: dict[str, Any] = {f"predicted{end}": [self.inputs.classes[k] for k in best]}
        columns[f"probability{end}"] = chances.max(axis=1)
        for k, name in enumerate(self.inputs.classes):
            columns[f"p_{name}{end}"] = chances[:, k]
        if prediction.signal is not None:
            columns["signal_predicted" if not end else f"signal{end}"] = prediction.signal[:rows]
        return columns


def _ruled(rule: VolumeSlope, raw: FeatureSequence) -> Prediction:
    times = raw.times if np.isfinite(raw.times).all() else raw.frames
    measures = pd.DataFrame(raw.x, columns=list(raw.names))
    chances = softmax(np.nan_to_num(rule.margins_over_time(measures, times)), axis=1)
    return Prediction(chances.astype(np.float32), None)


def _of_case(tables: Tables, case: str) -> Tables:
    frames = tables.frames[tables.frames["case"].astype(str) == case]
    return Tables(frames, None if tables.steps is None else tables.steps[tables.steps["case"].astype(str) == case])


def forecast_horizon(config: Settings) -> Horizon:
    """How far ahead a signal is foretold, and from what."""
    settings = config.classifier.forecast
    return Horizon(settings.horizon_s, settings.n_lags, settings.lag_step_s)
