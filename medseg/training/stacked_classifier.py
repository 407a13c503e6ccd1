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
from medseg.diagnosis import stacking as stack
from medseg.diagnosis import voting_ensemble as ensemble
from medseg.diagnosis.calibration import Calibration, calibrate
from medseg.diagnosis.cross_validation import patient_folds
from medseg.diagnosis.linear_baseline import logistic_weights
from medseg.diagnosis.lstm import SequenceLSTM
from medseg.diagnosis.sequence_dataset import UNKNOWN, Item
from medseg.evaluation.predictions import to_table
from medseg.features.selection import select_features
from medseg.features.tables import Tables
from medseg.inference.diagnosis_scores import evaluate_predictions
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
from medseg.training.feature_tables import class_counts, prepare_features
from medseg.training.lstm import FOLDS, fit_lstm, split_fold
from medseg.typing import IntArray
from medseg.utils.console import say, table, warn
from medseg.utils.files import atomic_write_text, write_json

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
    ledger, train, held, inputs, reported, masks = prepare_features(config, run, cases, synthetic)
    classifier = learn(config, run, inputs, learning(inputs, train))
    classifier.save(run)
    summary = measure(config, run, classifier, held, reported, masks)
    shutil.rmtree(run.file(FOLDS))
    columns = classifier.rows(train).columns
    selected = ", ".join(ref.name for ref in classifier.selected_features(columns))
    return [class_counts(train), "", f"Measures that were selected: {selected}.", "", *_results(summary)], ledger


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
        over = stack.fit({name: p[rest] for name, p in judged.items()}, seen.truth[rest])
        said[STACK][fold] = over.predict({name: p[fold] for name, p in judged.items()})
    over = stack.fit({name: p[known] for name, p in judged.items()}, seen.truth[known])
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
    voting = ensemble.fit(z, y, classes, settings.ensemble.n_trees, config.seed, seen.patients[known])
    return StackMembers(tuple(kept), weights, voting, network)


def measure(
    config: Settings, run: Run, classifier: StackedClassifier, held: Tables, reported: str | None, masks: str
) -> dict[str, Any] | None:
    """Diagnose the held-out cases as a user would; predictions.csv and metrics.json with every member beside."""
    if held.frames.empty or "label" not in held.frames or held.frames["label"].isna().all():
        reason = "no held-out case with a label"
        write_json(run.file("metrics.json"), {"task": "diagnosis", "report_split": None, "reason": reason})
        return None
    predictions = classifier.predict(held)
    atomic_write_text(run.file("predictions.csv"), to_table(predictions, others=True).to_csv(index=False))
    write_json(run.file("diagnoses.json"), classifier.to_records(held, predictions))
    scores = evaluate_predictions(predictions, list(config.organ.positive_classes))
    summary = {"report_split": reported, "masks": masks, **scores}
    summary["alpha"] = config.classifier.alpha
    write_json(run.file("metrics.json"), summary)
    _show(summary)
    return summary


def _show(summary: dict[str, Any]) -> None:
    for model, names in summary["never_predicted"].items():
        if names:
            warn(f"{model} never predicts {', '.join(names)}")
    models = summary["models"]
    title = f"{summary['report_split']}: {summary['n_cases']} cases, {summary['n_patients']} patients"
    table(title, ["score", *models], [[key, *cells] for key, cells in _cells(summary)])


def _cells(summary: dict[str, Any]) -> list[tuple[str, list[Any]]]:
    models = summary["models"].values()
    keys = [key for key in SHOWN if all(key in model for model in models)]
    return [(key, [model[key]["mean"] for model in models]) for key in keys]


def _results(summary: dict[str, Any] | None) -> list[str]:
    """Lines for the card."""
    if summary is None:
        return ["Not measured: no held-out case with a label."]
    models = summary["models"]
    lines = [
        f"Measured on split `{summary['report_split']}`: {summary['n_cases']} cases, {summary['n_patients']} patients. "
        f"The diagnosis is that of `{summary['use']}`. Masks: {summary['masks']}.",
        "",
        f"| score | {' | '.join(models)} |",
        f"|---|{'---|' * len(models)}",
    ]
    for key, cells in _cells(summary):
        lines.append(f"| {key} | {' | '.join('–' if mean is None else f'{mean:.3f}' for mean in cells)} |")
    return lines
