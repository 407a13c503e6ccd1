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
    present: str


class ExtractionContext(NamedTuple):
    """What accompanies the extraction of a case: further files it reads, quality checks, image statistics, overlays."""

    reads: Callable[[Case], list[Path]] = Case.truth_files
    review: ReviewReasons | None = None
    stats: TrainingImageStats | None = None
    overlays: OverlayFolder | None = None

    def check(self, case: Case, image: sitk.Image) -> None:
        """Check an image before extraction; `ImageError` if it is refused."""
        if self.review is not None:
            self.review.check_image(case, image)
        if self.stats is not None:
            self.stats.add(case, image)

    def check_mask(self, case: Case, mask: sitk.Image) -> None:
        """Check a mask."""
        if self.review is not None:
            self.review.check_mask(case, mask)

    def draw(self, case: Case, image: sitk.Image, mask: sitk.Image | None) -> None:
        """Write the overlay figure of a case."""
        if self.overlays is not None:
            self.overlays.draw(case, image, mask)


class Extractor:
    """Extract the features of the settings: inside masks by frame and profile, or of a whole sequence without masks."""

    def __init__(
        self,
        features: FeatureSettings,
        labels: Labels,
        time_axis: int | None = None,
        slice_labels: LabelPresence | None = None,
        encoder: DeepFeatures | None = None,
    ) -> None:
        self.labels, self.time_axis, self.slice_labels, self.encoder = labels, time_axis, slice_labels, encoder
        self.per_slice, self.max_side_px = features.per_slice, features.max_side_px
        self.pixel_mm = features.pixel_mm
        self.frame, self.profile, self.sequence = (
            [build(node) for node in group.values()] for group in (features.frame, features.profile, features.sequence)
        )
        if not (self.frame or self.sequence or encoder):
            raise ConfigError("these features are empty; choose others, e.g. features=breathing, or set data.encoder")

    @property
    def needs_masks(self) -> bool:
        """Whether any feature needs a mask."""
        return bool(self.frame or self.profile or (self.encoder is not None and self.encoder.needs_masks))

    def units(self) -> dict[str, str]:
        """Unit and definition of every feature, by the last part of its name."""
        units: dict[str, str] = {}
        for partial in [*self.frame, *self.profile, *self.sequence]:
            units |= sys.modules[partial.func.__module__].UNITS
        if self.encoder is not None:
            units |= self.encoder.units()
        return units

    def __call__(self, rows: list[Case], mask_of: MaskOf | None, context: ExtractionContext | None = None) -> Tables:
        """Extract the features of one sequence, its rows in order; raises `ImageError` if a frame cannot be used.

        Order: check the image, read the mask, extract, draw the overlay.
        """
        context = context or ExtractionContext()
        frame_rows: list[dict[str, Any]] = []
        profiles: list[pd.DataFrame] = []
        images: list[sitk.Image] = []
        for row in rows:
            image = read_image(row.image)
            context.check(row, image)
            mask = mask_of(row, image) if mask_of is not None and self.needs_masks else None
            if mask is not None:
                context.check_mask(row, mask)
            new_rows, new_profiles, frame_images = self._of_image(image, mask, row)
            for label, frame in zip(self._classes(row, image, len(new_rows)), new_rows, strict=True):
                number = len(frame_rows) if row.frame is None else row.frame
                frame_rows.append({**_facts(row), "label": label, "frame": number, **frame})
            numbers = [frame["frame"] for frame in frame_rows[len(frame_rows) - len(new_rows) :]]
            profiles += [
                table.assign(case=row.id, frame=number) for table, number in zip(new_profiles, numbers, strict=False)
            ]
            context.draw(row, image, mask)
            images += frame_images if self.sequence else []
        table = pd.DataFrame(frame_rows)
        table, retrospective = self._of_sequence(table, images)
        return Tables(table, pd.concat(profiles, ignore_index=True) if profiles else None, {}, retrospective)

    def of_image(self, image: sitk.Image, mask: sitk.Image | None) -> Tables:
        """Features of one image or sequence in memory inside `mask`; None for features of a whole sequence."""
        frames, profiles, frame_images = self._of_image(image, mask, None)
        facts = {"case": "image", "patient": "image", "label": None}
        table = pd.DataFrame([{**facts, "frame": number, **frame} for number, frame in enumerate(frames)])
        profiles = [profile.assign(case="image", frame=number) for number, profile in enumerate(profiles)]
        table, retrospective = self._of_sequence(table, frame_images)
        return Tables(table, pd.concat(profiles, ignore_index=True) if profiles else None, {}, retrospective)

    def _of_image(
        self, image: sitk.Image, mask: sitk.Image | None, case: Case | None
    ) -> tuple[list[dict[str, float]], list[pd.DataFrame], list[sitk.Image]]:
        """Features and profile of each frame of an image, and the frames; `case` has further channels."""
        frame_images = self._split_frames(image)
        masks = self._split_frames(mask) if mask is not None else [None] * len(frame_images)
        encoded = None if self.encoder is None else self.encoder.encode_case(case, image, mask, self.per_slice)
        rows, profiles = [], []
        for index, (frame_image, frame_mask) in enumerate(zip(frame_images, masks, strict=True)):
            scaled = self._scaled(frame_image, frame_mask)
            rows.append(self._of_frame(*scaled))
            if encoded is not None:
                rows[-1] |= encoded.of_frame(index, frame_mask)
            if self.profile:
                table = self._of_profile(*scaled)
                if encoded is not None:
                    table = table.join(encoded.of_profile(index, self._regions(frame_image, frame_mask), table.index))
                profiles.append(table)
        return rows, profiles, frame_images

    def _split_frames(self, image: sitk.Image) -> list[sitk.Image]:
        """The frames of a sequence, or the axial slices of a volume from the lowest to the highest."""
        return axial_slices(image) if self.per_slice else frames(image, self.time_axis)

    def _scaled(self, image: sitk.Image, mask: sitk.Image | None) -> tuple[sitk.Image, sitk.Image | None]:
        """Apply pixel_mm and max_side_px to a 2D image and its mask, if they are set."""
        if self.pixel_mm and has_no_scale(image):
            image = with_spacing(image, self.pixel_mm)
            mask = None if mask is None else with_spacing(mask, self.pixel_mm)
        return at_long_side(image, mask, self.max_side_px) if self.max_side_px and mask is not None else (image, mask)

    def _classes(self, row: Case, image: sitk.Image, count: int) -> list[str | None]:
        """The class of each frame: the row's; of slices, whether the ground truth has the label there."""
        if not self.per_slice or self.slice_labels is None:
            return [row.label] * count
        if not row.annotated:
            return [None] * count
        slice_masks = map(
            sitk.GetArrayViewFromImage, self._split_frames(read_ground_truth(row, image, self.labels).mask)
        )
        present = [self.labels.layer(slice_mask, self.slice_labels.label).any() for slice_mask in slice_masks]
        return [self.slice_labels.present if has_label else self.slice_labels.absent for has_label in present]

    def _regions(self, image: sitk.Image, mask: sitk.Image | None) -> sitk.Image:
        """Regions of a frame's profile, by the module of its first feature function; by default axial slices."""
        module = sys.modules[self.profile[0].func.__module__]
        regions: sitk.Image = getattr(module, "step_regions", step_regions)(image, mask)
        return regions

    def _of_frame(self, image: sitk.Image, mask: sitk.Image | None) -> dict[str, float]:
        values: dict[str, float] = {}
        for function in self.frame:
            values |= function(image, mask, self.labels)
        return values

    def _of_sequence(self, table: pd.DataFrame, images: list[sitk.Image]) -> tuple[pd.DataFrame, tuple[str, ...]]:
        """Add the features of a whole sequence to the table; also returns the names of retrospective ones."""
        names: list[str] = []
        for function in self.sequence:
            features = function(images)
            names += map(str, features.columns) if is_retrospective(function) else ()
            table = pd.concat([table, features], axis=1)
        return table, tuple(names)

    def _of_profile(self, image: sitk.Image, mask: sitk.Image | None) -> pd.DataFrame:
        profile: pd.DataFrame | None = None
        for function in self.profile:
            table = function(image, mask, self.labels)
            profile = table if profile is None else profile.merge(table, on=["step", "position_mm"])
        assert profile is not None
        return profile


def extract_cases(
    cases: list[Case],
    extractor: Extractor,
    mask_of: MaskOf | None,
    log: CaseLog,
    context: ExtractionContext | None = None,
) -> Tables:
    """Extract the features of every sequence in `cases`; a failed one is logged and skipped.

    Raises `ImageError` (no-usable-case) if all fail.
    """
    if extractor.needs_masks and mask_of is None:
        alone = "; or set data.encoder_regions=[image]" if extractor.encoder is not None else ""
        raise ConfigError(f"these features need masks: give masks, or a segmentation model{alone}")
    groups: dict[str, list[Case]] = {}
    for case in sorted(cases, key=lambda case: case.frame or 0):
        groups.setdefault(case.id, []).append(case)
    context = context or ExtractionContext()

    def extract(job: Job) -> CaseResult:
        tables = extractor(job.work, mask_of, context)
        reasons = context.review.reasons.get(job.name, "") if context.review else ""
        overlays = [file for file in [context.overlays.file(job.name)] if file.is_file()] if context.overlays else []
        rows = {**_to_rows(tables), "review_reason": reasons}
        return CaseResult(rows, overlays, *(("review", "review", reasons) if reasons else ("ok",)))

    order = list(dict.fromkeys(case.id for case in cases))
    tables_by_case: list[Tables] = []
    for name, rows in run_serial([_job(groups[n], context) for n in order], extract, log, "extract"):
        tables_by_case.append(_from_rows(rows))
        if context.review:
            context.review.restore(name, rows["review_reason"])
    if not tables_by_case:
        raise ImageError(
            f"no features could be extracted; see {log.file} for the reason of each case", code="no-usable-case"
        )
    return _concatenate(tables_by_case)._replace(units=extractor.units())


def _concatenate(tables: list[Tables]) -> Tables:
    steps = [table.steps for table in tables if table.steps is not None]
    return Tables(
        pd.concat([table.frames for table in tables], ignore_index=True),
        pd.concat(steps, ignore_index=True) if steps else None,
        retrospective=tuple(dict.fromkeys(name for table in tables for name in table.retrospective)),
    )


def _job(rows: list[Case], context: ExtractionContext) -> Job:
    files = [file for row in rows for file in [*row.images.values(), *context.reads(row)]]
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
    """One case's tables as lossless JSON values."""
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
