"""Extract the features of cases with their masks."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import pandas as pd
import SimpleITK as sitk

from medseg.batch.case_log import CaseLog
from medseg.batch.runner import CaseResult, Job, run_serial
from medseg.config.components import build
from medseg.config.settings import FeatureSettings
from medseg.data.cases import Case
from medseg.data.ground_truth import read_ground_truth
from medseg.data.masks import MaskOf
from medseg.errors import ConfigError, ImageError
from medseg.features.axial import axial_slices, step_regions
from medseg.features.retrospective import is_retrospective
from medseg.features.tables import FACTS, Tables
from medseg.inference.quality_gate import TrainingImageStats
from medseg.inference.review import ReviewReasons
from medseg.io.image import frames, read_image
from medseg.io.labels import Labels
from medseg.preprocess.resize import at_long_side, has_no_scale, with_spacing
from medseg.reports.overlays import OverlayFolder

if TYPE_CHECKING:
    from medseg.inference.encoder import DeepFeatures


class LabelPresence(NamedTuple):
    """A label whose presence in a slice is the slice's class."""

    label: str
    absent: str  # class of slices without it
    there: str


class ExtractionContext(NamedTuple):
    """What a case reads besides its images, and what is noted and drawn of it."""

    reads: Callable[[Case], list[Path]] = Case.truth_files
    review: ReviewReasons | None = None
    stats: TrainingImageStats | None = None
    overlays: OverlayFolder | None = None

    def check(self, case: Case, image: sitk.Image) -> None:
        """Judge an image before anything is measured; `ImageError` where it is refused."""
        if self.review is not None:
            self.review.check_image(case, image)
        if self.stats is not None:
            self.stats.add(case, image)

    def check_mask(self, case: Case, mask: sitk.Image) -> None:
        """Judge a mask."""
        if self.review is not None:
            self.review.check_mask(case, mask)

    def draw(self, case: Case, image: sitk.Image, mask: sitk.Image | None) -> None:
        """Keep a picture of what was measured."""
        if self.overlays is not None:
            self.overlays.draw(case, image, mask)


class Extractor:
    """The measures of `features`: inside masks by frame and by slice, or of a whole sequence without masks."""

    def __init__(
        self,
        features: FeatureSettings,
        labels: Labels,
        time_axis: int | None = None,
        present: LabelPresence | None = None,
        encoder: DeepFeatures | None = None,
    ) -> None:
        self.labels, self.time_axis, self.present, self.encoder = labels, time_axis, present, encoder
        self.each_slice, self.longest = features.per_slice, features.max_side_px
        self.pixel_mm = features.pixel_mm
        self.frame, self.step, self.sequence = (
            [build(node) for node in group.values()] for group in (features.frame, features.profile, features.sequence)
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

    def __call__(self, rows: list[Case], mask_of: MaskOf | None, context: ExtractionContext | None = None) -> Tables:
        """Measure one sequence, the rows of one case in order; raises `ImageError` where a frame cannot be used.

        Each image is checked, its mask is found, it is measured, and it is drawn: in this order.
        """
        context = context or ExtractionContext()
        found: list[dict[str, Any]] = []
        steps: list[pd.DataFrame] = []
        images: list[sitk.Image] = []
        for row in rows:
            image = read_image(row.image)
            context.check(row, image)
            mask = mask_of(row, image) if mask_of is not None and self.needs_masks else None
            if mask is not None:
                context.check_mask(row, mask)
            parts = self._parts(image)
            masks = self._parts(mask) if mask is not None else [None] * len(parts)
            classes = self._classes(row, image, len(parts))
            seen = self.encoder.frames_of(row, image, self.each_slice) if self.encoder is not None else None
            for place, (part, inside, label) in enumerate(zip(parts, masks, classes, strict=True)):
                number = len(found) if row.frame is None else row.frame
                scaled = self._scaled(part, inside)
                found.append({**_facts(row), "label": label, "frame": number, **self._of_frame(*scaled)})
                if seen is not None:
                    found[-1] |= seen.of_frame(place, inside)
                if self.step:
                    table = self._of_steps(*scaled).assign(case=row.id, frame=number)
                    if seen is not None:
                        table = table.join(seen.of_steps(place, self._regions(part, inside), table.index))
                    steps.append(table)
            context.draw(row, image, mask)
            images += parts if self.sequence else []
        table = pd.DataFrame(found)
        table, retrospective = self._of_sequence(table, images)
        return Tables(table, pd.concat(steps, ignore_index=True) if steps else None, {}, retrospective)

    def of_image(self, image: sitk.Image, mask: sitk.Image | None) -> Tables:
        """Features of one image or sequence in memory inside `mask`, which features of a sequence do without."""
        rows: list[dict[str, Any]] = []
        steps: list[pd.DataFrame] = []
        parts = self._parts(image)
        masks = self._parts(mask) if mask is not None else [None] * len(parts)
        for number, (part, inside) in enumerate(zip(parts, masks, strict=True)):
            scaled = self._scaled(part, inside)
            facts = {"case": "image", "patient": "image", "label": None, "frame": number}
            rows.append({**facts, **self._of_frame(*scaled)})
            if self.step:
                steps.append(self._of_steps(*scaled).assign(case="image", frame=number))
        table = pd.DataFrame(rows)
        table, retrospective = self._of_sequence(table, parts)
        return Tables(table, pd.concat(steps, ignore_index=True) if steps else None, {}, retrospective)

    def _parts(self, image: sitk.Image) -> list[sitk.Image]:
        """The frames of a sequence, or the axial slices of a volume from the lowest to the highest."""
        return axial_slices(image) if self.each_slice else frames(image, self.time_axis)

    def _scaled(self, image: sitk.Image, mask: sitk.Image | None) -> tuple[sitk.Image, sitk.Image | None]:
        """A picture at the scale and the size it is measured at; without those, as it is."""
        if self.pixel_mm and has_no_scale(image):
            image = with_spacing(image, self.pixel_mm)
            mask = None if mask is None else with_spacing(mask, self.pixel_mm)
        return at_long_side(image, mask, self.longest) if self.longest and mask is not None else (image, mask)

    def _classes(self, row: Case, image: sitk.Image, count: int) -> list[str | None]:
        """The class of each frame: the row's; of slices, whether the true mask shows the label `present` there."""
        if not self.each_slice or self.present is None:
            return [row.label] * count
        if not row.annotated:
            return [None] * count
        shown = map(sitk.GetArrayViewFromImage, self._parts(read_ground_truth(row, image, self.labels).mask))
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

    def _of_sequence(self, table: pd.DataFrame, images: list[sitk.Image]) -> tuple[pd.DataFrame, tuple[str, ...]]:
        """The table with the measures of a whole sequence, and the names of those that hang on later frames."""
        names: list[str] = []
        for measure in self.sequence:
            features = measure(images)
            names += map(str, features.columns) if is_retrospective(measure) else ()
            table = pd.concat([table, features], axis=1)
        return table, tuple(names)

    def _of_steps(self, image: sitk.Image, mask: sitk.Image | None) -> pd.DataFrame:
        whole: pd.DataFrame | None = None
        for measure in self.step:
            table = measure(image, mask, self.labels)
            whole = table if whole is None else whole.merge(table, on=["step", "position_mm"])
        assert whole is not None
        return whole


def extract_cases(
    cases: list[Case],
    extractor: Extractor,
    mask_of: MaskOf | None,
    log: CaseLog,
    around: ExtractionContext | None = None,
) -> Tables:
    """Measure every sequence among `cases`; one that fails is named in the ledger and left out.

    Raises `ImageError` (nothing) where nothing could be measured.
    """
    if extractor.needs_masks and mask_of is None:
        raise ConfigError("these features look inside masks: give masks, or a model that segments")
    groups: dict[str, list[Case]] = {}
    for case in sorted(cases, key=lambda case: case.frame or 0):
        groups.setdefault(case.id, []).append(case)
    around = around or ExtractionContext()

    def measure(job: Job) -> CaseResult:
        found = extractor(job.work, mask_of, around)
        doubt = around.review.reasons.get(job.name, "") if around.review else ""
        drawn = [file for file in [around.overlays.file(job.name)] if file.is_file()] if around.overlays else []
        rows = {**_to_rows(found), "doubt": doubt}
        return CaseResult(rows, drawn, *(("review", "review", doubt) if doubt else ("ok",)))

    order = list(dict.fromkeys(case.id for case in cases))
    done: list[Tables] = []
    for name, rows in run_serial([_job(groups[n], around) for n in order], measure, log, "measure"):
        done.append(_from_rows(rows))
        if around.review:
            around.review.restore(name, rows["doubt"])
    if not done:
        raise ImageError(f"nothing could be measured; see {log.file} for the reason of each", code="no-usable-case")
    return _concatenate(done)._replace(units=extractor.units())


def _concatenate(tables: list[Tables]) -> Tables:
    steps = [one.steps for one in tables if one.steps is not None]
    return Tables(
        pd.concat([one.frames for one in tables], ignore_index=True),
        pd.concat(steps, ignore_index=True) if steps else None,
        retrospective=tuple(dict.fromkeys(name for one in tables for name in one.retrospective)),
    )


def _job(rows: list[Case], around: ExtractionContext) -> Job:
    files = [file for row in rows for file in [*row.images.values(), *around.reads(row)]]
    facts = [
        [
            _facts(row),
            list(row.images),
            [[name, path is None] for name, path in row.masks.items()],
            row.values and dict(row.values),
        ]
        for row in rows
    ]
    return Job(rows[0].id, rows[0].image, files, facts, work=rows)


def _to_rows(tables: Tables) -> dict[str, Any]:
    """One case's tables as values for JSON, exactly."""
    steps = None if tables.steps is None else _plain(tables.steps)
    return {"frames": _plain(tables.frames), "steps": steps, "retrospective": list(tables.retrospective)}


def _from_rows(rows: dict[str, Any]) -> Tables:
    steps = _table(rows["steps"]) if rows["steps"] else None
    return Tables(_table(rows["frames"]), steps, retrospective=tuple(rows.get("retrospective", ())))


def _plain(table: pd.DataFrame) -> dict[str, Any]:
    return {"columns": list(table), "data": table.to_dict("split")["data"]}


def _table(content: dict[str, Any]) -> pd.DataFrame:
    return pd.DataFrame(content["data"], columns=content["columns"])


def _facts(case: Case) -> dict[str, Any]:
    return {name: getattr(case, "id" if name == "case" else name) for name in FACTS}
