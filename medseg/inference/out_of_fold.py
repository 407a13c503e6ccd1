"""Out-of-fold masks: each case segmented by the model of the fold that held its patient out."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from medseg.config.settings import Settings
from medseg.data.cases import Case
from medseg.data.readers import FEATURES
from medseg.data.tables import read_table
from medseg.errors import DataError
from medseg.inference.candidates import candidate_rows
from medseg.inference.confidence import KeptMaps, confidence_rows, doubts
from medseg.inference.model_facts import fold_facts
from medseg.inference.multi_model import load_segmenter
from medseg.inference.predictor import SegmentationResult
from medseg.runs.run import Run, hash_run_input, split_by_hash
from medseg.typing import Images
from medseg.utils.console import warn

MASK_SOURCE_TEXT = {
    True: "given, out of fold",
    False: "given, of a model trained on some of these patients",
    None: "given, origin unknown",
}
HELD_OUT = "test"
TRAINED_ON, UNKNOWN, UNSURE = "seen", "unknown", "unsure"  # other memberships of a case in a split


class TrainingSplit:
    """A model's split.csv, in which a case is found by the digest of its image and by its patient.

    If the case's table has no patient, the case name is used: then the image's entry in split.csv has priority, else
    that of a case of the same name. Pixels are not compared: an image saved again under another name is recognised
    only by its patient. A package has no patients, and missing images have no digest: a case without an entry is then
    unsure instead of unknown.
    """

    def __init__(self, run: Run) -> None:
        table = read_table(run.file("split.csv"))
        self.images = run.sides()
        self.patients: dict[str, str] = {}
        self.cases: dict[str, str] = {}
        if "sha256" in table:
            self.uncertainty = (
                "not among the model's images; a package has no patients, so this one may be in its training set"
            )
            return
        self.patients = split_by_hash(table["patient"], table["split"])
        self.cases = split_by_hash(table["case"], table["split"])
        missing = sum(not Path(image).exists() for image in table["image"])
        self.uncertainty = f"not among the model's images, of which {missing} are missing" if missing else ""

    def of(self, case: Case, digest: str) -> tuple[str, str]:
        """HELD_OUT, TRAINED_ON, UNKNOWN or UNSURE, and the reason; `digest`: of the case's image."""
        image, patient = self.images.get(digest), self.patients.get(case.patient)
        if case.patient == case.id:  # no patient given
            patient = self.cases.get(case.id, patient) if image is None else None
        if image not in (None, HELD_OUT):
            return TRAINED_ON, "its image"
        if patient not in (None, HELD_OUT):
            return TRAINED_ON, f"its patient {case.patient!r}"
        if image is not None:
            return HELD_OUT, "held out in training"
        if patient is not None:
            return HELD_OUT, "its patient was held out in training"
        return (UNSURE, self.uncertainty) if self.uncertainty else (UNKNOWN, "not in the model's dataset")


class OutOfFoldPredictor:
    """Models of the same labels, each trained without some patients.

    A case is segmented by the first model that held out it or its patient, else by the first without an entry of them
    (see `TrainingSplit`). Raises `ConfigError` if the models have different labels or channels.
    """

    def __init__(self, runs: list[Run], device: str = "auto", kept: KeptMaps | None = None) -> None:
        facts = fold_facts(runs)
        self.models = {name: load_segmenter(run, device) for name, run in zip(facts.names, runs, strict=True)}
        self.channels, self.labels, self.folders = facts.channels, facts.labels, facts.folders
        self.kept = kept or KeptMaps()
        self.kept_volumes = self.kept.volumes(self.labels)
        self._splits = {name: TrainingSplit(run) for name, run in zip(facts.names, runs, strict=True)}

    def predict(self, case: Case, images: Images, tiles: int | None = None) -> SegmentationResult:
        """Segment a case; `DataError` (in-training-set) if every model was trained on it or its patient."""
        name, out_of_fold, reason = self.model_for(case)
        model = self.models[name]
        mask, results = model.segment(images, tiles, any(self.kept))
        uncertainty = confidence_rows(name, [model], results)
        return SegmentationResult(
            {"": mask},
            candidates=[row for result in results for row in candidate_rows(result.candidates)],
            provenance=[{"model": name, "out_of_fold": out_of_fold, "reason": reason}],
            uncertainty=uncertainty,
            doubts=doubts(uncertainty, {name: model.min_expected_dice}),
            maps=self.kept.of([result.probabilities for result in results], self.labels),
        )

    def model_for(self, case: Case) -> tuple[str, bool | None, str]:
        """The model that was not trained on a case, whether that is certain (None: unknown), and the reason."""
        digest = case.image_hash or hash_run_input(case.image)
        memberships = {name: split.of(case, digest) for name, split in self._splits.items()}
        for accepted in (HELD_OUT, UNKNOWN, UNSURE):
            for name, (membership, reason) in memberships.items():
                if membership == accepted:
                    return name, None if membership == UNSURE else True, reason
        reasons = "; ".join(f"{name}: {reason}" for name, (_, reason) in memberships.items())
        raise DataError(
            f"{case.image}: every model was trained on it or its patient ({reasons}), so none can segment it out of "
            "fold; give the models of all folds (data.n_folds=5 data.fold=0 … 4), or, if it is another patient's, add "
            "a patient column",
            code="in-training-set",
        )

    def mask_warnings(self, result: SegmentationResult) -> list[str]:
        """What is implausible in a mask, by the limits of the first model; those of folds are the same."""
        return next(iter(self.models.values())).mask_warnings(next(iter(result.masks.values())), self.labels)

    def quality_warnings(self, images: Images) -> list[str]:
        """Warnings of the first model's quality gate; those of folds are nearly the same."""
        return next(iter(self.models.values())).quality_warnings(images)


def describe_mask_source(config: Settings, cases: list[Case]) -> str:
    """Text on the masks used to train and evaluate a classifier; warns if they may not be out of fold."""
    root, masks = config.data.root, config.data.masks
    if root is not None and (Path(root) / FEATURES).is_file():
        fingerprint = Path(root) / "fingerprint.json"  # of the run that extracted the features
        provenance = Run(Path(root)).read_json(fingerprint.name).get("masks") if fingerprint.is_file() else None
        text = (
            MASK_SOURCE_TEXT[provenance["out_of_fold"]]
            if provenance
            else f"given, origin unknown: features read from {FEATURES}"
        )
    elif root is not None and masks is not None:
        text = MASK_SOURCE_TEXT[provenance_of(Path(masks))["out_of_fold"]]
    elif any(case.annotated for case in cases):
        text = "the dataset's own outlines"
    else:
        return "none: whole images"
    if text != MASK_SOURCE_TEXT[True]:
        warn(
            f"masks: {text}. Scores on predicted masks of new patients may be lower; medseg segment can make "
            "each mask with a model not trained on its patient",
            "out_of_fold",
        )
    return text


def provenance_of(masks: Path) -> dict[str, Any]:
    """The models that made a folder of masks; out_of_fold: whether each mask was made by a model not trained on its
    case, None if that is unknown, as for manual masks.
    """
    if not (masks / "provenance.csv").is_file():
        return {"folder": masks.name, "out_of_fold": None, "masks": None, "models": []}
    table = read_table(masks / "provenance.csv")
    values = set(table["out_of_fold"].str.lower())
    models = sorted({Path(str(name)).name for name in table["model"]})
    out_of_fold = False if "false" in values else values == {"true"} or None
    return {"folder": masks.name, "out_of_fold": out_of_fold, "masks": len(table), "models": models}
