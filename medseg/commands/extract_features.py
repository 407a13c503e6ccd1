"""`medseg extract-features`: tables of features, one row per frame, and one per slice."""

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
    """Inputs, output and options of `medseg extract-features`."""

    images: Path
    masks: Path
    out: Path
    features: str = ""  # a choice of the group `features`; "": that of the organ with the masks' labels
    pattern: str | None = None
    options: BatchOptions = DEFAULT_OPTIONS


def extract_folder(request: ExtractRequest) -> CaseLog:
    """Write OUT.csv, OUT_steps.csv for features of profiles, OUT_units.json, and the case log OUT_cases.csv.

    Cases whose images, masks, features and version are unchanged since an earlier run are reused.
    """
    labels, out = labels_in(request.masks), request.out
    settings = feature_settings(request.features or features_for_labels(labels.numbers))
    extractor = Extractor(settings, labels)
    cases = read_cases(request.images, ["image"], pattern=request.pattern)
    masks = MaskFolder(request.images, request.masks, labels)
    key = settings_key([], {"features": settings.model_dump(), "labels": [dict(labels.numbers), labels.exclusive]})
    with open_case_log(out, [case.id for case in cases], key, request.options, (".csv", *BESIDE)) as log:
        tables = extract_cases(cases, extractor, masks, log, ExtractionContext(masks.files))
        write_tables(tables, out)
    return log
