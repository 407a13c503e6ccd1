"""The part of a report that goes through sequences one by one: signal, states, forecast, measures."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd

from medseg.evaluation.predictions import Predictions, from_table, probability_column, to_table
from medseg.reports import diagnosis_plots as plots_diagnosis
from medseg.reports import plots
from medseg.reports.common import Json, png_data_uri
from medseg.utils.json import join_distinct

MOST = 20  # sequences shown one by one
LONG = 300  # frames: more do not fit a page's width
MODELS = ("lstm", "linear")  # whose answers are shown over time
MODEL_TITLES = {"lstm": "LSTM"}
TITLES = {  # of columns of OUT.csv, in the order in which they are shown; None: the probability of each class
    "frame": "frame",
    "time": "time (s)",
    "label": "true state",
    "predicted": "state",
    None: "p",
    "prediction_set": "allowed",
    "signal": "true signal",
    "signal_predicted": "signal",
    "signal_forecast": "foretold",
    "signal_forecast_linear": "foretold, linear",
}


def sequence_pages(content: Json, pictures: Path) -> Json:
    """At most `MOST` sequences of what `medseg diagnose` wrote, those for review first, then the least sure."""
    sheets = content.get("sequences", [])
    frames = pd.DataFrame(content["cases"]).sort_values("frame") if sheets else pd.DataFrame({"case": []})
    rows = dict(from_table(frames, content["classes"], MODELS).by_case())
    reviews = {case: join_distinct(part.review) for case, part in rows.items()}
    order = sorted(sheets, key=lambda sheet: (not reviews[sheet["case"]], sheet["probability"] or 0.0))
    found = []
    for sheet in order[:MOST]:
        picture = pictures / f"{sheet['case']}.png"
        image = png_data_uri(picture.read_bytes()) if picture.is_file() else None
        page = {**sheet, "image": image, "review": reviews[sheet["case"]]}
        part = rows[sheet["case"]]
        found.append(page | _frames(part.rows(np.arange(min(len(part), LONG))), sheet["forecast"]))
    return {"sequences": found, "sequences_left": len(order) - len(found)}


def _frames(part: Predictions, forecast: Json | None) -> Json:
    """Figures of a sequence and its rows, a frame each; columns that nothing is known of are left out."""
    titles: dict[str, str] = {}
    for name, title in TITLES.items():
        own = {probability_column(c): f"{title} {c}" for c in part.classes} if name is None else {name: title}
        titles |= own
    table = to_table(part)
    titles = {name: title for name, title in titles.items() if name in table and table[name].notna().any()}
    table = table[list(titles)].astype(object).where(table[list(titles)].notna(), None)
    ahead = forecast["ahead_s"] if forecast else None
    drawn = len(part) > 1
    return {
        "signal_image": png_data_uri(plots.breathing(part, MODEL_TITLES)) if drawn else None,
        "chance_image": png_data_uri(plots_diagnosis.plot_forecast(part, ahead)) if drawn else None,
        "titles": list(titles.values()),
        "rows": [dict(zip(titles, row, strict=True)) for row in table.itertuples(index=False)],
        "shown": len(part),
    }
