"""Write docs/images/overview.png: phantoms of five organs, and their masks.

python scripts/make_picture.py [FILE]
Every image is synthetic and made here: no patient data.
"""

from __future__ import annotations

import sys
import tempfile
from pathlib import Path

import matplotlib as mpl
import numpy as np
import pandas as pd
import SimpleITK as sitk
from matplotlib import pyplot as plt

from medseg.config.components import build
from medseg.config.compose import compose
from medseg.config.load import get_labels
from medseg.config.targets import PHANTOMS
from medseg.data.ground_truth import read_ground_truth
from medseg.data.readers import read_cases
from medseg.io.image import read_image

ROOT = Path(__file__).resolve().parent.parent
PANELS = {
    "lung": "lung CT: right and left lung",
    "brain": "brain MRI: CSF, grey and white matter",
    "retina": "fundus: haemorrhages, exudates",
    "skin": "dermoscopy: lesion",
    "breast": "ultrasound: tumour",
}
COLOURS = ["#e69f00", "#56b4e9", "#009e73"]  # told apart by colour-blind readers


def panel(organ: str, folder: Path) -> tuple[np.ndarray, np.ndarray]:
    """One synthetic image (Y, X[, 3]) in 0..1 and its coded mask (Y, X), the slice with the most foreground."""
    settings = compose([f"organ={organ}"])
    build(settings.organ.phantom, PHANTOMS, folder=folder, patients=3, frames=1, seed=4)
    labels = get_labels(settings)
    best: tuple[int, np.ndarray, np.ndarray] | None = None
    for case in read_cases(folder, list(settings.organ.channels)):
        image = read_image(case.image)
        mask = sitk.GetArrayFromImage(read_ground_truth(case, image, labels).mask)
        pixels = sitk.GetArrayFromImage(image).astype(float)
        if image.GetDimension() == 3:
            middle = int(np.argmax((mask > 0).sum((1, 2))))
            pixels, mask = pixels[middle], mask[middle]
        count = int((mask > 0).sum())
        if best is None or count > best[0]:
            best = count, pixels, mask
    assert best is not None
    low, high = settings.organ.window_hu if organ == "lung" else np.percentile(best[1], [0.5, 99.5])
    return np.clip((best[1] - low) / (high - low), 0, 1), best[2]


def main() -> None:
    mpl.use("Agg")
    target = Path(sys.argv[1]) if len(sys.argv) > 1 else ROOT / "docs" / "images" / "overview.png"
    target.parent.mkdir(parents=True, exist_ok=True)
    figure, axes = plt.subplots(2, len(PANELS), figsize=(12, 5), facecolor="white")
    with tempfile.TemporaryDirectory() as name:
        for (top, bottom), (organ, title) in zip(axes.T, PANELS.items(), strict=True):
            pixels, mask = panel(organ, Path(name) / organ)
            for axis in (top, bottom):
                axis.imshow(pixels, cmap="gray", vmin=0, vmax=1)
                axis.set_axis_off()
            for number, colour in zip(pd.unique(mask[mask > 0])[:3], COLOURS, strict=False):
                bottom.contourf(mask == number, levels=[0.5, 1], colors=[colour], alpha=0.45)
                bottom.contour(mask == number, levels=[0.5], colors=[colour], linewidths=1.2)
            top.set_title(title, fontsize=9)
    figure.text(0.5, 0.01, "Synthetic phantoms made by medseg, and their masks", ha="center", fontsize=8, color="0.4")
    figure.tight_layout(rect=(0, 0.03, 1, 1))
    figure.savefig(target, dpi=80, pil_kwargs={"optimize": True}, metadata={"Software": None})


if __name__ == "__main__":
    main()
