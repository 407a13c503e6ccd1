"""Features of the cases of a training: extracted once, split, checked."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, Literal, NamedTuple

import numpy as np
import pandas as pd

from medseg.batch.case_log import CaseLog
from medseg.config.checks import did_you_mean
from medseg.config.load import get_labels
from medseg.config.settings import Settings, StackingSettings
from medseg.data.cases import Case
from medseg.data.masks import MaskFolder, ground_truth_masks
from medseg.data.readers import FEATURES
from medseg.data.splits import evaluation_split
from medseg.errors import ConfigError, DataError
from medseg.features.missing_labels import informative_absence
from medseg.features.sequences import cohort, feature_columns
from medseg.features.tables import Tables, is_deep, read_tables, write_tables
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

MAX_OVERLAYS = 60  # held-out cases with an overlay figure in the run, for its report


class FeatureSplits(NamedTuple):
    """Features of training and held-out cases. split_name: the split of `held_out`; masks: text on their source."""

    log: CaseLog
    train: Tables
    held_out: Tables
    schema: FeatureSchema
    split_name: str | None
    masks: str


def prepare_features(config: Settings, run: Run, cases: list[Case], synthetic: bool) -> FeatureSplits:
    """Extract the features of all cases; write the feature schema and the image statistics to the run."""
    log = CaseLog(run.file("cases.csv"))
    stats, masks = TrainingImageStats(config), describe_mask_source(config, cases)
    tables = extract_tables(config, run, cases, log, stats)
    split_name = evaluation_split(cases)
    train = select_cases(tables, [case.id for case in cases if case.split == "train"])
    held_out = select_cases(tables, [case.id for case in cases if case.split == split_name != "train"])
    check_labels(train.frames, held_out.frames, list(config.organ.classes))
    schema = build_feature_schema(config, train)
    write_json(run.file("feature_schema.json"), to_json(schema))
    write_json(
        run.file("fingerprint.json"), feature_fingerprint(config, train, schema.names, synthetic) | stats.summary()
    )
    return FeatureSplits(log, train, held_out, schema, split_name, masks)


def extract_tables(config: Settings, run: Run, cases: list[Case], log: CaseLog, stats: TrainingImageStats) -> Tables:
    """Read the dataset's features.csv, or extract features and collect `stats` of the images; write them to the run."""
    root = Path(config.data.root) if config.data.root is not None else None
    if root is not None and (root / FEATURES).is_file():
        if config.data.encoder is not None:
            raise ConfigError(
                f"data.encoder needs images, but {root / FEATURES} has extracted features; use their folder"
            )
        tables = read_tables(root / FEATURES)
    else:
        labels = get_labels(config)
        extractor = build_extractor(config, run, cases)
        masks = ground_truth_masks(labels) if any(case.annotated for case in cases) else None
        if config.data.masks is not None and root is not None:
            masks = MaskFolder(root, Path(config.data.masks), labels)
        split_name = evaluation_split(cases)
        names = sorted({case.id for case in cases if case.split == split_name})[:MAX_OVERLAYS]
        overlays = OverlayFolder(run.file("pictures"), labels, config.data.time_axis, names)
        context = ExtractionContext(stats=stats, overlays=overlays)
        tables = extract_cases(cases, extractor, masks, log, context)
    write_tables(tables, run.file(FEATURES))
    return tables


def build_extractor(config: Settings, run: Run, cases: list[Case]) -> Extractor:
    """Build the extractor of the settings, with the class of a slice if it comes from its mask."""
    organ, split_name = config.organ, evaluation_split(cases)
    slice_labels = (
        LabelPresence(str(organ.slice_label_from), *map(str, organ.classes))
        if organ.slice_label_from is not None
        else None
    )
    held_out_patients = sorted(
        {str(case.patient) for case in cases if case.split == split_name and split_name != "train"}
    )
    encoder = load_encoder(config, run, held_out_patients)
    return Extractor(config.features, get_labels(config), config.data.time_axis, slice_labels, encoder)


def select_cases(tables: Tables, names: list[str]) -> Tables:
    """The rows of the cases in `names`."""
    frames = tables.frames[tables.frames["case"].isin(names)]
    steps = None if tables.steps is None else tables.steps[tables.steps["case"].isin(names)]
    return tables._replace(frames=frames, steps=steps)


def check_labels(train: pd.DataFrame, held_out: pd.DataFrame, classes: list[str]) -> None:
    """Raises `DataError` for a label that is not a class, or if there are fewer than two training classes."""
    labels, held_out_labels = (
        frames["label"].dropna().astype(str) if "label" in frames else pd.Series(dtype=str)
        for frames in (train, held_out)
    )
    unknown = sorted({*labels, *held_out_labels} - set(classes))
    if unknown:
        both = pd.concat([train, held_out])
        first = both.loc[both["label"].astype(str) == unknown[0], "case"].iloc[0]
        raise DataError(
            f"{first}: label {unknown[0]!r} is not one of organ.classes {classes}{did_you_mean(unknown[0], classes)}; "
            "list all classes: 'organ.classes=[…]', or set the label column: data.label_column=…"
        )
    if labels.nunique() < 2:
        raise DataError(
            f"the training cases have {sorted(set(labels)) or 'no label'}; at least two of {classes} are needed"
        )
    if absent := [name for name in classes if name not in set(labels)]:
        rest = ",".join(name for name in classes if name not in absent)
        warn(f"no training case is {' or '.join(absent)}: never predicted; to remove it: 'organ.classes=[{rest}]'")


def build_feature_schema(config: Settings, train: Tables) -> FeatureSchema:
    """The schema of a classifier: the features of the training table, and their moments for normalisation by cohort.

    A stack has a model of its own for deep features; a sequence classifier reads them with the others.
    """
    settings, names = config.classifier, feature_columns(train.frames)
    deep = tuple(filter(is_deep, names)) if isinstance(settings, StackingSettings) else ()
    names = tuple(name for name in names if name not in frozenset(deep))
    labelled = train.frames.dropna(subset="label")
    slopes: Literal["", "central", "backward"] = ""
    if settings.slopes:
        slopes = "central" if settings.network.bidirectional else "backward"
    schema = FeatureSchema(
        classes=tuple(config.organ.classes),
        names=names,
        step_names=() if train.steps is None else feature_columns(train.steps),
        levels=settings.profile_length or _profile_length(train),
        resample=settings.profile_length > 0,
        slopes=slopes,
        per="frame" if config.organ.target_level == "frame" else "sequence",
        signal="signal" in train.frames and bool(train.frames["signal"].notna().any()),
        moments=None,
        telling=informative_absence(
            labelled[list(names)].to_numpy(np.float64), names, labelled["label"].astype(str).to_numpy()
        ),
        retrospective=tuple(name for name in names if name in train.retrospective),
        deep=deep,
    )
    if settings.normalise == "case":
        return schema
    return replace(schema, moments=cohort(schema.raw(train)))


def _profile_length(train: Tables) -> int:
    """Number of slices, sectors or quadrants of a profile."""
    return 0 if train.steps is None else int(train.steps["step"].max()) + 1


def feature_fingerprint(config: Settings, train: Tables, names: Sequence[str], synthetic: bool) -> dict[str, Any]:
    """Facts on the training cases and their features `names`, and whether their masks were made out of fold."""
    return {
        "synthetic": synthetic,
        "cases": int(train.frames["case"].nunique()),
        "patients": int(train.frames["patient"].nunique()) if "patient" in train.frames else None,
        "frames": len(train.frames),
        "labels": {str(k): int(v) for k, v in train.frames["label"].value_counts().items()},
        "features": cohort_statistics(train.frames, names),
        "masks": provenance_of(Path(config.data.masks)) if config.data.masks is not None else None,
    }


def class_counts(train: Tables) -> str:
    """A line of the model card on the number of training rows by class."""
    counts = train.frames["label"].value_counts()
    text = ", ".join(f"{count} {name}" for name, count in counts.items())
    return f"Training rows: {text}; the loss is class-balanced."
