"""Read a whole dataset and report all its problems."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np
import SimpleITK as sitk

from medseg.batch.case_log import CaseLog
from medseg.batch.entry import Entry
from medseg.batch.resume import require_case_log, settings_key
from medseg.batch.runner import CaseResult, Job, run_serial
from medseg.config.checks import did_you_mean
from medseg.config.load import get_labels, with_values
from medseg.config.settings import Settings
from medseg.data.cases import Case
from medseg.data.duplicates import PerceptualHashes
from medseg.data.ground_truth import GroundTruth, read_ground_truth
from medseg.data.readers import MASK_FOLDERS, index_by_stem
from medseg.data.tables import read_table
from medseg.errors import ConfigError, ImageError
from medseg.io.dicom.seg_writer import SUFFIX as SEG
from medseg.io.geometry import ONE_ONTO_OTHER, require_same_grid
from medseg.io.image import is_image, read_image, stem
from medseg.io.labels import Labels, normalize_name
from medseg.training.dataset import read_dataset
from medseg.utils.console import warn
from medseg.utils.locks import lock_table

OUTLIER_FACTOR = 3.0  # times the median: a spacing or size beyond is another kind of image, or a wrong header
MIN_OFFSET = 1e-6  # voxels: smaller grid offsets are rounding and not reported
DATASET = "(dataset)"  # case name of entries about the whole dataset
Grid = tuple[Path, sitk.Image] | None  # an image and its file


@dataclass
class DatasetFindings:
    """Facts of the cases, by case name, collected while reading and compared at the end."""

    remarks: dict[str, list[str]] = field(default_factory=dict)
    spacings: dict[str, list[float]] = field(default_factory=dict)
    sizes: dict[str, list[int]] = field(default_factory=dict)
    components: dict[str, int] = field(default_factory=dict)
    prints: PerceptualHashes = field(default_factory=PerceptualHashes)

    def note(self, case: str, remark: str) -> None:
        """Add a remark that needs review."""
        self.remarks.setdefault(case, []).append(remark)


def check_dataset(config: Settings, out: Path = Path("data_check.csv")) -> CaseLog:
    """Write one entry per case to the case log `out` (.csv and .json): ok, review (usable, needs review) or failed.

    Remarks on the whole dataset get entries named (dataset). Raises `DataError` if the tables cannot be read,
    `ConfigError` if `out` is another table.
    """
    require_case_log(out)
    root = _root(config)
    cases = read_dataset(config, root)
    labels, findings = get_labels(config), DatasetFindings()
    cases_by_name = {case.name: case for case in cases}

    def check(job: Job) -> CaseResult:
        _check_case(cases_by_name[job.name], labels, findings)
        remarks = findings.remarks.get(job.name, [])
        return CaseResult(status="review", code="review", message="; ".join(remarks)) if remarks else CaseResult()

    settings = {"labels": [dict(labels.numbers), labels.exclusive], "classes": list(map(str, config.organ.classes))}
    jobs = [Job(case.name, case.image, [*case.images.values(), *case.truth_files()]) for case in cases]
    with lock_table(out, (".csv", ".json")), CaseLog(out, key=settings_key([], settings)) as log:
        for _ in run_serial(jobs, check, log, "check"):
            pass
        entries = {entry.case: entry for entry in log.entries}
        _note_duplicates(cases, findings)
        _note_outliers(findings)
        log.amend([_with_remarks(entry, findings.remarks.get(entry.case, [])) for entry in entries.values()])
        for remark in [*_dataset_remarks(config, cases), *_orphan_remarks(config)]:
            log.add(Entry(DATASET, "review", "review", remark, input=str(config.data.root)))
    for entry in log.entries:
        if entry != entries.get(entry.case):
            warn(f"{entry.case}: {entry.message}")
    return log


def _with_remarks(entry: Entry, remarks: list[str]) -> Entry:
    """Add the remarks on its case to an entry."""
    if entry.status == "failed":
        return replace(entry, message="; ".join([entry.message, *remarks]))
    return replace(entry, status="review", code="review", message="; ".join(remarks)) if remarks else entry


def _check_case(case: Case, labels: Labels, findings: DatasetFindings) -> None:
    """Read all files of a case; raises one `ImageError` with all faults that make it unusable."""
    faults: list[ImageError] = []
    images: dict[Path, sitk.Image] = {}
    for path in case.images.values():
        try:
            images[path] = read_image(path)
        except ImageError as error:
            faults.append(error)
    first = images.get(case.image)
    if first is not None:
        findings.prints.add(case.name, case.patient, case.image, first)
        findings.spacings[case.name], findings.sizes[case.name] = list(first.GetSpacing()), list(first.GetSize())
        findings.components[case.name] = first.GetNumberOfComponentsPerPixel()
    grid = next(iter(images.items()), None)  # of the first readable image
    for path, image in images.items():
        array = sitk.GetArrayViewFromImage(image)
        if array.min() == array.max():
            findings.note(case.name, f"{path}: every pixel is {array.flat[0]:g}")
        faults += _off_grid(path, image, grid, "image-grid")
    faults += _mask_faults(case, labels, findings, grid)
    if faults:
        raise ImageError("; ".join(dict.fromkeys(map(str, faults))), code=faults[0].code)


def _off_grid(path: Path, image: sitk.Image, grid: Grid, code: str) -> list[ImageError]:
    """One error if an image is not on the grid, else none; none without a grid."""
    if grid is None:
        return []
    try:
        require_same_grid(image, grid[1], f"{path}: is not on the grid of {grid[0]}", ONE_ONTO_OTHER, code)
    except ImageError as error:
        return [error]
    return []


def _mask_faults(case: Case, labels: Labels, findings: DatasetFindings, grid: Grid) -> list[ImageError]:
    """Faults of a case's masks; remarks on valid masks are added to `findings`."""
    if not case.annotated:
        findings.note(case.name, "no mask")
        return []
    error: list[ImageError] = []
    if grid is not None and grid[0] == case.image:
        try:
            _note_truth(case, read_ground_truth(case, grid[1], labels), labels, findings)
        except ImageError as first:  # there may be more
            error = [first]
        else:
            return []
    names = set(map(normalize_name, labels.numbers))
    files = {name: path for name, path in case.masks.items() if path is not None and normalize_name(name) in names}
    mask_cases = [replace(case, masks={})] if case.mask is not None else []
    mask_cases += [replace(case, mask=None, masks={name: path}) for name, path in files.items()]
    return [fault for mask_case in mask_cases for fault in _single_mask_faults(mask_case, labels, grid)] or error


def _single_mask_faults(mask_case: Case, labels: Labels, grid: Grid) -> list[ImageError]:
    """Faults of a case's only mask file: whether it can be read, its grid and its values."""
    (file,) = mask_case.truth_files()
    try:
        if not file.name.endswith(SEG):
            image = read_image(file)
        elif grid is not None:
            image = grid[1]
        else:  # a SEG needs its image to know its grid
            return []
        faults = _off_grid(file, image, grid, "mask-grid")
    except ImageError as error:
        return [error]
    try:
        read_ground_truth(mask_case, image, labels)
    except ImageError as error:
        if error.code != "mask-missing":  # other files of the case may have labels
            faults.append(error)
    return faults


def _note_truth(case: Case, truth: GroundTruth, labels: Labels, findings: DatasetFindings) -> None:
    """Add remarks on masks that are usable."""
    if truth.mask.GetDimension() == 3:  # 2D images have no position
        _note_grid_offsets(case, truth, findings)
    array = sitk.GetArrayViewFromImage(truth.mask)
    present = {name: bool(labels.layer(array, name).any()) for name in truth.known}
    if not any(present.values()):
        findings.note(case.name, "the mask is blank")
    elif labels.exclusive:
        for name in [name for name, is_present in present.items() if not is_present]:
            findings.note(case.name, f"no {name} in the mask")
    unknown = [name for name in labels.numbers if name not in truth.known]
    if unknown:
        findings.note(case.name, f"{', '.join(unknown)} not annotated: ignored in the loss")


def _note_grid_offsets(case: Case, truth: GroundTruth, findings: DatasetFindings) -> None:
    """Add remarks on small grid offsets of masks, as rounded headers cause them; larger ones are errors."""
    for path, offset in truth.grid_offsets.items():
        if offset > MIN_OFFSET:
            findings.note(case.name, f"{path}: is offset from its image by {offset:.1g} of a voxel, which is tolerated")


def _note_duplicates(cases: list[Case], findings: DatasetFindings) -> None:
    """Add remarks on cases with duplicate images."""
    by_name = {case.name: case for case in cases}
    for twin in findings.prints.twins():
        first, second = by_name[twin.one], by_name[twin.other]
        if twin.same_patient and first.id == second.id:  # frames of one sequence may be equal
            continue
        for a, b in ((first, second), (second, first)):
            facts = [] if twin.same_patient else ["another patient's"]
            facts += [f"in split {b.split}"] if a.split != b.split else []
            findings.note(a.name, ", ".join([f"{twin.kind} duplicate of {b.name}", *facts]))


def _note_outliers(findings: DatasetFindings) -> None:
    """Add remarks on images with unusual channels or dimensions, or far from the median in spacing or size."""
    if not findings.components:
        return
    usual, dimension = (
        Counter(findings.components.values()).most_common(1)[0][0],
        _most([len(s) for s in findings.sizes.values()]),
    )
    for name, count in findings.components.items():
        if count != usual:
            findings.note(name, f"has {count} colour channels, most have {usual}")
        if len(findings.sizes[name]) != dimension:
            findings.note(name, f"has {len(findings.sizes[name])} dimensions, most have {dimension}")
    usual_names = [name for name, size in findings.sizes.items() if len(size) == dimension]
    for quantity, table in (("spacing in mm", findings.spacings), ("size in voxels", findings.sizes)):
        median = np.median([table[name] for name in usual_names], axis=0)
        for name in usual_names:
            factor = np.asarray(table[name]) / median
            if (factor > OUTLIER_FACTOR).any() or (factor < 1 / OUTLIER_FACTOR).any():
                values = " × ".join(f"{value:.4g}" for value in table[name])
                findings.note(name, f"{quantity} {values}, the median is {' × '.join(f'{v:.4g}' for v in median)}")


def _most(values: list[int]) -> int:
    return Counter(values).most_common(1)[0][0]


def _dataset_remarks(config: Settings, cases: list[Case]) -> list[str]:
    """Patients in two splits, missing or unknown classes, a missing training split."""
    remarks = []
    splits: dict[str, set[str]] = {}
    for case in cases:
        if case.split:
            splits.setdefault(case.patient, set()).add(case.split)
    for patient, names in sorted(splits.items()):
        if len(names) > 1:
            remarks.append(f"patient {patient} is in {' and '.join(sorted(names))}: a patient must be in one split")
    split_names = {str(case.split) for case in cases if case.split}
    if split_names and "train" not in split_names:
        remarks.append(f"no case is in split train, only in {', '.join(sorted(split_names))}")
    counts = Counter(case.label for case in cases if case.label is not None)
    classes = [str(name) for name in config.organ.classes]
    unknown = sorted(set(counts) - set(classes))
    for label in unknown:
        first = next(case.name for case in cases if case.label == label)
        remarks.append(
            f"label {label!r} of {counts[label]} cases, such as {first}, is none of organ.classes {classes}"
            f"{did_you_mean(label, classes)}: a classifier cannot be trained with it"
        )
    if len(counts) == 1:
        remarks.append(f"every case is {next(iter(counts))}: no classifier can be trained")
    if not any(case.annotated for case in cases):
        remarks.append("no case has a mask: no segmenter can be trained")
    return remarks


def _root(config: Settings) -> Path:
    if config.data.root is None:
        raise ConfigError("data.root: name the dataset to check")
    return Path(config.data.root)


def _orphan_remarks(config: Settings) -> list[str]:
    """Masks, and rows of labels.csv, without an image of the same name. Not for a cases.csv, which lists all files."""
    root = _root(config)
    all_classes = with_values(config, {"data.exclude_classes": []})  # the masks of excluded cases are no orphans
    cases = read_dataset(all_classes, root)
    nnunet = (root / "dataset.json").is_file()
    images, folders = (root / "imagesTr", ("labelsTr",)) if nnunet else (root / "images", MASK_FOLDERS)
    if (root / "cases.csv").is_file() or not all(case.image.is_relative_to(images) for case in cases):
        return []
    used = {path for case in cases for path in case.truth_files()}
    folder = next((root / name for name in folders if (root / name).is_dir()), images)
    masks = sorted(path for path in folder.rglob("*") if folder != images and is_image(path) and path not in used)
    remarks = [f"{path}: no image is named like this mask, so it is not used; rename or remove it" for path in masks]
    table = root / "labels.csv"
    if nnunet or not table.is_file():
        return remarks
    names = _names(images, cases)
    rows = [Path(text) for text in read_table(table).iloc[:, 0].astype(str) if text]
    unmatched = [row for row in rows if str(row.parent / stem(row)) not in names]
    return remarks + [
        f"{table}: no image is named like its row {row}; add the image, or remove the row" for row in unmatched
    ]


def _names(images: Path, cases: list[Case]) -> set[str]:
    """Names by which a row may refer to an image: its path below the folder without suffix and channel, or its stem."""
    files = {path: channel for case in cases for channel, path in case.images.items()}
    channel_suffixes = {path: f"_{channel}" if len(set(files.values())) > 1 else "" for path, channel in files.items()}
    names = {name.removesuffix(channel_suffixes[path]) for name, path in index_by_stem(images, files).items()}
    return names | {name.rpartition("/")[2] for name in names}
