"""Measure a segmenter on images disturbed as other scanners and cameras do, and write a table.

    python scripts/disturb.py DATA OUT --model RUN --kind ct [--split valid] [--limit 50] [--every 3]

DATA is a dataset with masks; OUT/<kind>/ gets images/ and masks/ of every disturbance, and OUT/<run>/ the predictions,
their evaluation and disturbed.md. Masks are transformed as their images. The images are made once for several models.
Dice is the mean over labels and images; a structure is missed where its Dice is below .1. n counts images.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import zlib
from pathlib import Path

import numpy as np
import pandas as pd
from disturbances import KINDS

from medseg.config.load import get_labels, load
from medseg.config.settings import Settings
from medseg.data.cases import Case, Columns
from medseg.data.ground_truth import read_ground_truth
from medseg.data.readers import read_cases
from medseg.io.image import read_image, write_image
from medseg.utils.files import write_json

MISSED = 0.1  # Dice: air around the body taken for a lung may touch the lung


def held_out(config: Settings, root: Path, split: str | None, limit: int | None) -> list[Case]:
    """The annotated cases of a split (None: all but those that train), evenly chosen."""
    data = config.data
    columns = Columns(
        data.split_column, data.label_column, data.patient_column, data.mask_suffix, data.missing_mask, data.mask_values
    )
    cases = [case for case in read_cases(root, list(config.organ.channels), columns) if case.annotated]
    cases = [case for case in cases if (case.split == split if split else case.split != "train")]
    return cases if limit is None else cases[:: -(-len(cases) // limit) or 1]


def make(cases: list[Case], config: Settings, kind: str, out: Path, every: int = 1) -> None:
    """Write the disturbed images and masks of every case: images/NAME/CASE, masks/NAME/CASE.

    Of volumes every so many slices are taken, which spares time where the network sees single slices.
    """
    labels = get_labels(config)
    suffix = ".nii.gz" if kind == "ct" else ".png"
    for case in cases:
        image = read_image(case.image)
        truth = read_ground_truth(case, image, labels).mask
        if every > 1:
            image, truth = image[:, :, ::every], truth[:, :, ::every]
        for name, disturb in KINDS[kind].items():
            rng = np.random.default_rng(zlib.crc32(f"{case.name} {name}".encode()))
            for number, (disturbed, mask) in enumerate(disturb(image, truth, rng)):
                file = f"{folder(name)}/{case.name}_{number:02d}{suffix}"
                for part, content in (("images", disturbed), ("masks", mask)):
                    (out / part / file).parent.mkdir(parents=True, exist_ok=True)
                    write_image(content, out / part / file)
    write_json(out / "masks" / "labels.json", dict(labels.numbers))
    write_json(out / "made.json", {"cases": [case.name for case in cases], "disturbances": list(KINDS[kind])})


def folder(name: str) -> str:
    """A disturbance's folder."""
    return name.replace(" ", "_").replace(",", "")


def measure(model: Path, made: Path, out: Path) -> pd.DataFrame:
    """Segment and evaluate from the command line; one row per image and label."""
    medseg = [sys.executable, "-m", "medseg"]
    subprocess.run([*medseg, "segment", made / "images", out / "predicted", "--model", model], check=True)
    subprocess.run([*medseg, "evaluate", out / "predicted", made / "masks", "--out", out / "evaluation"], check=True)
    return pd.read_csv(out / "evaluation" / "evaluation.csv")


def report(rows: pd.DataFrame, kind: str) -> str:
    """A table in markdown: disturbance, n images, Dice, lowest Dice, missed structures of all structures."""
    rows = rows[rows["status"].isin(["ok", "missed"])]
    lines = ["| disturbance | n | Dice | worst image | missed |", "|---|---|---|---|---|"]
    for name in KINDS[kind]:
        part = rows[rows["case"].str.startswith(f"{folder(name)}/")]
        if part.empty:
            continue
        images = part.groupby("case")["dice"].mean()
        missed = int((part["dice"] < MISSED).sum())
        lines.append(f"| {name} | {len(images)} | {images.mean():.3f} | {images.min():.3f} | {missed} of {len(part)} |")
    return "\n".join(lines) + "\n"


def main() -> None:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", type=Path)
    parser.add_argument("out", type=Path)
    parser.add_argument("--model", type=Path, required=True, help="a finished run folder")
    parser.add_argument("--kind", choices=list(KINDS), required=True)
    parser.add_argument("--split", help="the split to disturb; else every case that is not for training")
    parser.add_argument("--limit", type=int, help="at most so many cases")
    parser.add_argument("--every", type=int, default=1, help="of volumes take every so many slices")
    arguments = parser.parse_args()
    config = load(arguments.model / "config.yaml")
    made, out = arguments.out / arguments.kind, arguments.out / arguments.model.name
    if not (made / "made.json").is_file():
        cases = held_out(config, arguments.data, arguments.split, arguments.limit)
        make(cases, config, arguments.kind, made, arguments.every)
    table = report(measure(arguments.model, made, out), arguments.kind)
    (out / "disturbed.md").write_text(table, encoding="utf-8")
    print(table)


if __name__ == "__main__":
    main()
