"""Build a SIMULATED 4DCT: real end-exhale CT volumes deformed by a breathing field that real respiratory traces drive.

    python scripts/simulate_4dct.py VOLUMES TRACES OUT

VOLUMES holds images/, labels/ (1 right lung, 2 left lung) and labels.csv (case and a split column). TRACES holds one
CSV a session with `time_s` and `pc1_mm`. OUT gets cases.csv (split filled in), images/, masks/ and simulated.json.

Held-out volumes breathe with traces that no training volume uses. What the deformation leaves out: sliding along the
pleura, hysteresis between inhaling and exhaling, new noise in each frame and reconstruction artefacts. Volume follows
the trace almost exactly (r > .99), so results on true masks are a ceiling; report them as simulated.
"""

from __future__ import annotations

import argparse
import json
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
import SimpleITK as sitk
from scipy.signal import butter, sosfiltfilt

from medseg.datasets.phantoms.breathing import breathing_states, deform, fit_field, orient_trace, soften
from medseg.io.image import read_image, read_mask, write_image

CUTOFF_HZ = 1.0  # breathing lies below; heartbeat and marker noise above
LIMITS = (-0.3, 1.5)  # amplitudes beyond were never seen by the field, nor by most lungs


@dataclass(frozen=True)
class Trace:
    """A session's breathing: `signal` (T,) is 0 at its 5th percentile and 1 at its 95th, `states` (T,) go with it."""

    name: str
    step_s: float
    signal: np.ndarray
    states: list[str]


def read_trace(path: Path) -> Trace:
    """A marker trace, turned so that larger is more air (its own sign is a heuristic), smoothed and normalised."""
    table = pd.read_csv(path)
    step = float(np.median(np.diff(table["time_s"])))
    raw = orient_trace(table["pc1_mm"].to_numpy(float), step)
    smooth = sosfiltfilt(butter(2, CUTOFF_HZ, fs=1 / step, output="sos"), raw)
    low, high = np.percentile(smooth, [5, 95])
    signal = np.clip((smooth - low) / (high - low), *LIMITS)
    return Trace(path.stem, step, signal, breathing_states(signal, step))


def assign_traces(
    splits: dict[str, str], traces: list[str], each: int, rng: np.random.Generator
) -> dict[str, list[str]]:
    """Traces for every volume: divided between train and the rest in proportion to the volumes, then dealt in turn."""
    order = rng.permutation(traces).tolist()
    train = [case for case, split in splits.items() if split == "train"]
    held_out = [case for case in splits if case not in train]
    cut = round(len(order) * len(train) / len(splits))
    if train and held_out:
        cut = min(max(cut, 1), len(order) - 1)
    dealt = {}
    for cases, pool in ((train, order[:cut]), (held_out, order[cut:])):
        if cases and len(pool) < each:
            raise SystemExit(f"{len(traces)} traces do not give {each} different ones to each volume of every split")
        dealt |= {case: [pool[(i * each + j) % len(pool)] for j in range(each)] for i, case in enumerate(cases)}
    return dealt


def coarser(image: sitk.Image, spacing: list[float], interpolator: int) -> sitk.Image:
    """The image resampled to a spacing in mm; its first voxel stays where it is."""
    size = [
        max(1, int((n - 1) * d / s) + 1) for n, d, s in zip(image.GetSize(), image.GetSpacing(), spacing, strict=True)
    ]
    outside = -1000.0 if interpolator == sitk.sitkLinear else 0.0
    return sitk.Resample(
        image, size, sitk.Transform(), interpolator, image.GetOrigin(), spacing, image.GetDirection(), outside
    )


def simulate(case: str, split: str, trace: Trace, args: argparse.Namespace, rng: np.random.Generator) -> list[dict]:
    """Write the frames of one volume breathing with one trace; returns their rows of cases.csv."""
    samples = np.round(np.arange(args.frames) * args.step_s / trace.step_s).astype(int)
    slack = len(trace.signal) - samples[-1]
    if slack < 1:
        raise SystemExit(f"{trace.name}: too short for {args.frames} frames every {args.step_s} s; ask for fewer")
    samples += rng.integers(slack)
    image = coarser(read_image(args.volumes / "images" / f"{case}.nii.gz"), args.spacing_mm, sitk.sitkLinear)
    mask = coarser(read_mask(args.volumes / "labels" / f"{case}.nii.gz"), args.spacing_mm, sitk.sitkNearestNeighbor)
    shares = soften(mask)
    field = fit_field(mask, rng.uniform(10, 18), rng.uniform(2, 5), rng.uniform(1, 3))
    name, rows = f"{case}_{trace.name}", []
    for frame, at in enumerate(samples):
        moved, labels = deform(image, shares, field, float(trace.signal[at]))
        file = f"{name}/frame_{frame:03d}.nii.gz"
        write_image(sitk.Cast(sitk.Round(moved), sitk.sitkInt16), args.out / "images" / file)
        write_image(labels, args.out / "masks" / file)
        row = {"case": name, "patient": case, "image": f"images/{file}", "mask": f"masks/{file}"}
        row |= {"label": trace.states[at], "frame": frame, "time": round(frame * args.step_s, 3)}
        rows.append(row | {"signal": round(float(trace.signal[at]), 4), "split": split})
    return rows


def parse(arguments: list[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("volumes", type=Path)
    parser.add_argument("traces", type=Path)
    parser.add_argument("out", type=Path)
    parser.add_argument("--split-column", default="split_in_repo")
    parser.add_argument("--frames", type=int, default=40)
    parser.add_argument("--step-s", type=float, default=0.4, help="seconds between frames")
    parser.add_argument("--spacing-mm", type=float, nargs=3, default=[3.0, 3.0, 3.0], metavar=("X", "Y", "Z"))
    parser.add_argument("--traces-per-volume", type=int, default=2)
    parser.add_argument("--seed", type=int, default=0)
    return parser.parse_args(arguments)


def main(arguments: list[str] | None = None) -> None:
    args = parse(arguments)
    table = pd.read_csv(args.volumes / "labels.csv", dtype=str)
    splits = dict(zip(table["case"], table[args.split_column], strict=True))
    traces = {trace.name: trace for trace in map(read_trace, sorted(args.traces.glob("*.csv")))}
    rng = np.random.default_rng(args.seed)
    dealt = assign_traces(splits, sorted(traces), args.traces_per_volume, rng)
    rows = []
    for case, names in dealt.items():
        for name in names:
            rows += simulate(case, splits[case], traces[name], args, rng)
            print(f"{case} with trace {name}: {args.frames} frames, {splits[case]}", flush=True)
    pd.DataFrame(rows).to_csv(args.out / "cases.csv", index=False)
    facts = {
        "simulated": True,
        "what": "SIMULATED 4DCT: real CT volumes deformed by a breathing field driven by real respiratory traces",
        "seed": args.seed,
        "frames": args.frames,
        "step_s": args.step_s,
        "spacing_mm": args.spacing_mm,
        "traces": dealt,
    }
    (args.out / "simulated.json").write_text(json.dumps(facts) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
