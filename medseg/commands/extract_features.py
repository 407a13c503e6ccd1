"""Measure images: one row a frame, one row a slice, ready for a diagnosis or for a spreadsheet."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from medseg.batch.case_log import CaseLog
from medseg.batch.resume import settings_key
from medseg.batch.runner import DEFAULT_OPTIONS, BatchOptions, open_case_log
from medseg.config.features import feature_settings, features_for_labels
from medseg.data.masks import MaskFolder, labels_in
from medseg.data.readers import read_cases
from medseg.features.tables import BESIDE, write_tables
from medseg.inference.extractor import ExtractionContext, Extractor, extract_cases


@dataclass(frozen=True)
class ExtractRequest:
    """What to measure, and where the table goes."""

    images: Path
    masks: Path
    out: Path
    features: str = ""  # that of the organ with these labels
    pattern: str | None = None
    ways: BatchOptions = DEFAULT_OPTIONS


def extract_folder(request: ExtractRequest) -> CaseLog:
    """The command: OUT.csv, OUT_steps.csv where slices are measured, OUT_units.json, and OUT_cases.csv, the ledger.

    Cases whose images, masks, features and version are as in an earlier run are taken over from it.
    """
    labels, out = labels_in(request.masks), request.out
    settings = feature_settings(request.features or features_for_labels(labels.numbers))
    extractor = Extractor(settings, labels)
    cases = read_cases(request.images, ["image"], pattern=request.pattern)
    masks = MaskFolder(request.images, request.masks, labels)
    key = settings_key([], {"features": settings.model_dump(), "labels": [dict(labels.numbers), labels.exclusive]})
    with open_case_log(out, [case.id for case in cases], key, request.ways, (".csv", *BESIDE)) as log:
        tables = extract_cases(cases, extractor, masks, log, ExtractionContext(masks.files))
        write_tables(tables, out)
    return log
