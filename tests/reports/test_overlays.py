"""Overlays of cases: with outlines if there is a mask, without if not."""

from pathlib import Path

import cv2
import numpy as np
import pytest
import SimpleITK as sitk

from medseg.data.cases import Case
from medseg.io.labels import Labels
from medseg.reports.overlays import COLOURS, OverlayFolder, overlay_png

LABELS = Labels({"disc": 1})


def pixels(png: bytes) -> np.ndarray:
    return cv2.imdecode(np.frombuffer(png, np.uint8), cv2.IMREAD_COLOR)[..., ::-1]


def has_outline(png: bytes) -> bool:
    return bool((pixels(png) == COLOURS[0]).all(axis=2).any())


def volume() -> tuple[sitk.Image, sitk.Image]:
    """Each axial slice has its own grey; the disc lies in slice 3."""
    grey = np.tile(np.arange(8, dtype=np.float32)[:, None, None] * 10, (1, 32, 32))
    grey[:, :16] += 100
    mask = np.zeros(grey.shape, np.uint8)
    mask[3, 8:24, 8:24] = 1
    return sitk.GetImageFromArray(grey), sitk.GetImageFromArray(mask)


def test_overlay_png_with_mask_has_its_outline() -> None:
    image, mask = volume()
    assert has_outline(overlay_png(image, mask, LABELS))
    assert not has_outline(overlay_png(image, mask * 0, LABELS))


def test_overlay_png_without_mask_shows_the_middle_slice() -> None:
    image, _ = volume()
    without = overlay_png(image, None, LABELS)
    assert not has_outline(without)
    assert (pixels(without) == pixels(overlay_png(image[:, :, 4], None, LABELS))).all()


@pytest.mark.parametrize("kind", ["4d", "time axis"])
def test_overlay_folder_of_a_sequence_draws_its_first_frame(tmp_path: Path, kind: str) -> None:
    frames = [sitk.GetImageFromArray(np.eye(32, k=k, dtype=np.float32)) for k in range(3)]
    image = (
        sitk.JoinSeries(frames) if kind == "time axis" else sitk.JoinSeries([sitk.JoinSeries([f, f]) for f in frames])
    )
    folder = OverlayFolder(tmp_path, LABELS, 2 if kind == "time axis" else None, ["a"])
    folder.draw(Case("a", "a", {"ct": tmp_path}), image, None)
    folder.draw(Case("not wanted", "b", {"ct": tmp_path}), image, None)
    assert [path.name for path in tmp_path.iterdir()] == ["a.png"]
    assert (pixels(folder.file("a").read_bytes()) == pixels(overlay_png(frames[0], None, LABELS))).all()
