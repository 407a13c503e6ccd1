"""PNG images with the outline of the mask, if there is one."""

from __future__ import annotations

from collections.abc import Container
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
import numpy.typing as npt
import SimpleITK as sitk

from medseg.data.cases import Case
from medseg.io.image import frames
from medseg.io.labels import Labels
from medseg.utils.files import atomic_write_bytes

SIDE = 480  # pixels of the longer side of the PNG

COLOURS = ((230, 159, 0), (86, 180, 233), (0, 158, 115), (204, 121, 167), (240, 228, 66))  # of outlines, sRGB

Window = tuple[float, float] | None  # darkest and brightest value shown; None: the 0.5th and 99.5th percentile


def overlay_png(image: sitk.Image, mask: sitk.Image | None, labels: Labels, window: Window = None) -> bytes:
    """PNG of an image with the outlines of its mask, or without; of a volume the axial slice with the largest mask, or
    the middle one.
    """
    if image.GetDimension() == 3:
        image = sitk.DICOMOrient(image, "LPS")
        areas = np.zeros(image.GetDepth())
        if mask is not None:
            mask = sitk.DICOMOrient(mask, "LPS")
            areas = (sitk.GetArrayViewFromImage(mask) > 0).sum(axis=(1, 2))
        number = int(areas.argmax()) if areas.any() else len(areas) // 2
        image, mask = image[:, :, number], None if mask is None else mask[:, :, number]
    pixels = sitk.GetArrayFromImage(image).astype(np.float32)
    low, high = window or np.percentile(pixels, [0.5, 99.5])
    grey = np.clip((pixels - low) / max(float(high - low), 1e-9), 0, 1) * 255
    canvas = np.rint(grey if grey.ndim == 3 else np.repeat(grey[..., None], 3, axis=2)).astype(np.uint8)[..., :3]
    scale = SIDE / max(canvas.shape[:2])
    size = tuple(max(1, round(side * scale)) for side in canvas.shape[1::-1])
    smooth = cv2.INTER_AREA if scale < 1 else cv2.INTER_LINEAR
    canvas = np.ascontiguousarray(cv2.resize(canvas, size, interpolation=smooth))
    for i, name in enumerate(labels.numbers if mask is not None else ()):
        coded = sitk.GetArrayViewFromImage(mask)
        layer = cv2.resize(labels.layer(coded, name).astype(np.uint8), size, interpolation=cv2.INTER_NEAREST)
        curves, _ = cv2.findContours(layer, cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_NONE)
        cv2.drawContours(canvas, curves, -1, COLOURS[i % len(COLOURS)], 1)
    return _png(canvas)


def _png(canvas: npt.NDArray[np.uint8]) -> bytes:
    done, content = cv2.imencode(".png", canvas[..., ::-1])
    assert done
    return bytes(content)


@dataclass(frozen=True)
class OverlayFolder:
    """Overlay images folder/<case>.png of the `wanted` cases (None: all); of a sequence its first frame."""

    folder: Path
    labels: Labels
    time_axis: int | None = None
    wanted: Container[str] | None = None

    def file(self, case: str) -> Path:
        """Path of a case's overlay."""
        return self.folder / f"{case}.png"

    def draw(self, case: Case, image: sitk.Image, mask: sitk.Image | None) -> None:
        """Write the overlay of a case, if it is wanted."""
        if (case.frame or 0) == 0 and (self.wanted is None or case.id in self.wanted):
            first, inside = (None if volume is None else frames(volume, self.time_axis)[0] for volume in (image, mask))
            atomic_write_bytes(self.file(case.id), overlay_png(first, inside, self.labels))
