"""The part of a report that goes through sequences one by one: signal, states, forecast, measures."""

from __future__ import annotations

from pathlib import Path

import pandas as pd

from medseg.reports import diagnosis_plots as plots_diagnosis
from medseg.reports import plots
from medseg.reports.common import Json, png_data_uri
from medseg.utils.json import join_distinct

MOST = 20  # sequences shown one by one
LONG = 300  # frames: more do not fit a page's width
COLUMNS = {
    "time": "time (s)",
    "label": "true state",
    "predicted": "state",
    "p_": "p",
    "set": "allowed",
    "signal": "true signal",
    "signal_predicted": "signal",
    "signal_ahead": "foretold",
    "signal_ahead_linear": "foretold, linear",
}


def sequence_pages(content: Json, pictures: Path) -> Json:
    """At most `MOST` sequences of what `medseg diagnose` wrote, those for review first, then the least sure."""
    sheets = content.get("sequences", [])
    frames = pd.DataFrame(content["cases"]) if sheets else pd.DataFrame({"case": []})
    rows = {str(case): part.sort_values("frame") for case, part in frames.groupby("case", sort=False)}
    reviews = {case: _once(part) for case, part in rows.items()}
    order = sorted(sheets, key=lambda sheet: (not reviews[sheet["case"]], sheet["probability"] or 0.0))
    found = []
    for sheet in order[:MOST]:
        picture = pictures / f"{sheet['case']}.png"
        image = png_data_uri(picture.read_bytes()) if picture.is_file() else None
        page = {**sheet, "image": image, "review": reviews[sheet["case"]]}
        found.append(page | _frames(rows[sheet["case"]].head(LONG), content["classes"], sheet["forecast"]))
    return {"sequences": found, "sequences_left": len(order) - len(found)}


def _frames(part: pd.DataFrame, classes: list[str], forecast: Json | None) -> Json:
    """Figures of a sequence and its rows, a frame each; columns that nothing is known of are left out."""
    named = {"LSTM": ("predicted", "signal_predicted"), "linear": ("predicted_linear", "signal_linear")}
    names = [key for name in COLUMNS for key in ([f"p_{c}" for c in classes] if name == "p_" else [name])]
    columns = ["frame", *(name for name in names if name in part and part[name].notna().any())]
    table = part[columns].astype(object).where(part[columns].notna(), None)
    ahead = forecast["ahead_s"] if forecast else None
    return {
        "signal_image": png_data_uri(plots.breathing(part, classes, named)) if len(part) > 1 else None,
        "chance_image": png_data_uri(plots_diagnosis.plot_forecast(part, classes, ahead)) if len(part) > 1 else None,
        "titles": [COLUMNS.get(name, name.replace("p_", "p ")) for name in columns],
        "rows": [dict(zip(columns, row, strict=True)) for row in table.itertuples(index=False)],
        "shown": min(len(part), LONG),
    }


def _once(part: pd.DataFrame) -> str:
    """Why a person should look, each reason once."""
    if "review" not in part:
        return ""
    return join_distinct(part["review"])
