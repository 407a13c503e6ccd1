"""Read a whole dataset and say everything that is wrong with it."""

from __future__ import annotations

import time
from pathlib import Path

import SimpleITK as sitk

from medseg.config import Config
from medseg.console import progress, warn
from medseg.data.cache import own_mask
from medseg.data.cases import Case, Columns, split_cases
from medseg.data.folders import read_cases
from medseg.data.image import grid_difference, read_image
from medseg.errors import ImageError, MedsegError
from medseg.ledger import Entry, Ledger


def check_dataset(config: Config) -> Ledger:
    """One entry a case in data_check.csv of the folder one stands in: ok, review (usable, look at it) or failed.

    Raises `DataError` where the table or the splits themselves are wrong.
    """
    data = config.data
    columns = Columns(data.split_column, data.label_column, data.patient_column, data.mask_suffix)
    cases = split_cases(read_cases(Path(data.root), list(config.organ.channels), columns), data.holdout, config.seed)
    ledger = Ledger(Path("data_check.csv"))
    with progress("check", len(cases)) as bar:
        for case in cases:
            started = time.monotonic()
            try:
                remarks = _remarks(case, dict(config.organ.labels))
                status, code = ("review", "look") if remarks else ("ok", "")
            except MedsegError as error:
                remarks, status, code = [str(error)], "failed", error.code
            for remark in remarks:
                warn(f"{case.name}: {remark}")
            seconds = round(time.monotonic() - started, 3)
            ledger.add(Entry(case.name, status, code, "; ".join(remarks), seconds, str(case.image)))
            bar.advance(1, case.name)
    return ledger


def _remarks(case: Case, labels: dict[str, int]) -> list[str]:
    """What is odd about a case that can be used; raises `ImageError` for one that cannot."""
    images = {channel: read_image(path) for channel, path in case.images.items()}
    first = next(iter(images.values()))
    for path, image in zip(list(case.images.values())[1:], list(images.values())[1:], strict=True):
        difference = grid_difference(image, first)
        if difference:
            raise ImageError(f"{path}: does not lie on the grid of {case.image.name}: {difference}", code="image-grid")
    if case.mask is None:
        return ["no mask"]
    mask = own_mask(case, first)
    stats = sitk.LabelShapeStatisticsImageFilter()
    stats.Execute(mask)
    found = set(stats.GetLabels())
    unknown = found - set(labels.values())
    if unknown:
        raise ImageError(f"{case.mask}: holds {sorted(unknown)}, known are {labels}", code="mask-label")
    if not found:
        return ["the mask is blank"]
    return [f"no {name} in the mask" for name, number in labels.items() if number not in found]
