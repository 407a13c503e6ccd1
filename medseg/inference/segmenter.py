"""A model with everything around it, from the images of one case to its mask."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, Protocol

import SimpleITK as sitk
import torch

from medseg.config.components import build
from medseg.config.load import get_labels, with_values
from medseg.config.settings import ClassicalSettings, Settings
from medseg.inference.candidates import CandidateSelector
from medseg.inference.candidates import State as RankerState
from medseg.inference.model_facts import segmentation_settings
from medseg.inference.preprocessor import Preprocessor, State, apply_steps
from medseg.inference.quality_gate import QualityGate
from medseg.io.geometry import from_array
from medseg.io.image import frames, join_frames
from medseg.io.labels import Labels
from medseg.runs.run import Run
from medseg.segmentation.candidates import Regions
from medseg.segmentation.postprocessing import Inside
from medseg.segmentation.resampling import OutputLabels, resample_to_input
from medseg.segmentation.sliding_window import TiledNetwork, Tiling
from medseg.typing import Float32Array, Images
from medseg.utils.devices import autocast, select_device, set_num_threads

AXES = ("x", "y", "z")


class Model(Protocol):
    """What finds labels: a network with its tiles, or a segmenter that needs no training."""

    def predict(self, images: Images) -> Float32Array:
        """Preprocessed channels on one grid → probabilities (K, Z, Y, X), background first where exclusive."""


@dataclass(frozen=True)
class Segmentation:
    """A case's coded mask; probabilities by label on the same grid where asked for; candidates on the network's."""

    mask: sitk.Image
    probabilities: dict[str, Float32Array]
    grid: sitk.Image | None  # the network's, where there are candidates
    candidates: Mapping[str, Regions] = field(default_factory=dict)


class Segmenter:
    """A model with everything around it: preprocessing, the way back to the input's grid, rules after it."""

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
        self.threshold = config.segmenter.threshold
        self.model = model

    @classmethod
    def from_run(cls, run: Run, device: str = "auto") -> Segmenter:
        """The segmenter that a finished run holds, on `device` auto, cpu or cuda."""
        config = with_values(segmentation_settings(run), {"compute.accelerator": device})
        set_num_threads(config.compute.num_threads)
        state = run.read_json("preprocess.json")
        rankers = run.read_json("candidates.json") if run.file("candidates.json").is_file() else None
        gate = QualityGate.of_run(run, config)
        if isinstance(config.segmenter, ClassicalSettings):
            return cls(config, build(config.segmenter.model), state, rankers, gate)
        network = make_network(config)
        network.load_state_dict(run.load_weights())
        return cls(config, tiled_network(config, network), state, rankers, gate)

    def __call__(self, images: Images) -> sitk.Image:
        """Channels of one case → coded mask on the first channel's own grid; 4D sequences frame by frame."""
        return self.segment(images)[0]

    def segment(self, images: Images, tiles: int | None = None) -> tuple[sitk.Image, list[Mapping[str, Regions]]]:
        """As a call, with the candidates of each frame; no more than `tiles` tiles at once."""
        sequences = {name: frames(image, self.time_axis) for name, image in images.items()}
        steps = zip(*sequences.values(), strict=True)
        done = [self.scored(dict(zip(sequences, step, strict=True)), tiles=tiles) for step in steps]
        masks, first = [one.mask for one in done], next(iter(images.values()))
        joined = join_frames(masks, first) if first.GetDimension() == 4 or len(masks) > 1 else masks[0]
        return joined, [one.candidates for one in done]

    def quality_warnings(self, images: Images) -> list[str]:
        """What the quality gate says against the raw images of a case."""
        return self.gate(images)

    def look(self, images: Images) -> tuple[Images, Float32Array]:
        """Preprocessed channels, and what the model says of them: probabilities (K, Z, Y, X)."""
        ready = self.prepare(images)
        return ready, self.model.predict(ready)

    def scored(self, images: Images, keep: bool = False, tiles: int | None = None) -> Segmentation:
        """One image's coded mask, and with `keep` the probability of each label, both on the input's own grid."""
        reference = next(iter(images.values()))
        ready = self.prepare(images)
        planes, regions = self._planes(ready, tiles)
        grid = next(iter(ready.values()))
        coded, kept = resample_to_input(planes, grid, reference, OutputLabels(self.labels, self.threshold), keep)
        mask = from_array(coded, reference)
        grid = grid if regions else None
        del planes, ready, coded  # large, and the rules need room
        return Segmentation(postprocess(mask, self.after, self.labels), kept, grid, regions)

    def _planes(self, ready: Images, tiles: int | None) -> tuple[Iterator[Float32Array], Mapping[str, Regions]]:
        """Probabilities (K, Y, X) plane by plane along Z, and candidates; only where those are ranked all at once."""
        if isinstance(self.model, TiledNetwork) and not self.select.ranks:
            return self.model.planes(ready, tiles), {}
        probability, regions = self.select(self.model.predict(ready), ready)
        return (probability[:, z] for z in range(probability.shape[1])), regions


def postprocess(coded: sitk.Image, rules: list[Any], labels: Labels) -> sitk.Image:
    """A coded mask after the rules of post-processing; labels that may overlap go one by one, or two by two."""
    if not rules:
        return coded
    if labels.exclusive:
        return apply_steps(rules, coded)
    names = {number: name for name, number in labels.numbers.items()}
    parts = labels.split(coded)
    for rule in rules:
        if isinstance(rule, Inside):
            parts[names[rule.inner]] = rule.between(parts[names[rule.inner]], parts[names[rule.outer]])
            continue
        parts = {name: rule(part * labels.numbers[name]) > 0 for name, part in parts.items()}
    return labels.join_images(parts, coded)


def input_channels(config: Settings) -> int:
    """Of the network: every channel's colours, of slices those around as well."""
    unet = config.unet()
    around = unet.context_slices if unet.network.dimensions == 2 else 0
    return len(config.organ.channels) * config.organ.colour_channels * (2 * around + 1)


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
    """A network with the tiles, device and precision that the settings say."""
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
