"""From the images of a case to its mask: preprocessing, model, resampling, post-processing."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, Protocol

import numpy as np
import SimpleITK as sitk
import torch

from medseg.config.components import build
from medseg.config.load import get_labels, with_values
from medseg.config.settings import ClassicalSettings, Settings
from medseg.inference.candidates import CandidateSelector
from medseg.inference.candidates import State as RankerState
from medseg.inference.model_facts import segmentation_settings
from medseg.inference.preprocessor import Preprocessor, State
from medseg.inference.quality_gate import QualityGate
from medseg.io.geometry import from_array
from medseg.io.image import frames, join_frames
from medseg.io.labels import Labels
from medseg.runs.run import Run
from medseg.segmentation.candidates import Regions
from medseg.segmentation.postprocessing import Inside
from medseg.segmentation.resampling import OutputLabels, resample_to_input
from medseg.segmentation.sliding_window import TiledNetwork, Tiling
from medseg.segmentation.uncertainty import Confidence, ConfidenceMeter, DiceCalibration
from medseg.segmentation.within_field import WithinField
from medseg.typing import Float32Array, Images
from medseg.utils.devices import autocast, select_device, set_num_threads

AXES = ("x", "y", "z")
EXPECTED_DICE = "expected_dice.json"  # in a run: calibrations by label


class Model(Protocol):
    """A segmentation model: a network with its tiles, or a classical method."""

    def predict(self, images: Images) -> Float32Array:
        """Preprocessed channels on one grid → probabilities (K, Z, Y, X), background first if exclusive."""


@dataclass(frozen=True)
class Segmentation:
    """A case's coded mask; probabilities by label on the same grid if requested; candidates on the network's grid; the
    confidence in each label before post-processing.
    """

    mask: sitk.Image
    probabilities: dict[str, Float32Array]
    grid: sitk.Image | None  # the network's, if there are candidates
    candidates: Mapping[str, Regions] = field(default_factory=dict)
    confidence: Mapping[str, Confidence] = field(default_factory=dict)  # by label, of a trained model


class Segmenter:
    """A model with its preprocessing, resampling to the input's grid and post-processing."""

    def __init__(
        self,
        config: Settings,
        model: Model,
        state: State | None = None,
        rankers: RankerState | None = None,
        gate: QualityGate | None = None,
    ) -> None:
        self.channels = list(config.organ.channels)
        self.labels = get_labels(config)
        self.time_axis = config.data.time_axis
        self.prepare = Preprocessor(config, state)
        self.select = CandidateSelector(config, self.labels, rankers)
        self.gate = gate or QualityGate(config)
        self.after = [build(step) for step in config.postprocess.values() if step is not None]
        self.target = OutputLabels(self.labels, config.segmenter.threshold)
        self.plausibility = [build(check) for check in config.organ.plausibility.values() if check is not None]
        self.model = model
        self.trained = not isinstance(config.segmenter, ClassicalSettings)
        # calibrations of the expected Dice by label, and the limit of a review; none without training
        self.calibrations: dict[str, DiceCalibration] = {}
        self.min_expected_dice = (
            0.0 if isinstance(config.segmenter, ClassicalSettings) else (config.segmenter.predict.min_expected_dice)
        )

    @classmethod
    def from_run(cls, run: Run, device: str = "auto") -> Segmenter:
        """The segmenter of a finished run, on `device` auto, cpu or cuda."""
        config = with_values(segmentation_settings(run), {"compute.accelerator": device})
        set_num_threads(config.compute.num_threads)
        state = run.read_json("preprocess.json")
        rankers = run.read_json("candidates.json") if run.file("candidates.json").is_file() else None
        gate = QualityGate.of_run(run, config)
        if isinstance(config.segmenter, ClassicalSettings):
            return cls(config, build(config.segmenter.model), state, rankers, gate)
        network = make_network(config)
        network.load_state_dict(run.load_weights())
        segmenter = cls(config, tiled_network(config, network), state, rankers, gate)
        segmenter.calibrations = read_calibrations(run)
        return segmenter

    def __call__(self, images: Images) -> sitk.Image:
        """Channels of one case → coded mask on the first channel's own grid; 4D sequences frame by frame."""
        return self.segment(images)[0]

    def segment(
        self, images: Images, tiles: int | None = None, keep: bool = False
    ) -> tuple[sitk.Image, list[Segmentation]]:
        """As a call, with the result of each frame, see `scored`; at most `tiles` tiles at once."""
        results = [self.scored(channels, keep, tiles) for channels in self.frames(images)]
        return join_masks([result.mask for result in results], next(iter(images.values()))), results

    def frames(self, images: Images) -> Iterator[Images]:
        """The channels of each frame of a sequence; of another image, its channels."""
        sequences = {name: frames(image, self.time_axis) for name, image in images.items()}
        return (dict(zip(sequences, frame, strict=True)) for frame in zip(*sequences.values(), strict=True))

    def quality_warnings(self, images: Images) -> list[str]:
        """Warnings of the quality gate on the raw images of a case."""
        return self.gate(images)

    def mask_warnings(self, mask: sitk.Image, labels: Labels) -> list[str]:
        """What is implausible in a coded mask with `labels`; in a sequence, each check's first finding."""
        warnings: list[str] = []
        for check in self.plausibility:
            found = (check(frame, labels) for frame in frames(mask, self.time_axis))
            warnings += next((texts for texts in found if texts), [])
        return warnings

    def probabilities(self, images: Images) -> tuple[Images, Float32Array]:
        """Preprocessed channels, and the model's probabilities (K, Z, Y, X)."""
        ready = self.prepare(images)
        return ready, self.model.predict(ready)

    def scored(self, images: Images, keep: bool = False, tiles: int | None = None) -> Segmentation:
        """Segment one image: its coded mask, and with `keep` the probability of each label, on the input's grid."""
        reference = next(iter(images.values()))
        planes, grid, regions = self.planes(images, tiles)
        meter = ConfidenceMeter(self.target)
        planes = meter.watch(planes) if self.trained else planes
        coded, probabilities = resample_to_input(planes, grid, reference, self.target, keep)
        mask = from_array(coded, reference)
        confidence = meter.result() if self.trained else {}
        candidate_grid = grid if regions else None
        del planes, grid, coded  # large, and post-processing needs memory
        return Segmentation(self.postprocess(mask, reference), probabilities, candidate_grid, regions, confidence)

    def postprocess(self, mask: sitk.Image, image: sitk.Image) -> sitk.Image:
        """Apply the model's post-processing to a coded mask of the raw `image`."""
        return postprocess(mask, self.after, self.labels, image)

    def planes(
        self, images: Images, tiles: int | None = None
    ) -> tuple[Iterator[Float32Array], sitk.Image, Mapping[str, Regions]]:
        """Probabilities (K, Y, X) plane by plane along Z, the grid that they are on, and candidates.

        All probabilities are held at once only if candidates are ranked, or the method is a classical one.
        """
        ready = self.prepare(images)
        grid = next(iter(ready.values()))
        if isinstance(self.model, TiledNetwork) and not self.select.ranks:
            return self.model.planes(ready, tiles), grid, {}
        probability, regions = self.select(self.model.predict(ready), ready)
        return (probability[:, z] for z in range(probability.shape[1])), grid, regions


def join_masks(masks: list[sitk.Image], first: sitk.Image) -> sitk.Image:
    """The masks of the frames of `first` as one sequence; of another image, its mask."""
    return join_frames(masks, first) if first.GetDimension() == 4 or len(masks) > 1 else masks[0]


def read_calibrations(run: Run) -> dict[str, DiceCalibration]:
    """The calibrations of the expected Dice of a run, by label; none if the run has no such file."""
    if not run.file(EXPECTED_DICE).is_file():
        return {}
    return {name: DiceCalibration.from_state(state) for name, state in run.read_json(EXPECTED_DICE).items()}


def postprocess(coded: sitk.Image, rules: list[Any], labels: Labels, image: sitk.Image | None = None) -> sitk.Image:
    """Apply post-processing to a coded mask; overlapping labels are processed one by one, or in pairs.

    `image`: the raw image on the mask's grid, which the field of view needs.
    """
    if not rules:
        return coded
    if labels.exclusive:
        for rule in rules:
            coded = rule(coded, image) if isinstance(rule, WithinField) else rule(coded)
        return coded
    names = {number: name for name, number in labels.numbers.items()}
    masks = labels.split(coded)
    for rule in rules:
        if isinstance(rule, WithinField):
            inside = rule(from_array(np.ones(coded.GetSize()[::-1], np.uint8), coded), image)
            masks = {name: sitk.Mask(mask, inside) for name, mask in masks.items()}
            continue
        if isinstance(rule, Inside):
            masks[names[rule.inner]] = rule.between(masks[names[rule.inner]], masks[names[rule.outer]])
            continue
        masks = {name: rule(mask * labels.numbers[name]) > 0 for name, mask in masks.items()}
    return labels.join_images(masks, coded)


def input_channels(config: Settings) -> int:
    """Number of the network's input channels: colour channels of every channel and of context slices."""
    unet = config.unet()
    context = unet.context_slices if unet.network.dimensions == 2 else 0
    return len(config.organ.channels) * config.organ.colour_channels * (2 * context + 1)


def make_network(config: Settings) -> torch.nn.Module:
    """The network of `segmenter.network` with the organ's channels and labels."""
    organ = config.organ
    network: torch.nn.Module = build(
        config.unet().network.component(),
        in_channels=input_channels(config),
        classes=len(organ.labels) + organ.exclusive_labels,
    )
    return network


def tiled_network(config: Settings, network: torch.nn.Module) -> TiledNetwork:
    """A network with the tiles, device and precision of the settings."""
    settings = config.unet()
    sizes = settings.planned()
    patch = tuple(reversed(sizes.patch))  # (y, x) or (z, y, x)
    axes = tuple(reversed(AXES[: len(patch)]))
    mirror = tuple(axes.index(axis) for axis in settings.predict.mirror_axes)
    multiple = 2**sizes.depth
    tiling = Tiling(
        patch,
        settings.predict.overlap,
        settings.predict.batch_size,
        mirror,
        multiple,
        settings.context_slices,
        config.organ.exclusive_labels,
    )
    device = select_device(config.compute.accelerator)
    return TiledNetwork(network, tiling, device, autocast(config.compute.precision, device))
