"""Several models on the same images: merge masks of different labels by priority, or compare the same labels."""

from __future__ import annotations

import itertools
from dataclasses import replace
from typing import Any

import SimpleITK as sitk

from medseg.data.cases import Case
from medseg.evaluation.overlap import dice
from medseg.inference.candidates import candidate_rows
from medseg.inference.confidence import KeptMaps, confidence_rows, doubts
from medseg.inference.model_facts import ensemble_facts
from medseg.inference.predictor import SegmentationResult
from medseg.inference.segmenter import Segmenter
from medseg.io.labels import Labels
from medseg.runs.run import Run
from medseg.segmentation.label_fusion import merge_maps
from medseg.typing import Images


class ModelEnsemble:
    """One model, or several.

    Models with the same labels are compared: each has its own output folder, and the Dice of each pair is computed,
    which needs no ground truth. Masks of different labels are merged: the first model has priority in each voxel.
    Maps are `kept` of one model only.
    """

    def __init__(self, runs: list[Run], device: str = "auto", kept: KeptMaps | None = None) -> None:
        facts = ensemble_facts(runs)
        self.models = {name: load_segmenter(run, device) for name, run in zip(facts.names, runs, strict=True)}
        self.channels, self.labels, self.folders = facts.channels, facts.labels, facts.folders
        self.kept = kept or KeptMaps()
        self.kept_volumes = self.kept.volumes(self.labels)

    def predict(  # the signature of `Predictor`
        self,
        case: Case,  # noqa: ARG002  # all models segment every case
        images: Images,
        tiles: int | None = None,
    ) -> SegmentationResult:
        """Segment a case from its channels, with at most `tiles` tiles at once."""
        masks, tables = {}, SegmentationResult({})
        for name, model in self.models.items():
            channels = {channel: images[channel] for channel in model.channels}
            masks[name], results = model.segment(channels, tiles, any(self.kept))
            for frame, result in enumerate(results):
                facts = {"model": name, "frame": frame if len(results) > 1 else None}
                tables.candidates.extend(facts | row for row in candidate_rows(result.candidates))
            tables.uncertainty.extend(confidence_rows(name, [model], results))
            tables.maps.update(self.kept.of([result.probabilities for result in results], self.labels))
        limits = {name: model.min_expected_dice for name, model in self.models.items()}
        tables = replace(tables, doubts=doubts(tables.uncertainty, limits))
        if len(masks) == 1:
            return replace(tables, masks={"": next(iter(masks.values()))})
        if len(self.folders) > 1:
            return replace(tables, masks=masks, agreement=inter_model_dice(masks, self.labels))
        return replace(tables, masks={"": merge_maps(self._maps(masks))[0]})

    def mask_warnings(self, result: SegmentationResult) -> list[str]:
        """What is implausible in the masks of a case; of several folders each with its name."""
        if len(self.folders) > 1:
            texts = {name: self.models[name].mask_warnings(mask, self.labels) for name, mask in result.masks.items()}
            return [f"{name}: {text}" for name, warnings in texts.items() for text in warnings]
        mask = next(iter(result.masks.values()))
        return [text for model in self.models.values() for text in model.mask_warnings(mask, self.labels)]

    def quality_warnings(self, images: Images) -> list[str]:
        """Warnings of the models' quality gates: shared ones once, others with the model's name."""
        warnings = {
            name: model.quality_warnings({channel: images[channel] for channel in model.channels})
            for name, model in self.models.items()
        }
        shared = [text for text in next(iter(warnings.values())) if all(text in texts for texts in warnings.values())]
        return [
            *shared,
            *(f"{name}: {text}" for name, texts in warnings.items() for text in texts if text not in shared),
        ]

    def _maps(self, masks: dict[str, sitk.Image]) -> list[tuple[sitk.Image, dict[str, int]]]:
        models = self.models
        return [(models[n].labels.flatten(mask), dict(models[n].labels.numbers)) for n, mask in masks.items()]


def load_segmenter(run: Run, device: str) -> Segmenter:
    """The segmenter of a run; `ModelError` if its files are inconsistent."""
    with run.reading():
        return Segmenter.from_run(run, device)


def inter_model_dice(masks: dict[str, sitk.Image], labels: Labels) -> list[dict[str, Any]]:
    """Dice of each pair of masks for each label; None if both lack it."""
    arrays = {name: sitk.GetArrayViewFromImage(mask) for name, mask in masks.items()}
    rows = []
    for (name_a, array_a), (name_b, array_b) in itertools.combinations(arrays.items(), 2):
        for label in labels.numbers:
            a, b = labels.layer(array_a, label), labels.layer(array_b, label)
            value = dice(a, b) if a.any() or b.any() else None
            rows.append({"label": label, "model_a": name_a, "model_b": name_b, "dice": value})
    return rows
