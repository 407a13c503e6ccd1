"""Section of a report with a page per sequence: signal, states, forecast, features."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd

from medseg.evaluation.predictions import Predictions, from_table, probability_column, to_table
from medseg.reports import diagnosis_plots as plots_diagnosis
from medseg.reports import plots
from medseg.reports.common import Json, png_data_uri
from medseg.utils.json import join_distinct

MAX_SEQUENCES = 20  # maximum sequences with a page
LONG = 300  # maximum frames per page
MODELS = ("lstm", "linear")  # models with predictions over time
MODEL_TITLES = {"lstm": "LSTM"}
TITLES = {  # titles of columns of OUT.csv, in order; None: the probability of each class
    "frame": "frame",
    "time": "time (s)",
    "label": "true state",
    "predicted": "state",
    None: "p",
    "prediction_set": "prediction set",
    "signal": "true signal",
    "signal_predicted": "signal",
    "signal_forecast": "forecast",
    "signal_forecast_linear": "forecast, linear",
}


def sequence_pages(content: Json, folder: Path) -> Json:
    """Pages of at most `MAX_SEQUENCES` sequences of `medseg diagnose`: for review first, then by confidence."""
    sequences = content.get("sequences", [])
    frames = pd.DataFrame(content["cases"]).sort_values("frame") if sequences else pd.DataFrame({"case": []})
    rows = dict(from_table(frames, content["classes"], MODELS).by_case())
    reviews = {case: join_distinct(case_rows.review) for case, case_rows in rows.items()}
    order = sorted(sequences, key=lambda sequence: (not reviews[sequence["case"]], sequence["probability"] or 0.0))
    pages = []
    for sequence in order[:MAX_SEQUENCES]:
        file = folder / f"{sequence['case']}.png"
        image = png_data_uri(file.read_bytes()) if file.is_file() else None
        page = {**sequence, "image": image, "review": reviews[sequence["case"]]}
        case_rows = rows[sequence["case"]]
        pages.append(page | _frames(case_rows.rows(np.arange(min(len(case_rows), LONG))), sequence["forecast"]))
    return {"sequences": pages, "sequences_left": len(order) - len(pages)}


def _frames(case_rows: Predictions, forecast: Json | None) -> Json:
    """Figures of a sequence and its rows, one per frame, without empty columns."""
    titles: dict[str, str] = {}
    for name, title in TITLES.items():
        column_titles = (
            {probability_column(c): f"{title} {c}" for c in case_rows.classes} if name is None else {name: title}
        )
        titles |= column_titles
    table = to_table(case_rows)
    titles = {name: title for name, title in titles.items() if name in table and table[name].notna().any()}
    table = table[list(titles)].astype(object).where(table[list(titles)].notna(), None)
    ahead = forecast["ahead_s"] if forecast else None
    has_figures = len(case_rows) > 1
    return {
        "signal_image": png_data_uri(plots.breathing(case_rows, MODEL_TITLES)) if has_figures else None,
        "chance_image": png_data_uri(plots_diagnosis.plot_forecast(case_rows, ahead)) if has_figures else None,
        "titles": list(titles.values()),
        "rows": [dict(zip(titles, row, strict=True)) for row in table.itertuples(index=False)],
        "shown": len(case_rows),
    }
