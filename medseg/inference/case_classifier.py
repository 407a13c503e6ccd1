"""The base class of classifiers: features tables in, predictions out."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from typing import Any

import numpy as np

from medseg.diagnosis.calibration import Calibration
from medseg.evaluation.predictions import ModelPredictions, Predictions
from medseg.features.tables import Tables
from medseg.inference.feature_inputs import FeatureSchema
from medseg.typing import AnyArray, BoolArray, FloatArray

Json = dict[str, Any]


class CaseClassifier(ABC):
    """One or several models that predict the class of a case or frame from its features.

    schema: the features read from a table; calibrations: by model; a model without one has no prediction sets;
    final_model: the model whose prediction is the diagnosis.
    """

    schema: FeatureSchema
    calibrations: Mapping[str, Calibration]
    final_model: str

    @property
    def classes(self) -> tuple[str, ...]:
        """Names of the classes, in the order of probabilities."""
        return self.schema.classes

    @property
    @abstractmethod
    def models(self) -> tuple[str, ...]:
        """Names of the models."""

    @abstractmethod
    def predict(self, tables: Tables) -> Predictions:
        """Predictions of every model for each case or frame; `DataError` names missing features."""

    @abstractmethod
    def predict_proba(self, tables: Tables) -> dict[str, FloatArray]:
        """Probabilities (R, K) by model before calibration, in the order of the rows of `predict`."""

    @abstractmethod
    def to_records(self, tables: Tables, predictions: Predictions) -> Json:
        """All results of `predict` on `tables` as a JSON object without NaN."""

    def calibrate(
        self, model: str, probabilities: AnyArray, silent: BoolArray, signal: AnyArray | None = None
    ) -> ModelPredictions:
        """Calibrated predictions from a model's probabilities (R, K). The prediction sets of `silent` rows (R,), which
        have too few defined features, contain every class.
        """
        calibration = self.calibrations.get(model)
        calibrated, sets = probabilities, None
        if calibration is not None:
            calibrated = calibration.probabilities(probabilities.astype(np.float64))
            sets = calibration.sets(calibrated, silent)
        predicted = np.array(self.classes, dtype=object)[calibrated.argmax(axis=1)]
        return ModelPredictions(predicted, calibrated, probabilities, sets, signal)
