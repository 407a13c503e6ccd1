"""Train a sequence classifier on features and compare it with a linear baseline on held-out patients."""

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

    Returns lines of the model card, and the case log.
    """
    splits = prepare_features(config, run, cases, synthetic)
    train, schema = splits.train, splits.schema
    pl.seed_everything(config.seed, verbose=False)
    network = SequenceLSTM(schema.task(), **config.classifier.network.model_dump())
    items = {sequence.case: (sequence.patient, as_item(sequence, schema)) for sequence in schema.prepare(train)}
    folds = split_in_folds(config, items)
    seconds, steps = fit_lstm(config, run, network, items, 1 / (len(folds) + 1))
    baseline = LinearBaseline.fit(
        [item for _, item in items.values()], len(schema.classes), **config.classifier.baseline.model_dump()
    )
    forecast = _forecast(config, schema, train)
    weights = {f"lstm.{k}": v for k, v in network.state_dict().items()}
    weights |= {f"linear.{k}": torch.from_numpy(v) for k, v in baseline.arrays().items()}
    run.save_weights(weights | {f"forecast.{k}": v for k, v in (forecast.arrays() if forecast else {}).items()})
    curves(pd.read_csv(run.file("history.csv")), run.file("curves.png"))
    cohort = cohort_statistics(train.frames, schema.names)
    rule = build_slope_rule(config, schema)
    held_out_predictions = out_of_fold(config, run, schema.task(), items, folds) if folds else {}
    calibrations = _calibrations(config, schema, train, items, held_out_predictions, rule)
    write_json(run.file(CALIBRATION), {name: calibration._asdict() for name, calibration in calibrations.items()})
    classifier = SequenceClassifier(schema, network, baseline, forecast, rule, cohort, calibrations)
    summary = evaluate_classifier(config, run, classifier, splits)
    if summary is not None:
        show_scores(summary)
    shutil.rmtree(run.file(FOLDS), ignore_errors=True)
    samples = steps * config.classifier.batch_size
    line = f"{samples} sequences in {seconds:.0f} s, {len(items)} cases. {class_counts(train)}"
    return [line, "", *card_lines(summary)], splits.log


def _calibrations(
    config: Settings, schema: FeatureSchema, train: Tables, items: Items,
    fold_predictions: Mapping[str, FoldPredictions], rule: VolumeSlope | None,
) -> dict[str, Calibration]:  # fmt: skip
    """Calibrate each model on its out-of-fold predictions; the clinical rule needs no folds."""
    if not fold_predictions:
        return {}
    predictions = {
        model: np.concatenate([by_case[case] for case in items]) for model, by_case in fold_predictions.items()
    }
    if rule is not None:
        predictions["rule"] = np.concatenate(
            [slope_prediction(rule, sequence).probabilities for sequence in schema.raw(train)]
        )
    y = np.concatenate([item.state for _, item in items.values() if item.state is not None])
    known = y != UNKNOWN
    settings = config.classifier
    return {
        name: calibrate(probabilities[known].astype(np.float64), y[known], settings.alpha, settings.match_prevalence)
        for name, probabilities in predictions.items()
    }


def _forecast(config: Settings, schema: FeatureSchema, train: Tables) -> Forecast | None:
    """Fit a forecast to the signals of the training sequences, each with mean 0 and standard deviation 1."""
    if not schema.signal:
        return None
    sequences = [sequence for sequence in schema.raw(train) if np.isfinite(sequence.signal).any()]
    settings = config.classifier.forecast
    traces = [(normalise(sequence.signal), sequence.times) for sequence in sequences]
    return Forecast.fit(traces, forecast_horizon(config), settings.hidden, settings.max_samples, config.seed)
