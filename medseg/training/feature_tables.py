"""Features of the cases of a training: extracted once, split, checked."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any, Literal, NamedTuple

import numpy as np
import pandas as pd

from medseg.batch.case_log import CaseLog
from medseg.config.checks import did_you_mean
from medseg.config.load import get_labels
from medseg.config.settings import Settings
from medseg.data.cases import Case
from medseg.data.masks import MaskFolder, ground_truth_masks
from medseg.data.readers import FEATURES
from medseg.data.splits import evaluation_split
from medseg.errors import ConfigError, DataError
from medseg.features.missing_labels import informative_absence
from medseg.features.sequences import cohort, feature_columns
from medseg.features.tables import Tables, read_tables, write_tables
from medseg.inference.encoder import load_encoder
from medseg.inference.extractor import ExtractionContext, Extractor, LabelPresence, extract_cases
from medseg.inference.feature_inputs import FeatureSchema, to_json
from medseg.inference.out_of_fold import describe_mask_source, provenance_of
from medseg.inference.quality_gate import TrainingImageStats
from medseg.inference.sequence_results import cohort_statistics
from medseg.reports.overlays import OverlayFolder
from medseg.runs.run import Run
from medseg.utils.console import warn
from medseg.utils.files import write_json

PICTURES = 60  # held-out cases that the run keeps a picture of, for its report


class FeatureSplits(NamedTuple):
    """What a diagnoser learns from and is judged by. reported: the split of `held`; masks: where theirs came from."""

    ledger: CaseLog
    train: Tables
    held: Tables
    inputs: FeatureSchema
    reported: str | None
    masks: str


def prepare_features(config: Settings, run: Run, cases: list[Case], synthetic: bool) -> FeatureSplits:
    """Measure all cases; what they are read as and what they look like is kept in the run."""
    ledger = CaseLog(run.file("cases.csv"))
    looks, masks = TrainingImageStats(config), describe_mask_source(config, cases)
    tables = extract_tables(config, run, cases, ledger, looks)
    reported = evaluation_split(cases)
    train = select_cases(tables, [case.id for case in cases if case.split == "train"])
    held = select_cases(tables, [case.id for case in cases if case.split == reported != "train"])
    check_labels(train.frames, held.frames, list(config.organ.classes))
    inputs = build_feature_schema(config, train)
    write_json(run.file("feature_schema.json"), to_json(inputs))
    write_json(run.file("fingerprint.json"), feature_fingerprint(config, train, synthetic) | looks.summary())
    return FeatureSplits(ledger, train, held, inputs, reported, masks)


def extract_tables(config: Settings, run: Run, cases: list[Case], ledger: CaseLog, looks: TrainingImageStats) -> Tables:
    """features.csv of the dataset where it has one, else measured now, with `looks` of the images; kept in the run."""
    root = Path(config.data.root) if config.data.root is not None else None
    if root is not None and (root / FEATURES).is_file():
        if config.data.encoder is not None:
            raise ConfigError(f"data.encoder sees images, but {root / FEATURES} is measured already; name their folder")
        tables = read_tables(root / FEATURES)
    else:
        labels = get_labels(config)
        extractor = build_extractor(config, run, cases)
        masks = ground_truth_masks(labels) if any(case.annotated for case in cases) else None
        if config.data.masks is not None and root is not None:
            masks = MaskFolder(root, Path(config.data.masks), labels)
        side = evaluation_split(cases)
        wanted = sorted({case.id for case in cases if case.split == side})[:PICTURES]
        overlays = OverlayFolder(run.file("pictures"), labels, config.data.time_axis, wanted)
        context = ExtractionContext(stats=looks, overlays=overlays)
        tables = extract_cases(cases, extractor, masks, ledger, context)
    write_tables(tables, run.file(FEATURES))
    return tables


def build_extractor(config: Settings, run: Run, cases: list[Case]) -> Extractor:
    """What measures as the settings say, and which class a slice has."""
    organ, side = config.organ, evaluation_split(cases)
    present = (
        LabelPresence(str(organ.slice_label_from), *map(str, organ.classes))
        if organ.slice_label_from is not None
        else None
    )
    reported = sorted({str(case.patient) for case in cases if case.split == side and side != "train"})
    encoder = load_encoder(config, run, reported)
    return Extractor(config.features, get_labels(config), config.data.time_axis, present, encoder)


def select_cases(tables: Tables, names: list[str]) -> Tables:
    """The rows of some cases."""
    frames = tables.frames[tables.frames["case"].isin(names)]
    steps = None if tables.steps is None else tables.steps[tables.steps["case"].isin(names)]
    return tables._replace(frames=frames, steps=steps)


def check_labels(train: pd.DataFrame, held: pd.DataFrame, classes: list[str]) -> None:
    """Raises `DataError` for a label that is no class, or where fewer than two classes are to be learnt from."""
    labels, judged = (
        frames["label"].dropna().astype(str) if "label" in frames else pd.Series(dtype=str) for frames in (train, held)
    )
    unknown = sorted({*labels, *judged} - set(classes))
    if unknown:
        both = pd.concat([train, held])
        first = both.loc[both["label"].astype(str) == unknown[0], "case"].iloc[0]
        raise DataError(
            f"{first}: label {unknown[0]!r} is not one of organ.classes {classes}{did_you_mean(unknown[0], classes)}; "
            "name them all: 'organ.classes=[…]', or the right column with data.label_column=…"
        )
    if labels.nunique() < 2:
        raise DataError(
            f"the training cases show {sorted(set(labels)) or 'no label'}; at least two of {classes} are needed"
        )
    if absent := [name for name in classes if name not in set(labels)]:
        rest = ",".join(name for name in classes if name not in absent)
        warn(f"no training case is {' or '.join(absent)}: never diagnosed; without it: 'organ.classes=[{rest}]'")


def build_feature_schema(config: Settings, train: Tables) -> FeatureSchema:
    """What a diagnoser will read: the measures of the training table, and their moments where they are compared."""
    settings, names = config.classifier, feature_columns(train.frames)
    labelled = train.frames.dropna(subset="label")
    slopes: Literal["", "central", "backward"] = ""
    if settings.slopes:
        slopes = "central" if settings.network.bidirectional else "backward"
    inputs = FeatureSchema(
        classes=tuple(config.organ.classes),
        names=names,
        step_names=() if train.steps is None else feature_columns(train.steps),
        levels=settings.profile_length or _most_steps(train),
        resample=settings.profile_length > 0,
        slopes=slopes,
        per="frame" if config.organ.target_level == "frame" else "sequence",
        signal="signal" in train.frames and bool(train.frames["signal"].notna().any()),
        moments=None,
        telling=informative_absence(
            labelled[list(names)].to_numpy(np.float64), names, labelled["label"].astype(str).to_numpy()
        ),
        retrospective=tuple(name for name in names if name in train.retrospective),
    )
    if settings.normalise == "case":
        return inputs
    return replace(inputs, moments=cohort(inputs.raw(train)))


def _most_steps(train: Tables) -> int:
    """How many sectors or quadrants a frame has."""
    return 0 if train.steps is None else int(train.steps["step"].max()) + 1


def feature_fingerprint(config: Settings, train: Tables, synthetic: bool) -> dict[str, Any]:
    """What the model was trained on, in numbers, and whether its masks were made out of fold."""
    return {
        "synthetic": synthetic,
        "cases": int(train.frames["case"].nunique()),
        "patients": int(train.frames["patient"].nunique()) if "patient" in train.frames else None,
        "frames": len(train.frames),
        "labels": {str(k): int(v) for k, v in train.frames["label"].value_counts().items()},
        "measures": cohort_statistics(train.frames, feature_columns(train.frames)),
        "masks": provenance_of(Path(config.data.masks)) if config.data.masks is not None else None,
    }


def class_counts(train: Tables) -> str:
    """How many rows of each class taught, and how much each class counts: for the card."""
    counts = train.frames["label"].value_counts()
    taught = ", ".join(f"{count} {name}" for name, count in counts.items())
    return f"Taught by {taught}; each class has the same weight in the loss, however rare it is."
