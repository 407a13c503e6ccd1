"""One mask from the mean of several models' probabilities on the input's own grid."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from medseg.data.cases import Case
from medseg.inference.candidates import candidate_rows
from medseg.inference.confidence import KeptMaps, confidence_rows, doubts
from medseg.inference.model_facts import average_facts
from medseg.inference.multi_model import ModelEnsemble, load_segmenter
from medseg.inference.predictor import SegmentationResult
from medseg.inference.segmenter import Segmentation, join_masks
from medseg.io.geometry import from_array
from medseg.runs.run import Run
from medseg.segmentation.averaging import MeanProbabilities
from medseg.segmentation.candidates import Regions
from medseg.typing import Images

MEAN = "mean"  # name of the mean in tables


class AveragingEnsemble(ModelEnsemble):
    """Models of the same labels and channels, each with its own preprocessing; their probabilities are averaged.

    The threshold, the post-processing and the limit of a review are those of the first model. One model is in use at a
    time, and its probabilities are added to one volume per label. Raises `ConfigError` if labels or channels differ.
    """

    def __init__(self, runs: list[Run], device: str = "auto", kept: KeptMaps | None = None) -> None:
        facts = average_facts(runs)
        self.models = {name: load_segmenter(run, device) for name, run in zip(facts.names, runs, strict=True)}
        self.channels, self.labels, self.folders = facts.channels, facts.labels, facts.folders
        self.kept = kept or KeptMaps()
        self.kept_volumes = max(len(self.labels.numbers), self.kept.volumes(self.labels))

    def predict(self, case: Case, images: Images, tiles: int | None = None) -> SegmentationResult:  # noqa: ARG002
        """Segment a case from its channels, with at most `tiles` tiles at once."""
        first = next(iter(self.models.values()))
        results, candidates = [], list[dict[str, Any]]()
        for number, frame in enumerate(first.frames(images)):
            result, regions_by_model = self._mean(frame, tiles)
            results.append(result)
            candidates += _rows(regions_by_model, number)
        if len(results) == 1:
            candidates = [row | {"frame": None} for row in candidates]
        mask = join_masks([result.mask for result in results], next(iter(images.values())))
        rows = confidence_rows(MEAN, list(self.models.values()), results)
        return SegmentationResult(
            {"": mask},
            candidates=candidates,
            uncertainty=rows,
            doubts=doubts(rows, {MEAN: first.min_expected_dice}),
            maps=self.kept.of([result.probabilities for result in results], self.labels),
        )

    def _mean(self, images: Images, tiles: int | None) -> tuple[Segmentation, dict[str, Mapping[str, Regions]]]:
        """The mean of one frame, and the candidates of each model."""
        first, reference = next(iter(self.models.values())), next(iter(images.values()))
        mean = MeanProbabilities(reference, first.target, len(self.models))
        regions_by_model = {}
        for name, model in self.models.items():
            planes, grid, regions_by_model[name] = model.planes(images, tiles)
            mean.add(planes, grid)
            del planes, grid  # the next model's images take their memory
        coded, confidence = mean.decide()
        mask = first.postprocess(from_array(coded, reference), reference)
        probabilities = mean.probabilities() if any(self.kept) else {}
        return Segmentation(mask, probabilities, None, {}, confidence), regions_by_model


def _rows(regions_by_model: Mapping[str, Mapping[str, Regions]], frame: int) -> Iterator[dict[str, Any]]:
    for name, regions in regions_by_model.items():
        yield from ({"model": name, "frame": frame} | row for row in candidate_rows(regions))
