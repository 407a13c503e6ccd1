"""What every classifier of cases is: features tables in, predictions out."""

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
    """One or several models that tell the class of a case or frame from its features.

    schema: what is read of a table; calibrations: by model, of none where its probabilities stay as they are, without
    sets; final_model: the one whose answer is the diagnosis.
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
        """What every model predicts of each case or frame; `DataError` names features that are missing."""

    @abstractmethod
    def predict_proba(self, tables: Tables) -> dict[str, FloatArray]:
        """Probabilities (R, K) by model before calibration, in the order of the rows of `predict`."""

    @abstractmethod
    def to_records(self, tables: Tables, predictions: Predictions) -> Json:
        """All that is told of some cases, as one object without NaN: what `predict` gave of `tables`."""

    def calibrate(
        self, model: str, probabilities: AnyArray, silent: BoolArray, signal: AnyArray | None = None
    ) -> ModelPredictions:
        """What a model predicts, from its own probabilities (R, K). No class is ruled out in the rows (R,) that are
        `silent`, of which nothing can be told.
        """
        calibration = self.calibrations.get(model)
        calibrated, sets = probabilities, None
        if calibration is not None:
            calibrated = calibration.probabilities(probabilities.astype(np.float64))
            sets = calibration.sets(calibrated, silent)
        predicted = np.array(self.classes, dtype=object)[calibrated.argmax(axis=1)]
        return ModelPredictions(predicted, calibrated, probabilities, sets, signal)
