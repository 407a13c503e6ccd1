"""`medseg data synthesize`: images with known tissues, made from label maps."""

from __future__ import annotations

import csv
import json
from pathlib import Path

import numpy as np

from medseg.datasets.base import cases_csv
from medseg.datasets.synthesis.generator import synthesize
from medseg.datasets.synthesis.label_maps import TISSUES, LabelTable, map_files, read_label_map, read_label_table
from medseg.errors import DataError
from medseg.io.image import write_image
from medseg.utils.console import Progress, progress, say
from medseg.utils.files import append_text, atomic_write_text, hash_path, write_json

SETTINGS, JOURNAL = "synthesis.json", "synthesis.csv"  # what was asked for; the finished cases until all are
COLUMNS = ("case", "patient", "image", "mask", "contrast", "view")


def synthesize_dataset(maps: Path, out: Path, cases: int, seed: int) -> Path:
    """Write images/, masks/, labels.json and cases.csv to `out`; `patient` is the map, so that splits are by map.

    Case i depends on the maps, `seed` and i alone. An interrupted run goes on where it stopped. Raises `DataError`
    before anything is written: no maps, a value that labels.csv does not name, an `out` with a dataset, with other
    files or begun with other settings.
    """
    if not maps.is_dir():
        raise DataError(f"{maps}: no such folder")
    labels, files = read_label_table(maps), map_files(maps)
    settings = {"seed": seed, "maps": {f.name: hash_path(f) for f in [labels.file, *files]}}
    finished = _finished(out, settings)
    if not finished:
        for file in files:  # a bad map is found before an hour of work
            read_label_map(file, labels)
    write_json(out / SETTINGS, settings)
    with progress("synthesize", cases) as bar:
        bar.advance(len(finished))
        for first, file in enumerate(files):
            numbers = [n for n in range(first, cases, len(files)) if _name(n) not in finished]
            finished |= _cases_of_map(file, labels, numbers, (out, seed, bar)) if numbers else {}
    write_json(out / "labels.json", TISSUES)
    atomic_write_text(out / "cases.csv", cases_csv([finished[_name(n)] for n in range(cases)]))  # last: complete
    (out / JOURNAL).unlink(missing_ok=True)
    say(f"{cases} cases of {min(cases, len(files))} maps in {out / 'cases.csv'}")
    return out / "cases.csv"


def _name(number: int) -> str:
    return f"synthetic_{number:04d}"


def _cases_of_map(
    file: Path, labels: LabelTable, numbers: list[int], run: tuple[Path, int, Progress]
) -> dict[str, dict[str, str]]:
    """Write the cases of one map; return their rows by name."""
    out, seed, bar = run
    source, rows = read_label_map(file, labels), {}
    for number in numbers:
        case = synthesize(source, labels, np.random.default_rng([seed, number]))
        name = _name(number)
        row = dict(zip(COLUMNS, (name, source.name, f"images/{name}.nii.gz", f"masks/{name}.nii.gz"), strict=False))
        row |= {"contrast": case.contrast, "view": case.view}
        write_image(case.image, out / row["image"])
        write_image(case.mask, out / row["mask"])
        append_text(out / JOURNAL, ",".join(row[column] for column in COLUMNS) + "\n")
        rows[name] = row
        bar.advance(1, name)
    return rows


def _finished(out: Path, settings: dict[str, object]) -> dict[str, dict[str, str]]:
    """Rows of the cases that an interrupted run with the same settings wrote."""
    if (out / "cases.csv").exists():
        raise DataError(f"{out}: contains a dataset (cases.csv); delete it or choose a new folder")
    if not out.is_dir() or not any(out.iterdir()):
        return {}
    if not (out / SETTINGS).is_file():
        raise DataError(f"{out}: is not empty; choose a new folder")
    before = json.loads((out / SETTINGS).read_text(encoding="utf-8"))
    if changed := [key for key in settings if before.get(key) != settings[key]]:
        raise DataError(
            f"{out}: has an interrupted run with other {changed[0]}; use the same, delete it or choose a new folder"
        )
    if not (out / JOURNAL).is_file():
        return {}
    with (out / JOURNAL).open(newline="", encoding="utf-8") as text:
        rows = [row for row in csv.DictReader(text, COLUMNS) if row["view"]]
    return {row["case"]: row for row in rows if all((out / row[key]).is_file() for key in ("image", "mask"))}
