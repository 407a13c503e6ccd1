"""Train logistic regression, ensemble, LSTM and their stack on the same folds, calibrate them and measure all."""

from __future__ import annotations

import shutil
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import pytorch_lightning as pl

from medseg.batch.case_log import CaseLog
from medseg.config.settings import Settings
from medseg.data.cases import Case
from medseg.diagnosis.calibration import Calibration, calibrate
from medseg.diagnosis.cross_validation import patient_folds
from medseg.diagnosis.linear_baseline import logistic_weights
from medseg.diagnosis.lstm import SequenceLSTM
from medseg.diagnosis.sequence_dataset import UNKNOWN, Item
from medseg.diagnosis.stacking import Stacking
from medseg.diagnosis.voting_ensemble import VotingEnsemble
from medseg.features.selection import select_features
from medseg.features.tables import Tables
from medseg.inference.feature_inputs import FeatureSchema, build_rule
from medseg.inference.feature_rows import Rows, rows_of
from medseg.inference.stacked_classifier import (
    MEMBERS,
    RULE,
    RULES,
    STACK,
    StackedClassifier,
    StackMembers,
    rule_probabilities,
)
from medseg.runs.run import Run
from medseg.training.classifier_holdout import card_lines, evaluate_classifier, show_scores
from medseg.training.feature_tables import class_counts, prepare_features
from medseg.training.lstm import FOLDS, fit_lstm, split_fold
from medseg.typing import IntArray
from medseg.utils.console import say

SHOWN = ("auc", "auc_positive", "balanced_accuracy", "qwk", "nll", "brier", "ece")


@dataclass(frozen=True)
class TrainingRows:
    """Rows to learn from with their class numbers, UNKNOWN where unlabelled, and the sequence each belongs to."""

    rows: Rows
    truth: IntArray  # (R,)
    owner: IntArray  # (R,)

    @property
    def patients(self) -> npt.NDArray[Any]:
        """Of each row (R,)."""
        return self.rows.facts["patient"].astype(str).to_numpy()

    def of(self, rows: npt.NDArray[np.intp]) -> TrainingRows:
        """Some rows, which are whole sequences."""
        sequences = list(dict.fromkeys(self.owner[rows].tolist()))
        place = {old: new for new, old in enumerate(sequences)}
        return TrainingRows(
            self.rows.part(rows, sequences), self.truth[rows], np.array([place[s] for s in self.owner[rows].tolist()])
        )

    def items(self) -> dict[str, tuple[str, Item]]:
        """Sequences with their class numbers, by case, with their patient."""
        found = {}
        for number, item in enumerate(self.rows.items):
            mine = self.owner == number
            facts = self.rows.facts[mine].iloc[0]
            found[str(facts["case"])] = (str(facts["patient"]), item._replace(state=self.truth[mine]))
        return found


def train_stacked_classifier(
    config: Settings, run: Run, cases: list[Case], synthetic: bool
) -> tuple[list[str], CaseLog]:
    """Fill the run folder: features, members, stack, calibration, predictions and metrics of held-out cases.

    Returns lines for the card, and what happened to each case.
    """
    splits = prepare_features(config, run, cases, synthetic)
    classifier = learn(config, run, splits.inputs, learning(splits.inputs, splits.train))
    classifier.save(run)
    summary = evaluate_classifier(config, run, classifier, splits)
    if summary is not None:
        show_scores(summary, SHOWN)
    shutil.rmtree(run.file(FOLDS))
    columns = classifier.rows(splits.train).columns
    selected = ", ".join(ref.name for ref in classifier.selected_features(columns))
    lines = [class_counts(splits.train), "", f"Measures that were selected: {selected}.", ""]
    return [*lines, *card_lines(summary, SHOWN)], splits.ledger


def learning(inputs: FeatureSchema, tables: Tables) -> TrainingRows:
    """What a table teaches."""
    raw = inputs.raw(tables)
    sequences = inputs.normalise(raw)
    rows = rows_of(sequences, raw, inputs)
    known = {name: number for number, name in enumerate(inputs.classes)}
    labels = rows.facts["label"]
    truth = np.array([UNKNOWN if label is None else known[label] for label in labels], np.int64)
    counts = [len(s.x) if inputs.per == "frame" else 1 for s in sequences]
    return TrainingRows(rows, truth, np.repeat(np.arange(len(sequences)), counts))


def learn(config: Settings, run: Run, inputs: FeatureSchema, seen: TrainingRows) -> StackedClassifier:
    """Members on all rows; the stack and every calibration from folds in which no member saw the patient judged."""
    folds = patient_folds(seen.truth, seen.patients, config.classifier.n_folds, config.seed)
    classes, share = len(inputs.classes), 1 / (len(folds) + 1)
    seeds = np.random.SeedSequence(config.seed).generate_state(len(folds) + 1).tolist()
    said = {name: np.full((len(seen.truth), classes), np.nan) for name in (*MEMBERS, STACK)}
    for number, fold in enumerate(folds):
        rest = np.setdiff1d(np.arange(len(seen.truth)), fold)
        say(f"fold {number + 1} of {len(folds)}: {len(rest)} rows to learn from, {len(fold)} to judge")
        pl.seed_everything(seeds[number], verbose=False)  # so that it does not matter what was trained before
        rows = seen.of(rest)
        part = split_fold(run, number, rows.rows.facts["case"].astype(str).unique().tolist())
        members = fit_members(config, part, inputs, rows, share)
        for name, found in members.predict(seen.of(fold).rows).items():
            said[name][fold] = found
    known = seen.truth != UNKNOWN
    judged = {name: said[name] for name in MEMBERS}
    for (
        fold
    ) in folds:  # the stack is judged where it did not learn either; what it learns from, members of other folds said
        rest = np.setdiff1d(np.flatnonzero(known), fold)
        over = Stacking.fit({name: p[rest] for name, p in judged.items()}, seen.truth[rest])
        said[STACK][fold] = over.predict({name: p[fold] for name, p in judged.items()})
    over = Stacking.fit({name: p[known] for name, p in judged.items()}, seen.truth[known])
    rule = build_rule(config, inputs.names, RULES)
    if rule is not None:
        said[RULE] = rule_probabilities(rule, seen.rows)
    alpha, prevalence = config.classifier.alpha, config.classifier.match_prevalence
    calibrations: dict[str, Calibration] = {
        name: calibrate(p[known], seen.truth[known], alpha, prevalence) for name, p in said.items()
    }
    pl.seed_everything(seeds[-1], verbose=False)
    members = fit_members(config, run, inputs, seen, share)
    return StackedClassifier(inputs, members, over, calibrations, config.stacking().final_model, rule)


def fit_members(config: Settings, run: Run, inputs: FeatureSchema, seen: TrainingRows, share: float) -> StackMembers:
    """One model of each kind from the same rows, measures selected on them; `run` keeps the LSTM's training.

    share: of `trainer.max_time`.
    """
    settings, known = config.stacking(), seen.truth != UNKNOWN
    x, y = seen.rows.x[known], seen.truth[known]
    kept = select_features(x, y, **settings.feature_selection.model_dump(), seed=config.seed)
    z = x[:, kept]
    full = np.concatenate([z, np.ones((len(z), 1))], axis=1)
    classes = len(inputs.classes)
    network = SequenceLSTM(inputs.task(), **settings.network.model_dump())
    run.path.mkdir(parents=True, exist_ok=True)
    fit_lstm(config, run, network, seen.items(), share)
    weights = logistic_weights(full, y, classes, settings.logistic.c)
    voting = VotingEnsemble.fit(z, y, classes, settings.ensemble.n_trees, config.seed, seen.patients[known])
    return StackMembers(tuple(kept), weights, voting, network)
