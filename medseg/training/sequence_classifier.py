"""Train a diagnoser on measured features and compare it with a linear baseline on patients it never saw."""

from __future__ import annotations

import shutil
from collections.abc import Mapping

import numpy as np
import pandas as pd
import pytorch_lightning as pl
import torch

from medseg.batch.case_log import CaseLog
from medseg.config.settings import Settings
from medseg.data.cases import Case
from medseg.diagnosis.calibration import Calibration, calibrate
from medseg.diagnosis.clinical_rules import VolumeSlope
from medseg.diagnosis.forecasting import Forecast
from medseg.diagnosis.linear_baseline import LinearBaseline
from medseg.diagnosis.lstm import SequenceLSTM
from medseg.diagnosis.respiratory_signal import normalise
from medseg.diagnosis.sequence_dataset import UNKNOWN
from medseg.features.tables import Tables
from medseg.inference.feature_inputs import FeatureSchema, as_item
from medseg.inference.sequence_classifier import (
    CALIBRATION,
    SequenceClassifier,
    build_slope_rule,
    forecast_horizon,
    slope_prediction,
)
from medseg.inference.sequence_results import cohort_statistics
from medseg.reports.plots import curves
from medseg.runs.run import Run
from medseg.training.classifier_holdout import card_lines, evaluate_classifier, show_scores
from medseg.training.feature_tables import class_counts, prepare_features
from medseg.training.lstm import FOLDS, FoldPredictions, Items, fit_lstm, out_of_fold, split_in_folds
from medseg.utils.files import write_json


def train_sequence_classifier(
    config: Settings, run: Run, cases: list[Case], synthetic: bool
) -> tuple[list[str], CaseLog]:
    """Fill the run folder: features, weights, history, predictions and metrics of held-out cases.

    Returns lines for the card, and what happened to each case.
    """
    splits = prepare_features(config, run, cases, synthetic)
    train, inputs = splits.train, splits.inputs
    pl.seed_everything(config.seed, verbose=False)
    network = SequenceLSTM(inputs.task(), **config.classifier.network.model_dump())
    items = {s.case: (s.patient, as_item(s, inputs)) for s in inputs.prepare(train)}
    folds = split_in_folds(config, items)
    seconds, steps = fit_lstm(config, run, network, items, 1 / (len(folds) + 1))
    baseline = LinearBaseline.fit(
        [item for _, item in items.values()], len(inputs.classes), **config.classifier.baseline.model_dump()
    )
    forecast = _forecast(config, inputs, train)
    weights = {f"lstm.{k}": v for k, v in network.state_dict().items()}
    weights |= {f"linear.{k}": torch.from_numpy(v) for k, v in baseline.arrays().items()}
    run.save_weights(weights | {f"forecast.{k}": v for k, v in (forecast.arrays() if forecast else {}).items()})
    curves(pd.read_csv(run.file("history.csv")), run.file("curves.png"))
    cohort = cohort_statistics(train.frames, inputs.names)
    rule = build_slope_rule(config, inputs)
    unseen = out_of_fold(config, run, inputs.task(), items, folds) if folds else {}
    calibrations = _calibrations(config, inputs, train, items, unseen, rule)
    write_json(run.file(CALIBRATION), {name: one._asdict() for name, one in calibrations.items()})
    classifier = SequenceClassifier(inputs, network, baseline, forecast, rule, cohort, calibrations)
    summary = evaluate_classifier(config, run, classifier, splits)
    if summary is not None:
        show_scores(summary)
    shutil.rmtree(run.file(FOLDS), ignore_errors=True)
    samples = steps * config.classifier.batch_size
    taught = f"{samples} sequences in {seconds:.0f} s, {len(items)} cases. {class_counts(train)}"
    return [taught, "", *card_lines(summary)], splits.ledger


def _calibrations(
    config: Settings, schema: FeatureSchema, train: Tables, items: Items,
    unseen: Mapping[str, FoldPredictions], rule: VolumeSlope | None,
) -> dict[str, Calibration]:  # fmt: skip
    """Of each model, from what it says of patients that it did not see; the rule has seen none."""
    if not unseen:
        return {}
    said = {model: np.concatenate([by_case[case] for case in items]) for model, by_case in unseen.items()}
    if rule is not None:
        said["rule"] = np.concatenate([slope_prediction(rule, one).probabilities for one in schema.raw(train)])
    truth = np.concatenate([item.state for _, item in items.values() if item.state is not None])
    known = truth != UNKNOWN
    settings = config.classifier
    return {
        name: calibrate(chances[known].astype(np.float64), truth[known], settings.alpha, settings.match_prevalence)
        for name, chances in said.items()
    }


def _forecast(config: Settings, inputs: FeatureSchema, train: Tables) -> Forecast | None:
    """Learnt from the true signals of the training sequences, each with mean 0 and standard deviation 1."""
    if not inputs.signal:
        return None
    known = [item for item in inputs.raw(train) if np.isfinite(item.signal).any()]
    settings = config.classifier.forecast
    traces = [(normalise(item.signal), item.times) for item in known]
    return Forecast.fit(traces, forecast_horizon(config), settings.hidden, settings.max_samples, config.seed)
