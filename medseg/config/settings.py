"""Typed settings: every key of configs/ with its type, range, unit and meaning.

The YAML files have the values; `docs/reference/settings.md` is generated from these classes. Unknown keys are refused.
`_target_` mappings (components) stay plain: their keys are the arguments of the class they name, see `components`.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import Annotated, Any, Literal, NamedTuple

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Discriminator, Field, PrivateAttr, Tag

from medseg.errors import ConfigError

Auto = Literal["auto"]
Component = dict[str, Any]


@dataclass(frozen=True)
class Wording:
    """How messages and the reference page describe a type, if its bounds are not enough."""

    text: str


def _texts(value: Any) -> Any:
    """Convert names that YAML reads as numbers to text."""
    if isinstance(value, list):
        return [str(item) if isinstance(item, int | float) and not isinstance(item, bool) else item for item in value]
    return value


def _text(value: Any) -> Any:
    return str(value) if isinstance(value, int) and not isinstance(value, bool) else value


def _duration(value: str) -> str:
    if re.fullmatch(r"(?=.*[1-9])\d{1,3}(:\d{2}){3}", value) is None:
        raise ValueError
    return value


def _zero_or(minimum: int) -> Callable[[int], int]:
    def check(value: int) -> int:
        if isinstance(value, int) and 0 < value < minimum:
            raise ValueError
        return value

    return check


Count = Annotated[int, Field(ge=1)]
Index = Annotated[int, Field(ge=0)]
Fraction = Annotated[float, Field(ge=0, le=1)]
Positive = Annotated[float, Field(gt=0)]
Dropout = Annotated[float, Field(ge=0, le=0.95)]
Names = Annotated[list[str], BeforeValidator(_texts)]
Duration = Annotated[
    str,
    AfterValidator(_duration),
    Wording("a duration DD:HH:MM:SS of at least a second, such as 00:00:10:00"),
]
FoldCount = Annotated[Index, BeforeValidator(_zero_or(2)), Wording("a whole number of at least 2, or 0 for none")]


class Group(BaseModel):
    """A group of settings: unknown keys are refused, values are not converted, instances are frozen."""

    model_config = ConfigDict(extra="forbid", strict=True, frozen=True)


IMAGENET = "efficientnet_lite0"  # the encoder pretrained on ImageNet


class DataSettings(Group):
    """The dataset: `cases.csv`, or images/ + masks/, nnU-Net/MSD raw, DICOM series, a bare folder of images."""

    root: str | None = Field(description="Folder of the dataset; null: synthetic phantoms of the organ.")
    mask_suffix: str | dict[str, str] | None = Field(
        description="What follows the image's stem in a mask's name, or {label: suffix, …}, a file each."
    )
    masks: str | None = Field(description="Diagnosis: a folder of masks used instead of the dataset's own.")
    missing_mask: Literal["ignore", "background"] = Field(
        description="A label without its own file: ignore (not annotated) or background (annotated, absent)."
    )
    encoder: str | None = Field(
        description="Diagnosis: deep features of this network are added to the features: efficientnet_lite0, an "
        "encoder pretrained on ImageNet, or a segmentation run, whose U-Net's deepest level is taken."
    )
    encoder_px: Annotated[int, Field(ge=32)] = Field(
        description="efficientnet_lite0: longer side in pixels that images are resized to."
    )
    encoder_regions: Annotated[list[Literal["structure", "rim", "image"]], Field(min_length=1)] = Field(
        description="Regions of a frame that deep features are averaged over: the labelled pixels, a rim around them, "
        "the whole image."
    )
    encoder_features: Count | None = Field(
        description="Number of deep features a region of a frame; null: all channels."
    )
    encoder_step_features: Count | None = Field(
        description="Number of deep features a step of a profile (slice, sector, quadrant); null: all channels."
    )
    mask_values: dict[str, int | list[int]] | None = Field(
        description="Pixel values of each label in a mask; null: labels.json, or 1, 2, 3 …"
    )
    split_column: str = Field(description="Column of the table with train, valid or test.")
    label_column: str = Field(description="Column with the class of a case or frame.")
    exclude_classes: Names = Field(description="Cases of these classes are not used.")
    patient_column: str = Field(description="Column that names the patient; rows of one patient are never split.")
    test_fraction: Fraction = Field(
        description="Fraction of patients held out for testing if the dataset has no split."
    )
    n_folds: Annotated[int, Field(ge=2)] | None = Field(
        description="Cross-validation by patient instead of any split; the number of patients: leave one out."
    )
    fold_column: str | None = Field(
        description="Column with the number of each case's fold, as a dataset's authors publish it; replaces any split."
    )
    fold: Index = Field(description="The fold that is held out, from 0, or a number of `fold_column`.")
    time_axis: Literal[2, 3] | None = Field(description="Axis of an image that is time (cine sequences).")
    surface_tolerance_mm: Positive = Field(description="Surface distance in mm that counts as equal (surface Dice).")
    cache: str = Field(description="Folder of preprocessed cases.")
    phantom_patients: Annotated[int, Field(ge=2)] = Field(description="Patients of the synthetic dataset.")
    phantom_frames: Count | None = Field(description="Frames a patient; null: 1, or 20 for a diagnosis of frames.")

    @property
    def imagenet_encoder(self) -> bool:
        """Whether the encoder is the one that ships, not a run's."""
        return self.encoder == IMAGENET


class OrganSettings(Group):
    """The organ's facts about the images and their labels. Other groups read them as `${organ.…}`."""

    name: str = Field(description="Name of the recipe.")
    channels: Annotated[list[str], Field(min_length=1)] = Field(description="Names of an image's channels.")
    colour_channels: Literal[1, 3] = Field(description="Colour channels of each: 1 grey, 3 RGB.")
    labels: Annotated[dict[str, int], Field(min_length=1)] = Field(description="Label names and numbers 1, 2, 3 …")
    exclusive_labels: bool = Field(description="false: labels may overlap; each has its own probability and mask.")
    snomed_codes: dict[str, list[str]] = Field(description="SNOMED CT category and type of a label, for DICOM SEG.")
    lateral_pairs: list[list[str]] = Field(description="Pairs of labels that swap sides in a mirrored image.")
    classes: Names = Field(description="Classes of the diagnosis.")
    positive_classes: Names = Field(description="The classes that count as positive.")
    target_level: Literal["case", "frame"] = Field(description="What the diagnosis labels.")
    clinical_rule: Component | None = Field(description="A clinical rule that is evaluated as a baseline.")
    slice_label_from: str | None = Field(
        description="Label whose presence in a slice gives the slice the second class (features.per_slice)."
    )
    spacing_mm: list[float | None] | Auto = Field(
        description="x y z spacing in mm of the network's grid; null keeps the image's own."
    )
    window_hu: Annotated[list[float], Field(min_length=2, max_length=2)] = Field(
        description="Lowest and highest HU of the network's input."
    )
    field_of_view_px: Count = Field(description="Width in pixels that a round field of view is resized to.")
    max_samples: Count = Field(description="Training samples of a 2D network of this organ.")
    context_slices: Index = Field(description="Neighbouring slices on each side that a 2D network sees.")
    mirror_axes: list[Literal["x", "y", "z"]] = Field(description="Axes of test-time mirroring.")
    image_size: list[Count] | Auto = Field(description="x y size in pixels that 2D images are resized to.")
    field_of_view: Component | None = Field(description="Finds the region of an image with anatomy.")
    intensity_rank: dict[str, str | int] | None = Field(
        description="Brightness of each label for classical segmentation: dark, bright, or its rank 1, 2, 3 …"
    )
    plausibility: dict[str, Component | None] = Field(
        {}, description="Checks of a finished mask by name; what no patient has goes to review."
    )
    classical_unsupported_reason: str = Field(description="Why classical segmentation is unsuitable for this organ.")
    phantom: Component | None = Field(None, description="Makes synthetic cases; null: none.")


class AugmentSettings(Group):
    """Random changes of training patches. `transforms` are albumentations' own names and arguments."""

    mirror: dict[str, Fraction] = Field(description="Probability of a flip along each axis.")
    transforms: dict[str, dict[str, Any]] = Field(description="Albumentations transforms by name.")
    synthetic_lesions: dict[str, Component] = Field({}, description="Lesions painted into training patches.")
    artefacts: dict[str, Component | None] = Field(
        {}, description="What other scanners and cameras show, drawn into training patches, by name, in order."
    )


class NetworkSettings(Group):
    """The U-Net's shape; further keys are arguments of the class in `_target_`."""

    model_config = ConfigDict(extra="allow")

    target: str = Field(alias="_target_", description="Class of the network.")
    dimensions: Literal[2, 3] | Auto = Field(description="2: slices and images; 3: volumes.")
    width: Count = Field(description="Channels of the first level.")
    max_width: Count = Field(description="Most channels of a level.")
    depth: Count | Auto = Field(description="Levels below the first; a pretrained encoder has 5.")
    encoder: Literal["none", "efficientnet_lite0"] | Auto = Field(
        description="efficientnet_lite0: an encoder pretrained on ImageNet, 2D only; none: learns from nothing."
    )
    freeze_encoder: bool = Field(description="Weights of the encoder (of its pretrained part) stay as they are.")
    norm: Literal["instance", "batch", "group", "none"] | Auto = Field(description="Normalisation layer.")
    residual: bool = Field(description="Residual connections in each block.")
    strided: bool = Field(description="Stride-2 convolutions instead of max pooling.")
    deep_supervision: bool = Field(description="Losses at the decoder's lower levels too.")
    dropout: Dropout = Field(description="Dropout in the convolution blocks.")

    def component(self) -> Component:
        """The mapping that `build` takes."""
        return self.model_dump(by_alias=True)


class OptimizerSettings(Group):
    """The optimiser of a segmenter's training."""

    name: Literal["adamw", "sgd"] = Field(description="Optimiser.")
    lr: Positive = Field(description="Highest learning rate.")
    encoder_lr: Positive = Field(description="Highest learning rate of a pretrained encoder.")
    weight_decay: Annotated[float, Field(ge=0)] = Field(description="Weight decay.")
    momentum: Fraction = Field(description="Nesterov momentum of sgd.")
    warmup_fraction: Annotated[float, Field(ge=0, le=0.9)] = Field(description="Fraction of training with warm-up.")
    schedule: Literal["cosine", "poly"] = Field(description="Decay of the learning rate.")


class PredictSettings(Group):
    """The sliding window."""

    overlap: Annotated[float, Field(ge=0, le=0.9)] = Field(description="Overlap of neighbouring tiles.")
    mirror_axes: list[Literal["x", "y", "z"]] = Field(description="Axes averaged over mirrored predictions.")
    batch_size: Count = Field(description="Tiles predicted at once.")
    # with a default, so that runs of before can be used
    min_expected_dice: Fraction = Field(
        0.5, description="Expected Dice of a label below which a case needs a review; 0: none does."
    )


class Planned(NamedTuple):
    """Sizes of a U-Net's training: patch x y [z], patches per step, dimensions, levels below the first."""

    patch: tuple[int, ...]
    batch: int
    dimensions: int
    depth: int


class UNetSettings(Group):
    """A segmenter that is trained."""

    network: NetworkSettings = Field(description="The network.")
    patch_size: list[int] | Auto = Field(description="x y [z] size of a training patch, multiples of 2^depth.")
    context_slices: Index = Field(description="Neighbouring slices on each side, as channels of a 2D network.")
    batch_size: Count | Auto = Field(description="Patches per step.")
    max_samples: Count = Field(description="Patches in a whole training.")
    foreground_fraction: Fraction = Field(description="Fraction of patches placed on a labelled structure.")
    loss: Component = Field(description="The loss.")
    optimizer: OptimizerSettings = Field(description="The optimiser.")
    ema_decay: Annotated[float, Field(ge=0, le=0.99999)] = Field(description="Decay of the averaged weights; 0: none.")
    threshold: Fraction = Field(description="Probability from which an overlapping label is present.")
    predict: PredictSettings = Field(description="Prediction.")

    def planned(self) -> Planned:
        """Sizes as numbers; `ConfigError` if one is auto, which `plan` resolves before a training."""
        values = (self.patch_size, self.batch_size, self.network.dimensions, self.network.depth)
        patch, batch, dimensions, depth = values
        if isinstance(patch, str) or isinstance(batch, str) or isinstance(dimensions, str) or isinstance(depth, str):
            raise ConfigError("segmenter: a size is auto, and no plan has decided it; see medseg plan")
        return Planned(tuple(patch), batch, dimensions, depth)


class ClassicalSettings(Group):
    """A segmenter without training."""

    model: Component = Field(description="The method.")
    threshold: Fraction = Field(description="Probability from which an overlapping label is present.")


class CandidateSettings(Group):
    """Ranking of look-alike regions; without `finder` nothing is ranked."""

    finder: Component | None = Field(None, description="Finds and selects candidate regions.")
    min_iou: Fraction = Field(1.0, description="IoU with a structure from which a candidate counts as a match.")
    exclude_features: list[str] = Field([], description="Candidate features that are not used.")


class FeatureSettings(Group):
    """Features of images in masks: of a frame, along a profile (slices, sectors, quadrants), of a sequence."""

    max_side_px: Index = Field(0, description="Longer side in pixels that 2D images are resized to; 0: as they are.")
    pixel_mm: Positive | None = Field(None, description="mm per pixel for files without a scale.")
    per_slice: bool = Field(False, description="Each axial slice is a frame of its own.")
    frame: dict[str, Component] = Field(description="Feature functions of a frame.")
    profile: dict[str, Component] = Field(description="Feature functions of each step of a profile.")
    sequence: dict[str, Component] = Field(description="Feature functions of a whole sequence.")


class LSTMNetworkSettings(Group):
    """The LSTM over frames, with an inner one over each frame's profile."""

    hidden: Count = Field(description="Units of the LSTM over frames, each direction.")
    layers: Count = Field(description="Layers.")
    dropout: Dropout = Field(description="Dropout.")
    bidirectional: bool = Field(description="false: causal, for use while a sequence is recorded.")


class SequenceAugmentSettings(Group):
    """Random changes of training windows."""

    time_stretch: Annotated[float, Field(ge=1)] = Field(description="Up to so many times faster or slower.")
    scale: Annotated[float, Field(ge=1)] = Field(description="Up to so many times larger or smaller.")
    noise: Annotated[float, Field(ge=0)] = Field(description="Noise in standard deviations.")
    feature_dropout: Dropout = Field(description="Fraction of features that are blanked.")


class SequenceOptimizerSettings(Group):
    """AdamW."""

    lr: Annotated[float, Field(ge=0)] = Field(description="Learning rate.")
    weight_decay: Annotated[float, Field(ge=0)] = Field(description="Weight decay.")


class EarlyStoppingSettings(Group):
    """Early stopping on held-out training patients."""

    fraction: Annotated[float, Field(ge=0, lt=1)] = Field(description="Fraction of training patients; 0: none.")
    n_validations: Count = Field(description="Validations in a whole training.")
    patience: Count = Field(description="Validations without improvement.")


class ForecastSettings(Group):
    """Forecast of the respiratory signal."""

    horizon_s: Positive = Field(description="How far ahead, in seconds.")
    n_lags: Count = Field(description="Number of past samples that it reads.")
    lag_step_s: Positive = Field(description="Seconds between them.")
    hidden: Count = Field(description="Units of its LSTM.")
    max_samples: Index = Field(description="Windows in its training.")


class BaselineSettings(Group):
    """The linear baseline of a sequence classifier."""

    frames_before: Index = Field(description="Earlier frames that it reads.")
    frames_after: Index = Field(description="Later frames that it reads.")
    c: Positive = Field(description="Inverse strength of the logistic penalty.")
    alpha: Annotated[float, Field(ge=0)] = Field(description="Strength of the ridge penalty.")


class SequenceLSTMSettings(Group):
    """An LSTM over frames, beside a linear baseline."""

    network: LSTMNetworkSettings = Field(description="The network.")
    profile_length: Index = Field(description="Steps a profile is resampled to; 0: as they are.")
    normalise: Literal["case", "cohort"] = Field(description="Reference of each feature: its sequence, or all cases.")
    slopes: bool = Field(description="Add the change of every feature per second.")
    window: Count = Field(description="Frames of a training window.")
    augment: SequenceAugmentSettings = Field(description="Augmentation.")
    batch_size: Count = Field(description="Windows per step.")
    max_samples: Count = Field(description="Windows in a whole training.")
    signal_loss_weight: Annotated[float, Field(ge=0)] = Field(description="Weight of the signal's error in the loss.")
    optimizer: SequenceOptimizerSettings = Field(description="The optimiser.")
    early_stopping: EarlyStoppingSettings = Field(description="Early stopping.")
    forecast: ForecastSettings = Field(description="Forecast of the signal.")
    baseline: BaselineSettings = Field(description="Linear baseline.")
    n_folds: FoldCount = Field(description="Folds of the training patients for calibration and stacking; 0: none.")
    alpha: Annotated[float, Field(gt=0, lt=1)] = Field(
        description="Probability that a prediction set misses the true class."
    )
    match_prevalence: bool = Field(description="Calibrate to the class frequencies of the training cases.")


class FeatureSelectionSettings(Group):
    """Feature selection on training rows."""

    method: Literal["all", "mutual_information", "rfe"] = Field(description="Method.")
    count: Count = Field(description="Number of selected features.")
    max_correlation: Fraction = Field(description="Of two features with a higher correlation one is removed.")


class LogisticSettings(Group):
    """Logistic regression."""

    c: Positive = Field(description="Inverse strength of the penalty.")


class EnsembleSettings(Group):
    """The voting ensemble."""

    n_trees: Count = Field(description="Trees of each forest.")


class StackingSettings(SequenceLSTMSettings):
    """Logistic regression, an ensemble and an LSTM, stacked."""

    final_model: Literal["logistic", "ensemble", "lstm", "deep", "stack"] = Field(
        description="Model whose prediction is the diagnosis; all are evaluated."
    )
    feature_selection: FeatureSelectionSettings = Field(description="Feature selection.")
    logistic: LogisticSettings = Field(description="Logistic regression.")
    ensemble: EnsembleSettings = Field(description="Voting ensemble.")
    deep: LogisticSettings = Field(description="Logistic regression on the deep features, if there are any.")


class TrainerSettings(Group):
    """How long and how carefully to train."""

    fraction: Positive = Field(description="Fraction of the organ's training samples.")
    max_time: Duration | None = Field(description="DD:HH:MM:SS of training, including the time before a resume.")
    gradient_clip_val: Annotated[float, Field(ge=0)] = Field(description="Largest gradient norm; 0: no clipping.")
    checkpoint_every_n_steps: Count = Field(description="Steps between checkpoints.")
    n_validations: Index = Field(description="Validations in a whole training, for the curves; 0: none.")


class ComputeSettings(Group):
    """Hardware: device, precision, threads and processes."""

    accelerator: Literal["auto", "cpu", "cuda"] = Field(description="auto: the GPU if there is one.")
    devices: Literal[1] = Field(description="Devices; one process writes a run.")
    precision: Annotated[Literal["auto", "32", "bf16", "16"], BeforeValidator(_text)] = Field(
        description="auto: bf16 if the CPU or GPU supports it."
    )
    num_threads: Count | Auto = Field(description="Threads; auto: the number of free cores.")
    num_workers: Index | Auto = Field(description="Processes that prepare batches; auto: 0, with a GPU up to 6.")


def _segmenter_kind(value: Any) -> str:
    network = "network" in value if isinstance(value, dict) else isinstance(value, UNetSettings)
    return "#unet" if network else "#classical"


def _classifier_kind(value: Any) -> str:
    stacking = "final_model" in value if isinstance(value, dict) else isinstance(value, StackingSettings)
    return "#stacking" if stacking else "#sequence_lstm"


Segmenter = Annotated[
    Annotated[UNetSettings, Tag("#unet")] | Annotated[ClassicalSettings, Tag("#classical")],
    Discriminator(_segmenter_kind),
]
Classifier = Annotated[
    Annotated[SequenceLSTMSettings, Tag("#sequence_lstm")] | Annotated[StackingSettings, Tag("#stacking")],
    Discriminator(_classifier_kind),
]


class Settings(Group):
    """All settings of the configs and the command line's KEY=VALUE."""

    task: Literal["segmentation", "diagnosis"] = Field(description="Train a segmenter or a classifier.")
    seed: Index = Field(description="Random seed of weights, sampling, augmentation, splits and phantoms.")
    run_dir: str | None = Field(description="Folder that the run is written to; null: runs/ORGAN/N.")
    plan: str | None = Field(
        description="For settings that are auto: plan.yaml of `medseg plan`, or a run whose values are taken; null: "
        "plan during training."
    )
    init_from: str | None = Field(description="A run or package whose weights the training starts from; null: none.")
    resume: str | None = Field(description="A run folder to continue, in place.")
    data: DataSettings = Field(description="The dataset.")
    organ: OrganSettings = Field(description="Facts of the organ.")
    quality: dict[str, Component | None] = Field(description="Image quality checks by name.")
    preprocess: dict[str, Component | Auto | None] = Field(description="Preprocessing steps by name, in order.")
    augment: AugmentSettings = Field(description="Augmentation of training patches.")
    segmenter: Segmenter = Field(description="The segmenter.")
    candidates: CandidateSettings = Field(description="Ranking of candidate regions.")
    postprocess: dict[str, Component | None] = Field(description="Post-processing steps by name, in order.")
    features: FeatureSettings = Field(description="Features.")
    classifier: Classifier = Field(description="The classifier of a diagnosis.")
    trainer: TrainerSettings = Field(description="Training.")
    compute: ComputeSettings = Field(description="Hardware.")
    logger: Component = Field(description="An additional Lightning logger.")
    _source: Any = PrivateAttr(None)  # the composition with its references, for `compose.with_values`

    def unet(self) -> UNetSettings:
        """The settings of a trained segmenter; `ConfigError` for classical segmentation."""
        if not isinstance(self.segmenter, UNetSettings):
            raise ConfigError("segmenter: classical segmentation has no network")
        return self.segmenter

    def stacking(self) -> StackingSettings:
        """The settings of a stacking classifier; `ConfigError` for another classifier."""
        if not isinstance(self.classifier, StackingSettings):
            raise ConfigError("classifier: not a stack of models; choose classifier=stacking")
        return self.classifier

    def to_dict(self) -> dict[str, Any]:
        """Plain values with the keys of the configs."""
        return self.model_dump(by_alias=True, warnings=False)
