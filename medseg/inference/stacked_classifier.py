"""Stacked classifier of cases or frames: selected features, members, stack, calibration, explanations."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from scipy.special import softmax

from medseg.config.load import load
from medseg.diagnosis import calibration
from medseg.diagnosis.calibration import Calibration
from medseg.diagnosis.clinical_rules import RetinopathyGrade, ScoreThreshold
from medseg.diagnosis.stacking import Stacking
from medseg.evaluation.predictions import Predictions
from medseg.features.tables import Tables
from medseg.inference.attribution import FeatureRef, deep_groups, describe_effects, occlusion_effects, step_refs
from medseg.inference.case_classifier import CaseClassifier, Json
from medseg.inference.case_results import case_records, shown_units
from medseg.inference.feature_inputs import (
    MIN_DEFINED,
    UNDEFINED,
    FeatureSchema,
    build_rule,
    require_diagnosis,
    training_moments,
)
from medseg.inference.feature_rows import Rows, rows_of
from medseg.inference.stack_members import DEEP, StackMembers
from medseg.runs.run import Run
from medseg.typing import BoolArray, FloatArray
from medseg.utils.files import write_json

MEMBERS = ("logistic", "ensemble", "lstm")
STACK, RULE = "stack", "rule"
RULES = (ScoreThreshold, RetinopathyGrade)  # that apply to single cases
N_TOP_FEATURES = 3  # with the largest effects, listed for each case
MAX_BATCH = 256  # sequences in one pass of the LSTM


@dataclass(frozen=True)
class StackedClassifier(CaseClassifier):
    """Members, the stack on top of them, and their calibrations.

    final_model: logistic, ensemble, lstm, deep, stack or rule. The clinical rule is not trained; its scores are
    calibrated like the others, and all classes get the same probability if it is undefined.
    """

    schema: FeatureSchema
    members: StackMembers
    stack: Stacking
    calibrations: Mapping[str, Calibration]
    final_model: str
    rule: ScoreThreshold | RetinopathyGrade | None = None

    @classmethod
    def from_run(cls, run: Run) -> StackedClassifier:
        """The classifier that `save` wrote; `ModelError` if a file is missing or broken."""
        config = load(run.file("config.yaml"))
        require_diagnosis(run, config)
        schema = FeatureSchema.read(run.read_json("feature_schema.json"))
        state = run.read_json("stacking.json")
        members = StackMembers.load(run, config, schema, state)
        calibrations = calibration.from_json(state["calibration"])
        rule = build_rule(config, schema.names, RULES)
        return cls(schema, members, Stacking.from_state(state["stack"]), calibrations, state["final_model"], rule)

    @property
    def models(self) -> tuple[str, ...]:
        """The members, the stack, and the rule if there is one."""
        return (*self.members.names, STACK, *([RULE] if self.rule is not None else []))

    def selected_features(self, columns: Sequence[FeatureRef]) -> list[FeatureRef]:
        """The columns of a table that the members read."""
        return [columns[index] for index in self.members.selected]

    def rows(self, tables: Tables) -> Rows:
        """The rows of a table for this model; `DataError` names missing features."""
        return rows_of(tables, self.schema)

    def predict_proba(self, tables: Tables) -> dict[str, FloatArray]:
        """Uncalibrated probabilities (R, K) of the members, the stack, and the rule if there is one."""
        return self._predict_rows(self.rows(tables))

    def predict(self, tables: Tables) -> Predictions:
        """Predictions of each case or frame, with explanations."""
        rows = self.rows(tables)
        probabilities, undefined = self._predict_rows(rows), self._undefined(rows)
        reasons = self.rule.review_reasons(rows.features) if self.rule is not None else [""] * len(undefined)
        return Predictions(
            classes=self.classes,
            final_model=self.final_model,
            facts=rows.facts.assign(signal=np.nan),
            models={name: self.calibrate(name, values, undefined) for name, values in probabilities.items()},
            review=tuple(UNDEFINED if gap else text for gap, text in zip(undefined, reasons, strict=True)),
            undefined=undefined,
            explanations=tuple(self._explain(rows, probabilities)),
        )

    def to_records(self, tables: Tables, predictions: Predictions) -> Json:
        """The content of OUT.json. units: unit and definition of each listed feature."""
        rows = self.rows(tables)
        selected = [ref.name for ref in self.selected_features(rows.columns)]
        records = case_records(predictions.withheld(), rows, selected, training_moments(self.schema), self.rule)
        return {
            "classes": list(self.classes),
            "final_model": self.final_model,
            "units": shown_units(tables, [record["features"] for record in records]),
            "cases": records,
        }

    def _predict_rows(self, rows: Rows) -> dict[str, FloatArray]:
        probabilities = self.members.predict(rows)
        probabilities[STACK] = self.stack.predict(probabilities)
        return probabilities if self.rule is None else {**probabilities, RULE: rule_probabilities(self.rule, rows)}

    def _undefined(self, rows: Rows) -> BoolArray:
        """Rows (R,) with too few defined features for a diagnosis."""
        if self.final_model == DEEP:
            return np.asarray(~np.isfinite(rows.deep).any(axis=1))
        undefined = rows.known < MIN_DEFINED
        if self.final_model == RULE and self.rule is not None:
            undefined = undefined | ~np.isfinite(self.rule.margins(rows.features)).all(axis=1)
        return undefined

    def _explain(self, rows: Rows, probabilities: Mapping[str, FloatArray]) -> list[str]:
        """Largest occlusion effects of each row: the change in log-odds of the predicted class when a feature, a
        profile position, or the deep features of a region are set to the training mean: ``lesion.area_px +0.80, step 3
        of 8 +0.40``.
        """
        refs = self.selected_features(rows.columns)
        refs += step_refs(rows.items[0]) if self.schema.per == "sequence" else []

        def without(changed: Sequence[FeatureRef]) -> FloatArray:
            return self._predict_without(rows, probabilities, changed)

        groups = {ref.name: [ref] for ref in refs} | deep_groups(rows.deep_names)
        effects = occlusion_effects(probabilities[self.final_model], groups, without)
        indices = range(len(rows.facts))
        return [describe_effects({name: e[row] for name, e in effects.items()}, N_TOP_FEATURES) for row in indices]

    def _predict_without(
        self, rows: Rows, probabilities: Mapping[str, FloatArray], refs: Sequence[FeatureRef]
    ) -> FloatArray:
        """Probabilities (R, K) of the final model with some features set to the mean of the training cases."""
        network = self.final_model in ("lstm", STACK)
        changed = {**probabilities, **self.members.predict_without(rows, refs, network)}
        changed[STACK] = self.stack.predict(changed)
        return changed[self.final_model]

    def save(self, run: Run) -> None:
        """Write stacking.json, ensemble.skops and model.safetensors; nothing is pickled."""
        state = {
            "final_model": self.final_model,
            **self.members.save(run),
            "stack": self.stack.state(),
            "calibration": {name: c._asdict() for name, c in self.calibrations.items()},
        }
        write_json(run.file("stacking.json"), state)


def rule_probabilities(rule: ScoreThreshold | RetinopathyGrade, rows: Rows) -> FloatArray:
    """The rule's probabilities (R, K), before calibration."""
    return np.asarray(softmax(np.nan_to_num(rule.margins(rows.features)), axis=1))
