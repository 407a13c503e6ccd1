"""Fine-tuning: a training that starts from the weights of another run or package."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

from torch import Tensor, nn

from medseg.config.load import load
from medseg.config.settings import Settings, UNetSettings
from medseg.data.cases import Case
from medseg.errors import ConfigError, ModelError
from medseg.inference.out_of_fold import TRAINED_ON, TrainingSplit
from medseg.runs.run import Run, hash_run_input, open_run
from medseg.segmentation.efficientnet_lite import fold_channels
from medseg.utils.console import say, warn

HEADS = "heads."  # the layers with an output for each label
INPUTS = (  # the convolutions that see the image
    "encoder.first.layers.0.weight",
    "encoder.first.0.weight",
    "encoder.pretrained.stem.conv.weight",
)
MAX_NAMED = 5  # layers


def start_from(config: Settings, network: nn.Module, held_out: Sequence[Case]) -> list[str]:
    """Load what fits of the weights of `init_from` into `network`; return lines of the model card, and say them.

    Outputs go by label name, the first convolution is folded to other numbers of channels, all else must have the same
    shape. Raises `ConfigError` if nothing fits, or if the parent was trained on one of the `held_out` cases.
    """
    if config.init_from is None:
        return []
    parent = open_run(Path(config.init_from))
    settings = load(parent.file("config.yaml"))
    if settings.task != "segmentation" or not isinstance(settings.segmenter, UNetSettings):
        raise ConfigError(f"init_from={parent.named}: has no segmentation network; name the run of a trained U-Net")
    _require_unseen(parent, held_out)
    state, skipped = matching_state(network, parent.load_weights(), _outputs(config), _outputs(settings))
    if not state:
        raise ConfigError(
            f"init_from={parent.named}: none of its layers fits this network; take its shape with "
            f"segmenter=auto plan={config.init_from}"
        )
    network.load_state_dict(network.state_dict() | state)
    lines = [f"Fine-tuned from {parent.named.name}: {len(state)} of {len(network.state_dict())} arrays were taken."]
    if skipped:
        more = f" and {len(skipped) - MAX_NAMED} more" if len(skipped) > MAX_NAMED else ""
        lines.append(f"Learnt from nothing: {', '.join(skipped[:MAX_NAMED])}{more}.")
    for line in lines:
        say(line)
    return lines


def matching_state(
    network: nn.Module, source: Mapping[str, Tensor], labels: Sequence[str], source_labels: Sequence[str]
) -> tuple[dict[str, Tensor], list[str]]:
    """What of `source` fits `network`, by name, and the names of the layers for which nothing does.

    labels: of each output of `network`, and of `source`, in order.
    """
    state, skipped = {}, []
    for name, own in network.state_dict().items():
        value = source.get(name)
        if value is None:
            fitted = None
        elif name.startswith(HEADS):
            fitted = _by_label(own, value, labels, source_labels)
        elif value.shape == own.shape:
            fitted = value
        else:
            fitted = _folded(own, value) if name in INPUTS else None
        if fitted is not None:
            state[name] = fitted
        elif (layer := name.rpartition(".")[0]) not in skipped:
            skipped.append(layer)
    return state, skipped


def _outputs(config: Settings) -> list[str]:
    """The label of each output of the network; the background is the first of exclusive labels."""
    labels = sorted(config.organ.labels, key=config.organ.labels.__getitem__)
    return ["background", *labels] if config.organ.exclusive_labels else labels


def _by_label(own: Tensor, value: Tensor, labels: Sequence[str], source_labels: Sequence[str]) -> Tensor | None:
    """The rows of `own` (K, …) with those of `value` (L, …) for labels of the same name; None if there are none."""
    shared = [name for name in labels if name in source_labels and name != "background"]
    if own.shape[1:] != value.shape[1:] or not shared:
        return None
    result = own.clone()
    for name in [*shared, "background"]:
        if name in labels and name in source_labels:
            result[labels.index(name)] = value[source_labels.index(name)]
    return result


def _folded(own: Tensor, value: Tensor) -> Tensor | None:
    """The kernels `value` (O, C, *k) folded to the input channels of `own`; None if they differ otherwise."""
    if own.shape[0] != value.shape[0] or own.shape[2:] != value.shape[2:]:
        return None
    return fold_channels(value, own.shape[1])


def _require_unseen(parent: Run, held_out: Sequence[Case]) -> None:
    try:
        split = TrainingSplit(parent)
    except ModelError:
        warn(
            f"init_from={parent.named}: its training images are missing, so nobody can tell whether it was trained on "
            "cases that are held out here; a package of `medseg model export` knows them by their hashes"
        )
        return
    for case in held_out:
        membership, reason = split.of(case, hash_run_input(case.image))
        if membership == TRAINED_ON:
            raise ConfigError(
                f"init_from={parent.named}: was trained on {reason} of {case.name}, which is held out here, so the "
                "evaluation would be biased; hold out other cases, or train the parent on the same split"
            )
