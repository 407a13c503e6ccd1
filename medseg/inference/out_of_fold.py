"""Masks for learning from: each case segmented by the model of the fold that held its patient out."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from medseg.config.settings import Settings
from medseg.data.cases import Case
from medseg.data.readers import FEATURES
from medseg.data.tables import read_table
from medseg.errors import DataError
from medseg.inference.candidates import candidate_rows
from medseg.inference.model_facts import fold_facts
from medseg.inference.multi_model import load_segmenter
from medseg.inference.predictor import SegmentationResult
from medseg.runs.run import Run, hash_run_input, split_by_hash
from medseg.typing import Images
from medseg.utils.console import warn

MASK_SOURCE_TEXT = {
    True: "given, out of fold",
    False: "given, of a model that saw some of these patients",
    None: "given, origin unknown",
}
HELD = "test"
SEEN, UNKNOWN, UNSURE = "seen", "unknown", "unsure"  # what else a split may tell of a case


class TrainingSplit:
    """What a model's split.csv tells of a case, by the bytes of its image and by its patient.

    A patient is what the case's table says, else what its name says: then the model's own table is believed first, of
    the image, else of a case of that name. Pixels are not compared: an image that was saved anew under another name is
    known by a stated patient only. A package names no patients, and of images that are gone the bytes are not known:
    what is in neither list is then unsure, not unseen.
    """

    def __init__(self, run: Run) -> None:
        table = read_table(run.file("split.csv"))
        self.images = run.sides()
        self.patients: dict[str, str] = {}
        self.cases: dict[str, str] = {}
        if "sha256" in table:
            self.doubt = "not among the model's images; a package names no patients, so it may have seen this one"
            return
        self.patients = split_by_hash(table["patient"], table["split"])
        self.cases = split_by_hash(table["case"], table["split"])
        gone = sum(not Path(image).exists() for image in table["image"])
        self.doubt = f"not among the model's images, of which {gone} are gone" if gone else ""

    def of(self, case: Case, digest: str) -> tuple[str, str]:
        """HELD, SEEN, UNKNOWN or UNSURE, and how that is known; `digest` is that of the case's image."""
        image, patient = self.images.get(digest), self.patients.get(case.patient)
        if case.patient == case.id:  # no more than a name
            patient = self.cases.get(case.id, patient) if image is None else None
        if image not in (None, HELD):
            return SEEN, "its image"
        if patient not in (None, HELD):
            return SEEN, f"its patient {case.patient!r}"
        if image is not None:
            return HELD, "held out in training"
        if patient is not None:
            return HELD, "its patient was held out in training"
        return (UNSURE, self.doubt) if self.doubt else (UNKNOWN, "not in the model's dataset")


class OutOfFoldPredictor:
    """Models of the same labels, each trained without some patients.

    A case goes to the first model that held it or its patient out, else to the first that knows neither (`Split` says
    how far that is known). Raises `ConfigError` where the models have different labels or channels.
    """

    def __init__(self, runs: list[Run], device: str = "auto") -> None:
        facts = fold_facts(runs)
        self.models = {name: load_segmenter(run, device) for name, run in zip(facts.names, runs, strict=True)}
        self.channels, self.labels, self.folders = facts.channels, facts.labels, facts.folders
        self._splits = {name: TrainingSplit(run) for name, run in zip(facts.names, runs, strict=True)}

    def predict(self, case: Case, images: Images, tiles: int | None = None) -> SegmentationResult:
        """Channels of a case → its mask; `DataError` (seen) where every model learnt from it or its patient."""
        name, sure, why = self.model_for(case)
        mask, regions = self.models[name].segment(images, tiles)
        rows = [row for found in regions for row in candidate_rows(found)]
        return SegmentationResult({"": mask}, [], rows, [{"model": name, "out_of_fold": sure, "why": why}])

    def model_for(self, case: Case) -> tuple[str, bool | None, str]:
        """The model that never saw a case, whether that is sure (None: nobody can tell), and how it is known."""
        digest = case.image_hash or hash_run_input(case.image)
        told = {name: split.of(case, digest) for name, split in self._splits.items()}
        for wanted in (HELD, UNKNOWN, UNSURE):
            for name, (found, why) in told.items():
                if found == wanted:
                    return name, None if found == UNSURE else True, why
        whys = "; ".join(f"{name}: {why}" for name, (_, why) in told.items())
        raise DataError(
            f"{case.image}: every model learnt from it or its patient ({whys}), so none can segment it out of fold; "
            "give a model of each fold (data.n_folds=5 data.fold=0 … 4), or, if it is another patient's, say so in a "
            "column of patients",
            code="in-training-set",
        )

    def quality_warnings(self, images: Images) -> list[str]:
        """What the quality gate says against the images; folds of one dataset have nearly the same."""
        return next(iter(self.models.values())).quality_warnings(images)


def describe_mask_source(config: Settings, cases: list[Case]) -> str:
    """In words, on which masks a diagnosis learns and is measured; says so where they are not known as out of fold."""
    root, masks = config.data.root, config.data.masks
    if root is not None and (Path(root) / FEATURES).is_file():
        before = Path(root) / "fingerprint.json"  # of the run that measured them
        known = Run(Path(root)).read_json(before.name).get("masks") if before.is_file() else None
        told = (
            MASK_SOURCE_TEXT[known["out_of_fold"]]
            if known
            else f"given, origin unknown: measured before, in {FEATURES}"
        )
    elif root is not None and masks is not None:
        told = MASK_SOURCE_TEXT[provenance_of(Path(masks))["out_of_fold"]]
    elif any(case.annotated for case in cases):
        told = "the dataset's own outlines"
    else:
        return "none: whole images"
    if told != MASK_SOURCE_TEXT[True]:
        warn(
            f"masks: {told}. Scores on masks that a model makes of new patients may be lower; medseg segment can make "
            "each mask by a model that never saw its patient",
            "out_of_fold",
        )
    return told


def provenance_of(masks: Path) -> dict[str, Any]:
    """What a folder of masks says of the models that made them: out_of_fold is whether each was made by one that never
    saw its case; None where the folder does not tell, as that of a person's outlines, or not of each.
    """
    if not (masks / "provenance.csv").is_file():
        return {"folder": masks.name, "out_of_fold": None, "masks": None, "models": []}
    table = read_table(masks / "provenance.csv")
    held = set(table["out_of_fold"].str.lower())
    models = sorted({Path(str(name)).name for name in table["model"]})
    sure = False if "false" in held else held == {"true"} or None
    return {"folder": masks.name, "out_of_fold": sure, "masks": len(table), "models": models}
