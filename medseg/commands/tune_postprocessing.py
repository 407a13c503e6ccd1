"""`medseg tune-postprocessing`: select post-processing steps on held-out patients."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import SimpleITK as sitk
import yaml

from medseg.config.components import build
from medseg.config.compose import config_dir
from medseg.config.load import get_labels, load
from medseg.data.ground_truth import read_masks
from medseg.data.tables import read_table
from medseg.errors import ConfigError, DataError
from medseg.evaluation.overlap import dice
from medseg.inference.segmenter import postprocess
from medseg.io.labels import Labels
from medseg.runs.run import Run
from medseg.segmentation.postprocessing import MinimumSize
from medseg.segmentation.within_field import WithinField
from medseg.utils.console import progress, say, table
from medseg.utils.files import atomic_write_text

Pairs = list[tuple[sitk.Image, sitk.Image]]
Rules = dict[str, dict[str, Any]]
Sizes = dict[str, dict[str, float]]
# of a label's mean size: components below the first are rarely organs, below the second they are specks
SIZE_FRACTIONS = (0.1, 0.01)


def tune_postprocessing(runs: list[Run], out: Path) -> list[str]:
    """Try every step of the group `postprocess` on the held-out predictions of `runs`; write the helpful ones as YAML.

    A step is selected if no label's mean Dice falls and one rises, on top of the steps selected before. A minimum size
    is tried by label, as fractions of the label's mean size in the training masks. The field of view is not tried: it
    needs the raw images, and removes only what cannot be right. Returns the selected names. Raises `ConfigError` if a
    run already has post-processing, or the runs have different labels.
    """
    settings = [load(run.file("config.yaml")) for run in runs]
    labels = get_labels(settings[0])
    for run, config in zip(runs, settings, strict=True):
        if get_labels(config) != labels:
            raise ConfigError(f"{run.named}: has other labels than {runs[0].named}; tune one organ at a time")
        if config.postprocess:
            raise ConfigError(f"{run.named}: was evaluated with post-processing; train it with postprocess=none")
    pairs = _pairs(runs, labels)
    rules = _rules(labels, _sizes(runs, labels))
    selected: Rules = {}
    best = scores(pairs, [], labels)
    rows = [["none", *map(_shown, best), ""]]
    with progress("tune", len(rules)) as bar:
        for name, rule in rules.items():
            new_scores = scores(pairs, [*map(build, selected.values()), build(rule)], labels)
            helps = improvements(best, new_scores)
            rows.append([name, *map(_shown, new_scores), "selected" if helps else "rejected"])
            if helps:
                selected[name], best = rule, new_scores
            bar.advance(1, name)
    table(f"mean Dice of {len(pairs)} held-out cases", ["rule", *labels.numbers, ""], rows)
    head = f"# Steps that improved {len(pairs)} held-out cases of {len(runs)} runs and made no label worse.\n"
    names = {name.replace(".", "_"): rule for name, rule in selected.items()}
    atomic_write_text(out, head + yaml.safe_dump(names, sort_keys=False))
    text = f"written: {out}; put it in postprocess/ of your own config folder and use postprocess={out.stem}"
    say(text, "config_dir=FOLDER")
    return list(selected)


def scores(pairs: Pairs, rules: list[Any], labels: Labels) -> list[float]:
    """Mean Dice of each label over the cases with it in reference or prediction; NaN without such cases."""
    table: list[list[float]] = []
    for mask, truth in pairs:
        predicted = sitk.GetArrayFromImage(postprocess(mask, rules, labels))
        reference = sitk.GetArrayFromImage(truth)
        row = []
        for name in labels.numbers:
            a, b = labels.layer(predicted, name), labels.layer(reference, name)
            row.append(dice(a, b) if a.any() or b.any() else np.nan)
        table.append(row)
    columns = np.array(table).T
    return [float(np.nanmean(column)) if not np.isnan(column).all() else float("nan") for column in columns]


def improvements(before: list[float], after: list[float], min_gain: float = 1e-4) -> bool:
    """Whether no label got worse and one got better by at least `min_gain`."""
    known = [(a, b) for a, b in zip(before, after, strict=True) if not (np.isnan(a) or np.isnan(b))]
    return all(b >= a - 1e-9 for a, b in known) and any(b >= a + min_gain for a, b in known)


def _pairs(runs: list[Run], labels: Labels) -> Pairs:
    pairs: Pairs = []
    for run in runs:
        file = run.file("evaluation.csv")
        if not file.is_file():
            raise DataError(f"{run.named}: has no held-out cases to tune on")
        for case in dict.fromkeys(read_table(file)["case"]):
            name = f"{case}.nii.gz"
            folders = (run.file("predictions"), run.file("truth"))
            mask, truth = (read_masks(folder / name, labels) for folder in folders)
            pairs.append((mask, truth))
    return pairs


def _rules(labels: Labels, sizes: Sizes) -> Rules:
    """Every distinct step of every choice of the group, as choice.step; a minimum size for each label and fraction.

    Choices with the field of view are skipped: they need the image, which a run does not keep.
    """
    rules: Rules = {}
    for file in sorted((config_dir() / "postprocess").glob("*.yaml")):
        steps = yaml.safe_load(file.read_text(encoding="utf-8")) or {}
        if any(rule["_target_"].endswith(f".{WithinField.__name__}") for rule in steps.values()):
            continue
        for name, rule in steps.items():
            sized = rule["_target_"].endswith(f".{MinimumSize.__name__}")
            for key, variant in (_minima(name, rule, labels, sizes) if sized else {name: rule}).items():
                if variant not in rules.values():
                    rules[f"{file.stem}.{key}"] = variant
    return rules


def _minima(name: str, rule: dict[str, Any], labels: Labels, sizes: Sizes) -> Rules:
    """A minimum-size step for each label and fraction, largest first; unchanged if no size is known."""
    minima = {
        f"{name}_{label}_{fraction:.0%}".rstrip("%"): rule | {unit: float(f"{fraction * size:.3g}"), "labels": [number]}
        for label, number in labels.numbers.items()
        for unit, size in sizes.get(label, {}).items()
        for fraction in SIZE_FRACTIONS
    }
    return minima or {name: rule}


def _sizes(runs: list[Run], labels: Labels) -> Sizes:
    """Mean size of each label in an annotated training case: {"mm2": …} for 2D images, {"mm3": …} for volumes."""
    by_label: dict[str, dict[str, list[float]]] = {}
    for run in runs:
        facts = run.read_json("fingerprint.json")
        unit = {2: "mm2", 3: "mm3"}.get(len(facts["spacing_mm"]))
        for label in labels.numbers:
            voxels, cases = facts["voxels"].get(label), facts["annotated"].get(label)
            if unit and voxels and cases:
                size = voxels / cases * float(np.prod(facts["spacing_mm"]))
                by_label.setdefault(label, {}).setdefault(unit, []).append(size)
    return {label: {unit: float(np.mean(sizes)) for unit, sizes in row.items()} for label, row in by_label.items()}


def _shown(value: float) -> str:
    return "–" if np.isnan(value) else f"{value:.4f}"
