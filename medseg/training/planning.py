"""`medseg plan`: describe a dataset, and propose settings for it and this machine, each with its reason."""

from __future__ import annotations

import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import SimpleITK as sitk
import torch
import yaml

from medseg.config.checks import flatten
from medseg.config.components import build
from medseg.config.load import auto_keys, get_labels, load, with_values
from medseg.config.settings import Settings, UNetSettings
from medseg.data.cases import Case
from medseg.data.fingerprint import case_facts, summarise_facts
from medseg.data.ground_truth import read_ground_truth
from medseg.errors import ConfigError, DataError, MedsegError
from medseg.io.image import read_image
from medseg.preprocess.geometry import Orient, SliceAxis
from medseg.runs.run import open_run
from medseg.segmentation.planner import Decision, decide
from medseg.utils.console import progress, say, table, warn
from medseg.utils.devices import select_device, set_num_threads
from medseg.utils.files import atomic_write_text, write_json

GEOMETRY = ("organ.spacing_mm", "organ.image_size", "organ.context_slices")  # what a network's grid depends on
MAX_CASES = 60  # more do not change a median
MEMORY_FRACTION = 0.25  # of the free memory for one batch


def plan_dataset(config: Settings, cases: list[Case], out: Path) -> dict[str, Decision]:
    """Write fingerprint.json and plan.yaml into `out` and print the decisions."""
    facts = survey_dataset(config, cases)
    write_json(out / "fingerprint.json", facts)
    plan = _decisions(config, facts)
    plan |= _costs(config, plan, facts)
    lines = [
        f"# Plan for organ={config.organ.name} on {facts['cases']} cases; you can edit it; train with",
        f"# medseg train organ={config.organ.name} plan={out / 'plan.yaml'} segmenter=auto preprocess=auto",
    ]
    for key, decision in plan.items():
        value = yaml.safe_dump(decision.value, default_flow_style=True, width=10_000).replace("\n...", "").strip()
        lines += [f"# {decision.reason}", f"{key}: {value}"]
    atomic_write_text(out / "plan.yaml", "\n".join(lines) + "\n")
    table("plan", ["setting", "value", "reason"], [[key, str(d.value), d.reason] for key, d in plan.items()])
    say(f"written: {out / 'fingerprint.json'}, {out / 'plan.yaml'}")
    return plan


def resolve_plan(config: Settings, cases: list[Case]) -> Settings:
    """Replace every `auto` value with that of the plan in the settings, or of a new plan.

    Where the plan is a run, its geometry (`GEOMETRY`) is taken, too.
    """
    keys = auto_keys(config)
    if config.plan is not None and _is_run(Path(config.plan)):
        keys = list(dict.fromkeys([*keys, *GEOMETRY]))
        say(f"plan={config.plan}: {', '.join(GEOMETRY)} and what is auto are taken from this run")
    if not keys:
        if config.plan is not None:
            warn(f"plan={config.plan}: no setting is auto, so the plan is not used; add segmenter=auto preprocess=auto")
        return config
    if config.plan is not None:
        values = _read_plan(Path(config.plan))
    else:
        say("planning from the data, because settings are auto")
        values = {key: decision.value for key, decision in _decisions(config, survey_dataset(config, cases)).items()}
    missing = [key for key in keys if key not in values]
    if missing:
        raise ConfigError(f"{missing[0]}=auto: the plan has no value for it; set it, or plan again with medseg plan")
    return with_values(config, {key: values[key] for key in keys})


def survey_dataset(config: Settings, cases: list[Case]) -> dict[str, Any]:
    """The fingerprint of at most `MAX_CASES` raw training cases, evenly chosen; unreadable ones are skipped."""
    annotated = [case for case in cases if case.split == "train" and case.annotated]
    chosen = annotated[:: max(1, -(-len(annotated) // MAX_CASES))]
    labels = get_labels(config)
    orient, slices = Orient(), SliceAxis()

    def turn(image: sitk.Image) -> sitk.Image:
        return slices(orient(image))

    facts: list[dict[str, Any]] = []
    with progress("survey", len(chosen)) as bar:
        for case in chosen:
            try:
                images = {channel: read_image(path) for channel, path in case.images.items()}
                truth = read_ground_truth(case, next(iter(images.values())), labels)
                images = {channel: turn(image) for channel, image in images.items()}
                truth = replace(truth, mask=turn(truth.mask))
                facts.append(case_facts(images, truth, labels) | {"diameter_mm": diameters(truth.mask, labels)})
            except MedsegError as error:
                warn(f"{case.name} is skipped: {error}")
            bar.advance(1, case.name)
    if not facts:
        raise DataError("no training case could be read with its mask, so nothing can be planned")
    summary = summarise_facts(facts, labels.numbers)
    diameters_mm = {
        name: [f["diameter_mm"][name] for f in facts if name in f["diameter_mm"]] for name in labels.numbers
    }
    return summary | {
        "diameter_mm": {name: float(np.median(values)) for name, values in diameters_mm.items() if values}
    }


def diameters(coded: sitk.Image, labels: Any) -> dict[str, float]:
    """Median diameter (mm) of each label's connected components, as of a disc or ball of the same size."""
    result = {}
    for name, mask in labels.split(coded).items():
        stats = sitk.LabelShapeStatisticsImageFilter()
        stats.Execute(sitk.ConnectedComponent(mask))
        sizes = [stats.GetEquivalentSphericalRadius(component) * 2 for component in stats.GetLabels()]
        if sizes:
            result[name] = float(np.median(sizes))
    return result


def _decisions(config: Settings, facts: dict[str, Any]) -> dict[str, Decision]:
    device = select_device(config.compute.accelerator)
    free = torch.cuda.mem_get_info()[0] if device.type == "cuda" else psutil.virtual_memory().available
    return decide(facts, device.type, MEMORY_FRACTION * free)


def _costs(config: Settings, plan: dict[str, Decision], facts: dict[str, Any]) -> dict[str, Decision]:
    """Estimate memory from the activations of a training step, and time by running steps on this machine."""
    from medseg.segmentation.losses import DiceCrossEntropy

    device = select_device(config.compute.accelerator)
    threads = set_num_threads(config.compute.num_threads)
    patch, batch = plan["segmenter.patch_size"].value, plan["segmenter.batch_size"].value
    unet = config.segmenter if isinstance(config.segmenter, UNetSettings) else None
    base = unet.network.component() if unet else {"_target_": "medseg.segmentation.unet.UNet"}
    shape = {key: value for key, value in base.items() if value != "auto"}
    shape |= {key: plan[f"segmenter.network.{key}"].value for key in ("dimensions", "depth", "encoder", "norm")}
    count = len(config.organ.labels) + config.organ.exclusive_labels
    context = unet.context_slices if unet and shape["dimensions"] == 2 else 0
    channels = len(config.organ.channels) * facts["components"] * (2 * context + 1)
    network = build(shape, in_channels=channels, classes=count).to(device)
    activations = _activation_bytes(network)
    image = torch.rand(batch, channels, *reversed(patch), device=device)
    target = torch.zeros(batch, *reversed(patch), dtype=torch.long, device=device)
    loss = DiceCrossEntropy(exclusive=config.organ.exclusive_labels)
    seconds = []
    for _ in range(3):
        started = time.monotonic()
        loss(network(image), target).backward()
        if device.type == "cuda":
            torch.cuda.synchronize()
        seconds.append(time.monotonic() - started)
    weights = sum(p.numel() for p in network.parameters())
    memory = (sum(activations) + weights * 16) / 1e9  # weights, gradients and two moments of AdamW, 4 bytes each
    samples = unet.max_samples if unet else config.organ.max_samples
    minutes = min(seconds) * samples / batch / 60
    device_text = f"{device.type}, {threads} threads" if device.type == "cpu" else device.type
    return {
        "estimate.memory_gb": Decision(round(memory, 2), f"{weights} weights and the activations of batch {batch}"),
        "estimate.minutes": Decision(
            round(minutes, 1), f"{samples} samples; a step takes {min(seconds):.2f} s ({device_text})"
        ),
    }


def _activation_bytes(network: torch.nn.Module) -> list[int]:
    """Bytes of each layer's output; the list is filled during the next forward pass."""
    sizes: list[int] = []
    active = [True]

    def count(_module: torch.nn.Module, _inputs: Any, output: Any) -> None:
        if active and isinstance(output, torch.Tensor):
            sizes.append(output.numel() * output.element_size())

    leaves = [module for module in network.modules() if not list(module.children())]
    handles = [leaf.register_forward_hook(count) for leaf in leaves]

    def stop(_module: torch.nn.Module, _inputs: Any, _output: Any) -> None:
        for handle in handles:
            handle.remove()
        active.clear()

    network.register_forward_hook(stop)
    return sizes


def _read_plan(path: Path) -> dict[str, Any]:
    """The values of plan.yaml, or those of a run or package."""
    if _is_run(path):
        return flatten(load(open_run(path).file("config.yaml")).to_dict())
    return _read(path)


def _is_run(path: Path) -> bool:
    return path.is_dir() or path.suffix == ".zip"


def _read(file: Path) -> dict[str, Any]:
    try:
        content = yaml.safe_load(file.read_text(encoding="utf-8"))
    except (OSError, yaml.YAMLError) as error:
        raise ConfigError(f"plan={file}: cannot be read ({error}); make one with medseg plan") from error
    if not isinstance(content, dict):
        raise ConfigError(f"plan={file}: must have lines such as segmenter.batch_size: 8")
    return {str(key): value for key, value in content.items()}
