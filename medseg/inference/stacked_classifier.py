"""Several diagnosers of one case or frame as one model: selected measures, members, stack, calibration, reasons."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd
import torch
from scipy.special import softmax

from medseg.config.settings import Settings
from medseg.diagnosis import calibration
from medseg.diagnosis import stacking as stack
from medseg.diagnosis import voting_ensemble as ensemble
from medseg.diagnosis.calibration import Calibration, logits
from medseg.diagnosis.clinical_rules import RetinopathyGrade, ScoreThreshold
from medseg.diagnosis.lstm import SequenceLSTM
from medseg.diagnosis.sequence_dataset import Item, collate
from medseg.diagnosis.stacking import Stacking
from medseg.diagnosis.voting_ensemble import VotingEnsemble
from medseg.errors import ModelError
from medseg.features.missing_labels import known_fraction
from medseg.features.sequences import FeatureSequence
from medseg.features.tables import Tables
from medseg.inference.feature_inputs import MAX_UNDEFINED, UNDEFINED, FeatureSchema, build_rule
from medseg.runs.run import Run
from medseg.typing import BoolArray, FloatArray
from medseg.utils.files import atomic_write_bytes, write_json

MEMBERS = ("logistic", "ensemble", "lstm")
STACK, RULE = "stack", "rule"
RULES = (ScoreThreshold, RetinopathyGrade)  # which judge cases one by one
N_TOP_FEATURES = 3  # said of each case, the weightiest
MAX_BATCH = 256  # sequences the LSTM sees at once


@dataclass(frozen=True)
class Rows:
    """R cases or frames to be judged. x: (R, F) standardised measures, 0 where missing; known: (R,) share that is not
    missing; items: the sequences they belong to, for the LSTM, whose answers stand in the same order.
    """

    x: FloatArray
    names: tuple[str, ...]
    known: FloatArray
    items: list[Item]
    facts: pd.DataFrame  # case, patient, frame, time, label
    measures: pd.DataFrame  # as they were measured, NaN where one is undefined

    def part(self, rows: npt.NDArray[np.intp], sequences: Sequence[int]) -> Rows:
        """Some of the rows, and the sequences they make up."""
        kept = self.facts.iloc[rows].reset_index(drop=True)
        measured = self.measures.iloc[rows].reset_index(drop=True)
        return Rows(self.x[rows], self.names, self.known[rows], [self.items[s] for s in sequences], kept, measured)


def rows_of(sequences: Sequence[FeatureSequence], raw: Sequence[FeatureSequence], inputs: FeatureSchema) -> Rows:
    """Rows from normalised sequences; `raw` are the same ones before, whose gaps are counted.

    A row holds the measures of its frame (per "frame"), or their mean over the sequence, and the mean and standard
    deviation of each measure over the steps.
    """
    parts, known, items, facts, measured = [], [], [], [], []
    per = inputs.per
    for item, before in zip(sequences, raw, strict=True):
        x = item.x if per == "frame" else item.x.mean(axis=0, keepdims=True)  # (R, F)
        # a slice without the label has no brightness, and is measured all the same
        filled = before.x if per == "frame" else before.measured
        gaps = known_fraction(before.measured, filled, before.names, inputs.telling)
        if item.steps is not None:
            steps = item.steps if per == "frame" else item.steps.mean(axis=0, keepdims=True)  # (R, S, G)
            x = np.concatenate([x, steps.mean(axis=1), steps.std(axis=1)], axis=1)
        parts.append(x)
        measured.append(before.measured if per == "frame" else _mean_known(before.measured))
        known.append(gaps if per == "frame" else gaps.mean(keepdims=True))
        items.append(Item(item.x, item.steps))
        count = len(x)
        frame = {"frame": item.frames[:count].astype(int), "time": item.times[:count]}
        facts.append(pd.DataFrame({"case": item.case, "patient": item.patient, **frame, "label": item.labels[:count]}))
    first = sequences[0]
    spread = [f"{how} of {name}" for how in ("mean", "sd") for name in first.step_names]
    names = (*first.names, *(spread if first.steps is not None else ()))
    measures = pd.DataFrame(np.concatenate(measured), columns=list(raw[0].names))
    told = pd.concat(facts, ignore_index=True)
    return Rows(np.concatenate(parts), names, np.concatenate(known), items, told, measures)


@dataclass(frozen=True)
class StackMembers:
    """What was learnt from the same training rows: `kept` columns, and a model of each kind."""

    kept: tuple[int, ...]
    weights: FloatArray  # (K, len(kept) + 1), logistic regression
    ensemble: VotingEnsemble
    network: SequenceLSTM

    def predict(self, rows: Rows) -> dict[str, FloatArray]:
        """Probabilities (R, K) by member."""
        said = self.of_table(rows.x)
        return {**said, "lstm": self.of_sequences(rows.items)}

    def of_table(self, x: FloatArray) -> dict[str, FloatArray]:
        """Probabilities (R, K) of the members that read rows (R, F)."""
        z = x[:, self.kept]
        full = np.concatenate([z, np.ones((len(z), 1))], axis=1)
        return {"logistic": softmax(full @ self.weights.T, axis=1), "ensemble": self.ensemble.predict(z)}

    @torch.inference_mode()
    def of_sequences(self, items: Sequence[Item]) -> FloatArray:
        """Probabilities (R, K) of the LSTM, rows of all sequences one after the other."""
        self.network.eval()
        found = []
        for start in range(0, len(items), MAX_BATCH):
            batch = collate(items[start : start + MAX_BATCH])
            said = self.network(batch).logits.softmax(dim=2)  # (B, T or 1, K)
            found += [one[: length if len(one) > 1 else 1] for one, length in zip(said, batch.lengths, strict=True)]
        return np.asarray(torch.cat(found).double().numpy())  # (R, K)


class StackedClassifier:
    """Members, the stack on top of them, and what makes their probabilities honest.

    `use` names the one whose answer is the diagnosis: logistic, ensemble, lstm, stack or rule. The rule learnt nothing;
    what it says is calibrated like the rest, and the same chance is given to each class where it is undefined.
    """

    def __init__(
        self,
        inputs: FeatureSchema,
        members: StackMembers,
        over: Stacking,
        calibrations: Mapping[str, Calibration],
        use: str,
        rule: ScoreThreshold | RetinopathyGrade | None = None,
    ) -> None:
        self.inputs, self.members, self.stack, self.use, self.rule = inputs, members, over, use, rule
        self.calibrations = dict(calibrations)

    def rows(self, tables: Tables) -> Rows:
        """What a table means to this model; `DataError` names measures that are missing."""
        return rows_of(self.inputs.prepare(tables), self.inputs.raw(tables), self.inputs)

    def said(self, rows: Rows) -> dict[str, FloatArray]:
        """Uncalibrated probabilities (R, K) by member, the stack's, and the rule's where there is one."""
        found = self.members.predict(rows)
        found[STACK] = self.stack.predict(found)
        return found if self.rule is None else {**found, RULE: rule_probabilities(self.rule, rows)}

    def __call__(self, tables: Tables, baseline: bool = False) -> pd.DataFrame:
        """A row a case or frame: predicted class, calibrated probabilities, the set they allow, why, review.

        `baseline` adds the columns of the other members, with their names behind.
        """
        rows = self.rows(tables)
        said = self.said(rows)
        calibrated = {name: self.calibrations[name].probabilities(p) for name, p in said.items()}
        table = rows.facts.assign(signal=np.nan, **self._columns(calibrated[self.use], ""))
        sets = self.calibrations[self.use].sets(calibrated[self.use], self.undefined(rows))
        table = table.assign(**calibration.prediction_set_columns(sets, self.inputs.classes))
        table["why"] = self.why(rows, said)
        doubts = self.rule.doubts(rows.measures) if self.rule is not None else [""] * len(sets)
        table["review"] = [UNDEFINED if gap else text for gap, text in zip(self.undefined(rows), doubts, strict=True)]
        for name in calibrated if baseline else ():
            if name != self.use:
                table = table.assign(**self._columns(calibrated[name], f"_{name}"))
        return table

    def undefined(self, rows: Rows) -> BoolArray:
        """Rows (R,) of which too little was measured for a diagnosis."""
        gaps = rows.known < MAX_UNDEFINED
        if self.use == RULE and self.rule is not None:
            gaps = gaps | ~np.isfinite(self.rule.margins(rows.measures)).all(axis=1)
        return gaps

    def _columns(self, probabilities: FloatArray, end: str) -> dict[str, Any]:
        best = probabilities.argmax(axis=1)
        columns: dict[str, Any] = {f"predicted{end}": [self.inputs.classes[k] for k in best]}
        columns[f"probability{end}"] = probabilities.max(axis=1)
        return columns | {f"p_{name}{end}": probabilities[:, k] for k, name in enumerate(self.inputs.classes)}

    def why(self, rows: Rows, said: Mapping[str, FloatArray]) -> list[str]:
        """What moved each row's answer most: the log-odds of the predicted class lost when a measure, or a step, is
        replaced by the training mean: ``lesion.area_px +0.8, step 3 of 8 +0.4``.
        """
        best = said[self.use].argmax(axis=1)
        names = [rows.names[column] for column in self.members.kept]
        effects = [self._lost(rows, said, best, column=column) for column in self.members.kept]
        if self.inputs.per == "sequence" and rows.items[0].steps is not None:
            count = rows.items[0].steps.shape[1]
            names += [f"step {step + 1} of {count}" for step in range(count)]
            effects += [self._lost(rows, said, best, step=step) for step in range(count)]
        table = np.stack(effects, axis=1)  # (R, names)
        lines = []
        for row in table:
            heavy = [n for n in np.argsort(-np.abs(row), kind="stable")[:N_TOP_FEATURES] if abs(row[n]) >= 0.01]
            lines.append(", ".join(f"{names[n]} {format_signed(row[n])}" for n in heavy))
        return lines

    def _lost(
        self, rows: Rows, said: Mapping[str, FloatArray], best: npt.NDArray[np.intp], column: int = -1, step: int = -1
    ) -> FloatArray:
        """Log-odds of the predicted class (R,) that a column, or a step of the sequences, adds."""
        changed = dict(said)
        if step >= 0:
            changed["lstm"] = self.members.of_sequences([_without_step(item, step) for item in rows.items])
        else:
            x = rows.x.copy()
            x[:, column] = 0  # the mean of the training cases
            changed |= self.members.of_table(x)
            if self.use in ("lstm", STACK):
                changed["lstm"] = self.members.of_sequences([_without_measure(item, column) for item in rows.items])
        changed[STACK] = self.stack.predict(changed)
        at = np.arange(len(best)), best
        return np.asarray(_odds(said[self.use])[at] - _odds(changed[self.use])[at])

    def save(self, run: Run) -> None:
        """stacking.json, ensemble.skops and the arrays of model.safetensors; nothing is pickled."""
        state = {
            "use": self.use,
            "kept": list(self.members.kept),
            "stack": self.stack.state(),
            "calibration": {name: c._asdict() for name, c in self.calibrations.items()},
        }
        write_json(run.file("stacking.json"), state)
        atomic_write_bytes(run.file("ensemble.skops"), self.members.ensemble.dump())
        weights = {f"lstm.{name}": value for name, value in self.members.network.state_dict().items()}
        run.save_weights(weights | {"logistic": torch.from_numpy(self.members.weights)})


def rule_probabilities(rule: ScoreThreshold | RetinopathyGrade, rows: Rows) -> FloatArray:
    """The rule's probabilities (R, K), before calibration."""
    return np.asarray(softmax(np.nan_to_num(rule.margins(rows.measures)), axis=1))


def load_classifier(run: Run, config: Settings, inputs: FeatureSchema) -> StackedClassifier:
    """The classifier that `Classifier.save` wrote; `ModelError` where a part is missing or broken."""
    state, weights = run.read_json("stacking.json"), run.load_weights()
    network = SequenceLSTM(inputs.task(), **config.classifier.network.model_dump())
    network.load_state_dict({k.removeprefix("lstm."): v for k, v in weights.items() if k.startswith("lstm.")})
    file = run.file("ensemble.skops")
    if not file.is_file():
        raise ModelError(f"{file}: missing; copy the whole run folder")
    voting = ensemble.load(file.read_bytes(), str(file))
    members = StackMembers(tuple(state["kept"]), weights["logistic"].numpy(), voting, network)
    calibrations = calibration.from_json(state["calibration"])
    rule = build_rule(config, inputs.names, RULES)
    return StackedClassifier(inputs, members, stack.from_state(state["stack"]), calibrations, state["use"], rule)


def _mean_known(values: FloatArray) -> FloatArray:
    """Means (1, F) over the frames (T, F) in which each was measured, NaN where in none."""
    means = pd.DataFrame(np.where(np.isfinite(values), values, np.nan)).mean()  # np.nanmean warns where none is known
    return means.to_numpy(np.float64)[None]  # (1, F)


def _without_measure(item: Item, column: int) -> Item:
    """As if a column of `Rows.x` were average: a measure of the frame, or the mean of one over the steps."""
    place = column - item.x.shape[1]
    if place < 0:
        x = item.x.copy()
        x[:, column] = 0
        return item._replace(x=x)
    assert item.steps is not None
    if place >= item.steps.shape[2]:  # how much a measure varies over the steps
        return item
    steps = item.steps.copy()
    steps[:, :, place] -= steps[:, :, place].mean()
    return item._replace(steps=steps)


def _without_step(item: Item, step: int) -> Item:
    assert item.steps is not None
    steps = item.steps.copy()
    steps[:, step] = 0
    return item._replace(steps=steps)


def format_signed(value: float) -> str:
    """Two decimals with a sign, a true minus for what is below 0."""
    return f"{value:+.2f}".replace("-", "−")


def _odds(probabilities: FloatArray) -> FloatArray:
    return np.asarray(logits(probabilities) - logits(1 - probabilities))
