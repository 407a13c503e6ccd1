"""Candidate regions: find, score and select them; fit rankers on training cases, evaluate them on held-out ones."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import SimpleITK as sitk
from scipy import ndimage

from medseg.config.components import build
from medseg.config.settings import Settings
from medseg.data.cases import Case
from medseg.data.ground_truth import read_ground_truth
from medseg.errors import DataError, MedsegError
from medseg.evaluation.froc import DetectionResult, ranking
from medseg.inference.attribution import describe_effects
from medseg.io.geometry import from_array
from medseg.io.image import read_image, to_array
from medseg.io.labels import Labels
from medseg.preprocess.geometry import match_mask
from medseg.segmentation.candidate_ranker import Ranker
from medseg.segmentation.candidates import Candidate, CandidateFinder, Regions, only_kept
from medseg.typing import Float32Array, Images, Int32Array
from medseg.utils.console import progress, say, warn

State = dict[str, dict[str, Any]]  # label → ranker
N_TOP_FEATURES = 3  # with the largest effects, listed for each candidate


class CandidateSelector:
    """Remove rejected candidates from a probability map. Without a finder or a ranker nothing is removed."""

    def __init__(self, config: Settings, labels: Labels, state: State | None = None) -> None:
        finder = config.candidates.finder
        self.finder: CandidateFinder | None = build(finder) if finder is not None else None
        self.labels = labels
        self.rankers: dict[str, Ranker] = {name: Ranker.from_state(s) for name, s in (state or {}).items()}

    @property
    def ranks(self) -> bool:
        """Whether candidates are ranked."""
        return self.finder is not None and bool(self.rankers)

    def __call__(self, probability: Float32Array, ready: Images) -> tuple[Float32Array, dict[str, Regions]]:
        """Probabilities (K, Z, Y, X) with only the selected candidates, and all candidates by label."""
        if self.finder is None or not self.rankers:
            return probability, {}
        filtered = probability.copy()
        regions_by_label = {}
        for name, ranker in self.rankers.items():
            row = self.row(name)
            regions = self.find(probability, ready, name)
            regions_by_label[name] = Regions(regions.numbers, self.finder.choose(ranker.score(regions.candidates)))
            filtered[row] = only_kept(probability[row], regions_by_label[name])
        if self.labels.exclusive:
            filtered[0] = np.maximum(1 - filtered[1:].sum(axis=0), 0)
        return filtered, regions_by_label

    def find(self, probability: Float32Array, ready: Images, label: str) -> Regions:
        """The unscored candidates of a label."""
        if self.finder is None:
            raise ValueError("no finder: the settings name no candidates")
        return self.finder.find(probability[self.row(label)], to_array(next(iter(ready.values())))[0])

    def row(self, label: str) -> int:
        """Index of a label in an array of probabilities."""
        return self.labels.numbers[label] - (not self.labels.exclusive)


def fit_rankers(
    config: Settings,
    selection: CandidateSelector,
    cases: Sequence[Case],
    predict: Callable[[Images], tuple[Images, Float32Array]],
) -> State:
    """Fit a ranker for each label on readable training cases; `predict`: images → preprocessed ones, probabilities.

    A label whose candidates are all correct or all wrong gets none, with a warning.
    """
    if selection.finder is None or not cases:
        return {}
    rows: dict[str, list[tuple[Candidate, int, str]]] = {name: [] for name in selection.labels.numbers}
    with progress("candidates", len(cases)) as bar:
        for case in cases:
            for name, regions, hits, _ in _annotated_candidates(case, selection, predict, config.candidates.min_iou):
                rows[name] += [(c, min(hit, 1), case.patient) for c, hit in zip(regions.candidates, hits, strict=True)]
            bar.advance(1, case.name)
    state: State = {}
    for name, examples in rows.items():
        try:
            candidates, hits, patients = map(list, zip(*examples, strict=True)) if examples else ([], [], [])
            state[name] = Ranker.fit(candidates, hits, patients, list(config.candidates.exclude_features)).state()
        except DataError as error:
            warn(f"{name}: candidates are not ranked: {error}")
            continue
        say(f"{name}: ranker trained on {len(examples)} candidates, {sum(hits)} of them correct")
    return state


def _annotated_candidates(
    case: Case, selection: CandidateSelector, predict: Callable[[Images], tuple[Images, Float32Array]], overlap: float
) -> Iterator[tuple[str, Regions, list[int], int]]:
    """Yield label, candidates, the structure each matches, number of structures, for labels annotated in the case."""
    try:
        images = {channel: read_image(path) for channel, path in case.images.items()}
        truth = read_ground_truth(case, next(iter(images.values())), selection.labels)
    except MedsegError:  # reported during preparation
        return
    ready, probability = predict(images)
    for name in truth.known:
        regions = selection.find(probability, ready, name)
        reference = on_network_grid(truth.mask, next(iter(ready.values())), selection.labels, name)
        yield name, regions, *match_candidates(regions.numbers, reference, overlap)


def on_network_grid(coded: sitk.Image, grid: sitk.Image, labels: Labels, label: str) -> npt.NDArray[np.bool_]:
    """One label of a coded reference mask on the network's grid, (Z, Y, X)."""
    layer = from_array(labels.layer(sitk.GetArrayViewFromImage(coded), label).astype(np.uint8), coded)
    array: npt.NDArray[np.bool_] = sitk.GetArrayFromImage(match_mask(layer, grid)) > 0
    return array.reshape((-1, *array.shape[-2:]))  # (Z, Y, X)


def match_candidates(numbers: Int32Array, truth: npt.NDArray[np.bool_], overlap: float) -> tuple[list[int], int]:
    """The matching structure (connected component of `truth`) of each region 1 … n, 0 for none; and the number of
    structures. They match if their intersection over union is at least `overlap`; arrays (Z, Y, X).
    """
    structures, count = ndimage.label(truth, np.ones((3,) * truth.ndim, bool))
    total = int(numbers.max())
    shared = np.bincount((numbers * (count + 1) + structures).ravel(), minlength=(total + 1) * (count + 1)).reshape(
        total + 1, count + 1
    )
    union = shared.sum(axis=1, keepdims=True) + shared.sum(axis=0, keepdims=True) - shared  # (n + 1, count + 1)
    iou = (shared / np.maximum(union, 1))[1:, 1:]  # (n, count)
    if not count:
        return [0] * total, 0
    return [int(row.argmax()) + 1 if row.max() >= overlap else 0 for row in iou], count


def detection_results(
    patient: str, regions: Mapping[str, Regions], truth: sitk.Image, grid: sitk.Image, facts: tuple[Labels, float]
) -> dict[str, DetectionResult]:
    """Compare each label's candidates of a held-out case with the coded reference; facts: labels, minimum IoU."""
    labels, overlap = facts
    result = {}
    for name, label_regions in regions.items():
        hits, count = match_candidates(label_regions.numbers, on_network_grid(truth, grid, labels, name), overlap)
        scores, sizes = ([f(c) for c in label_regions.candidates] for f in (_score, _size))
        result[name] = DetectionResult(patient, count, scores, sizes, hits)
    return result


def _score(candidate: Candidate) -> float:
    return candidate.score


def _size(candidate: Candidate) -> float:
    return candidate.features["area"]


def summaries(cases: Sequence[Mapping[str, DetectionResult]]) -> dict[str, dict[str, Any]]:
    """The `ranking` of each label over held-out cases."""
    names = dict.fromkeys(name for case in cases for name in case)
    return {name: ranking([case[name] for case in cases if name in case]) for name in names}


def candidate_rows(regions_by_label: Mapping[str, Regions]) -> list[dict[str, Any]]:
    """One row per candidate, the best first: label, rank, whether kept, score, explanation, and its features."""
    rows: list[dict[str, Any]] = []
    for label, regions in regions_by_label.items():
        for rank, candidate in enumerate(sorted(regions.candidates, key=_score, reverse=True), start=1):
            facts = {"label": label, "candidate": rank, "kept": candidate.kept, "score": round(candidate.score, 4)}
            rows.append(
                facts
                | {"explanation": top_features(candidate)}
                | {name: round(v, 4) for name, v in candidate.features.items()}
            )
    return rows


def top_features(candidate: Candidate) -> str:
    """The features with the largest effects on a candidate's log-odds: ``depth +1.2, surer +0.8, border −0.4``."""
    return describe_effects(candidate.reasons, N_TOP_FEATURES, decimals=1, min_effect=0.0)
