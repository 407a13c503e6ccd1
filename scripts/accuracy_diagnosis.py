"""Train and measure every diagnosis on real data from the command line; add them to docs/ACCURACY.md.

python scripts/accuracy_diagnosis.py DATA OUT [--only NAME ...] [--table]
DATA and OUT as of scripts/accuracy.py, whose retina and brain tumour U-Nets are used. What is there is not made again;
sections of the page whose runs are not in OUT stay as they were.
Masks come from U-Nets that never saw the patient. AUC, kappa and intervals: the folds' held-out cases together.
"""

from __future__ import annotations

import argparse
import json
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
import yaml
from accuracy_breathing import BREATHS, breathing, breaths
from accuracy_page import DIAGNOSIS, PAGE, done, notes, section_of

from medseg.evaluation.predictions import from_table
from medseg.evaluation.probabilities import probability_metrics

MODELS = {
    "stack": "stack",
    "logistic": "logistic regression",
    "ensemble": "ensemble",
    "lstm": "LSTM",
    "deep": "deep features",
    "rule": "rule",
}


@dataclass(frozen=True)
class Diagnosis:
    """One dataset. `unets`: settings and number of the folds of U-Nets trained for the masks; `made`: where they are
    already, below OUT.
    """

    name: str
    title: str
    folder: str
    settings: tuple[str, ...]
    folds: int = 5
    dataset: tuple[str, ...] = ()  # settings that say how the dataset is read, which a table of measures does not need
    unets: tuple[str, ...] = ()
    made: tuple[str, ...] = ()
    images: str = "images"
    rule: str = ""  # setting of the rule that takes each label's false pieces an image from the first U-Net's metrics


DIAGNOSES = [
    Diagnosis(
        "skin", "Melanoma or benign (ISIC 2017 at 256 pixels, 2000 images, five folds)", "skin/isic2017_256",
        ("organ=skin",), dataset=("dataset=isic2017",),
        unets=("organ=skin", "dataset=isic2017", "trainer.fraction=0.5"),
    ),
    Diagnosis(
        "breast", "Malignant or benign (BUSI at 256 pixels, images with a lesion, five folds by group)",
        "breast/busi_256", ("organ=breast", "organ.classes=[benign,malignant]", "data.exclude_classes=[normal]"),
        dataset=("dataset=busi",),
        unets=("organ=breast", "dataset=busi", "trainer.fraction=0.5"),
    ),
    Diagnosis(
        "retina", "Referable retinopathy and its grade (IDRiD grading, eyes without a twin in the segmentation set)",
        "retina/idrid_grading_small", ("organ=retina",), made=("retina/U-Net",),
        rule="false_positives_per_image",
    ),
    Diagnosis(
        "tumour", "Tumour in an axial slice (BraTS 2015, leave one patient out)", "brain/brats2015_deepmedic",
        ("organ=brain_tumour", "dataset=brats2015"), folds=4,
        made=tuple(f"brain_tumour/U-Net_{k}" for k in range(4)), images="",
    ),
]  # fmt: skip


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", type=Path)
    parser.add_argument("out", type=Path)
    parser.add_argument("--only", nargs="*", default=[*(d.name for d in DIAGNOSES), "breathing"])
    parser.add_argument("--table", action="store_true", help="write the page from the runs there are, train nothing")
    given = parser.parse_args()
    lines = [
        DIAGNOSIS, "",
        "Made by `make accuracy DATA=…` (`scripts/accuracy_diagnosis.py`). Masks by U-Nets that never saw the patient;",
        "measures selected inside the training folds; all diagnosers on the same folds and calibrated on patients they",
        "did not learn from. 95 % intervals are drawn by patient. The rule learns nothing. Where the LSTM does not",
        "win, the table says so.", "",
    ]  # fmt: skip
    page, whole = PAGE.read_text() if PAGE.is_file() else "", True
    for diagnosis in DIAGNOSES:
        if diagnosis.name in given.only and not given.table:
            whole = make(diagnosis, given.data, given.out) and whole
        lines += section(diagnosis, given.out) or section_of(page, diagnosis.title)
    if "breathing" in given.only and not given.table:
        whole = breathing(given.data / "lung", given.out / "breathing") and whole
    lines += breaths(given.out / "breathing") or section_of(page, BREATHS)
    PAGE.write_text(page.split(DIAGNOSIS)[0].rstrip() + "\n\n" + "\n".join(lines).rstrip() + "\n")
    print(PAGE)
    raise SystemExit(0 if whole else 1)


def make(diagnosis: Diagnosis, data: Path, out: Path) -> bool:
    """U-Nets of folds, masks out of fold, and a run for each fold of the diagnosis; whether all came to their end."""
    root, place = data / diagnosis.folder, out / "diag"
    if diagnosis.name == "retina":
        root = without_twins(root, place / "retina_data")
    models = unets_of(diagnosis, out)
    for k, model in enumerate(models if diagnosis.unets else []):
        words = [*diagnosis.unets, f"data.root={root}", "data.n_folds=2", f"data.fold={k}"]
        if not trained(*words, made=model, out=out):
            return False
    masks = place / f"{diagnosis.name}_masks"
    if not (masks / "cases.csv").is_file():
        several = ["--out-of-fold"] if len(models) > 1 else []
        words = [word for model in models for word in ("--model", str(model))]
        if not done(["medseg", "segment", str(root / diagnosis.images), str(masks), *words, *several, "--quiet"]):
            return False
    for k in range(diagnosis.folds):
        where = [f"data.root={root}", f"data.masks={masks}", *diagnosis.dataset]
        if k:  # measured once
            where = [f"data.root={place / f'{diagnosis.name}_d0'}"]
        settings = [*diagnosis.settings, *rule_of(diagnosis, models)]
        words = [*settings, "task=diagnosis", *where, f"data.n_folds={diagnosis.folds}", f"data.fold={k}"]
        if not trained(*words, made=place / f"{diagnosis.name}_d{k}", out=out):
            return False
    return diagnosis.name != "retina" or associated(place)


def unets_of(diagnosis: Diagnosis, out: Path) -> list[Path]:
    """The runs of the U-Nets that make the masks."""
    own = [out / "diag" / f"{diagnosis.name}_unet{k}" for k in range(2 if diagnosis.unets else 0)]
    return [*(out / path for path in diagnosis.made), *own]


def samples(diagnosis: Diagnosis, out: Path) -> str:
    """How much of their recipe the U-Nets had, where that is not all of it."""
    files = [model / "config.yaml" for model in unets_of(diagnosis, out)]
    shares = {yaml.safe_load(file.read_text())["trainer"]["budget"] for file in files if file.is_file()} - {1.0}
    return f" The U-Nets had {max(shares):.0%} of their recipe's samples." if shares else ""


def associated(place: Path) -> bool:
    """How the retina's measures go with the grade."""
    features, table = place / "retina_d0" / "features.csv", place / "retina_association.csv"
    command = ["medseg", "associate", str(features), str(place / "retina_data" / "labels.csv"), str(table)]
    return done([*command, "--label", "dr_grade", "--positive-from", "2", "--quiet"])


def trained(*words: str, made: Path, out: Path) -> bool:
    return (made / "manifest.json").is_file() or done(
        ["medseg", "train", *words, f"data.cache={out / 'cache'}", f"run_dir={made}"]
    )


def rule_of(diagnosis: Diagnosis, models: list[Path]) -> list[str]:
    """What the rule is told of the U-Net: how many pieces of each label it finds in an image that are none."""
    if not diagnosis.rule:
        return []
    labels = json.loads((models[0] / "metrics.json").read_text())["labels"]
    found = {name: one["lesion_detection"]["false_positives_per_image"]["mean"] for name, one in labels.items()}
    return [f"organ.clinical_rule.{diagnosis.rule}.{name}={value:g}" for name, value in found.items()]


def without_twins(root: Path, to: Path) -> Path:
    """The eyes that are not in the segmentation set too, as links: the lesions' U-Net may have learnt from those."""
    table = pd.read_csv(root / "labels.csv", dtype=str, keep_default_na=False)
    table = table[table["seg_case"] == ""].rename(columns={"case_id": "case"}).drop(columns="split")
    (to / "images").mkdir(parents=True, exist_ok=True)
    for file in (root / "images").iterdir():
        link = to / "images" / file.name
        if file.stem in set(table["case"]) and not link.is_symlink():
            link.symlink_to(file.resolve())
    table.to_csv(to / "labels.csv", index=False)
    return to


def section(diagnosis: Diagnosis, out: Path) -> list[str]:
    """The lines of one diagnosis; nothing where no run is there."""
    runs = [out / "diag" / f"{diagnosis.name}_d{k}" for k in range(diagnosis.folds)]
    runs = [run for run in runs if (run / "manifest.json").is_file()]
    if not runs:
        return []
    metrics = json.loads((runs[0] / "metrics.json").read_text())
    classes, models = metrics["classes"], list(metrics["models"])
    tables = [pd.read_csv(run / "predictions.csv", dtype={"label": str}) for run in runs]
    found = pd.concat(tables).dropna(subset="label")
    positive = yaml.safe_load((runs[0] / "config.yaml").read_text())["organ"]["positive"]
    ill = [k for k, name in enumerate(classes) if name in set(map(str, positive))]
    truth = np.array([classes.index(label) for label in found["label"]])
    predictions = from_table(found, classes, models)
    rows = []
    for model in [name for name in MODELS if name in models]:
        scores = probability_metrics(predictions.models[model].probabilities, truth, found["patient"].tolist(), ill)
        cells = [text(scores.get(key)) for key in ("auc_positive", "qwk", "ece", "nll")]
        rows.append("| " + " | ".join([MODELS[model], *cells]) + " |")
    command = f"medseg train {' '.join(diagnosis.settings)} task=diagnosis data.n_folds={diagnosis.folds} data.fold=K"
    counts = ", ".join(f"{name} {int((truth == k).sum())}" for k, name in enumerate(classes))
    head = ["classifier", "AUC", "weighted kappa", "calibration error", "NLL"]
    return [
        f"## {diagnosis.title}", "", f"`{command}`", "",
        f"{len(runs)} of {diagnosis.folds} folds, {found['patient'].nunique()} patients or groups; {counts}. "
        f"{samples(diagnosis, out)}".strip(), "",
        "| " + " | ".join(head) + " |", "|---" * len(head) + "|", *rows, "",
        *notes(f"diagnosis_{diagnosis.name}"), *association(diagnosis, out),
    ]  # fmt: skip


def text(score: dict[str, object] | None) -> str:
    if score is None or score["mean"] is None:
        return "–"
    low, high = score["ci95"] or (float("nan"), float("nan"))  # type: ignore[misc]
    return f"{score['mean']:.3f} ({low:.3f}–{high:.3f})"


def association(diagnosis: Diagnosis, out: Path) -> list[str]:
    """How lesions go with the grade: the strongest measures."""
    file = out / "diag" / f"{diagnosis.name}_association.csv"
    if not file.is_file():
        return []
    table = pd.read_csv(file).head(10)
    lines = ["Association of features with the grade (`medseg associate`), the ten strongest:", ""]
    lines += ["| feature | Spearman's rho (95 % CI) | AUC of grade ≥ 2 | q |", "|---|---|---|---|"]
    for row in table.to_dict("records"):
        rho = f"{row['rho']:.2f} ({row['rho_low']:.2f}–{row['rho_high']:.2f})"
        lines.append(f"| {row['feature']} | {rho} | {row['auc']:.2f} | {row['q']:.1e} |")
    return [*lines, ""]


if __name__ == "__main__":
    main()
