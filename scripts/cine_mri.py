"""Measure sagittal cine MRI of breathing without masks, as a dataset that `medseg train` reads.

    python scripts/cine_mri.py FOLDER... --out OUT --hold-out SUBJECT
    medseg train organ=lung features=motion task=diagnosis data.root=OUT data.time_axis=2

A FOLDER holds images/CASE.nii.gz (x, y, time; y runs from cranial to caudal) and signals/CASE.csv (frame, time_s,
state, displacement_smooth_px). OUT gets cases.csv, a row a sequence, and features.csv, a row a frame: medseg's own
motion features, the state as label and the folder's displacement as signal; that one is never a feature. The subject
held out becomes split=valid, all others train; run once for each subject for a leave-one-subject-out estimate.

State and signal come from matching images, as the features do, and not from a belt: what is learnt is to agree with
them.
"""

from __future__ import annotations

import argparse
import re
from pathlib import Path

import pandas as pd

from medseg.features.respiration.motion import motion_features
from medseg.io.image import frames, read_image, stem

TIME_AXIS = 2


def subject_of(case: str) -> str:
    """Slices of one subject, CASE_x95 and CASE_x80, were taken at the same time and must not part."""
    return re.sub(r"_x\d+$", "", case)


def measure(image: Path, signals: Path) -> pd.DataFrame:
    """A row a frame: case, patient, frame, time (s), label, signal (px) and the motion features."""
    case = stem(image)
    truth = pd.read_csv(signals)
    features = motion_features(frames(read_image(image), TIME_AXIS))
    if len(features) != len(truth):
        raise SystemExit(f"{image} has {len(features)} frames, {signals} has {len(truth)} rows")
    facts = {
        "case": case,
        "patient": subject_of(case),
        "frame": truth["frame"],
        "time": truth["time_s"],
        "label": truth["state"],
        "signal": truth["displacement_smooth_px"],
    }
    return pd.concat([pd.DataFrame(facts), features], axis=1)


def parse(arguments: list[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folders", nargs="+", type=Path, metavar="FOLDER")
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--hold-out", metavar="SUBJECT", help="becomes split=valid; without it no split is written")
    return parser.parse_args(arguments)


def main(arguments: list[str] | None = None) -> None:
    args = parse(arguments)
    images = [image for folder in args.folders for image in sorted((folder / "images").glob("*.nii.gz"))]
    subjects = sorted({subject_of(stem(image)) for image in images})
    if args.hold_out is not None and args.hold_out not in subjects:
        raise SystemExit(f"no subject {args.hold_out!r}; there are {', '.join(subjects) or 'none'}")
    tables = []
    for image in images:
        tables.append(measure(image, image.parents[1] / "signals" / f"{stem(image)}.csv"))
        print(f"{stem(image)}: {len(tables[-1])} frames", flush=True)
    if not tables:
        raise SystemExit(f"no images/*.nii.gz in {', '.join(map(str, args.folders))}")
    features = pd.concat(tables, ignore_index=True)
    cases = pd.DataFrame({"case": [stem(i) for i in images], "image": [str(i.resolve()) for i in images]})
    cases.insert(1, "patient", cases["case"].map(subject_of))
    if args.hold_out is not None:
        cases["split"] = ["valid" if patient == args.hold_out else "train" for patient in cases["patient"]]
    args.out.mkdir(parents=True, exist_ok=True)
    features.to_csv(args.out / "features.csv", index=False)
    cases.to_csv(args.out / "cases.csv", index=False)


if __name__ == "__main__":
    main()
