"""What a diagnosis says of each case, for a person and for a program: diagnosis, chances, set, reasons, measures."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd

from medseg.features.tables import Tables
from medseg.inference.stacked_classifier import StackedClassifier
from medseg.utils.json import finite_or_none

N_SHOWN_FEATURES = 12  # measures of a case, those that the model selected first
Json = dict[str, Any]


def diagnosis_records(classifier: StackedClassifier, tables: Tables, found: pd.DataFrame) -> Json:
    """All that is said of some cases, as one object. units: unit and definition of each measure it shows."""
    said = case_records(classifier, tables, found)
    return {
        "classes": list(classifier.inputs.classes),
        "use": classifier.use,
        "units": shown_units(tables, [sheet["measures"] for sheet in said]),
        "cases": said,
    }


def shown_units(tables: Tables, measures: Iterable[list[Json]]) -> dict[str, str]:
    """Unit and definition of each measure in some cases' rows, by name; blank where the tables do not say."""
    return {row["name"]: tables.meaning(row["name"]) for rows in measures for row in rows}


def case_records(classifier: StackedClassifier, tables: Tables, found: pd.DataFrame) -> list[Json]:
    """One object a row of `found`, which `classifier` said of `tables`; no NaN, so that it is JSON.

    measures: the value beside mean and standard deviation of the training cases. rule: what the clinic's rule makes of
    them, line by line.
    """
    rows = classifier.rows(tables)
    said = {
        name: classifier.calibrations[name].probabilities(chances) for name, chances in classifier.said(rows).items()
    }
    names = list(classifier.inputs.classes)
    moments = _moments(classifier)
    kept = [rows.names[column] for column in classifier.members.kept]
    base = dict.fromkeys(name.removesuffix(".slope") for name in kept)
    chosen = [name for name in base if name in classifier.inputs.names][:N_SHOWN_FEATURES]
    sheets = []
    for number, (_, row) in enumerate(found.iterrows()):
        measured = {str(name): _plain(value) for name, value in rows.measures.iloc[number].items()}
        sheet: Json = {
            "case": str(row["case"]),
            "frame": int(row["frame"]),
            "label": None if pd.isna(row["label"]) else str(row["label"]),
            "diagnosis": _plain(row["predicted"]),
            "probability": _plain(row["probability"]),
            "set": str(row["set"]).split(" | "),
            "abstain": bool(row["abstain"]),
            "why": row["why"],
            "review": row["review"],
            "models": {model: _chances(names, p[number], row["predicted"]) for model, p in said.items()},
            "measures": [{"name": name, "value": measured[name], **moments[name]} for name in chosen],
            "rule": None,
        }
        if classifier.rule is not None:
            lines = classifier.rule.sheet({str(name): value for name, value in rows.measures.iloc[number].items()})
            sheet["rule"] = [{key: _plain(value) for key, value in line.items()} for line in lines]
        sheets.append(sheet)
    return sheets


def _chances(classes: list[str], chances: npt.NDArray[np.float64], diagnosis: Any) -> dict[str, float | None]:
    """Probabilities by class; none where no diagnosis is given."""
    return {name: None if pd.isna(diagnosis) else _plain(p) for name, p in zip(classes, chances, strict=True)}


def _moments(classifier: StackedClassifier) -> dict[str, Json]:
    moments = classifier.inputs.moments
    if moments is None:
        return {name: {"mean": None, "sd": None} for name in classifier.inputs.names}
    both = zip(classifier.inputs.names, moments.mean, moments.sd, strict=False)
    return {name: {"mean": _plain(mean), "sd": _plain(sd)} for name, mean, sd in both}


def _plain(value: Any) -> Any:
    """Numbers for JSON, see `finite_or_none`; texts stay."""
    return value if isinstance(value, str) else finite_or_none(value)
