"""Train and measure every recipe on real data from the command line, and write docs/ACCURACY.md from the runs.

python scripts/accuracy.py DATA OUT [--only NAME ...] [--ablations [alone]]
DATA holds brain/ breast/ lung/ retina/ skin/. A run that is finished is not made again: an interrupted table goes on.
Rows of the page whose runs are not in OUT stay as they were.
"""

from __future__ import annotations

import argparse
import json
import re
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import pandas as pd
from accuracy_page import DIAGNOSIS, PAGE, Earlier, done, earlier, labels_of, notes, with_interval

CONSTANCY = "+preprocess.constancy._target_=medseg.preprocess.colour.ShadesOfGrey"
RANGE = (
    "~preprocess.zscore",
    "+preprocess.scale._target_=medseg.preprocess.intensity.Percentiles",
    "+preprocess.scale.low=0.0",
    "+preprocess.scale.high=100.0",
)
HU_UNSEEN = ("~preprocess.window", "+preprocess.zscore._target_=medseg.preprocess.intensity.ZScore")
PLAIN = "plain U-Net"
CLASSICAL = ("otsu", "watershed", "em", "superpixels")


@dataclass(frozen=True)
class Experiment:
    """One dataset: how it is trained, and what others reached on it."""

    name: str
    title: str
    folder: str
    settings: tuple[str, ...]
    score: str  # of metrics.json
    published: dict[str, str] = field(default_factory=dict)  # label: the best public figure, and whose
    folds: int = 1
    classical: tuple[str, ...] = ()
    ablations: dict[str, tuple[str, ...]] = field(default_factory=dict)
    share: float = (
        0.25  # of the recipe's samples in the runs with and without a step, which are compared among themselves
    )
    short: tuple[str, ...] = ()  # more settings of those runs
    plain: tuple[
        str, ...
    ] = ()  # the plain U-Net, where the recipe has a pretrained encoder; runs with and without a step
    trained: bool = True
    subset: str = ""  # column of labels.csv that is 1 in the cases to take; "": all


EXPERIMENTS = [
    Experiment(
        "brain_tissue", "Brain tissue, T1 (PTBP, a quarter of the children held out)", "brain/ptbp_tissue",
        ("organ=brain", "dataset=ptbp"), "dice",
        classical=("otsu", "em", "superpixels"),
        ablations={"N4 first": ("preprocess=mri_n4",), "range 0 to 1 instead of z-score": RANGE},
        share=0.25,
    ),
    Experiment(
        "brain_tumour", "Brain tumour, FLAIR + T1c (BraTS 2015, leave one patient out)", "brain/brats2015_deepmedic",
        ("organ=brain_tumour", "dataset=brats2015"), "dice", folds=4,
        ablations={"range 0 to 1 instead of z-score": RANGE},  # no N4: the set comes standardised, with values below 0
    ),
    Experiment(
        "retina", "Retina (IDRiD, 40 train, 14 reported at full size; AUPR over all pixels)", "retina/idrid_seg",
        ("organ=retina", "dataset=idrid"), "aupr",
        {"hard_exudates": "0.885 (IDRiD challenge)", "haemorrhages": "0.680 (IDRiD challenge)"},
        ablations={"light not evened": ("~preprocess.illumination",), "no CLAHE": ("~preprocess.contrast",)}, share=0.4,
        short=("segmenter.loss.dice=0.5",),
    ),
    Experiment(
        "skin", "Skin (ISIC 2017 at 256 pixels, 1700 train, 300 reported; Jaccard)", "skin/isic2017_256",
        ("organ=skin", "dataset=isic2017"), "iou",
        {"lesion": "0.765 (ISIC 2017 challenge, its test images)"}, classical=CLASSICAL,
        ablations={"hair left in": ("~preprocess.hair",), "colour constancy": (CONSTANCY,)}, share=0.25,
        plain=("segmenter=unet2d_whole_image", "organ.image_size=[128,128]", "segmenter.max_samples=24000"),
    ),
    Experiment(
        "skin_untrained", "Skin, without training (ISIC 2017 at 1024 pixels, 56 reported; Jaccard)",
        "skin/isic2017_hires",
        ("organ=skin", "dataset=isic2017", "data.test_fraction=1.0"), "iou",
        classical=CLASSICAL, trained=False,
    ),
    Experiment(
        "skin_hairy", "Skin under dense hair, without training (ISIC 2017 at 256 pixels, hairy by eye; Jaccard)",
        "skin/isic2017_256", ("organ=skin", "dataset=isic2017", "data.test_fraction=1.0"), "iou",
        classical=CLASSICAL, trained=False, subset="hair_checked",
    ),
    Experiment(
        "lung", "Lung (LCTSC, 3 train, 2 reported)", "lung/lctsc",
        ("organ=lung", "data.split_column=split_in_repo"), "dice", classical=CLASSICAL,
        ablations={"z-score instead of the HU window": HU_UNSEEN},
    ),
    Experiment(
        "breast", "Breast (BUSI at 256 pixels, a fifth of the groups held out; Dice of images with a lesion)",
        "breast/busi_256",
        ("organ=breast", "dataset=busi"), "dice_where_present", classical=CLASSICAL,
        ablations={"speckle filtered": ("+preprocess.speckle._target_=medseg.preprocess.denoising.Srad",)},
        plain=("segmenter=unet2d_whole_image", "organ.image_size=[160,160]", "segmenter.max_samples=30000"),
    ),
]  # fmt: skip


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", type=Path)
    parser.add_argument("out", type=Path)
    parser.add_argument("--only", nargs="*", default=[e.name for e in EXPERIMENTS])
    parser.add_argument(
        "--ablations", nargs="?", const="also", choices=("also", "alone"), default="",
        help="train with and without each preprocessing step too; alone: nothing but that",
    )  # fmt: skip
    parser.add_argument("--table", action="store_true", help="write the page from the runs there are, train nothing")
    given = parser.parse_args()
    lines = [
        "# Accuracy on real data", "",
        "Made by `make accuracy DATA=…` (`scripts/accuracy.py`): each number is a run's of the command above it.",
        "Scores are means over images with a 95 % interval drawn by patient; a missed structure counts 0; no epoch",
        "and no threshold was chosen on the reported images. Few sets are at hand, so recipes were settled while",
        "watching them: read the numbers as what to expect on data like these, not as a ranking. Rules without",
        "training stand beside the U-Net; runs with and without a step have equal, short trainings and are",
        "compared among themselves only. The rows of breast and lung, and the diagnoses on masks,",
        "were made before these recipes got the pretrained encoder and the field of view; what the encoder does",
        "is in their notes.",
        "",
    ]  # fmt: skip
    page, whole = PAGE.read_text() if PAGE.is_file() else "", True
    for experiment in EXPERIMENTS:
        if experiment.name in given.only and not given.table:
            whole = make(experiment, given.data, given.out, given.ablations) and whole
        before = earlier(page, experiment.title)
        lines += section(experiment, given.out, before)
    if DIAGNOSIS in page:
        lines += [*page[page.index(DIAGNOSIS) :].rstrip("\n").split("\n"), ""]
    PAGE.parent.mkdir(exist_ok=True)
    PAGE.write_text("\n".join(lines))
    print(PAGE)
    raise SystemExit(0 if whole else 1)


def variants(experiment: Experiment, ablations: bool) -> dict[str, tuple[str, ...]]:
    """Name → settings of each run of an experiment."""
    found: dict[str, tuple[str, ...]] = {"U-Net": ()} if experiment.trained else {}
    found |= {PLAIN: experiment.plain} if experiment.plain else {}
    found |= {name: (f"segmenter={name}",) for name in experiment.classical}
    if not experiment.trained:  # hair is what their data were chosen for
        found |= {
            f"{name}, no hair removal": (f"segmenter={name}", "~preprocess.hair") for name in experiment.classical
        }
    if ablations and experiment.ablations:
        few = (*experiment.plain, f"trainer.fraction={experiment.share:g}", *experiment.short)
        base = f"{PLAIN if experiment.plain else 'U-Net'}, {experiment.share:.0%} of the samples"
        found |= {base: few} | {f"{base}, {name}": (*few, *s) for name, s in experiment.ablations.items()}
    return found


def make(experiment: Experiment, data: Path, out: Path, ablations: str) -> bool:
    """Every run of an experiment that is not there yet; whether all came to their end."""
    whole = True
    usual = variants(experiment, ablations=False)
    for name, settings in variants(experiment, bool(ablations)).items():
        if ablations == "alone" and name in usual:
            continue
        for fold in range(experiment.folds):
            run = folder(experiment, out, name, fold)
            if (run / "manifest.json").is_file():
                continue
            folds = (f"data.fold={fold}",) if experiment.folds > 1 else ()
            words = [*experiment.settings, *settings, *folds, f"data.root={root_of(experiment, data, out)}"]
            command = ["medseg", "train", *words, f"data.cache={out / 'cache'}", f"run_dir={run}"]
            whole = done(command) and whole
    return whole


def root_of(experiment: Experiment, data: Path, out: Path) -> Path:
    """The dataset's folder; of a subset, one with links to its images and masks."""
    source = data / experiment.folder
    if not experiment.subset:
        return source
    root = out / "subsets" / experiment.name
    if not (root / "labels.csv").is_file():
        table = pd.read_csv(source / "labels.csv")
        table = table[table[experiment.subset] == 1]
        wanted = set(table["case_id"])
        for place in ("images", "masks"):
            (root / place).mkdir(parents=True, exist_ok=True)
            for file in (source / place).iterdir():
                if "_".join(file.stem.split("_")[:2]) in wanted:
                    (root / place / file.name).unlink(missing_ok=True)
                    (root / place / file.name).symlink_to(file.resolve())
        table[["case_id", "label"]].to_csv(root / "labels.csv", index=False)
    return root


def folder(experiment: Experiment, out: Path, variant: str, fold: int) -> Path:
    name = re.sub(r"[^\w\-]+", "_", variant).strip("_")
    return out / experiment.name / (f"{name}_{fold}" if experiment.folds > 1 else name)


def section(experiment: Experiment, out: Path, before: Earlier) -> list[str]:
    """The lines of one experiment; what was not measured again is as `before`."""
    rows = []
    for name in variants(experiment, ablations=True):
        runs = [folder(experiment, out, name, fold) for fold in range(experiment.folds)]
        runs = [run for run in runs if (run / "manifest.json").is_file()]
        new = [row(experiment, name, label, runs) for label in labels_of(runs[0])] if runs else []
        rows += new or before.of(name)
    if not rows:
        return []
    command = f"medseg train {' '.join(experiment.settings)} data.root=DATA/{experiment.folder}"
    head = ["segmenter", "label", "n", experiment.score.replace("_", " "), "95 % CI", "published"]
    lines = [f"## {experiment.title}", "", f"`{command}`", "", "| " + " | ".join(head) + " |", "|---" * len(head) + "|"]
    note = notes(experiment.name)
    more = [*by_hair(experiment, out, before.tail), *by_rank(experiment, out)] or before.tail
    return [*lines, *rows, "", *more, *note]


def row(experiment: Experiment, name: str, label: str, runs: list[Path]) -> str:
    """A label's score: of one run with its interval; over folds the mean and the lowest and highest fold."""
    found = [json.loads((run / "metrics.json").read_text())["labels"][label].get(experiment.score) for run in runs]
    values = [f["mean"] for f in found if f and f["mean"] is not None]
    text = f"{np.mean(values):.3f}" if values else "–"
    if experiment.folds > 1:
        interval = f"{min(values):.3f}–{max(values):.3f} (folds)" if values else "–"
        count = len(values)
    else:
        limits = found[0]["ci95"] if found[0] else None
        interval = f"{limits[0]:.3f}–{limits[1]:.3f}" if limits else "–"
        count = found[0]["n"] if found[0] else 0
    cells = [name, label.replace("_", " "), str(count), text, interval, experiment.published.get(label, "–")]
    return "| " + " | ".join(cells) + " |"


def by_rank(experiment: Experiment, out: Path) -> list[str]:
    """How candidates are ranked on the held-out images, where the recipe has a ranker."""
    file = folder(experiment, out, "U-Net", 0) / "metrics.json"
    labels = json.loads(file.read_text())["labels"] if file.is_file() else {}
    lines = []
    for label, found in labels.items():
        if not (ranks := found.get("candidates")):
            continue
        lines += [
            f"Candidates, {label}: {ranks['candidates_per_image']:.1f} an image; the structure is among them in "
            f"{with_interval(ranks['among_candidates'])} of the images that show it, first by score in "
            f"{with_interval(ranks['top1'])}, the largest in {with_interval(ranks['top1_largest'])}.",
            "",
            "| false candidates an image | " + " | ".join(ranks["froc"]) + " |",
            "|---" * (len(ranks["froc"]) + 1) + "|",
            "| structures found | " + " | ".join(f"{r['mean']:.3f}" for r in ranks["froc"].values()) + " |",
            "",
        ]
    return lines


def by_hair(experiment: Experiment, out: Path, before: list[str]) -> list[str]:
    """What hair removal does to Jaccard: by the amount of hair where the dataset tells it, else over all images.

    Rows of segmenters that were not run again are those of `before`.
    """
    head, rows, measured = "", [], False
    for name in experiment.classical if not experiment.trained else ():
        with_, without = (folder(experiment, out, n, 0) for n in (name, f"{name}, no hair removal"))
        if not ((with_ / "evaluation.csv").is_file() and (without / "evaluation.csv").is_file()):
            rows += [line for line in before if line.startswith(f"| {name} | ")]
            continue
        measured = True
        table = pd.read_csv(with_ / "evaluation.csv")[["case", "iou"]]
        table = table.merge(pd.read_csv(without / "evaluation.csv")[["case", "iou"]], on="case", suffixes=("", "_raw"))
        root = pd.read_csv(with_ / "split.csv")["image"].iloc[0]
        facts = pd.read_csv(Path(root).parent.parent / "labels.csv")
        if "hair" not in facts:
            head = "| segmenter | n | Jaccard gained by removing hair | standard error |"
            change = table["iou"] - table["iou_raw"]
            error = change.std() / np.sqrt(len(change))
            rows.append(f"| {name} | {len(change)} | {change.mean():+.4f} | {error:.4f} |")
            continue
        head = "| segmenter | hair | n | as it is | hair removed |"
        table = table.merge(facts[["case_id", "hair"]], left_on="case", right_on="case_id")
        for hair, part in table.groupby("hair"):
            rows.append(f"| {name} | {hair} | {len(part)} | {part['iou_raw'].mean():.3f} | {part['iou'].mean():.3f} |")
    return [head, "|---" * (head.count("|") - 1) + "|", *rows, ""] if measured else []


if __name__ == "__main__":
    main()
