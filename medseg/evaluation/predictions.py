"""Predictions of models for cases or frames, as arrays and as the columns of a table."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd

from medseg.typing import AnyArray, BoolArray

FACTS = ("case", "patient", "frame", "time", "label", "signal")
SEPARATOR = " | "  # of the classes in a set
FORECAST = "signal_forecast"
HOLD = "hold"  # the forecast that the signal stays as it is


@dataclass(frozen=True)
class ModelPredictions:
    """One model's predictions for R rows.

    predicted: (R,) names of classes, None where withheld; probabilities: (R, K), calibrated where a calibration exists,
    NaN where there are none; uncalibrated: (R, K), the model's own, None when read from a table; sets: (R, K),
    the classes that are not ruled out, None without a calibration; signal: (R,) or None.
    """

    predicted: npt.NDArray[np.object_]
    probabilities: AnyArray
    uncalibrated: AnyArray | None = None
    sets: BoolArray | None = None
    signal: AnyArray | None = None

    @property
    def probability(self) -> AnyArray:
        """Of the likeliest class (R,)."""
        return np.asarray(self.probabilities.max(axis=1))

    def prediction_sets(self, classes: Sequence[str]) -> list[list[str]]:
        """Names of the classes that are not ruled out in each row; all of them without sets."""
        sets = np.ones(self.probabilities.shape, bool) if self.sets is None else self.sets
        return [[name for name, inside in zip(classes, row, strict=True) if inside] for row in sets.tolist()]

    @property
    def abstains(self) -> BoolArray | None:
        """Whether the set of each row (R,) is not one class alone; None without sets."""
        return None if self.sets is None else np.asarray(self.sets.sum(axis=1) != 1)

    def rows(self, index: AnyArray) -> ModelPredictions:
        """Some of the rows."""
        optional = {name: getattr(self, name) for name in ("uncalibrated", "sets", "signal")}
        selected = {name: None if values is None else values[index] for name, values in optional.items()}
        return ModelPredictions(self.predicted[index], self.probabilities[index], **selected)

    def without(self, rows: BoolArray) -> ModelPredictions:
        """Withhold the predictions of some rows (R,); the prediction sets stay."""
        probabilities = np.where(rows[:, None], np.nan, self.probabilities)
        signal = None if self.signal is None else np.where(rows, np.nan, self.signal)
        predicted = self.predicted.copy()
        predicted[rows] = None
        return replace(self, predicted=predicted, probabilities=probabilities, signal=signal)


@dataclass(frozen=True)
class Predictions:
    """Predictions of a classifier's models for R rows, each a case or a frame.

    facts: R rows, columns FACTS, what is known; models: by name; final_model: the one that gives the diagnosis;
    review: (R,) reasons for review by a person, blank without any; undefined: (R,) too few features are defined
    for a diagnosis; explanations: (R,) the most influential features, None without an explanation for each row;
    forecasts: (R,) the signal at the forecast horizon, by kind.
    """

    classes: tuple[str, ...]
    final_model: str
    facts: pd.DataFrame
    models: Mapping[str, ModelPredictions]
    review: tuple[str, ...]
    undefined: BoolArray
    explanations: tuple[str, ...] | None = None
    forecasts: Mapping[str, AnyArray] = field(default_factory=dict)

    def __len__(self) -> int:
        return len(self.facts)

    @property
    def final(self) -> ModelPredictions:
        """What the final model predicts."""
        return self.models[self.final_model]

    @property
    def model_order(self) -> list[str]:
        """Names of the models, the final one first."""
        return [self.final_model, *(name for name in self.models if name != self.final_model)]

    def rows(self, index: AnyArray) -> Predictions:
        """The rows of an integer or boolean index."""
        row_indices = np.flatnonzero(index) if index.dtype == bool else index
        return replace(
            self,
            facts=self.facts.iloc[row_indices].reset_index(drop=True),
            models={name: model.rows(row_indices) for name, model in self.models.items()},
            review=tuple(self.review[row_index] for row_index in row_indices),
            undefined=self.undefined[row_indices],
            explanations=None
            if self.explanations is None
            else tuple(self.explanations[row_index] for row_index in row_indices),
            forecasts={kind: values[row_indices] for kind, values in self.forecasts.items()},
        )

    def by_case(self) -> Iterator[tuple[str, Predictions]]:
        """The rows of each case, in the table's order of cases."""
        cases = self.facts["case"].to_numpy()
        for case in dict.fromkeys(cases.tolist()):
            yield str(case), self.rows(np.flatnonzero(cases == case))

    def withheld(self) -> Predictions:
        """As shown to users: without predictions for rows with too few defined features."""
        if not self.undefined.any():
            return self
        models = {name: model.without(self.undefined) for name, model in self.models.items()}
        forecasts = {kind: np.where(self.undefined, np.nan, values) for kind, values in self.forecasts.items()}
        return replace(self, models=models, forecasts=forecasts)

    def with_review(self, reasons: Mapping[str, str]) -> Predictions:
        """Put reasons by case before the classifier's own."""
        cases_and_texts = zip(self.facts["case"], self.review, strict=True)
        review = tuple("; ".join(filter(None, (reasons.get(str(case), ""), text))) for case, text in cases_and_texts)
        return replace(self, review=review)

    def with_known_labels(self) -> Predictions:
        """Remove labels that are no class."""
        is_class = self.facts["label"].astype(str).isin(self.classes)
        return replace(self, facts=self.facts.assign(label=self.facts["label"].where(is_class, None)))


def probability_column(name: str, suffix: str = "") -> str:
    """The column of a class's probability; `suffix` as in `to_table`."""
    return f"p_{name}{suffix}"


def _suffix(model: str, final_model: str) -> str:
    return "" if model == final_model else f"_{model}"


def _signal_column(suffix: str) -> str:
    return f"signal{suffix}" if suffix else "signal_predicted"


def _forecast_column(kind: str, final_model: str) -> str:
    return f"{FORECAST}{_suffix(kind, final_model)}"


def to_table(predictions: Predictions, others: bool = False) -> pd.DataFrame:
    """The columns of OUT.csv: facts; predicted, probability, p_<class> and signal_predicted of the final model;
    signal_forecast, signal_forecast_linear; prediction_set and abstain, explanation, review.

    With `others`, as in predictions.csv, each other model's behind: predicted_<model>, probability_<model>,
    p_<class>_<model>, signal_<model>, and signal_forecast_hold.
    """
    final, classes = predictions.final, predictions.classes
    columns: dict[str, Any] = {name: predictions.facts[name].to_numpy() for name in FACTS}
    columns |= _model_columns(final, classes, "")
    for kind, values in predictions.forecasts.items():
        if others or kind != HOLD:
            columns[_forecast_column(kind, predictions.final_model)] = values
    if final.sets is not None:
        columns["prediction_set"] = [SEPARATOR.join(names) for names in final.prediction_sets(classes)]
        columns["abstain"] = final.abstains
    if predictions.explanations is not None:
        columns["explanation"] = list(predictions.explanations)
    columns["review"] = list(predictions.review)
    for name in predictions.model_order[1:] if others else ():
        columns |= _model_columns(predictions.models[name], classes, _suffix(name, predictions.final_model))
    return pd.DataFrame(columns)


def _model_columns(model: ModelPredictions, classes: Sequence[str], suffix: str) -> dict[str, Any]:
    columns: dict[str, Any] = {f"predicted{suffix}": model.predicted, f"probability{suffix}": model.probability}
    columns |= {probability_column(name, suffix): model.probabilities[:, k] for k, name in enumerate(classes)}
    return columns if model.signal is None else {**columns, _signal_column(suffix): model.signal}


def from_table(table: pd.DataFrame, classes: Sequence[str], models: Sequence[str]) -> Predictions:
    """Read columns as `to_table` writes them, numbers or text; the first of `models` is the final one.

    Other models and kinds of forecast without a column are left out; a fact without a column is unknown.
    """
    names = tuple(str(name) for name in classes)  # grades are numbers in a configuration, text in a table
    facts = table.reindex(columns=FACTS).reset_index(drop=True)
    facts = facts.assign(**{name: pd.to_numeric(facts[name]) for name in ("frame", "time", "signal")})
    facts["label"] = [None if pd.isna(label) else str(label) for label in facts["label"]]
    by_name = {model: _read_model(table, names, _suffix(model, models[0])) for model in models}
    columns = {kind: _forecast_column(kind, models[0]) for kind in dict.fromkeys((*models, "linear", HOLD))}
    review = table["review"] if "review" in table else pd.Series("", index=table.index)
    return Predictions(
        classes=names,
        final_model=models[0],
        facts=facts,
        models={name: model for name, model in by_name.items() if model is not None},
        review=tuple("" if pd.isna(text) else str(text) for text in review),
        undefined=np.zeros(len(table), bool),
        explanations=tuple(table["explanation"].fillna("")) if "explanation" in table else None,
        forecasts={kind: _numbers(table, column) for kind, column in columns.items() if column in table},
    )


def _read_model(table: pd.DataFrame, classes: Sequence[str], suffix: str) -> ModelPredictions | None:
    """None where another model than the final one has no column."""
    probabilities = [probability_column(name, suffix) for name in classes]
    state, signal = f"predicted{suffix}", _signal_column(suffix)
    if suffix and not {state, signal, *probabilities} & set(table):
        return None
    texts = table[state] if state in table else pd.Series(None, index=table.index, dtype=object)
    predicted = np.array([None if pd.isna(text) else str(text) for text in texts], dtype=object)
    sets = None
    if not suffix and "prediction_set" in table:
        inside = [str(text).split(SEPARATOR) for text in table["prediction_set"]]
        sets = np.array([[name in row for name in classes] for row in inside], dtype=bool).reshape(len(table), -1)
    return ModelPredictions(
        predicted=predicted,
        probabilities=np.stack([_numbers(table, column) for column in probabilities], axis=1),  # (R, K)
        sets=sets,
        signal=_numbers(table, signal) if signal in table else None,
    )


def _numbers(table: pd.DataFrame, column: str) -> npt.NDArray[np.float64]:
    if column not in table:
        return np.full(len(table), np.nan)
    return pd.to_numeric(table[column]).to_numpy(np.float64, na_value=np.nan)
