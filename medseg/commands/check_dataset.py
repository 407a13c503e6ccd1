"""Read a whole dataset and say everything that is wrong with it, at once."""

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

FAR = 3.0  # times the median: a spacing or size beyond is another kind of image, or a wrong header
NOISE = 1e-6  # of a voxel: below, nobody would call it a difference
WHOLE = "(dataset)"
Grid = tuple[Path, sitk.Image] | None  # whose it is


@dataclass
class DatasetFindings:
    """What is seen while cases are read, to be compared when all are."""

    remarks: dict[str, list[str]] = field(default_factory=dict)
    spacings: dict[str, list[float]] = field(default_factory=dict)
    sizes: dict[str, list[int]] = field(default_factory=dict)
    components: dict[str, int] = field(default_factory=dict)
    prints: PerceptualHashes = field(default_factory=PerceptualHashes)

    def note(self, case: str, remark: str) -> None:
        """Something to look at."""
        self.remarks.setdefault(case, []).append(remark)


def check_dataset(config: Settings, out: Path = Path("data_check.csv")) -> CaseLog:
    """One entry a case in the ledger `out` (.csv, and .json beside it): ok, review (usable, look at it) or failed.

    What concerns the whole set stands in an entry of its own, named (dataset). Raises `DataError` where the tables
    themselves cannot be read, `ConfigError` where `out` is another table.
    """
    require_case_log(out)
    root = _root(config)
    cases = read_dataset(config, root)
    labels, found = get_labels(config), DatasetFindings()
    named = {case.name: case for case in cases}

    def look(job: Job) -> CaseResult:
        _look(named[job.name], labels, found)
        remarks = found.remarks.get(job.name, [])
        return CaseResult(status="review", code="review", message="; ".join(remarks)) if remarks else CaseResult()

    settings = {"labels": [dict(labels.numbers), labels.exclusive], "classes": list(map(str, config.organ.classes))}
    jobs = [Job(case.name, case.image, [*case.images.values(), *case.truth_files()]) for case in cases]
    with lock_table(out, (".csv", ".json")), CaseLog(out, key=settings_key([], settings)) as ledger:
        for _ in run_serial(jobs, look, ledger, "check"):
            pass
        seen = {entry.case: entry for entry in ledger.entries}
        _repeated(cases, found)
        _outliers(found)
        ledger.amend([_told(entry, found.remarks.get(entry.case, [])) for entry in seen.values()])
        for remark in [*_of_the_whole(config, cases), *_orphans(config)]:
            ledger.add(Entry(WHOLE, "review", "review", remark, input=str(config.data.root)))
    for entry in ledger.entries:
        if entry != seen.get(entry.case):
            warn(f"{entry.case}: {entry.message}")
    return ledger


def _told(entry: Entry, remarks: list[str]) -> Entry:
    """The entry with all that was seen of its case."""
    if entry.status == "failed":
        return replace(entry, message="; ".join([entry.message, *remarks]))
    return replace(entry, status="review", code="review", message="; ".join(remarks)) if remarks else entry


def _look(case: Case, labels: Labels, found: DatasetFindings) -> None:
    """Read everything of a case; raises one `ImageError` that names all that keeps it from being used."""
    faults: list[ImageError] = []
    images: dict[Path, sitk.Image] = {}
    for path in case.images.values():
        try:
            images[path] = read_image(path)
        except ImageError as error:
            faults.append(error)
    first = images.get(case.image)
    if first is not None:
        found.prints.add(case.name, case.patient, case.image, first)
        found.spacings[case.name], found.sizes[case.name] = list(first.GetSpacing()), list(first.GetSize())
        found.components[case.name] = first.GetNumberOfComponentsPerPixel()
    grid = next(iter(images.items()), None)  # the first that can be read
    for path, image in images.items():
        array = sitk.GetArrayViewFromImage(image)
        if array.min() == array.max():
            found.note(case.name, f"{path}: every pixel is {array.flat[0]:g}")
        faults += _off_grid(path, image, grid, "image-grid")
    faults += _mask_faults(case, labels, found, grid)
    if faults:
        raise ImageError("; ".join(dict.fromkeys(map(str, faults))), code=faults[0].code)


def _off_grid(path: Path, image: sitk.Image, grid: Grid, code: str) -> list[ImageError]:
    """One error where an image does not lie on the grid; none where it does, or there is no grid."""
    if grid is None:
        return []
    try:
        require_same_grid(image, grid[1], f"{path}: does not lie on the grid of {grid[0]}", ONE_ONTO_OTHER, code)
    except ImageError as error:
        return [error]
    return []


def _mask_faults(case: Case, labels: Labels, found: DatasetFindings, grid: Grid) -> list[ImageError]:
    """What is wrong with the masks of a case; of sound ones, what to look at is noted."""
    if not case.annotated:
        found.note(case.name, "no mask")
        return []
    error: list[ImageError] = []
    if grid is not None and grid[0] == case.image:
        try:
            _note_truth(case, read_ground_truth(case, grid[1], labels), labels, found)
        except ImageError as first:  # there may be more
            error = [first]
        else:
            return []
    ours = set(map(normalize_name, labels.numbers))
    files = {name: path for name, path in case.masks.items() if path is not None and normalize_name(name) in ours}
    parts = [replace(case, masks={})] if case.mask is not None else []
    parts += [replace(case, mask=None, masks={name: path}) for name, path in files.items()]
    return [fault for part in parts for fault in _faults_of_one(part, labels, grid)] or error


def _faults_of_one(part: Case, labels: Labels, grid: Grid) -> list[ImageError]:
    """What is wrong with a case's only mask file: reading, its place, and its values whatever the place."""
    (file,) = part.truth_files()
    try:
        if not file.name.endswith(SEG):
            own = read_image(file)
        elif grid is not None:
            own = grid[1]
        else:  # only with its image does it say where it lies
            return []
        faults = _off_grid(file, own, grid, "mask-grid")
    except ImageError as error:
        return [error]
    try:
        read_ground_truth(part, own, labels)
    except ImageError as error:
        if error.code != "mask-missing":  # other files of the case may have labels
            faults.append(error)
    return faults


def _note_truth(case: Case, truth: GroundTruth, labels: Labels, found: DatasetFindings) -> None:
    """What a person should know of masks that can be used."""
    if truth.mask.GetDimension() == 3:  # photographs lie nowhere
        _note_noise(case, truth, found)
    array = sitk.GetArrayViewFromImage(truth.mask)
    shown = {name: bool(labels.layer(array, name).any()) for name in truth.known}
    if not any(shown.values()):
        found.note(case.name, "the mask is blank")
    elif labels.exclusive:
        for name in [name for name, there in shown.items() if not there]:
            found.note(case.name, f"no {name} in the mask")
    unknown = [name for name in labels.numbers if name not in truth.known]
    if unknown:
        found.note(case.name, f"{', '.join(unknown)} not annotated: gives no loss there")


def _note_noise(case: Case, truth: GroundTruth, found: DatasetFindings) -> None:
    """Say where a mask lies a little off its image, as headers of other precision make it; more is an error before."""
    for path, apart in truth.grid_offsets.items():
        if apart > NOISE:
            found.note(case.name, f"{path}: lies {apart:.1g} of a voxel off its image, which is tolerated")


def _repeated(cases: list[Case], found: DatasetFindings) -> None:
    """Cases that show the same as another one."""
    by_name = {case.name: case for case in cases}
    for twin in found.prints.twins():
        one, other = by_name[twin.one], by_name[twin.other]
        if twin.same_patient and one.id == other.id:  # frames of one sequence may rest
            continue
        for a, b in ((one, other), (other, one)):
            facts = [] if twin.same_patient else ["another patient's"]
            facts += [f"in split {b.split}"] if a.split != b.split else []
            found.note(a.name, ", ".join([f"{twin.kind} duplicate of {b.name}", *facts]))


def _outliers(found: DatasetFindings) -> None:
    """Images that are of another kind than most, or far from the median in spacing or size."""
    if not found.components:
        return
    usual, dimension = (
        Counter(found.components.values()).most_common(1)[0][0],
        _most([len(s) for s in found.sizes.values()]),
    )
    for name, count in found.components.items():
        if count != usual:
            found.note(name, f"has {count} colour channels, most have {usual}")
        if len(found.sizes[name]) != dimension:
            found.note(name, f"has {len(found.sizes[name])} dimensions, most have {dimension}")
    alike = [name for name, size in found.sizes.items() if len(size) == dimension]
    for what, table in (("spacing in mm", found.spacings), ("size in voxels", found.sizes)):
        median = np.median([table[name] for name in alike], axis=0)
        for name in alike:
            factor = np.asarray(table[name]) / median
            if (factor > FAR).any() or (factor < 1 / FAR).any():
                shown = " × ".join(f"{value:.4g}" for value in table[name])
                found.note(name, f"{what} {shown}, the median is {' × '.join(f'{v:.4g}' for v in median)}")


def _most(values: list[int]) -> int:
    return Counter(values).most_common(1)[0][0]


def _of_the_whole(config: Settings, cases: list[Case]) -> list[str]:
    """Patients on two sides, classes that are missing or unknown, sides that are empty."""
    remarks = []
    sides: dict[str, set[str]] = {}
    for case in cases:
        if case.split:
            sides.setdefault(case.patient, set()).add(case.split)
    for patient, names in sorted(sides.items()):
        if len(names) > 1:
            remarks.append(f"patient {patient} is in {' and '.join(sorted(names))}: a patient must be on one side")
    given = {str(case.split) for case in cases if case.split}
    if given and "train" not in given:
        remarks.append(f"no case is in split train, only in {', '.join(sorted(given))}")
    counts = Counter(case.label for case in cases if case.label is not None)
    classes = [str(name) for name in config.organ.classes]
    unknown = sorted(set(counts) - set(classes))
    for label in unknown:
        first = next(case.name for case in cases if case.label == label)
        remarks.append(
            f"label {label!r} of {counts[label]} cases, such as {first}, is none of organ.classes {classes}"
            f"{did_you_mean(label, classes)}: a diagnosis cannot be trained with it"
        )
    if len(counts) == 1:
        remarks.append(f"every case is {next(iter(counts))}: no diagnosis can be learnt")
    if not any(case.annotated for case in cases):
        remarks.append("no case has a mask: no segmentation can be learnt")
    return remarks


def _root(config: Settings) -> Path:
    if config.data.root is None:
        raise ConfigError("data.root: name the dataset to check")
    return Path(config.data.root)


def _orphans(config: Settings) -> list[str]:
    """Masks, and rows of labels.csv, that no image is named like. A cases.csv says itself what belongs together."""
    root = _root(config)
    everything = with_values(config, {"data.exclude_classes": []})  # an excluded case has its mask all the same
    cases = read_dataset(everything, root)
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
    strange = [row for row in rows if str(row.parent / stem(row)) not in names]
    return remarks + [
        f"{table}: no image is named like its row {row}; add the image, or remove the row" for row in strange
    ]


def _names(images: Path, cases: list[Case]) -> set[str]:
    """What a row may call an image: its path below the folder without ending and channel, or the last part of that."""
    files = {path: channel for case in cases for channel, path in case.images.items()}
    ends = {path: f"_{channel}" if len(set(files.values())) > 1 else "" for path, channel in files.items()}
    names = {name.removesuffix(ends[path]) for name, path in index_by_stem(images, files).items()}
    return names | {name.rpartition("/")[2] for name in names}
