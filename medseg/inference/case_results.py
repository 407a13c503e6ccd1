"""What a diagnosis says of each case, for a person and for a program: diagnosis, chances, set, reasons, measures."""

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

N_SHOWN_FEATURES = 12  # measures of a case, those that the model selected first
Json = dict[str, Any]


def shown_units(tables: Tables, measures: Iterable[list[Json]]) -> dict[str, str]:
    """Unit and definition of each measure in some cases' rows, by name; blank where the tables do not say."""
    return {row["name"]: tables.meaning(row["name"]) for rows in measures for row in rows}


def case_records(
    predictions: Predictions,
    rows: Rows,
    selected: Sequence[str],
    moments: Mapping[str, Json],
    rule: ScoreThreshold | RetinopathyGrade | None,
) -> list[Json]:
    """One object a row of `predictions`, which were made of `rows`; no NaN, so that it is JSON.

    selected: names of features in order of their worth; moments: mean and standard deviation of each over the training
    cases, which its value stands beside; rule: what the clinic's rule makes of them, line by line.
    """
    base = dict.fromkeys(name.removesuffix(".slope") for name in selected)
    shown = [name for name in base if name in moments][:N_SHOWN_FEATURES]
    final, sets = predictions.final, predictions.final.prediction_sets(predictions.classes)
    explanations = predictions.explanations or [""] * len(predictions)
    records = []
    for place, facts in enumerate(predictions.facts.to_dict("records")):
        measured = {str(name): _plain(value) for name, value in rows.measures.iloc[place].items()}
        told = final.predicted[place] is not None
        record: Json = {
            "case": str(facts["case"]),
            "frame": int(facts["frame"]),
            "label": None if pd.isna(facts["label"]) else str(facts["label"]),
            "diagnosis": final.predicted[place],
            "probability": finite_or_none(final.probability[place]),
            "prediction_set": sets[place],
            "abstain": len(sets[place]) != 1,
            "explanation": explanations[place],
            "review": predictions.review[place],
            "models": {
                name: _chances(predictions.classes, model.probabilities[place] if told else None)
                for name, model in predictions.models.items()
            },
            "measures": [{"name": name, "value": measured[name], **moments[name]} for name in shown],
            "rule": None if rule is None else _rule_lines(rule, rows.measures.iloc[place]),
        }
        records.append(record)
    return records


def _chances(classes: Sequence[str], probabilities: AnyArray | None) -> dict[str, float | None]:
    """Probabilities by class; none where no diagnosis is given."""
    if probabilities is None:
        return dict.fromkeys(classes)
    return {name: finite_or_none(p) for name, p in zip(classes, probabilities, strict=True)}


def _rule_lines(rule: ScoreThreshold | RetinopathyGrade, measures: pd.Series[float]) -> list[Json]:
    lines = rule.sheet({str(name): value for name, value in measures.items()})
    return [{key: _plain(value) for key, value in line.items()} for line in lines]


def _plain(value: Any) -> Any:
    """Numbers for JSON, see `finite_or_none`; texts stay."""
    return value if isinstance(value, str) else finite_or_none(value)
