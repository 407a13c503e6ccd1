"""Measure images: one row a frame, one row a slice, ready for a diagnosis or for a spreadsheet."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import pandas as pd
import SimpleITK as sitk

from medseg.config import Config, build, feature_settings, own_features
from medseg.console import progress, warn
from medseg.data.cases import Case
from medseg.data.folders import read_cases, read_table
from medseg.data.image import find_images, frames, read_image, stem
from medseg.data.labels import Labels
from medseg.data.stated import labels_found, stated_labels
from medseg.data.truth import fitting_mask, read_truth
from medseg.errors import ConfigError, DataError, ImageError, MedsegError
from medseg.features.slices import axial_slices, step_regions
from medseg.ledger import Entry, Ledger, atomic_write_text, failure, write_json

if TYPE_CHECKING:
    from medseg.encoder import Encoder

KEYS = ["case", "frame", "step"]
FACTS = ["case", "patient", "frame", "time", "label", "signal", "split"]
MaskOf = Callable[[Case, sitk.Image], sitk.Image]


class Presence(NamedTuple):
    """A label whose presence in a slice is the slice's class."""

    label: str
    absent: str  # class of slices without it
    there: str


class Tables(NamedTuple):
    """Features: `frames`, one row a frame; `steps`, one row a slice of a frame, or None."""

    frames: pd.DataFrame
    steps: pd.DataFrame | None


class Extractor:
    """The measures of `features`: inside masks by frame and by slice, or of a whole sequence without masks."""

    def __init__(
        self,
        features: Config,
        labels: Labels,
        time_axis: int | None = None,
        present: Presence | None = None,
        encoder: Encoder | None = None,
    ) -> None:
        self.labels, self.time_axis, self.present, self.encoder = labels, time_axis, present, encoder
        self.each_slice = features.get("each") == "slice"
        self.frame, self.step, self.sequence = (
            [build(node) for node in features[name].values()] for name in ("frame", "step", "sequence")
        )
        if not (self.frame or self.sequence):
            raise ConfigError("these features measure nothing; choose others, e.g. features=breathing")

    @property
    def needs_masks(self) -> bool:
        """Whether any measure looks inside a mask."""
        return bool(self.frame or self.step)

    def units(self) -> dict[str, str]:
        """Unit and definition of every measure, by the last part of its name."""
        found: dict[str, str] = {}
        for partial in [*self.frame, *self.step, *self.sequence]:
            found |= sys.modules[partial.func.__module__].UNITS
        if self.encoder is not None:
            found |= self.encoder.units()
        return found

    def __call__(self, rows: list[Case], mask_of: MaskOf | None) -> Tables:
        """Measure one sequence, the rows of one case in order; raises `ImageError` where a frame cannot be used."""
        found: list[dict[str, Any]] = []
        steps: list[pd.DataFrame] = []
        images: list[sitk.Image] = []
        for row in rows:
            image = read_image(row.image)
            mask = mask_of(row, image) if mask_of is not None and self.needs_masks else None
            parts = self._parts(image)
            masks = self._parts(mask) if mask is not None else [None] * len(parts)
            classes = self._classes(row, image, len(parts))
            seen = self.encoder.frames_of(row, image, self.each_slice) if self.encoder is not None else None
            for place, (part, inside, label) in enumerate(zip(parts, masks, classes, strict=True)):
                number = len(found) if row.frame is None else row.frame
                found.append({**_facts(row), "label": label, "frame": number, **self._of_frame(part, inside)})
                if seen is not None:
                    found[-1] |= seen.of_frame(place, inside)
                if self.step:
                    table = self._of_steps(part, inside).assign(case=row.id, frame=number)
                    if seen is not None:
                        table = table.join(seen.of_steps(place, self._regions(part, inside), table.index))
                    steps.append(table)
            images += parts if self.sequence else []
        table = pd.DataFrame(found)
        for measure in self.sequence:
            table = pd.concat([table, measure(images)], axis=1)
        return Tables(table, pd.concat(steps, ignore_index=True) if steps else None)

    def _parts(self, image: sitk.Image) -> list[sitk.Image]:
        """The frames of a sequence, or the axial slices of a volume from the lowest to the highest."""
        return axial_slices(image) if self.each_slice else frames(image, self.time_axis)

    def _classes(self, row: Case, image: sitk.Image, count: int) -> list[str | None]:
        """The class of each frame: the row's; of slices, whether the true mask shows the label `present` there."""
        if not self.each_slice or self.present is None:
            return [row.label] * count
        if not row.annotated:
            return [None] * count
        shown = map(sitk.GetArrayViewFromImage, self._parts(read_truth(row, image, self.labels).mask))
        there = [self.labels.layer(part, self.present.label).any() for part in shown]
        return [self.present.there if one else self.present.absent for one in there]

    def _regions(self, image: sitk.Image, mask: sitk.Image | None) -> sitk.Image:
        """Where each step of a frame lies, as the module of its first measure says; else its axial slices."""
        module = sys.modules[self.step[0].func.__module__]
        regions: sitk.Image = getattr(module, "step_regions", step_regions)(image, mask)
        return regions

    def _of_frame(self, image: sitk.Image, mask: sitk.Image | None) -> dict[str, float]:
        values: dict[str, float] = {}
        for measure in self.frame:
            values |= measure(image, mask, self.labels)
        return values

    def _of_steps(self, image: sitk.Image, mask: sitk.Image | None) -> pd.DataFrame:
        whole: pd.DataFrame | None = None
        for measure in self.step:
            table = measure(image, mask, self.labels)
            whole = table if whole is None else whole.merge(table, on=["step", "position_mm"])
        assert whole is not None
        return whole


def extract_cases(cases: list[Case], extractor: Extractor, mask_of: MaskOf | None, ledger: Ledger) -> Tables:
    """Measure every sequence among `cases`; one that fails is named in the ledger and left out.

    Raises `DataError` where nothing could be measured.
    """
    if extractor.needs_masks and mask_of is None:
        raise ConfigError("these features look inside masks: give masks, or a model that segments")
    groups: dict[str, list[Case]] = {}
    for case in cases:
        groups.setdefault(case.id, []).append(case)
    done: list[Tables] = []
    with progress("measure", len(groups)) as bar:
        for name, rows in groups.items():
            started = time.monotonic()
            rows.sort(key=lambda row: row.frame or 0)
            try:
                done.append(extractor(rows, mask_of))
                ledger.add(Entry(name, "ok", "", "", round(time.monotonic() - started, 3), str(rows[0].image)))
            except (MedsegError, MemoryError, RuntimeError) as error:  # ITK raises RuntimeError
                ledger.add(failure(name, rows[0].image, error, time.monotonic() - started))
                warn(ledger.entries[-1].message)
            bar.advance(1, name)
    if not done:
        raise ImageError(f"nothing could be measured; see {ledger.file} for the reason of each case", code="nothing")
    steps = [tables.steps for tables in done if tables.steps is not None]
    return Tables(
        pd.concat([tables.frames for tables in done], ignore_index=True),
        pd.concat(steps, ignore_index=True) if steps else None,
    )


def extract_folder(images: Path, masks: Path, out: Path, features: str, pattern: str | None) -> Ledger:
    """The command: OUT.csv, OUT_steps.csv where slices are measured, OUT_units.json, and OUT_cases.csv, the ledger."""
    labels = labels_in(masks)
    extractor = Extractor(feature_settings(features or own_features(labels.numbers)), labels)
    cases = read_cases(images, ["image"], pattern=pattern)
    ledger = Ledger(beside(out, "_cases.csv"))
    write_tables(extract_cases(cases, extractor, masks_from(images, masks, labels), ledger), out)
    write_json(beside(out, "_units.json"), extractor.units())
    return ledger


def labels_in(masks: Path) -> Labels:
    """What a folder of masks shows: as its labels.json says, else a label for each value that is found.

    Where files are named <image>_<label>, the labels may overlap.
    """
    stated, files = stated_labels(masks), find_images(masks)
    names = {stem(path) for path in files}
    layered = [name for label in stated or () for name in names if name.endswith(f"_{label}")]
    return Labels(stated or labels_found(files), exclusive=not layered)


def masks_from(images: Path, masks: Path, labels: Labels) -> MaskOf:
    """Masks by the same path below `masks` as the image has below `images` (or its folder images/), any ending.

    Of labels that may overlap there is a file each, <image>_<label>; one that is missing is an error.
    """
    if not masks.exists():
        raise DataError(f"{masks}: no such folder")
    named = {path.relative_to(masks).parent / stem(path): path for path in find_images(masks)}

    def find(case: Case, image: sitk.Image) -> sitk.Image:
        below = case.image.is_relative_to(images) and case.image != images
        name = case.image.relative_to(images).parent / stem(case.image) if below else Path(stem(case.image))
        inner = Path(*name.parts[1:]) if name.parts[0] == "images" else name
        layers = {}
        for label in [""] if labels.exclusive else list(labels.numbers):
            end = f"_{label}" if label else ""
            wanted = [part.with_name(part.name + end) for part in (name, inner, Path(case.name))]
            path = next((named[part] for part in wanted if part in named), None)
            if path is None:
                raise ImageError(f"{case.image}: has no mask {wanted[1]}.* in {masks}", code="mask-missing")
            layers[label] = fitting_mask(path, image, case.image)
        if labels.exclusive:
            return layers[""]
        coded = sitk.GetImageFromArray(labels.join({n: sitk.GetArrayFromImage(m) > 0 for n, m in layers.items()}))
        coded.CopyInformation(image)
        return coded

    return find


def true_masks(labels: Labels) -> MaskOf:
    """The masks that the dataset itself names, coded by `labels`."""

    def find(case: Case, image: sitk.Image) -> sitk.Image:
        return read_truth(case, image, labels).mask

    return find


def write_tables(tables: Tables, out: Path) -> None:
    """OUT.csv and, where there are slices, OUT_steps.csv."""
    facts = [name for name in FACTS if name in tables.frames and tables.frames[name].notna().any()]
    features = [name for name in tables.frames if name not in FACTS]
    atomic_write_text(out, tables.frames[[*facts, *features]].to_csv(index=False))
    if tables.steps is not None:
        atomic_write_text(beside(out, "_steps.csv"), _first(tables.steps, KEYS).to_csv(index=False))


def read_tables(file: Path) -> Tables:
    """Tables as `write_tables` wrote them: numbers as numbers, names as text; `DataError` where it is no such table."""
    table, steps = _numeric(file), beside(file, "_steps.csv")
    missing = [name for name in ("case", "frame") if name not in table]
    if missing or table.empty:
        what = f"has no column {' and '.join(missing)}" if missing else "has no row"
        raise DataError(f"{file}: {what}; a features table is what medseg extract-features writes")
    if "patient" not in table:
        table["patient"] = table["case"]
    return Tables(table, _numeric(steps) if steps.is_file() else None)


def beside(out: Path, ending: str) -> Path:
    """features.csv, "_steps.csv" → features_steps.csv."""
    return out.with_name(out.name.removesuffix(".csv") + ending)


def _numeric(file: Path) -> pd.DataFrame:
    table = read_table(file)
    names = {"case", "patient", "label", "split"}
    for column in table.columns:
        if column in names:
            table[column] = table[column].replace("", None)
            continue
        try:
            table[column] = pd.to_numeric(table[column].replace("", None))
        except ValueError as error:
            raise DataError(f"{file}: column {column!r} holds something that is no number ({error})") from error
    return table


def _first(table: pd.DataFrame, names: Iterable[str]) -> pd.DataFrame:
    order = [*names, *(name for name in table if name not in list(names))]
    return table[order]


def _facts(case: Case) -> dict[str, Any]:
    return {name: getattr(case, "id" if name == "case" else name) for name in FACTS}
