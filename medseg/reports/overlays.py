"""PNG pictures of an image with the outline of its mask."""

from __future__ import annotations

from collections.abc import Container
from pathlib import Path

import cv2
import numpy as np
import numpy.typing as npt
import SimpleITK as sitk

from medseg.data.cases import Case
from medseg.data.masks import MaskOf
from medseg.io.labels import Labels
from medseg.utils.files import atomic_write_bytes

SIDE = 480  # pixels of the longer side of a picture

COLOURS = ((230, 159, 0), (86, 180, 233), (0, 158, 115), (204, 121, 167), (240, 228, 66))  # of outlines, sRGB

Window = tuple[float, float] | None  # darkest and brightest value shown; None: the 0.5th and 99.5th percentile


def overlay_png(image: sitk.Image, mask: sitk.Image, labels: Labels, window: Window = None) -> bytes:
    """PNG of an image with the outlines of its mask; of a volume the axial slice with the largest mask."""
    if image.GetDimension() == 3:
        turned, flat = (sitk.DICOMOrient(part, "LPS") for part in (image, mask))
        areas = (sitk.GetArrayViewFromImage(flat) > 0).sum(axis=(1, 2))
        number = int(areas.argmax()) if areas.any() else len(areas) // 2
        image, mask = turned[:, :, number], flat[:, :, number]
    pixels = sitk.GetArrayFromImage(image).astype(np.float32)
    low, high = window or np.percentile(pixels, [0.5, 99.5])
    grey = np.clip((pixels - low) / max(float(high - low), 1e-9), 0, 1) * 255
    canvas = np.rint(grey if grey.ndim == 3 else np.repeat(grey[..., None], 3, axis=2)).astype(np.uint8)[..., :3]
    scale = SIDE / max(canvas.shape[:2])
    size = tuple(max(1, round(side * scale)) for side in canvas.shape[1::-1])
    smooth = cv2.INTER_AREA if scale < 1 else cv2.INTER_LINEAR
    canvas = np.ascontiguousarray(cv2.resize(canvas, size, interpolation=smooth))
    coded = sitk.GetArrayFromImage(mask)
    for place, name in enumerate(labels.numbers):
        layer = cv2.resize(labels.layer(coded, name).astype(np.uint8), size, interpolation=cv2.INTER_NEAREST)
        curves, _ = cv2.findContours(layer, cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_NONE)
        cv2.drawContours(canvas, curves, -1, COLOURS[place % len(COLOURS)], 1)
    return _png(canvas)


def _png(canvas: npt.NDArray[np.uint8]) -> bytes:
    done, content = cv2.imencode(".png", canvas[..., ::-1])
    assert done
    return bytes(content)


def with_overlays(
    mask_of: MaskOf, folder: Path, labels: Labels, wanted: Container[str], window: Window = None
) -> MaskOf:
    """The same masks; a picture of each case that is wanted goes to folder/<case>.png, of sequences the first frame."""

    def draw(case: Case, image: sitk.Image) -> sitk.Image:
        mask = mask_of(case, image)
        target = folder / f"{case.id}.png"
        if case.id in wanted and image.GetDimension() < 4 and (case.frame or 0) == 0:
            atomic_write_bytes(target, overlay_png(image, mask, labels, window))
        return mask

    return draw
