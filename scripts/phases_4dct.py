"""Measure a 4DCT region without masks, a volume a phase, as a features table with its states.

    python scripts/phases_4dct.py FOLDER OUT
    medseg diagnose OUT/features.csv diagnosis.csv --model RUN

FOLDER holds images/<case>.nii.gz and labels.csv (case, patient, phase_index, air_fraction_roi, state_derived), as in
extracts of TCIA 4D-Lung. Their headers say that z points to the head, their arrays run the other way: z is turned. The
signal is the air fraction of the region; no measure of the diagnosis sees it.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import pandas as pd
import SimpleITK as sitk

from medseg.features.respiration.motion import motion_features
from medseg.io.image import read_image

STEP_S = 0.4  # nominal: a breath of 4 s in ten phases


def turned(path: Path) -> sitk.Image:
    image = read_image(path)
    image.SetDirection((1, 0, 0, 0, 1, 0, 0, 0, -1))
    return image


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("out", type=Path)
    given = parser.parse_args()
    tables = []
    for patient, rows in pd.read_csv(given.folder / "labels.csv").groupby("patient"):
        rows = rows.sort_values("phase_index").reset_index(drop=True)
        features = motion_features([turned(given.folder / "images" / f"{case}.nii.gz") for case in rows["case"]])
        facts = {"case": f"P{patient}", "patient": f"P{patient}", "frame": rows["phase_index"]}
        facts |= {
            "time": rows["phase_index"] * STEP_S,
            "label": rows["state_derived"],
            "signal": rows["air_fraction_roi"],
        }
        tables.append(pd.concat([pd.DataFrame(facts), features], axis=1))
    given.out.mkdir(parents=True, exist_ok=True)
    pd.concat(tables).to_csv(given.out / "features.csv", index=False)


if __name__ == "__main__":
    main()
