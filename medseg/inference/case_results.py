"""Results of each case as JSON: diagnosis, probabilities, prediction set, explanation, features."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import pandas as pd

from medseg.diagnosis.clinical_rules import RetinopathyGrade, ScoreThreshold
from medseg.evaluation.predictions import Predictions
from medseg.features.tables import Tables
from medseg.inference.feature_rows import Rows
from medseg.typing import AnyArray
from medseg.utils.json import finite_or_none

N_SHOWN_FEATURES = 12  # features listed for a case, in the order of selection
Json = dict[str, Any]


def shown_units(tables: Tables, features: Iterable[list[Json]]) -> dict[str, str]:
    """Unit and definition of each listed feature, by name; "" if the tables have none."""
    return {row["name"]: tables.meaning(row["name"]) for rows in features for row in rows}


def case_records(
    predictions: Predictions,
    rows: Rows,
    selected: Sequence[str],
    moments: Mapping[str, Json],
    rule: ScoreThreshold | RetinopathyGrade | None,
) -> list[Json]:
    """One JSON object without NaN per row of `predictions`, which were made from `rows`.

    selected: names of features, most important first; moments: mean and standard deviation of each feature over the
    training cases, listed with its value; rule: the clinical rule, whose score breakdown is included.
    """
    names = dict.fromkeys(name.removesuffix(".slope") for name in selected)
    listed = [name for name in names if name in moments][:N_SHOWN_FEATURES]
    final, sets = predictions.final, predictions.final.prediction_sets(predictions.classes)
    explanations = predictions.explanations or [""] * len(predictions)
    records = []
    for index, facts in enumerate(predictions.facts.to_dict("records")):
        features = {str(name): _plain(value) for name, value in rows.features.iloc[index].items()}
        undefined = final.predicted[index] is None
        record: Json = {
            "case": str(facts["case"]),
            "frame": int(facts["frame"]),
            "label": None if pd.isna(facts["label"]) else str(facts["label"]),
            "diagnosis": final.predicted[index],
            "probability": finite_or_none(final.probability[index]),
            "prediction_set": sets[index],
            "abstain": len(sets[index]) != 1,
            "explanation": explanations[index],
            "review": predictions.review[index],
            "models": {
                name: _by_class(predictions.classes, None if undefined else model.probabilities[index])
                for name, model in predictions.models.items()
            },
            "features": [{"name": name, "value": features[name], **moments[name]} for name in listed],
            "rule": None if rule is None else _rule_lines(rule, rows.features.iloc[index]),
        }
        records.append(record)
    return records


def _by_class(classes: Sequence[str], probabilities: AnyArray | None) -> dict[str, float | None]:
    """Probabilities by class; None without a diagnosis."""
    if probabilities is None:
        return dict.fromkeys(classes)
    return {name: finite_or_none(p) for name, p in zip(classes, probabilities, strict=True)}


def _rule_lines(rule: ScoreThreshold | RetinopathyGrade, features: pd.Series[float]) -> list[Json]:
    lines = rule.sheet({str(name): value for name, value in features.items()})
    return [{key: _plain(value) for key, value in line.items()} for line in lines]


def _plain(value: Any) -> Any:
    """Numbers for JSON, see `finite_or_none`; text unchanged."""
    return value if isinstance(value, str) else finite_or_none(value)
