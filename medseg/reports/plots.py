"""Figures as PNG bytes: training curves, Dice strips, overlays, breathing signals. Colours are Okabe and Ito's."""

from __future__ import annotations

import io
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import matplotlib as mpl
import numpy as np
import pandas as pd
import SimpleITK as sitk
from matplotlib.axes import Axes
from matplotlib.colors import ListedColormap
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from medseg.evaluation.predictions import Predictions
from medseg.typing import AnyArray
from medseg.utils.files import atomic_write_bytes

BLUE, ORANGE, GREEN, RED, SKY, PURPLE = "#0072B2", "#E69F00", "#009E73", "#D55E00", "#56B4E9", "#CC79A7"
PALETTE = (BLUE, ORANGE, GREEN, RED, SKY, PURPLE)
GREY = "#5f6b76"
STYLE: dict[Any, Any] = {
    "font.size": 8,
    "axes.titlesize": 8.5,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.edgecolor": GREY,
    "axes.grid": True,
    "grid.color": "#e3e7ea",
    "axes.axisbelow": True,
    "legend.frameon": False,
}
WIDTH = 7.4  # inches: a report's column
MAX_PIXELS = 1000  # along an axis of an overlay; larger images are subsampled
THIN = 8  # slices: stacks with fewer have no coronal view


def curves(history: pd.DataFrame, path: Path) -> None:
    """Write the training curves as PNG to `path` (see `curves_png`)."""
    atomic_write_bytes(path, curves_png(history))


def curves_png(history: pd.DataFrame) -> bytes:
    """Losses, other validation scores and learning rate over training samples, from history.csv's columns.

    `history` has samples (or step), lr, train_loss, valid_loss and any further valid_<score>; gaps are bridged.
    """
    by = "samples" if "samples" in history else "step"
    losses = [name for name in ("train_loss", "valid_loss") if name in history and history[name].notna().any()]
    scores = [str(name) for name in history if str(name).startswith("valid_") and name != "valid_loss"]
    rate = ["lr"] if "lr" in history else []
    panels = [panel for panel in (("loss", losses), ("validation", scores), ("learning rate", rate)) if panel[1]]
    with mpl.rc_context(STYLE):
        figure = Figure(figsize=(WIDTH, 2.6), layout="constrained")
        for axes, (title, names) in zip(_row(figure, len(panels)), panels, strict=True):
            for colour, name in zip(PALETTE, names, strict=False):
                known = history.dropna(subset=[name])
                mark = "o" if len(known) == 1 else None
                axes.plot(known[by], known[name], color=colour, lw=1.5, marker=mark, label=_words(name))
            axes.set_title(title, loc="left")
            axes.set_xlabel("training samples" if by == "samples" else by)
            if len(names) > 1 or title == "validation":
                axes.legend()
        return png(figure)


def strip(rows: pd.DataFrame, labels: Sequence[str], means: Mapping[str, Mapping[str, Any]]) -> bytes:
    """Dice of every case, a row of dots per label, with the mean and its interval (`means`: label to estimate)."""
    with mpl.rc_context(STYLE):
        figure = Figure(figsize=(WIDTH, 0.7 + 0.55 * len(labels)), layout="constrained")
        axes = figure.add_subplot()
        for row, name in enumerate(labels):
            dice = rows.loc[rows["label"] == name, "dice"].dropna().to_numpy(dtype=np.float64)
            # dots side by side in a fixed order: equal values stay visible, the figure is the same every time
            offsets = np.resize([0.0, 0.12, -0.12, 0.2, -0.2], dice.size)
            axes.scatter(np.sort(dice), row + offsets, s=22, color=BLUE, alpha=0.65, linewidths=0)
            mean, interval = means[name].get("mean"), means[name].get("ci95")
            if isinstance(interval, list):
                axes.plot(interval, [row + 0.34] * 2, color=RED, lw=2.5, solid_capstyle="butt")
            if isinstance(mean, float):
                axes.plot([mean], [row + 0.34], "D", color=RED, ms=5)
        axes.set_yticks(range(len(labels)), [_words(name) for name in labels])
        axes.set_ylim(len(labels) - 0.45, -0.45)
        axes.set_xlabel("Dice  (dots: cases; diamond and bar: mean and 95 % interval)")
        low = rows["dice"].min()
        axes.set_xlim(max(0.0, np.floor(low * 20 - 0.5) / 20) if low > 0.5 else -0.02, 1.005)
        return png(figure)


@dataclass(frozen=True)
class Plane:
    """One slice to draw: image (rows, columns[, 3]), two masks, width and height in mm."""

    title: str
    image: AnyArray
    truth: AnyArray
    pred: AnyArray
    extent: tuple[float, float]


def overlay(
    image: sitk.Image,
    truth: sitk.Image,
    pred: sitk.Image,
    labels: Mapping[str, int] | None = None,
    window: Sequence[float] | None = None,
) -> bytes:
    """Outlines of ground truth and prediction over the image: axial and coronal in 3D, the image itself in 2D.

    All on one 2D or 3D grid. The planes shown are those with the most foreground; radiological sides (patient's
    right on the left). `labels`: values to outline; None: all. `window` is (low, high) of the display; None: the
    0.5th to 99.5th percentile.
    """
    is_volume = image.GetDimension() == 3
    if is_volume:
        image, truth, pred = (sitk.DICOMOrient(volume, "LPS") for volume in (image, truth, pred))
    pixels, *masks = (sitk.GetArrayFromImage(volume) for volume in (image, truth, pred))
    if labels:
        masks = [np.where(np.isin(mask, list(labels.values())), mask, 0) for mask in masks]
    low, high = window or np.percentile(pixels, [0.5, 99.5])
    if image.GetNumberOfComponentsPerPixel() > 1:  # matplotlib windows grey images only
        pixels = np.clip((pixels - low) / max(high - low, 1e-9), 0, 1)
    spacing = image.GetSpacing()[::-1]
    # stacks of a few slices have no coronal view
    axes_cut = ([0, 1] if pixels.shape[0] >= THIN else [0]) if is_volume else []
    planes = [_slice([pixels, *masks], axis, spacing) for axis in axes_cut] or [_plane("", [pixels, *masks], spacing)]
    ratios = [plane.extent[0] / plane.extent[1] for plane in planes]
    height = min(4.2, WIDTH / sum(ratios))
    with mpl.rc_context(STYLE):
        figure = Figure(figsize=(height * sum(ratios), height + 0.65), layout="constrained")
        for axes, plane in zip(_row(figure, len(planes), ratios), planes, strict=True):
            axes.imshow(plane.image, cmap="gray", vmin=low, vmax=high, extent=(0, *plane.extent, 0))
            _draw_outlines(axes, plane, sides=is_volume)
        lines = [Line2D([], [], color=SKY, lw=2.2), Line2D([], [], color=ORANGE, lw=1.2, ls="--")]
        figure.legend(lines, ["truth", "prediction"], loc="outside lower center", ncols=2)
        return png(figure)


def _slice(volumes: list[AnyArray], axis: int, spacing: Sequence[float]) -> Plane:
    """The slice across `axis` (0 axial, 1 coronal) with the most foreground; superior is up. Volumes (Z, Y, X)."""
    in_plane = [k for k in range(3) if k != axis]
    index = int(((volumes[1] > 0) | (volumes[2] > 0)).sum(axis=tuple(in_plane)).argmax())
    title = f"{('axial', 'coronal')[axis]}, slice {index + 1} of {volumes[0].shape[axis]}"
    layers = [volume[index] if axis == 0 else volume[::-1, index] for volume in volumes]
    return _plane(title, layers, [spacing[k] for k in in_plane])


def _plane(title: str, layers: list[AnyArray], spacing: Sequence[float]) -> Plane:
    """Image, ground truth and prediction (rows, columns) cropped to the foreground, subsampled if very large."""
    foreground = (layers[1] > 0) | (layers[2] > 0)
    rows, columns = (_around(np.asarray(foreground.any(axis=1 - k))) for k in (0, 1))
    step = 1 + max(rows.stop - rows.start, columns.stop - columns.start) // MAX_PIXELS
    image_, truth, pred = (layer[rows, columns][::step, ::step] for layer in layers)
    extent = (columns.stop - columns.start) * spacing[1], (rows.stop - rows.start) * spacing[0]
    return Plane(title, image_, truth, pred, extent)


def _around(used: AnyArray) -> slice:
    """From the first to the last True with a margin of a fifth (at least 10), or everything if none is True."""
    indices = np.flatnonzero(used)
    if not indices.size:
        return slice(0, used.size)
    margin = max(10, int(0.2 * (indices[-1] - indices[0])))
    return slice(max(0, int(indices[0]) - margin), min(used.size, int(indices[-1]) + margin + 1))


def _draw_outlines(axes: Axes, plane: Plane, sides: bool) -> None:
    width, height = plane.extent
    for mask, colour, weight, style in ((plane.truth, SKY, 2.2, "-"), (plane.pred, ORANGE, 1.2, "--")):
        rows, columns = mask.shape
        # a border of background closes outlines at the edge of the image
        y = (np.arange(rows + 2) - 0.5) * height / rows
        x = (np.arange(columns + 2) - 0.5) * width / columns
        for value in set(np.unique(mask).tolist()) - {0}:
            inside = np.pad(mask == value, 1).astype(float)
            axes.contour(x, y, inside, levels=[0.5], colors=colour, linewidths=weight, linestyles=style)
    axes.set(xlim=(0, width), ylim=(height, 0), xticks=[], yticks=[])
    axes.set_title(plane.title, loc="left", color=GREY)
    axes.spines[:].set_visible(False)
    for x_position, letter in ((0.03, "R"), (0.97, "L")) if sides else ():
        axes.text(
            x_position, 0.97, letter, transform=axes.transAxes, color="white", va="top", ha="center", weight="bold"
        )


def breathing(case: Predictions, titles: Mapping[str, str]) -> bytes:
    """True and predicted signal over time, each in its own standard deviations, and bars of the states below.

    `case`: one case's rows in order; `titles`: display names of models. Without a signal the probabilities of the last
    class are plotted.
    """
    facts, models = case.facts, {titles.get(name, name): case.models[name] for name in case.model_order}
    timed = bool(facts["time"].notna().all())
    time = facts["time" if timed else "frame"].to_numpy(dtype=np.float64)
    bars = {"truth": facts["label"].to_numpy()} | {title: model.predicted for title, model in models.items()}
    bars = {title: states for title, states in bars.items() if pd.notna(states).any()}
    lines = {"truth": facts["signal"].to_numpy(np.float64)}
    lines |= {title: model.signal for title, model in models.items() if model.signal is not None}
    lines = {title: values for title, values in lines.items() if np.isfinite(values).any()}
    probabilities = {f"p({case.classes[-1]})": case.final.probabilities[:, -1]}
    with mpl.rc_context(STYLE):
        figure = Figure(figsize=(WIDTH, 2.5 + 0.22 * len(bars)), layout="constrained")
        upper, lower = figure.subplots(2, 1, sharex=True, height_ratios=[2.1, 0.24 * len(bars)])
        for title, values in (lines or probabilities).items():
            order = list(models).index(title) if title in models else 0
            colour_style = (
                {"color": "black", "lw": 1.8} if title == "truth" else {"color": (BLUE, RED, GREEN)[order % 3]}
            )
            style = "-" if title == "truth" else ("--", ":")[order % 2]
            upper.plot(time, _standardised(values) if lines else values, label=title, ls=style, **colour_style)
        upper.set_ylabel("signal (SD)" if lines else "probability")
        upper.legend(loc="lower right", bbox_to_anchor=(1.0, 1.0), ncols=len(lines) or 1)
        _draw_states(lower, time, bars, case.classes)
        lower.set_xlabel("time (s)" if timed else "frame")
        return png(figure)


def _standardised(signal: AnyArray) -> AnyArray:
    """Mean 0 and standard deviation 1: a true signal may be in mm or mL, a predicted one has no unit."""
    deviation = float(np.nanstd(signal))
    return np.asarray((signal - np.nanmean(signal)) / (deviation if deviation > 0 else 1.0))


def _draw_states(axes: Axes, time: AnyArray, bars: Mapping[str, AnyArray], classes: Sequence[str]) -> None:
    """A bar of coloured cells per series of states; cells reach halfway to the neighbouring frames."""
    middles = (time[1:] + time[:-1]) / 2
    first, last = (
        (time[0] * 2 - middles[0], time[-1] * 2 - middles[-1]) if len(time) > 1 else (time[0] - 0.5, time[0] + 0.5)
    )
    edges = np.concatenate([[first], middles, [last]])
    codes = np.array([[_class_index(classes, state) for state in states] for states in bars.values()])
    colours = ListedColormap([_state_colour(k) for k in range(len(classes))])
    rows = np.arange(len(bars) + 1) - 0.5
    axes.pcolormesh(edges, rows, np.ma.masked_less(codes, 0), cmap=colours, vmin=-0.5, vmax=len(classes) - 0.5)
    for row in range(1, len(bars)):
        axes.axhline(row - 0.5, color="white", lw=2)
    axes.set_yticks(range(len(bars)), list(bars))
    axes.set_ylim(len(bars) - 0.5, -0.5)
    axes.grid(visible=False)
    keys = [Line2D([], [], color=_state_colour(k), lw=6) for k in range(len(classes))]
    axes.legend(keys, list(classes), loc="upper left", bbox_to_anchor=(1.0, 1.1), handlelength=1)


def _state_colour(index: int) -> str:
    """Alternating pale and dark colours, so that two states also differ in grey print."""
    return ("#F3D58A", BLUE, GREEN, PURPLE, SKY, RED)[index % 6]


def _class_index(classes: Sequence[str], state: object) -> int:
    return list(classes).index(str(state)) if str(state) in classes else -1


def _row(figure: Figure, count: int, ratios: Sequence[float] | None = None) -> list[Axes]:
    """`count` axes side by side."""
    return list(figure.subplots(1, max(count, 1), squeeze=False, width_ratios=ratios)[0])[:count]


def _words(name: str) -> str:
    return str(name).replace("_", " ")


def png(figure: Figure) -> bytes:
    """PNG of a figure, the same bytes for the same figure."""
    target = io.BytesIO()
    figure.savefig(target, format="png", dpi=140, metadata={"Software": None})
    return target.getvalue()
