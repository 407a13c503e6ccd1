"""Derive a network's size from a dataset's fingerprint, with a reason for each decision (Isensee et al. 2021)."""

from __future__ import annotations

import math
from typing import Any, NamedTuple

from medseg.errors import DataError

Facts = dict[str, Any]

ANISOTROPIC = 3.0  # slices further apart than this many in-plane pixels share little information
FEW_SLICES = 24
SLICE_PIXELS = {"cpu": 192, "cuda": 320}  # in-plane size for training in minutes (CPU) or hours (GPU)
PATCH_PIXELS = {"cpu": 256, "cuda": 512}
TRAINING_VALUES = 10  # 4-byte values per voxel and first-level channel that a U-Net stores for backpropagation
PREDICTION_VALUES = 7  # the same at the peak of a forward pass
MIN_DIAMETER = 3.0  # voxels across the smallest structure
SMALL_LESION = 0.03  # of a 2D image's long side: smaller lesions vanish when the image is downsampled
MIN_IMAGE_SIDE = 128
PRETRAINED_DEPTH = 5  # levels of EfficientNet-Lite0 below the image
MIN_CELLS = 2  # voxels of the patch at the lowest level


class Decision(NamedTuple):
    """A setting's value and the reason for it."""

    value: Any
    reason: str


def decide(facts: Facts, device: str, batch_memory: float) -> dict[str, Decision]:
    """Choose values for the settings that a recipe may leave `auto`, by name.

    `facts` is a fingerprint: "size", "spacing_mm" (medians per axis), "diameter_mm" per label, "components" of the
    first channel, "intensity". `device` is cpu or cuda; `batch_memory` is the memory for a batch in bytes. Raises
    `DataError` if no label has a diameter.
    """
    flat = len(facts["size"]) == 2 or facts["size"][2] == 1
    plan = _picture(facts, device) if flat else _volume(facts, device)
    patch = plan["segmenter.patch_size"].value
    plan |= _network(plan["segmenter.network.dimensions"].value)
    pretrained = plan["segmenter.network.encoder"].value != "none"
    depth = plan["segmenter.network.depth"] = (
        Decision(PRETRAINED_DEPTH, "the levels of the pretrained encoder") if pretrained else _depth(patch)
    )
    plan["segmenter.patch_size"] = Decision(
        [max(MIN_CELLS, math.ceil(size / 2**depth.value)) * 2**depth.value for size in patch],
        f"{plan['segmenter.patch_size'].reason}; a multiple of 2^{depth.value}",
    )
    plan["segmenter.batch_size"] = _batch(plan, batch_memory)
    plan["preprocess.intensity"] = _intensity(facts, flat)
    plan["preprocess.grid"] = _grid(plan)
    return plan


def _smallest(facts: Facts) -> float:
    """Diameter (mm) of the smallest label, which determines size and grid."""
    if not facts["diameter_mm"]:
        raise DataError(
            "no training mask shows any label, so no size can be planned; see medseg data check, and "
            "say with data.mask_values and organ.labels which pixel values are labels"
        )
    return float(min(facts["diameter_mm"].values()))


def _picture(facts: Facts, device: str) -> dict[str, Decision]:
    width, height = facts["size"][:2]
    share = _smallest(facts) / (max(width, height) * facts["spacing_mm"][0])
    plan = {"segmenter.network.dimensions": Decision(2, "the images are 2D")}
    if share < SMALL_LESION:
        size = min(PATCH_PIXELS[device], max(width, height))
        why = f"the smallest label is {share:.1%} of an image across: patches at full size"
        plan["organ.image_size"] = Decision([round(width), round(height)], why)
        plan["segmenter.patch_size"] = Decision([size, size], why)
        return plan
    side = min(max(width, height), max(MIN_IMAGE_SIDE, math.ceil(16 / share)))
    why = f"the smallest label is {share:.0%} of an image across and keeps {side * share:.0f} pixels: whole images"
    plan["organ.image_size"] = plan["segmenter.patch_size"] = Decision([side, side], why)
    return plan


def _volume(facts: Facts, device: str) -> dict[str, Decision]:
    size, spacing = facts["size"][:3], facts["spacing_mm"][:3]
    plane = max(spacing[:2])
    slices, anisotropy = size[2], spacing[2] / plane
    limit = SLICE_PIXELS[device]
    finest = max(size[0] * spacing[0], size[1] * spacing[1]) / limit  # mm a pixel where the plane just fits
    thin = _smallest(facts) / MIN_DIAMETER
    step = round(max(plane, min(finest, max(thin, plane))), 2)
    why = f"median in-plane spacing is {plane:.2f} mm"
    if step > plane:
        why += f"; coarser, since {max(size[:2]):.0f} pixels are more than {limit} and the smallest label stays "
        why += f"{min(facts['diameter_mm'].values()) / step:.0f} voxels across"
    extent = [round(n * s / step) for n, s in zip(size[:2], spacing[:2], strict=True)]
    if device == "cpu" or anisotropy > ANISOTROPIC or slices < FEW_SLICES:
        reason = "no GPU: slices reach a volume's accuracy in a fraction of the time"
        if anisotropy > ANISOTROPIC:
            reason = f"slices lie {anisotropy:.1f} pixels apart: neighbours share little information"
        elif slices < FEW_SLICES:
            reason = f"{slices:.0f} slices are too few for volumes"
        return {
            "segmenter.network.dimensions": Decision(2, reason),
            "organ.spacing_mm": Decision([step, step, None], f"{why}; slices as they are"),
            "segmenter.patch_size": Decision(
                [min(n, PATCH_PIXELS[device]) for n in extent], "a whole slice where it fits"
            ),
        }
    deep = round(slices * spacing[2] / max(step, spacing[2]))
    patch = [min(extent[0], 128), min(extent[1], 128), min(deep, 96)]
    return {
        "segmenter.network.dimensions": Decision(3, f"a GPU, and slices lie {anisotropy:.1f} pixels apart"),
        "organ.spacing_mm": Decision([step, step, round(max(step, spacing[2]), 2)], why),
        "segmenter.patch_size": Decision(patch, "as much of a volume as memory allows"),
    }


def _network(dimensions: int) -> dict[str, Decision]:
    if dimensions == 2:
        encoder = Decision("efficientnet_lite0", "2D: an encoder pretrained on ImageNet learns from fewer images")
        norm = Decision("batch", "as the pretrained encoder")
    else:
        encoder = Decision("none", "there is no pretrained encoder for volumes")
        norm = Decision("instance", "batches of volumes are small")
    return {"segmenter.network.encoder": encoder, "segmenter.network.norm": norm}


def _depth(patch: list[int]) -> Decision:
    """Levels until the smallest axis would fall below four voxels, at most 5."""
    depth = max(1, min(5, int(math.log2(min(patch) / 4))))
    return Decision(depth, f"{min(patch)} voxels leave {min(patch) // 2**depth} at the lowest level")


def _batch(plan: dict[str, Decision], batch_memory: float) -> Decision:
    patch = plan["segmenter.patch_size"].value
    patch_memory = math.prod(patch) * 16 * TRAINING_VALUES * 4.0  # of 16 channels at full size
    batch = int(max(2, min(16, batch_memory / patch_memory)))
    return Decision(
        batch, f"one patch takes about {patch_memory / 1e9:.2f} GB; {batch_memory / 1e9:.1f} GB are allowed"
    )


def _intensity(facts: Facts, flat: bool) -> Decision:
    channel = next(iter(facts["intensity"].values()))
    low, high = channel["p0.5"], channel["p99.5"]
    window = "medseg.preprocess.intensity.Window"
    if flat:
        colour = facts["components"] == 3
        return Decision({"_target_": "medseg.preprocess.intensity.Photo", "colour": colour}, "2D images of fixed range")
    if channel["min"] < -500:
        value = {"_target_": window, "low": float(round(low)), "high": float(round(high))}
        return Decision(value, f"values down to {channel['min']:.0f} are HU: one window for all, what labels span")
    return Decision({"_target_": "medseg.preprocess.intensity.ZScore"}, "no fixed unit: each image by its own mean")


def _grid(plan: dict[str, Decision]) -> Decision:
    """The preprocessing step that brings images to the planned size."""
    if "organ.spacing_mm" in plan:
        spacing = plan["organ.spacing_mm"].value
        return Decision({"_target_": "medseg.preprocess.geometry.Resample", "spacing": spacing}, "the spacing above")
    if plan["segmenter.patch_size"].value[0] > plan["organ.image_size"].value[0] - 2**5:
        size = plan["segmenter.patch_size"].value
        return Decision({"_target_": "medseg.preprocess.resize.Resize", "size": size}, "the image size above")
    return Decision(None, "patches are cut at full size")
