"""Train logistic regression, ensemble, LSTM and their stack on the same folds, calibrate and evaluate all."""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import pytorch_lightning as pl

from medseg.batch.case_log import CaseLog
from medseg.config.settings import IMAGENET, Settings
from medseg.data.cases import Case
from medseg.diagnosis.calibration import Calibration, calibrate
from medseg.diagnosis.cross_validation import patient_folds
from medseg.diagnosis.deep_logistic import DeepLogistic
from medseg.diagnosis.linear_baseline import logistic_weights
from medseg.diagnosis.lstm import SequenceLSTM
from medseg.diagnosis.sequence_dataset import UNKNOWN, Item
from medseg.diagnosis.stacking import Stacking
from medseg.diagnosis.voting_ensemble import VotingEnsemble
from medseg.errors import ConfigError
from medseg.features.selection import select_features
from medseg.features.tables import Tables
from medseg.inference.attribution import deep_groups
from medseg.inference.feature_inputs import FeatureSchema, build_rule
from medseg.inference.feature_rows import Rows, rows_of
from medseg.inference.stack_members import DEEP, MeasuredMembers, StackMembers, member_names
from medseg.inference.stacked_classifier import RULE, RULES, STACK, StackedClassifier, rule_probabilities
from medseg.runs.run import Run
from medseg.training.classifier_holdout import card_lines, evaluate_classifier, show_scores
from medseg.training.feature_tables import class_counts, prepare_features
from medseg.training.lstm import FOLDS, fit_lstm, split_fold
from medseg.typing import IntArray
from medseg.utils.console import say

SCORES = ("auc", "auc_positive", "balanced_accuracy", "qwk", "nll", "brier", "ece")


@dataclass(frozen=True)
class TrainingRows:
    """Training rows with their class numbers, UNKNOWN if unlabelled, and the index of each row's sequence."""

    rows: Rows
    y: IntArray  # (R,)
    sequence: IntArray  # (R,)

    @property
    def patients(self) -> npt.NDArray[Any]:
        """Patient of each row (R,)."""
        return self.rows.facts["patient"].astype(str).to_numpy()

    def subset(self, rows: npt.NDArray[np.intp]) -> TrainingRows:
        """A subset of rows, which must be complete sequences."""
        sequences = list(dict.fromkeys(self.sequence[rows].tolist()))
        new_index = {old: new for new, old in enumerate(sequences)}
        return TrainingRows(
            self.rows.subset(rows, sequences),
            self.y[rows],
            np.array([new_index[old] for old in self.sequence[rows].tolist()]),
        )

    def items(self) -> dict[str, tuple[str, Item]]:
        """Patient and sequence, with its class numbers, by case."""
        items_by_case = {}
        for number, item in enumerate(self.rows.items):
            row_mask = self.sequence == number
            facts = self.rows.facts[row_mask].iloc[0]
            items_by_case[str(facts["case"])] = (str(facts["patient"]), item._replace(state=self.y[row_mask]))
        return items_by_case


def train_stacked_classifier(
    config: Settings, run: Run, cases: list[Case], synthetic: bool
) -> tuple[list[str], CaseLog]:
    """Fill the run folder: features, members, stack, calibration, predictions and metrics of held-out cases.

    Returns lines of the model card, and the case log.
    """
    splits = prepare_features(config, run, cases, synthetic)
    classifier = fit_stack(config, run, splits.schema, training_rows(splits.schema, splits.train))
    classifier.save(run)
    summary = evaluate_classifier(config, run, classifier, splits)
    if summary is not None:
        show_scores(summary, SCORES)
    shutil.rmtree(run.file(FOLDS))
    lines = [class_counts(splits.train), "", *_feature_lines(config, classifier, splits.train), ""]
    return [*lines, *card_lines(summary, SCORES)], splits.log


def _feature_lines(config: Settings, classifier: StackedClassifier, train: Tables) -> list[str]:
    """Lines of the model card on the features that the members read."""
    rows, lines = classifier.rows(train), []
    if classifier.members.measured is not None:
        lines.append(f"Selected features: {', '.join(ref.name for ref in classifier.selected_features(rows.columns))}.")
    if rows.deep_names:
        groups = [name.removeprefix("deep features of ") for name in deep_groups(rows.deep_names)]
        network = IMAGENET if config.data.imagenet_encoder else "a trained U-Net"
        lines.append(f"Deep features of {network}: {len(rows.deep_names)}, of {', '.join(groups)}.")
    return lines


def training_rows(schema: FeatureSchema, tables: Tables) -> TrainingRows:
    """The training rows of features tables."""
    rows = rows_of(tables, schema)
    known = {name: number for number, name in enumerate(schema.classes)}
    labels = rows.facts["label"]
    y = np.array([UNKNOWN if label is None else known[label] for label in labels], np.int64)
    counts = [len(item.x) if schema.per == "frame" else 1 for item in rows.items]
    return TrainingRows(rows, y, np.repeat(np.arange(len(counts)), counts))


def fit_stack(config: Settings, run: Run, schema: FeatureSchema, data: TrainingRows) -> StackedClassifier:
    """Fit the members on all rows, the stack and the calibrations on out-of-fold predictions of the members."""
    names = member_names(data.rows)
    _require_final(config, names)
    folds = patient_folds(data.y, data.patients, config.classifier.n_folds, config.seed)
    classes, time_fraction = len(schema.classes), 1 / (len(folds) + 1)
    seeds = np.random.SeedSequence(config.seed).generate_state(len(folds) + 1).tolist()
    predictions = {name: np.full((len(data.y), classes), np.nan) for name in (*names, STACK)}
    for number, fold in enumerate(folds):
        rest = np.setdiff1d(np.arange(len(data.y)), fold)
        say(f"fold {number + 1} of {len(folds)}: {len(rest)} training rows, {len(fold)} held out")
        pl.seed_everything(seeds[number], verbose=False)  # independent of earlier trainings
        rows = data.subset(rest)
        fold_run = split_fold(run, number, rows.rows.facts["case"].astype(str).unique().tolist())
        members = fit_members(config, fold_run, schema, rows, time_fraction)
        for name, probabilities in members.predict(data.subset(fold).rows).items():
            predictions[name][fold] = probabilities
    known = data.y != UNKNOWN
    member_predictions = {name: predictions[name] for name in names}
    for fold in folds:  # the stack's own out-of-fold predictions: fitted to the members' in the other folds
        rest = np.setdiff1d(np.flatnonzero(known), fold)
        stack = Stacking.fit({name: p[rest] for name, p in member_predictions.items()}, data.y[rest])
        predictions[STACK][fold] = stack.predict({name: p[fold] for name, p in member_predictions.items()})
    stack = Stacking.fit({name: p[known] for name, p in member_predictions.items()}, data.y[known])
    rule = build_rule(config, schema.names, RULES)
    if rule is not None:
        predictions[RULE] = rule_probabilities(rule, data.rows)
    alpha, prevalence = config.classifier.alpha, config.classifier.match_prevalence
    calibrations: dict[str, Calibration] = {
        name: calibrate(p[known], data.y[known], alpha, prevalence) for name, p in predictions.items()
    }
    pl.seed_everything(seeds[-1], verbose=False)
    members = fit_members(config, run, schema, data, time_fraction)
    return StackedClassifier(schema, members, stack, calibrations, config.stacking().final_model, rule)


def _require_final(config: Settings, names: Sequence[str]) -> None:
    """`ConfigError` if the model of the diagnosis has no features."""
    final = config.stacking().final_model
    if final == DEEP and DEEP not in names:
        raise ConfigError(f"classifier.final_model={DEEP}: there are no deep features; set data.encoder")
    if final not in (*names, STACK):
        raise ConfigError(f"classifier.final_model={final}: nothing is measured; choose {DEEP} or {STACK}")


def fit_members(
    config: Settings, run: Run, schema: FeatureSchema, data: TrainingRows, time_fraction: float
) -> StackMembers:
    """Fit one model of each kind to the same rows and the features selected on them; `run` stores the LSTM's training.

    time_fraction: fraction of `trainer.max_time`.
    """
    known, classes = data.y != UNKNOWN, len(schema.classes)
    run.path.mkdir(parents=True, exist_ok=True)
    measured = deep = None
    if data.rows.columns:
        measured = _fit_measured(config, run, schema, data, time_fraction)
    if data.rows.deep_names:
        deep = DeepLogistic.fit(data.rows.deep[known], data.y[known], classes, config.stacking().deep.c)
    return StackMembers(measured, deep)


def _fit_measured(
    config: Settings, run: Run, schema: FeatureSchema, data: TrainingRows, time_fraction: float
) -> MeasuredMembers:
    settings, known = config.stacking(), data.y != UNKNOWN
    x, y = data.rows.x[known], data.y[known]
    selected = select_features(x, y, **settings.feature_selection.model_dump(), seed=config.seed)
    x_selected = x[:, selected]
    with_intercept = np.concatenate([x_selected, np.ones((len(x_selected), 1))], axis=1)
    classes = len(schema.classes)
    network = SequenceLSTM(schema.task(), **settings.network.model_dump())
    fit_lstm(config, run, network, data.items(), time_fraction)
    weights = logistic_weights(with_intercept, y, classes, settings.logistic.c)
    voting = VotingEnsemble.fit(x_selected, y, classes, settings.ensemble.n_trees, config.seed, data.patients[known])
    return MeasuredMembers(tuple(selected), weights, voting, network)
