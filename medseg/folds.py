"""Masks for learning from: each case segmented by the model of the fold that held its patient out."""

from __future__ import annotations

from pathlib import Path

from medseg.data.cases import Case
from medseg.data.folders import read_table
from medseg.errors import ConfigError, DataError
from medseg.panel import Found, opened
from medseg.pipeline import Images
from medseg.ranked import rows_of
from medseg.runs import Run, digest_of

HELD = "test"


class Folds:
    """Models of the same labels, each trained without some patients.

    A case is known by its image's content, so that another name or folder hides nothing. One that no model ever saw is
    segmented by the first. Raises `ConfigError` where the models have different labels or channels.
    """

    def __init__(self, runs: list[Run], device: str = "auto") -> None:
        self.models = {str(run.named): opened(run, device) for run in runs}
        first = next(iter(self.models.values()))
        for name, model in self.models.items():
            if model.labels != first.labels or model.channels != first.channels:
                raise ConfigError(f"{name}: other labels or channels than {runs[0].named}; give folds of one recipe")
        self.labels, self.channels, self.folders, self.compared = first.labels, first.channels, [""], False
        self._sides = {str(run.named): run.sides() for run in runs}

    def __call__(self, images: Images, case: Case, tiles: int | None = None) -> Found:
        """Channels of a case → its mask; `DataError` (seen) where every model was trained on it."""
        name, why = self.model_for(case)
        mask, regions = self.models[name].segment(images, tiles)
        rows = [row for found in regions for row in rows_of(found)]
        return Found({"": mask}, [], rows, [{"model": name, "out_of_fold": True, "why": why}])

    def model_for(self, case: Case) -> tuple[str, str]:
        """The model that never saw a case, and how that is known."""
        key = digest_of(case.image)
        known = {name: sides[key] for name, sides in self._sides.items() if key in sides}
        held = next((name for name, side in known.items() if side == HELD), None)
        unseen = next((name for name in self.models if name not in known), None)
        if held is not None:
            return held, "held out in training"
        if unseen is not None:
            return unseen, "not in the model's dataset"
        raise DataError(
            f"{case.image}: every model was trained on it, so none can segment it out of fold; "
            "give a model of each fold (data.folds=5 data.fold=0 … 4)",
            code="seen",
        )

    def doubts(self, images: Images) -> list[str]:
        """What the quality gate says against the images; folds of one dataset have nearly the same."""
        return next(iter(self.models.values())).doubts(images)


def provenance_of(masks: Path) -> dict[str, object]:
    """What a folder of masks says of the models that made them: out_of_fold is whether each was made by one that never
    saw its case; None where the folder does not tell, as that of a person's outlines.
    """
    if not (masks / "provenance.csv").is_file():
        return {"folder": masks.name, "out_of_fold": None, "masks": None, "models": []}
    table = read_table(masks / "provenance.csv")
    held = table["out_of_fold"].astype(str).str.lower() == "true"
    models = sorted({Path(str(name)).name for name in table["model"]})
    return {"folder": masks.name, "out_of_fold": bool(held.all()), "masks": len(table), "models": models}
