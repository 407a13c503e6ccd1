"""Figures of diagnoses as PNG: associations, ROC and precision–recall curves, reliability, confusion."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import matplotlib as mpl
import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from medseg.evaluation.predictions import Predictions
from medseg.evaluation.probabilities import roc_pr_curves
from medseg.reports.plots import BLUE, GREEN, GREY, ORANGE, PALETTE, PURPLE, RED, SKY, STYLE, WIDTH, png
from medseg.utils.files import atomic_write_bytes

ROW = 0.24  # inches per line of text
STATES = (ORANGE, BLUE, GREEN, PURPLE, SKY, RED)  # as the bars of states, but darker


def plot_forest(associations: pd.DataFrame, path: Path, title: str) -> None:
    """Spearman's rho and interval of each feature, one row per feature; filled if q < .05."""
    with mpl.rc_context(STYLE):
        figure = Figure(figsize=(WIDTH, 1.0 + ROW * max(1, len(associations))), layout="constrained")
        axes = figure.add_subplot()
        positions = np.arange(len(associations))[::-1]
        for position, (_, row) in zip(positions, associations.iterrows(), strict=True):
            significant = row["q"] < 0.05
            axes.plot(
                [row["rho_low"], row["rho_high"]], [position, position], color=BLUE if significant else GREY, lw=1.5
            )
            axes.plot(
                row["rho"],
                position,
                "o",
                ms=5,
                color=BLUE if significant else GREY,
                mfc=BLUE if significant else "white",
            )
        axes.axvline(0, color=GREY, lw=0.8)
        axes.set_yticks(positions, associations["feature"])
        axes.set_xlim(-1, 1)
        axes.set_xlabel("Spearman's rho, 95 % CI; filled: q < 0.05")
        axes.set_title(title)
    atomic_write_bytes(path, png(figure))


def plot_forecast(case: Predictions, ahead: float | None) -> bytes:
    """Above, class probabilities over time of one case; below, if there is a forecast, the signal and its forecast
    made `ahead` s before.
    """
    timed = bool(case.facts["time"].notna().all())
    time = case.facts["time" if timed else "frame"].to_numpy(np.float64)
    lines = {"LSTM": (case.final_model, BLUE), "linear": ("linear", RED)}
    lines = {name: line for name, line in lines.items() if np.isfinite(case.forecasts.get(line[0], [])).any()}
    has_forecast = bool(ahead is not None and timed and lines and case.final.signal is not None)
    with mpl.rc_context(STYLE):
        figure = Figure(figsize=(WIDTH, 3.4 if has_forecast else 1.7), layout="constrained")
        upper, *forecast_axes = figure.subplots(2 if has_forecast else 1, 1, sharex=True, squeeze=False)[:, 0]
        for name, values, colour in zip(case.classes, case.final.probabilities.T, STATES, strict=False):
            upper.plot(time, values, color=colour, lw=1.3, label=name)
        upper.set(ylabel="probability", ylim=(-0.02, 1.02))
        upper.legend(loc="lower right", bbox_to_anchor=(1.0, 1.0), ncols=len(case.classes))
        for lower in forecast_axes:
            assert ahead is not None
            lower.plot(time, case.final.signal, color=GREY, lw=2.2, alpha=0.6, label="predicted signal")
            for (name, (kind, colour)), style in zip(lines.items(), ("--", ":"), strict=False):
                values = case.forecasts[kind]
                lower.plot(time + ahead, values, style, color=colour, lw=1.4, label=f"forecast by {name}")
            lower.set_ylabel("signal")
            lower.legend(loc="lower right", bbox_to_anchor=(1.0, 1.0), ncols=3)
        (forecast_axes[0] if forecast_axes else upper).set_xlabel("time (s)" if timed else "frame")
    return png(figure)


def plot_roc_pr(predictions: Predictions, positive: Sequence[str]) -> bytes:
    """ROC and precision–recall curves of the positive classes' probability, for each model, the final one first."""
    known = predictions.facts["label"].notna().to_numpy()
    is_positive = predictions.facts["label"][known].isin(list(positive)).to_numpy()
    columns = [predictions.classes.index(name) for name in positive]
    with mpl.rc_context(STYLE):
        figure = Figure(figsize=(WIDTH, 3.1), layout="constrained")
        left, right = figure.subplots(1, 2)
        for model, colour in zip(predictions.model_order, PALETTE, strict=False):
            score = predictions.models[model].probabilities[known][:, columns].sum(axis=1)
            false, true, precision = roc_pr_curves(score, is_positive)
            left.plot(false, true, color=colour, label=model, lw=1.4)
            right.plot(true[1:], precision[1:], color=colour, lw=1.4)
        left.plot([0, 1], [0, 1], color=GREY, lw=0.8, ls=":")
        right.axhline(float(is_positive.mean()), color=GREY, lw=0.8, ls=":")
        left.set(xlabel="1 − specificity", ylabel="sensitivity", title=f"ROC: {', '.join(positive)}")
        right.set(
            xlabel="sensitivity", ylabel="precision", title="precision and recall", xlim=(-0.02, 1.02), ylim=(0, 1.02)
        )
        left.legend()
    return png(figure)


def plot_reliability(bins: Mapping[str, Sequence[Mapping[str, Any]]]) -> bytes:
    """Reliability curve: accuracy by predicted probability, one dot per bin, sized by the number of cases."""
    with mpl.rc_context(STYLE):
        figure = Figure(figsize=(WIDTH / 2, 3.1), layout="constrained")
        axes = figure.add_subplot()
        axes.plot([0, 1], [0, 1], color=GREY, lw=0.8, ls=":")
        for (model, rows), colour in zip(bins.items(), PALETTE, strict=False):
            x, y = ([row[key] for row in rows] for key in ("probability", "right"))
            axes.plot(x, y, color=colour, lw=1, label=model)
            axes.scatter(x, y, s=[6 + 2 * row["n"] ** 0.5 * 4 for row in rows], color=colour)
        axes.set(xlabel="probability of the diagnosis", ylabel="accuracy", xlim=(0, 1.02), ylim=(0, 1.02))
        axes.legend()
    return png(figure)
