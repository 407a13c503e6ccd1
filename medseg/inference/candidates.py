"""Candidates of a case: found, scored, chosen; the ranker learnt from training cases and judged on held-out ones."""

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
N_TOP_FEATURES = 3  # said of each candidate, the weightiest


class CandidateSelector:
    """Which candidates of each label stay in a probability map. Without a finder or a ranker everything stays."""

    def __init__(self, config: Settings, labels: Labels, state: State | None = None) -> None:
        finder = config.candidates.finder
        self.finder: CandidateFinder | None = build(finder) if finder is not None else None
        self.labels = labels
        self.rankers: dict[str, Ranker] = {name: Ranker.from_state(s) for name, s in (state or {}).items()}

    @property
    def ranks(self) -> bool:
        """Whether anything is chosen."""
        return self.finder is not None and bool(self.rankers)

    def __call__(self, probability: Float32Array, ready: Images) -> tuple[Float32Array, dict[str, Regions]]:
        """Probabilities (K, Z, Y, X) with only the kept candidates left, and every candidate of each label."""
        if self.finder is None or not self.rankers:
            return probability, {}
        left = probability.copy()
        found = {}
        for name, judge in self.rankers.items():
            row = self.row(name)
            regions = self.find(probability, ready, name)
            found[name] = Regions(regions.numbers, self.finder.choose(judge.score(regions.candidates)))
            left[row] = only_kept(probability[row], found[name])
        if self.labels.exclusive:
            left[0] = np.maximum(1 - left[1:].sum(axis=0), 0)
        return left, found

    def find(self, probability: Float32Array, ready: Images, label: str) -> Regions:
        """The unscored candidates of a label."""
        if self.finder is None:
            raise ValueError("no finder: the settings name no candidates")
        return self.finder.find(probability[self.row(label)], to_array(next(iter(ready.values())))[0])

    def row(self, label: str) -> int:
        """Where a label stands in an array of probabilities."""
        return self.labels.numbers[label] - (not self.labels.exclusive)


def fit_rankers(
    config: Settings,
    selection: CandidateSelector,
    cases: Sequence[Case],
    look: Callable[[Images], tuple[Images, Float32Array]],
) -> State:
    """A ranker for each label, from training cases that can be read; `look` is images → ready images, probabilities.

    A label whose candidates are all right or all wrong gets none, which is said.
    """
    if selection.finder is None or not cases:
        return {}
    rows: dict[str, list[tuple[Candidate, int, str]]] = {name: [] for name in selection.labels.numbers}
    with progress("candidates", len(cases)) as bar:
        for case in cases:
            for name, regions, hits, _ in _looked_at(case, selection, look, config.candidates.min_iou):
                rows[name] += [(c, min(hit, 1), case.patient) for c, hit in zip(regions.candidates, hits, strict=True)]
            bar.advance(1, case.name)
    state: State = {}
    for name, seen in rows.items():
        try:
            candidates, hits, patients = map(list, zip(*seen, strict=True)) if seen else ([], [], [])
            state[name] = Ranker.fit(candidates, hits, patients, list(config.candidates.exclude_features)).state()
        except DataError as error:
            warn(f"{name}: candidates are not ranked: {error}")
            continue
        say(f"{name}: ranker learnt from {len(seen)} candidates, {sum(hits)} of them right")
    return state


def _looked_at(
    case: Case, selection: CandidateSelector, look: Callable[[Images], tuple[Images, Float32Array]], overlap: float
) -> Iterator[tuple[str, Regions, list[int], int]]:
    """Label, candidates, the structure each lies on, number of structures; for labels that the case annotates."""
    try:
        images = {channel: read_image(path) for channel, path in case.images.items()}
        truth = read_ground_truth(case, next(iter(images.values())), selection.labels)
    except MedsegError:  # named when it was prepared
        return
    ready, probability = look(images)
    for name in truth.known:
        regions = selection.find(probability, ready, name)
        wanted = on_network_grid(truth.mask, next(iter(ready.values())), selection.labels, name)
        yield name, regions, *match_candidates(regions.numbers, wanted, overlap)


def on_network_grid(coded: sitk.Image, grid: sitk.Image, labels: Labels, label: str) -> npt.NDArray[np.bool_]:
    """One label of a coded truth on the network's grid, (Z, Y, X)."""
    layer = from_array(labels.layer(sitk.GetArrayViewFromImage(coded), label).astype(np.uint8), coded)
    array: npt.NDArray[np.bool_] = sitk.GetArrayFromImage(match_mask(layer, grid)) > 0
    return array.reshape((-1, *array.shape[-2:]))  # (Z, Y, X)


def match_candidates(numbers: Int32Array, truth: npt.NDArray[np.bool_], overlap: float) -> tuple[list[int], int]:
    """For each region 1 … n the number of the structure (component of `truth`) it lies on, 0 for none; and how many
    structures there are. It lies on one where their intersection over union is at least `overlap`; arrays (Z, Y, X).
    """
    structures, count = ndimage.label(truth, np.ones((3,) * truth.ndim, bool))
    total = int(numbers.max())
    shared = np.bincount((numbers * (count + 1) + structures).ravel(), minlength=(total + 1) * (count + 1)).reshape(
        total + 1, count + 1
    )
    union = shared.sum(axis=1, keepdims=True) + shared.sum(axis=0, keepdims=True) - shared  # (n + 1, count + 1)
    share = (shared / np.maximum(union, 1))[1:, 1:]  # (n, count)
    if not count:
        return [0] * total, 0
    return [int(row.argmax()) + 1 if row.max() >= overlap else 0 for row in share], count


def detection_results(
    patient: str, regions: Mapping[str, Regions], truth: sitk.Image, grid: sitk.Image, facts: tuple[Labels, float]
) -> dict[str, DetectionResult]:
    """How each label's candidates of a held-out case compare with the coded truth; facts: labels, overlap of a hit."""
    labels, overlap = facts
    result = {}
    for name, found in regions.items():
        hits, count = match_candidates(found.numbers, on_network_grid(truth, grid, labels, name), overlap)
        scores, sizes = ([f(c) for c in found.candidates] for f in (_score, _size))
        result[name] = DetectionResult(patient, count, scores, sizes, hits)
    return result


def _score(candidate: Candidate) -> float:
    return candidate.score


def _size(candidate: Candidate) -> float:
    return candidate.measures["area"]


def summaries(cases: Sequence[Mapping[str, DetectionResult]]) -> dict[str, dict[str, Any]]:
    """`ranking` of each label over held-out cases."""
    names = dict.fromkeys(name for case in cases for name in case)
    return {name: ranking([case[name] for case in cases if name in case]) for name in names}


def candidate_rows(found: Mapping[str, Regions]) -> list[dict[str, Any]]:
    """A line for each candidate, the best first: label, number, kept, score, explanation, and its measures."""
    rows: list[dict[str, Any]] = []
    for label, regions in found.items():
        for place, one in enumerate(sorted(regions.candidates, key=_score, reverse=True), start=1):
            facts = {"label": label, "candidate": place, "kept": one.kept, "score": round(one.score, 4)}
            rows.append(
                facts | {"explanation": top_features(one)} | {name: round(v, 4) for name, v in one.measures.items()}
            )
    return rows


def top_features(candidate: Candidate) -> str:
    """The measures that moved a candidate's log-odds most: ``depth +1.2, surer +0.8, border −0.4``."""
    return describe_effects(candidate.reasons, N_TOP_FEATURES, decimals=1, least=0.0)
